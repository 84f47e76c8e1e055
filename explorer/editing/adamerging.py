"""AdaMerging: coefficients learned from unlabelled images, the optimised upper reference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from explorer.editing.layers import layer_name, layer_names
from explorer.editing.methods.layerwise import write_factors
from explorer.errors import RecipeError, UnknownNameError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    import xarray as xr

    from explorer.compute.resident import ResidentWeights
    from explorer.compute.run import Run
    from explorer.models.model import Model
    from explorer.tasks.task import Split

_REPORT_EVERY = 10  # steps between partial results


By = Literal["tensor", "layer", "task"]


def adamerging(
    model: "Model",
    tasks: Sequence[str] | None = None,
    *,
    by: By = "tensor",
    split: "Split" = "test",
    n: int | None = None,
    steps: int = 500,
    batch: int = 16,
    learning_rate: float = 1e-3,
    initial: float = 0.3,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """Coefficients that make the merged model sure of itself on unlabelled images.

        found = ex.adamerging(m, steps=200).result()
        recipe = ex.adamerged_recipe(m, found)

    Yang et al. 2024, "AdaMerging: Adaptive Model Merging for Multi-Task Learning": Adam on
    lambda in theta_0 + sum_t lambda_t,g tau_t,g, clamped to [0, 1], minimises the sum over tasks of
    the mean entropy of the softmax. A coefficient belongs to a task and a tensor
    ("layer-wise" in the paper), a task and a depth, or a task alone.

    Unlike every method of the registry this needs the model and its images, by default those it is
    later tested on (never their labels): an upper reference, not a competitor of data-free methods.
    ``n`` limits the images of each task. A Run of datasets every ten steps: ``coefficient`` (task,
    group) and ``entropy`` (step) so far. Raises UnknownNameError for a task without a vector,
    RecipeError for numbers that make no sense.
    """
    from explorer.compute.run import Run

    names = list(model.tasks if tasks is None else tasks)
    numbers = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "initial": initial}
    learning = Learning.of(model, names, split, n, seed, by=by, **numbers)
    return Run(lambda run: learning.partials(run.checkpoint), f"AdaMerging of {', '.join(names)}")


@dataclass(frozen=True)
class Learning:
    """What AdaMerging learns from and how, checked once; see ``adamerging``."""

    model: "Model"
    counts: dict[str, int]  # images of each task
    split: "Split"
    seed: int
    by: By = "tensor"
    steps: int = 500
    batch: int = 16
    learning_rate: float = 1e-3
    initial: float = 0.3

    @classmethod
    def of(
        cls,
        model: "Model",
        tasks: Sequence[str],
        split: "Split",
        n: int | None,
        seed: int,
        **how: Any,
    ) -> "Learning":
        """Checked: raises UnknownNameError, RecipeError. ``how`` are the fields from ``by`` on."""
        for task in tasks:
            if task not in model.tasks:
                raise UnknownNameError("task vector", task, model.tasks)
        for name in how:
            if name not in HOW:
                raise UnknownNameError("option of AdaMerging", name, HOW)
        counts = {task: min(n or 2**62, model.n_images(task, split)) for task in tasks}
        found = cls(model, counts, split, seed, **how)
        if found.by not in ("tensor", "layer", "task"):
            raise RecipeError(
                f"AdaMerging learns a coefficient by tensor, layer or task, not {found.by!r}."
            )
        sensible = 0.0 <= found.initial <= 1.0 and found.learning_rate > 0
        if not tasks or found.steps < 0 or found.batch < 1 or not sensible:
            raise RecipeError(
                "AdaMerging needs at least one task, no negative number of steps, a batch of at "
                "least 1, an initial coefficient between 0 and 1 and a positive learning rate."
            )
        return found

    def partials(self, checkpoint: Callable[[float], None]) -> Iterator["xr.Dataset"]:
        """Coefficients every ten steps and at the end; ``checkpoint`` is called with the share of
        the steps that is done before each batch."""
        model, names = self.model, list(self.counts)
        merged = _Merged(model.resident("weights"), names, self.by)
        coefficients = torch.full(
            (len(names), len(merged.groups)),
            self.initial,
            device=model.device,
            requires_grad=True,
        )
        adam = torch.optim.Adam([coefficients], lr=self.learning_rate)
        entropies: list[float] = []
        for step in range(self.steps):
            with torch.inference_mode(False), torch.enable_grad():
                adam.zero_grad()
                loss = torch.zeros((), device=model.device)
                weights = merged.weights(coefficients)
                for task in names:
                    checkpoint(step / self.steps)
                    x = self._batch(task, step)
                    features = functional_call(merged.tower(model), weights, (x,))
                    loss = loss + entropy(model.head(task).logits(features))
                loss.backward()
                adam.step()
                coefficients.data.clamp_(0.0, 1.0)
            entropies.append(loss.item())
            if (step + 1) % _REPORT_EVERY == 0 and step + 1 < self.steps:
                yield self._dataset(merged.groups, coefficients, entropies)
        yield self._dataset(merged.groups, coefficients, entropies)

    def _batch(self, task: str, step: int) -> Tensor:
        """The step's batch of a task: successive parts of the seed's order, over and over."""
        from explorer.compute.engine import ImageRange

        count = self.counts[task]
        size = min(self.batch, count)
        start = step * size % (count - size + 1)
        store = self.model.image_store
        pixels = store.range(ImageRange(task, self.split, start, start + size, self.seed))
        return store.normalised(pixels, torch.float32)

    def _dataset(
        self, groups: list[str], coefficients: Tensor, entropies: list[float]
    ) -> "xr.Dataset":
        import xarray as xr

        return xr.Dataset(
            {
                "coefficient": (("task", "group"), coefficients.detach().cpu().numpy().copy()),
                "entropy": ("step", list(entropies), {"units": "nats, summed over tasks"}),
            },
            coords={
                "task": list(self.counts),
                "group": groups,
                "step": range(1, len(entropies) + 1),
            },
            attrs={
                "model": self.model.name,
                "family": self.model.family,
                "method": "AdaMerging, coefficients clamped to [0, 1]",
                "by": self.by,
                "data": f"unlabelled images of the {self.split} split, {self.counts}",
                "initial": self.initial,
                "learning_rate": self.learning_rate,
                "batch": self.batch,
                "seed": self.seed,
                "steps": len(entropies),
            },
        )


HOW = ("by", "steps", "batch", "learning_rate", "initial")


def adamerged_recipe(model: "Model", found: "xr.Dataset") -> Recipe:
    """The recipe that merges as ``adamerging`` found: every lens opens it, ``ex.export`` writes it.

    Its method is ``layerwise`` with the coefficients to six decimals; by task, task arithmetic.
    Raises RecipeError for coefficients of a tower with other parameters.
    """
    by, table = found.attrs["by"], found["coefficient"].transpose("task", "group")
    groups = [str(group) for group in found["group"].values]
    if groups != _Merged(model.resident("weights"), [], by).groups:
        raise RecipeError("These coefficients were learned for a tower with other parameters.")
    tasks = [str(task) for task in found["task"].values]
    rows = dict(zip(tasks, table.values.tolist(), strict=True))
    if by == "task":
        return Recipe(model.name, {task: round(row[0], 6) for task, row in rows.items()})
    if by == "tensor":
        order = sorted(range(len(groups)), key=groups.__getitem__)
        rows = {task: [row[i] for i in order] for task, row in rows.items()}
    options = (("by", by), ("factors", write_factors(rows)))
    return Recipe(model.name, dict.fromkeys(tasks, 1.0), method="layerwise", options=options)


def entropy(logits: Tensor) -> Tensor:
    """Mean over images of the entropy of the softmax, in nats; logits (n, classes)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


class _Merged:
    """Merged weights as a differentiable function of coefficients (tasks, groups)."""

    def __init__(self, resident: "ResidentWeights", tasks: Sequence[str], by: str) -> None:
        layout = resident.layout
        self._base = layout.views(resident.theta0)
        self._vectors = [resident.vector(task) for task in tasks]
        self._group: dict[str, int]
        if by == "tensor":
            self.groups = list(self._base)
            self._group = {key: i for i, key in enumerate(self.groups)}
        elif by == "layer":
            self.groups = layer_names(layout.n_blocks)
            places = {name: i for i, name in enumerate(self.groups)}
            self._group = {key: places[layer_name(key, layout.n_blocks)] for key in self._base}
        else:
            self.groups = ["all"]
            self._group = dict.fromkeys(self._base, 0)
        self._tower: torch.nn.Module | None = None

    def weights(self, coefficients: Tensor) -> dict[str, Tensor]:
        merged = {}
        for key, base in self._base.items():
            factors = coefficients[:, self._group[key]]
            vectors = (vector[key] for vector in self._vectors)
            merged[key] = sum((c * tau for c, tau in zip(factors, vectors, strict=True)), base)
        return merged

    def tower(self, model: "Model") -> torch.nn.Module:
        from explorer.models.towers import build_tower, load_weights

        if self._tower is None:
            self._tower = load_weights(build_tower(model.architecture), self._base)
        return self._tower
