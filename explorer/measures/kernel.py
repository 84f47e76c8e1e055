"""Where in input space the neural tangent kernel's eigenfunctions live, for two tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from explorer.compute.device import memory_facts
from explorer.compute.lanczos import Eigenpairs, lanczos
from explorer.compute.lanes import Found, Lanes
from explorer.compute.run import Run
from explorer.errors import RecipeError
from explorer.measures.disentanglement import checked_pair
from explorer.measures.plane import Subset
from explorer.measures.provenance import provenance
from explorer.models.tangent import Linearisation
from explorer.models.towers import build_tower, load_weights
from explorer.tasks.task import Split, check_count, check_seed

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model

# Images of one graph, and the share of the free memory that graphs may keep.
_BATCH, _KEPT = 25, 0.5
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
    formed: a step costs one product with J^T and one with J. Variables over ``rank`` (1 is
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
    """K = J J^T of the head-projected outputs, by products; vectors are (images * classes,).

    Batches run side by side, each through graphs that are kept where memory allows. Close it, or
    use ``closing``: it has threads.
    """

    def __init__(self, subset: Subset, run: Run) -> None:
        self._run = run
        store, model = subset.model.image_store, subset.model
        pixels = torch.cat([store.range(subset.range(i)) for i in range(2)])
        resident = model.resident("weights")
        views = resident.layout.views(resident.theta0)
        self._base = {key: tensor.clone() for key, tensor in views.items()}
        self._tower = load_weights(build_tower(model.architecture), self._base)
        self._weight = torch.cat([subset.head(i).weight for i in range(2)])
        self.shape = (len(pixels), len(self._weight))
        self._images = store.normalised(pixels, torch.float32).split(_BATCH)
        self._lanes = Lanes(model.device)
        self._graphs: list[Linearisation] = []
        first = self._graph(0)
        if first.nbytes * len(self._images) < _KEPT * 1e9 * memory_facts(model.device)["available"]:
            others = range(1, len(self._images))
            self._graphs = [first, *self._lanes.map(self._graph, others)]
        features = self._on_lanes(lambda i: self._graph(i).features)
        self._lengths = [f.norm(dim=1, keepdim=True) for f in features]

    def derivative(self, delta: Mapping[str, Tensor]) -> np.ndarray:
        """J delta: how the outputs move with the weights, float64."""

        def part(i: int) -> Tensor:
            return (self._graph(i).product(delta) / self._lengths[i]) @ self._weight.T

        return torch.cat(self._on_lanes(part)).double().cpu().numpy().ravel()

    def gradient(self, vector: np.ndarray) -> dict[str, Tensor]:
        """J^T vector."""
        rows = torch.from_numpy(vector.reshape(self.shape)).to(self._weight).split(_BATCH)

        def part(i: int) -> dict[str, Tensor]:
            return self._graph(i).transposed_product(rows[i] @ self._weight / self._lengths[i])

        total, *others = self._on_lanes(part)
        for other in others:
            for key, tensor in other.items():
                total[key] += tensor
        return total

    def product(self, vector: np.ndarray) -> np.ndarray:
        """K vector."""
        return self.derivative(self.gradient(vector))

    def close(self) -> None:
        """End the threads that compute."""
        self._lanes.close()

    def _on_lanes(self, function: Callable[[int], Found]) -> list[Found]:
        """``function`` of the number of every batch, in order."""
        return self._lanes.map(function, range(len(self._images)))

    def _graph(self, i: int) -> Linearisation:
        """The graphs of a batch: those that are kept, or new ones."""
        self._run.checkpoint()
        if self._graphs:
            return self._graphs[i]
        return Linearisation(self._tower, self._base, self._images[i])


def _partials(run: Run, subset: Subset, rank: int) -> Iterator["xr.Dataset"]:
    with closing(TangentKernel(subset, run)) as kernel:
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
