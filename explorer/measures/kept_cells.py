"""Cells of a map that are known already: in memory for a run, on disk for all later ones."""

import hashlib
import inspect
import json
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike

from explorer.compute.store import CellSet, Store
from explorer.editing.methods import find_method
from explorer.measures.grid import Cell
from explorer.measures.plane import Subset
from explorer.recipe import Recipe

FLUSH_S = 0.1
# Changes when the same content would give other predictions than before.
_FORMAT = 2


class KeptCells:
    """Predicted classes of both tasks' images by cell; ``note`` says whether they are on disk.

    In the linear spaces a cell is a weighted sum, but of derivatives that take seconds to compute:
    a map that is on disk needs none. Cells reach the disk a few at a time, at least every FLUSH_S
    seconds while they come: that much a killed process loses.
    """

    def __init__(
        self, subset: Subset, recipe: Recipe, precision: str, dtype: DTypeLike, store: Store | None
    ) -> None:
        self._counts, self.dtype = subset.counts, np.dtype(dtype)
        self._known: dict[Cell, list[np.ndarray]] = {}
        self._set: CellSet | None = None
        self._waiting: dict[Cell, bytes] = {}
        self._flushed_at = time.monotonic()
        self._note = "not saved: it was not asked for"
        if _source(recipe) is None:
            self._note = f"not saved: the source of the method {recipe.method!r} is not at hand"
        elif store is not None:
            title = _title(subset, recipe)
            self._set = store.set(content_key(subset, recipe, precision), title)

    @property
    def note(self) -> str:
        """ "saved", or "not saved: " and why."""
        return self._set.note if self._set else self._note

    def get(self, cell: Cell) -> list[np.ndarray] | None:
        """The classes at a cell, (n,) for each task, or None."""
        if cell not in self._known and self._set is not None:
            data = self._set.get(*cell)
            # Another length is no map of these images: computed again and written over.
            if data is not None and len(data) == sum(self._counts) * self.dtype.itemsize:
                classes = np.frombuffer(data, self.dtype)
                self._known[cell] = np.split(classes, [self._counts[0]])
        return self._known.get(cell)

    def put(self, cell: Cell, classes: list[np.ndarray]) -> None:
        """Keep the classes at a cell."""
        self._known[cell] = classes
        if self._set is not None:
            self._waiting[cell] = np.concatenate(classes).astype(self.dtype).tobytes()
            if time.monotonic() - self._flushed_at >= FLUSH_S:
                self.flush()

    def flush(self) -> None:
        """Put on disk what is not there yet; ``note`` is true of every cell afterwards."""
        if self._set is not None:
            self._set.put_all(self._waiting)
        self._waiting.clear()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Let go of the store."""
        self.flush()
        if self._set is not None:
            self._set.close()


def content_key(subset: Subset, recipe: Recipe, precision: str) -> str:
    """A hash of everything that the predictions at a cell depend on, its coordinates aside.

    ``precision`` is "auto", "float32" or "bfloat16"; the first two predict the same.
    """
    digest = hashlib.blake2b(digest_size=20)
    for part in _content(subset, recipe, precision):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _content(subset: Subset, recipe: Recipe, precision: str) -> Iterator[bytes]:
    model = subset.model
    resident = model.resident(recipe.space)
    yield resident.digest(None)
    # What the heads are made of: their own last digits depend on the number of threads.
    yield from model.heads_made_of(subset.tasks)
    for i, task in enumerate(subset.tasks):
        yield resident.digest(task)
        yield model.image_store.range(subset.range(i)).cpu().numpy().tobytes()
        yield subset.labels(i).tobytes()
        yield json.dumps([model.task(task).class_names, model.task(task).templates]).encode()
    facts = {
        "format": _FORMAT,
        "architecture": dict(model.architecture),
        "pixels": [list(model.card["mean"]), list(model.card["std"])],
        "subset": [subset.split, subset.counts, subset.seed],
        "recipe": [recipe.space, recipe.schedule and recipe.schedule.to_text(), recipe.method],
        "options": dict(recipe.options),
        "method": _source(recipe),
        "device": model.device.type,
        "precision": "bfloat16" if precision == "bfloat16" else "float32",
    }
    yield json.dumps(facts, sort_keys=True, default=str).encode()


def _source(recipe: Recipe) -> str | None:
    """Source of a method that is not linear: one of the same name may be written anew."""
    method = find_method(recipe.method)
    if method.linear:
        return ""
    try:
        return inspect.getsource(method.function)
    except (OSError, TypeError):  # typed at a prompt
        return None


def _title(subset: Subset, recipe: Recipe) -> str:
    schedule = f", {recipe.schedule.to_text()}" if recipe.schedule else ""
    space = "" if recipe.space == "weights" else f", {recipe.space} space"
    images = " and ".join(map(str, subset.counts))
    return (
        f"{' and '.join(subset.tasks)} of {subset.model.name}, {recipe.method}{schedule}{space}, "
        f"{images} {subset.split} images, seed {subset.seed}"
    )
