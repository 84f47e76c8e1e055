"""Where in input space the neural tangent kernel's eigenfunctions live, for two tasks."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from explorer.compute.lanczos import Eigenpairs, lanczos
from explorer.compute.run import Run
from explorer.errors import RecipeError
from explorer.measures.disentanglement import checked_pair
from explorer.measures.plane import Subset
from explorer.measures.provenance import provenance
from explorer.models.tangent import jacobian_product
from explorer.models.towers import build_tower, load_weights
from explorer.tasks.task import Split, check_count, check_seed

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model

# Images of one product; forward mode holds primal and tangent of every layer.
_BATCH = 25
# An eigenvalue counts as found when its error bound is this share of it; steps at most per rank.
TOLERANCE = 2e-2
_STEPS = 4


def kernel_localisation(
    model: "Model",
    tasks: Sequence[str],
    n: int = 100,
    rank: int = 24,
    seed: int = 0,
    *,
    split: Split = "test",
) -> "Run[xr.Dataset]":
    """Eigenfunctions of the base model's tangent kernel, and on which task's images they live.

        ex.kernel_localisation(m, ("mnist", "letters")).result()["energy"].plot(hue="task")

    After Ortiz-Jimenez et al. 2023, section 5. The outputs are z(x) = [W1; W2] f(x) / |f_0(x)|,
    logits through both tasks' heads with the length of the base's feature held constant; the
    kernel is J J^T over all outputs of ``n`` images a task (fewer where there are fewer), never
    formed: a step costs one backward and one forward-mode product. Variables over ``rank`` (1 is
    the largest): eigenvalue, residual (bound on its error); over (task, rank): energy, the share
    of the eigenfunction's square on the task's images (sums to 1 over tasks), and carried, the
    share of J tau_task's square, on all images, along it. Partials have lower ranks first.
    Raises RecipeError, ImageError and UnknownNameError.
    """
    pair = checked_pair(model, tasks)
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1:
        raise RecipeError(f"The rank must be a whole number of 1 or more, not {rank!r}.")
    n1, n2 = (check_count(n, model.n_images(task, split), task) for task in pair)
    subset = Subset(model, pair, split, check_seed(seed), (n1, n2))
    return Run(lambda run: _partials(run, subset, int(rank)), title=f"kernel of {model.name}")


class TangentKernel:
    """K = J J^T of the head-projected outputs, by products; vectors are (images * classes,)."""

    def __init__(self, subset: Subset, run: Run) -> None:
        self._run = run
        store, model = subset.model.image_store, subset.model
        pixels = torch.cat([store.range(subset.range(i)) for i in range(2)])
        self._images = store.normalised(pixels, torch.float32).split(_BATCH)
        resident = model.resident("weights")
        views = resident.layout.views(resident.theta0)
        self._base = {key: tensor.clone() for key, tensor in views.items()}
        self._tower = load_weights(build_tower(model.architecture), self._base)
        self._weight = torch.cat([subset.head(i).weight for i in range(2)])
        with torch.no_grad():
            features = torch.cat([self._tower(x) for x in self._images])
        self._lengths = features.norm(dim=1, keepdim=True).split(_BATCH)
        self.shape = (len(pixels), len(self._weight))

    def derivative(self, delta: dict[str, Tensor]) -> np.ndarray:
        """J delta: how the outputs move with the weights, float64."""
        parts = []
        for images, length in zip(self._images, self._lengths, strict=True):
            self._run.checkpoint()
            moved = jacobian_product(self._tower, self._base, delta, images)[1]
            parts.append((moved / length) @ self._weight.T)
        return torch.cat(parts).double().cpu().numpy().ravel()

    def gradient(self, vector: np.ndarray) -> dict[str, Tensor]:
        """J^T vector, by one backward pass."""
        rows = torch.from_numpy(vector.reshape(self.shape)).to(self._weight)
        total = {key: torch.zeros_like(tensor) for key, tensor in self._base.items()}
        batches = zip(self._images, self._lengths, rows.split(_BATCH), strict=True)
        for images, length, part in batches:
            self._run.checkpoint()
            with torch.enable_grad():
                leaves = {key: t.detach().requires_grad_() for key, t in self._base.items()}
                features = functional_call(self._tower, leaves, (images,))
                projected = (features * ((part @ self._weight) / length)).sum()
                found = torch.autograd.grad(projected, list(leaves.values()))
            for key, gradient in zip(leaves, found, strict=True):
                total[key] += gradient
        return total

    def product(self, vector: np.ndarray) -> np.ndarray:
        """K vector."""
        return self.derivative(self.gradient(vector))


def _partials(run: Run, subset: Subset, rank: int) -> Iterator["xr.Dataset"]:
    kernel = TangentKernel(subset, run)
    resident = subset.model.resident("weights")
    edits = np.array([kernel.derivative(resident.vector(task)) for task in subset.tasks])
    size = int(np.prod(kernel.shape))
    rank = min(rank, size)
    start = np.random.default_rng(subset.seed).standard_normal(size)
    shown = 0
    steps = lanczos(kernel.product, start, _STEPS * rank + 8)
    for step, ritz in enumerate(steps, 1):
        found = ritz(rank)
        good = _converged(found)
        run.checkpoint(max(good / rank, step / (_STEPS * rank + 8)))
        if good == rank:
            break
        if good >= max(1, 2 * shown):
            shown = good
            yield _dataset(subset, ritz(good), edits, kernel.shape, rank, step)
    yield _dataset(subset, found, edits, kernel.shape, rank, step)


def _converged(found: Eigenpairs) -> int:
    """How many of the largest eigenvalues are found, without a gap."""
    good = found.residuals <= TOLERANCE * np.abs(found.values)
    return int(np.cumprod(good).sum())


def _dataset(
    subset: Subset,
    found: Eigenpairs,
    edits: np.ndarray,
    shape: tuple[int, int],
    rank: int,
    products: int,
) -> "xr.Dataset":
    import xarray as xr

    squares = (found.vectors**2).reshape(*shape, -1).sum(1)
    first = subset.counts[0]
    energy = np.array([squares[:first].sum(0), squares[first:].sum(0)])
    length = (edits**2).sum(1, keepdims=True)
    along = (edits @ found.vectors) ** 2
    carried = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    over = ("task", "rank")
    share = {"units": "1"}
    return xr.Dataset(
        {
            "eigenvalue": ("rank", found.values, {"long_name": "eigenvalue of the kernel"}),
            "residual": ("rank", found.residuals, {"long_name": "bound on its error"}),
            "energy": (over, energy, share | {"long_name": "energy on the task's images"}),
            "carried": (over, carried, share | {"long_name": "share of the task vector's effect"}),
            "n": ("task", np.array(subset.counts), {"long_name": "images of the task used"}),
        },
        coords={"task": list(subset.tasks), "rank": np.arange(1, len(found.values) + 1)},
        attrs=provenance(
            subset.model,
            space="tangent kernel at theta_0",
            split=subset.split,
            seed=subset.seed,
            n=int(max(subset.counts)),
            precision="float32",
            products=products,
            complete=len(found.values) == rank,
        ),
    )
