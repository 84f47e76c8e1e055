"""Predictions of two tasks' images on the plane theta_0 + a1 tau1 + a2 tau2."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from explorer.compute.cascade import distances, settled
from explorer.compute.cell_weights import CellWeights
from explorer.compute.device import fast_dtype
from explorer.compute.engine import ImageRange, OnBatch, ignore
from explorer.compute.lanes import Lanes, threads_of_torch
from explorer.editing.interrupting import checked_by
from explorer.editing.methods import find_method
from explorer.measures.grid import Cell
from explorer.models.heads import LinearHead
from explorer.recipe import Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    from explorer.models.model import Model

Counts = tuple[int, int]
Forward = Callable[[torch.nn.Module], Callable[[Tensor], Tensor]]

# Images of a lane's batch. On a CPU more are no faster: a core predicts 3,660 images a second of a
# small tower in batches of 100, 3,820 of 200, fewer of 400.
_LANE_BATCH = {"cpu": 200, "cuda": 2048}
# Cells at once, in lanes: while one waits for its close calls, another keeps the lanes busy. Each
# has weights of its own, so larger ones (bytes in float32) take turns.
_AT_ONCE, _SMALL = 2, 2**27


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

    def head(self, i: int) -> LinearHead:
        """The head of task ``i``."""
        return self.model.head(self.tasks[i])


class Plane(Protocol):
    """Gives the predicted classes of both tasks' images at any cell."""

    def predict(self, cell: Cell, counts: Counts, on_batch: OnBatch = ignore) -> list[np.ndarray]:
        """Class numbers of the first ``counts`` images of each task, int64 (counts[t],)."""

    def stream(
        self, cells: Iterable[Cell], counts: Counts, on_batch: OnBatch = ignore
    ) -> Iterator[list[np.ndarray]]:
        """What ``predict`` gives, cell after cell; the next may be begun before it is asked for."""

    @property
    def precision(self) -> str:
        """The number format in words."""

    def close(self) -> None:
        """End what runs beside the calling thread."""


def as_it_is(tower: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """The usual way to run a tower: eagerly, batch by batch."""
    return tower


class WeightPlane:
    """The ordinary network: every cell has weights of its own, and its images run through them.

    ``precision`` "auto" predicts as float32 does, in bfloat16 where that is faster and with close
    calls in float32 (``explorer.compute.cascade``); "bfloat16" leaves out the second look.
    ``forward`` makes of a tower, whose weights change in place, the function that runs it.
    """

    def __init__(
        self,
        subset: Subset,
        recipe: Recipe,
        precision: str = "auto",
        forward: Forward = as_it_is,
    ) -> None:
        self._subset = subset
        self._store = subset.model.image_store
        self._dtype = fast_dtype(subset.model.device, precision)
        self._cascade = precision == "auto" and self._dtype != torch.float32
        self._heads = [subset.head(i) for i in range(2)]
        self._apart = [distances(head.weight) for head in self._heads]
        self._pixels: list[Tensor] = []
        self._images: list[Tensor] = []
        self._loading = threading.Lock()
        self._forward = forward
        self._running: dict[torch.nn.Module, Callable[[Tensor], Tensor]] = {}
        self._lanes = Lanes(subset.model.device)
        self._batch = _LANE_BATCH.get(subset.model.device.type, _LANE_BATCH["cpu"])
        weights = CellWeights(subset.model, recipe)
        self._weights: SimpleQueue[CellWeights] = SimpleQueue()
        self._weights.put(weights)
        self._ahead: ThreadPoolExecutor | None = None
        if self._lanes.n > 1 and weights.flat.nbytes <= _SMALL:
            self._ahead = threads_of_torch(_AT_ONCE)
            for _ in range(_AT_ONCE - 1):
                self._weights.put(CellWeights(subset.model, recipe))

    @property
    def precision(self) -> str:
        """The number format in words."""
        name = str(self._dtype).removeprefix("torch.")
        return f"{name}, close calls in float32" if self._cascade else name

    def predict(self, cell: Cell, counts: Counts, on_batch: OnBatch = ignore) -> list[np.ndarray]:
        """Class numbers of the first ``counts`` images of each task."""
        weights = self._weights.get()
        try:
            with torch.inference_mode():
                self._load()
                with checked_by(lambda: on_batch(0)):  # a slow method merges anew in every cell
                    weights.set(*cell)
                classes = self._classes(weights, counts, on_batch)
                return [numbers.cpu().numpy() for numbers in classes]
        finally:
            self._weights.put(weights)

    def stream(
        self, cells: Iterable[Cell], counts: Counts, on_batch: OnBatch = ignore
    ) -> Iterator[list[np.ndarray]]:
        """What ``predict`` gives, cell after cell; on a CPU another cell is always under way."""
        if self._ahead is None:
            yield from (self.predict(cell, counts, on_batch) for cell in cells)
            return
        begun: deque[Future[list[np.ndarray]]] = deque()
        for cell in cells:
            begun.append(self._ahead.submit(self.predict, cell, counts, on_batch))
            if len(begun) > _AT_ONCE:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()

    def close(self) -> None:
        """End the threads that compute; waits for the batches they are at."""
        if self._ahead is not None:
            self._ahead.shutdown(wait=True, cancel_futures=True)
        self._lanes.close()

    def _load(self) -> None:
        """The whole subset, normalised once: its pixels and what the tower takes."""
        with self._loading:
            if not self._images:
                pixels = [self._store.range(self._subset.range(i)) for i in range(2)]
                self._images = [self._store.normalised(x, self._dtype) for x in pixels]
                self._pixels = pixels

    def _classes(self, weights: CellWeights, counts: Counts, on_batch: OnBatch) -> list[Tensor]:
        images = [x[:n] for x, n in zip(self._images, counts, strict=True)]
        features = self._features(weights.tower(self._dtype), images, on_batch)
        fast = self._logits(features)
        if not self._cascade:
            return [logits.argmax(1) for logits in fast]

        def exact(places: list[Tensor]) -> list[Tensor]:
            pixels = torch.cat([x[i] for x, i in zip(self._pixels, places, strict=True)])
            close = self._store.normalised(pixels, torch.float32)
            (found,) = self._features(weights.tower(torch.float32), [close], on_batch)
            return self._logits(found.split([len(i) for i in places]))

        return settled(fast, self._apart, exact)

    def _logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Each task's features through its head: float32 (n, classes)."""
        return [head.logits(x) for head, x in zip(self._heads, features, strict=True)]

    def _features(
        self, tower: torch.nn.Module, images: list[Tensor], on_batch: OnBatch
    ) -> list[Tensor]:
        """Features of sets of images, none of them empty, in batches side by side."""
        if tower not in self._running:
            self._running[tower] = self._forward(tower)
        run = self._running[tower]

        def features(batch: Tensor) -> Tensor:
            on_batch(len(batch))
            with torch.inference_mode():  # a thread's own switch
                return run(batch)

        parts = [x.tensor_split(-(-len(x) // self._batch)) for x in images]
        done = iter(self._lanes.map(features, [batch for part in parts for batch in part]))
        return [torch.cat([next(done) for _ in part]) for part in parts]


class LinearPlane:
    """A linearised network: logits are L0 + w1 L1 + w2 L2, so a cell costs one weighted sum.

    w1 and w2 are the method's factors of the cell's coefficients: these themselves for task
    arithmetic, a share of them for averaging.
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
        weights = self._weights(cell)
        found = []
        for n, (base, first, second) in zip(counts, self._logits, strict=True):
            logits = torch.add(base[:n], first[:n], alpha=weights[0])
            logits.add_(second[:n], alpha=weights[1])
            found.append(logits.argmax(1).cpu().numpy())
        return found

    def stream(
        self, cells: Iterable[Cell], counts: Counts, on_batch: OnBatch = ignore
    ) -> Iterator[list[np.ndarray]]:
        """What ``predict`` gives, cell after cell."""
        yield from (self.predict(cell, counts, on_batch) for cell in cells)

    def close(self) -> None:
        """Nothing to end: the calling thread computes."""

    def _weights(self, cell: Cell) -> list[float]:
        """The method's factors of both tasks; a coefficient of 0 takes no part."""
        tasks = self._subset.tasks
        active = {task: a for task, a in zip(tasks, cell, strict=True) if a}
        factors = find_method(self._recipe.method).factors(active) if active else {}
        return [factors.get(task, 0.0) for task in tasks]

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
