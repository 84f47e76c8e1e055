"""Predictions of two tasks' images on the plane theta_0 + a1 tau1 + a2 tau2."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from explorer.compute.cascade import settled
from explorer.compute.cell_weights import CellWeights
from explorer.compute.device import fast_dtype
from explorer.compute.engine import ImageRange, OnBatch, ignore
from explorer.compute.lanes import Lanes
from explorer.measures.grid import Cell
from explorer.models.heads import ZeroShotHead
from explorer.recipe import Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    from explorer.models.model import Model

Counts = tuple[int, int]

# Images of a lane's batch: on a CPU as many as its cache holds well.
_LANE_BATCH = {"cpu": 128, "cuda": 2048}


@dataclass(frozen=True)
class Subset:
    """The images of a map: the first ``counts`` of two tasks in the order of a seed."""

    model: "Model"
    tasks: tuple[str, str]
    split: Split
    seed: int
    counts: Counts

    def range(self, i: int, n: int | None = None) -> ImageRange:
        """The first ``n`` images of task ``i`` (0 or 1), or all of the subset."""
        return ImageRange(self.tasks[i], self.split, 0, n or self.counts[i], self.seed)

    def places(self, i: int) -> np.ndarray:
        """Where in the stored split the images of task ``i`` are."""
        order = self.model.task(self.tasks[i]).order(self.split, self.seed)
        return order[: self.counts[i]]

    def labels(self, i: int) -> np.ndarray:
        """Labels of the images of task ``i``."""
        return self.model.images(self.tasks[i], None, self.split)[1][self.places(i)]

    def head(self, i: int) -> ZeroShotHead:
        """The head of task ``i``."""
        return self.model.head(self.tasks[i])


class Plane(Protocol):
    """Gives the predicted classes of both tasks' images at any cell."""

    def predict(self, cell: Cell, counts: Counts, on_batch: OnBatch = ignore) -> list[np.ndarray]:
        """Class numbers of the first ``counts`` images of each task, int64 (counts[t],)."""

    @property
    def precision(self) -> str:
        """The number format in words."""

    def close(self) -> None:
        """End what runs beside the calling thread."""


class WeightPlane:
    """The ordinary network: every cell has weights of its own, and its images run through them.

    ``precision`` "auto" predicts as float32 does, in bfloat16 where that is faster and with close
    calls in float32 (``explorer.compute.cascade``); "bfloat16" leaves out the second look.
    """

    def __init__(self, subset: Subset, recipe: Recipe, precision: str = "auto") -> None:
        self._subset = subset
        self._store = subset.model.image_store
        self._weights = CellWeights(subset.model, recipe)
        self._dtype = fast_dtype(subset.model.device, precision)
        self._cascade = precision == "auto" and self._dtype != torch.float32
        self._heads = [subset.head(i) for i in range(2)]
        self._pixels: list[Tensor] = []
        self._images: list[Tensor] = []
        self._lanes = Lanes(subset.model.device)
        self._batch = _LANE_BATCH.get(subset.model.device.type, _LANE_BATCH["cpu"])

    @property
    def precision(self) -> str:
        """The number format in words."""
        name = str(self._dtype).removeprefix("torch.")
        return f"{name}, close calls in float32" if self._cascade else name

    def predict(self, cell: Cell, counts: Counts, on_batch: OnBatch = ignore) -> list[np.ndarray]:
        """Class numbers of the first ``counts`` images of each task."""
        with torch.inference_mode():
            self._load()
            self._weights.set(*cell)
            images = [x[:n] for x, n in zip(self._images, counts, strict=True)]
            fast = self._logits(images, self._dtype, on_batch)
            if not self._cascade:
                return [logits.argmax(1).cpu().numpy() for logits in fast]

            def exact(places: list[Tensor]) -> list[Tensor]:
                pixels = [x[i] for x, i in zip(self._pixels, places, strict=True)]
                close = [self._store.normalised(x, torch.float32) for x in pixels]
                return self._logits(close, torch.float32, on_batch)

            return [classes.cpu().numpy() for classes in settled(fast, exact)]

    def close(self) -> None:
        """End the threads that compute."""
        self._lanes.close()

    def _load(self) -> None:
        """The whole subset, normalised once: its pixels and what the tower takes."""
        if not self._images:
            self._pixels = [self._store.range(self._subset.range(i)) for i in range(2)]
            self._images = [self._store.normalised(x, self._dtype) for x in self._pixels]

    def _logits(self, images: list[Tensor], dtype: torch.dtype, on_batch: OnBatch) -> list[Tensor]:
        """Logits of both tasks' images, each through its head: float32 (n, classes)."""
        tower = self._weights.tower(dtype)

        def features(batch: Tensor) -> Tensor:
            on_batch(len(batch))
            with torch.inference_mode():  # a thread's own switch
                return tower(batch)

        parts = [x.tensor_split(-(-len(x) // self._batch)) if len(x) else () for x in images]
        done = iter(self._lanes.map(features, [batch for part in parts for batch in part]))
        logits = []
        for head, part in zip(self._heads, parts, strict=True):
            rows = [next(done) for _ in part]
            logits.append(head.logits(torch.cat(rows)) if rows else head.weight.new_empty(0))
        return logits


class LinearPlane:
    """A linearised network: logits are L0 + a1 L1 + a2 L2, so a cell costs one weighted sum.

    L0 is the head on f(x; theta_0), L1 and L2 on J s tau1 and J s tau2. The head has no bias, and
    that it normalises features does not change which class is largest. Three products an image
    (one more for each vector with a LiNeS schedule) serve every grid, float32.
    """

    precision = "float32"

    def __init__(self, subset: Subset, recipe: Recipe) -> None:
        self._subset = subset
        self._recipe = recipe
        self._logits: list[tuple[Tensor, Tensor, Tensor]] = []

    def predict(self, cell: Cell, counts: Counts, on_batch: OnBatch = ignore) -> list[np.ndarray]:
        """Class numbers of the first ``counts`` images of each task."""
        self._prepare(counts, on_batch)
        found = []
        for n, (base, first, second) in zip(counts, self._logits, strict=True):
            logits = torch.add(base[:n], first[:n], alpha=cell[0])
            logits.add_(second[:n], alpha=cell[1])
            found.append(logits.argmax(1).cpu().numpy())
        return found

    def close(self) -> None:
        """Nothing to end: the calling thread computes."""

    def _prepare(self, counts: Counts, on_batch: OnBatch) -> None:
        have = [len(terms[0]) for terms in self._logits] or [0, 0]
        if all(n <= h for n, h in zip(counts, have, strict=True)):
            return
        self._logits = [self._terms(i, n, on_batch) for i, n in enumerate(counts)]

    def _terms(self, i: int, n: int, on_batch: OnBatch) -> tuple[Tensor, Tensor, Tensor]:
        images, linear = self._subset.range(i, n), self._subset.model.linear_features
        zero_shot = self._subset.model.references.zero_shot(images, torch.float32, on_batch)
        weight = self._subset.head(i).weight
        features: Sequence[Tensor] = [
            zero_shot,
            *(linear.derivative(self._recipe, t, images, on_batch) for t in self._subset.tasks),
        ]
        base, first, second = (f @ weight.T for f in features)
        return base, first, second


def plane_of(subset: Subset, recipe: Recipe, precision: str) -> Plane:
    """The plane in the recipe's space."""
    if recipe.space == "weights":
        return WeightPlane(subset, recipe, precision)
    return LinearPlane(subset, recipe)
