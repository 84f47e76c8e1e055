"""The tangent (linearised) model: features that are exactly linear in the edit."""

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from explorer.models.towers import VisionTower

# Forward-mode nesting, and the switches that give open_clip's own towers a derivative, are global
# to the process, and functional_call changes the tower while it runs: one at a time.
_ONE_AT_A_TIME = threading.Lock()


def jacobian_product(
    tower: nn.Module,
    base: Mapping[str, Tensor],
    delta: Mapping[str, Tensor],
    images: Tensor,
) -> tuple[Tensor, Tensor]:
    """Features f(x; theta_0) and the derivative J f(x; theta_0) . delta, both (n, embed_dim).

    ``delta`` may name some parameters only; the others do not move. Forward-mode, about three
    forwards (Ortiz-Jimenez et al. 2023, eq. 4).
    """
    # Copies: for a view into a flat buffer, forward mode would allocate a tangent of the whole
    # buffer, once a parameter.
    moving = {key: base[key].clone() for key in delta}
    still = {key: tensor for key, tensor in base.items() if key not in delta}
    tangents = {key: delta[key].to(moving[key], copy=True) for key in moving}
    with _ONE_AT_A_TIME, _differentiable(tower) as options:
        return _jvp(tower, moving, still, tangents, images, **options)


def linearised_features(
    tower: nn.Module,
    base: Mapping[str, Tensor],
    delta: Mapping[str, Tensor],
    images: Tensor,
) -> Tensor:
    """f(x; theta_0) + J f(x; theta_0) . delta, (n, embed_dim)."""
    features, derivative = jacobian_product(tower, base, delta, images)
    return features + derivative


class Linearisation:
    """Features of some images at theta_0, and products with their Jacobian J both ways.

    Made for many products: the graph of the forward is kept, and J^T v is a backward pass through
    it. That is linear in v, so J delta is the derivative by v of <J^T v, delta>, a backward pass
    through the first one (known as the double-vjp trick). Neither repeats the forward: together
    they take a third of the time of a fresh forward with its backward and a forward-mode product.
    ``nbytes`` is the memory that the graphs hold, about.
    """

    def __init__(self, tower: nn.Module, base: Mapping[str, Tensor], images: Tensor) -> None:
        self._leaves = {key: tensor.detach().requires_grad_() for key, tensor in base.items()}
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        kept = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with torch.enable_grad(), kept:
            with _ONE_AT_A_TIME, _differentiable(tower) as options:
                self._features = functional_call(tower, self._leaves, (images,), options)
            self._along = torch.zeros_like(self._features, requires_grad=True)
            self._gradient = self._transposed(self._along, create_graph=True)
        own = {tensor.untyped_storage().data_ptr() for tensor in self._leaves.values()}
        self.nbytes = sum(n for place, n in held.items() if place not in own)

    @property
    def features(self) -> Tensor:
        """f(x; theta_0), (n, embed_dim)."""
        return self._features.detach()

    def product(self, delta: Mapping[str, Tensor]) -> Tensor:
        """J delta, (n, embed_dim); ``delta`` names every parameter."""
        moving = {key: g for key, g in self._gradient.items() if g.requires_grad}
        (found,) = torch.autograd.grad(
            list(moving.values()),
            self._along,
            [delta[key] for key in moving],
            retain_graph=True,
        )
        return found

    def transposed_product(self, vector: Tensor) -> dict[str, Tensor]:
        """J^T vector by parameter; ``vector`` is (n, embed_dim)."""
        return self._transposed(vector)

    def _transposed(self, vector: Tensor, create_graph: bool = False) -> dict[str, Tensor]:
        found = torch.autograd.grad(
            self._features,
            list(self._leaves.values()),
            vector,
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )
        return dict(zip(self._leaves, found, strict=True))


@contextmanager
def _differentiable(tower: nn.Module) -> Iterator[dict[str, bool]]:
    """The options of a forward that has every derivative; open_clip's towers need global ones."""
    if isinstance(tower, VisionTower):
        yield {"explicit": True}
        return
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield {}
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _jvp(
    tower: nn.Module,
    moving: dict[str, Tensor],
    still: dict[str, Tensor],
    tangents: dict[str, Tensor],
    images: Tensor,
    **options: bool,
) -> tuple[Tensor, Tensor]:
    def features(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(tower, {**still, **parameters}, (images,), options)

    with torch.no_grad(), warnings.catch_warnings():
        # The first derivative makes torch load decompositions it wrote with its old compiler.
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)
        value, derivative, *_ = jvp(features, (moving,), (tangents,))
    return value, derivative
