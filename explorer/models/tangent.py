"""The tangent (linearised) model: features that are exactly linear in the edit."""

import threading
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from explorer.models.towers import VisionTower

# Forward-mode nesting, and the switches that give open_clip's own towers a derivative, are global
# to the process: one Jacobian product at a time.
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
    with _ONE_AT_A_TIME:
        if isinstance(tower, VisionTower):
            return _jvp(tower, moving, still, tangents, images, explicit=True)
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                return _jvp(tower, moving, still, tangents, images)
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


def linearised_features(
    tower: nn.Module,
    base: Mapping[str, Tensor],
    delta: Mapping[str, Tensor],
    images: Tensor,
) -> Tensor:
    """f(x; theta_0) + J f(x; theta_0) . delta, (n, embed_dim)."""
    features, derivative = jacobian_product(tower, base, delta, images)
    return features + derivative


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
