"""Accuracy of each task's own edit on the images of a map: what a joint edit is compared with."""

import numpy as np
import torch

from explorer.compute.engine import OnBatch
from explorer.compute.store import Store
from explorer.measures.grid import Cell
from explorer.measures.kept_cells import KeptCells
from explorer.measures.plane import Counts, Plane, Subset, plane_of
from explorer.recipe import DEFAULT_METHOD, Recipe

# theta_0 + tau_t alone, of the first and of the second task.
_OWN: tuple[Cell, Cell] = ((1.0, 0.0), (0.0, 1.0))


def fine_tuned_recipe(recipe: Recipe) -> Recipe:
    """The plain sum in the recipe's space: no schedule, no other method."""
    return recipe.replace(schedule=None, method=DEFAULT_METHOD, options=())


class FineTuned:
    """Accuracies of theta_0 + tau_t in a map's space, of both tasks on their own images.

    In weight space features are the model's, which it keeps for every map. In a linear space they
    are two cells of the plain map, kept like every other cell: a map that comes back from disk
    needs no derivative for them either.
    """

    def __init__(
        self, subset: Subset, recipe: Recipe, kept: KeptCells, plane: Plane, store: Store | None
    ) -> None:
        """``kept`` and ``plane`` are those of the map, which serve where it is a plain one."""
        self._subset, self._space = subset, recipe.space
        self._kept, self._plane = kept, plane
        plain = fine_tuned_recipe(recipe)
        self._has_own = recipe.space != "weights" and plain != recipe
        if self._has_own:
            self._kept = KeptCells(subset, plain, "float32", kept.dtype, store)
            self._plane = plane_of(subset, plain, "float32")

    def accuracies(self, counts: Counts, on_batch: OnBatch) -> np.ndarray:
        """On the first ``counts`` images of each task, (2,), shares of 1."""
        found = [self._predicted(t, counts, on_batch) for t in range(2)]
        labels = [self._subset.labels(t)[:n] for t, n in enumerate(counts)]
        return np.array([np.mean(x == y) for x, y in zip(found, labels, strict=True)])

    def close(self) -> None:
        """Let go of what belongs to no map."""
        if self._has_own:
            self._plane.close()
            self._kept.close()

    def _predicted(self, t: int, counts: Counts, on_batch: OnBatch) -> np.ndarray:
        """Classes of task ``t``'s images under its own edit, (counts[t],)."""
        if self._space != "weights":
            return self._cell(_OWN[t], counts, on_batch)[t]
        subset = self._subset
        images = subset.range(t, counts[t])
        references = subset.model.references
        features = references.fine_tuned(self._space, images, torch.float32, on_batch)
        return subset.head(t).logits(features).argmax(1).cpu().numpy()

    def _cell(self, cell: Cell, counts: Counts, on_batch: OnBatch) -> list[np.ndarray]:
        complete = counts == self._subset.counts
        known = self._kept.get(cell) if complete else None
        if known is None:
            known = self._plane.predict(cell, counts, on_batch)
            if complete:
                self._kept.put(cell, known)
        return known
