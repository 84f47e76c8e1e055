"""The lens's only door to computation: what it asks of a model, off the event loop.

Torch and the measures are imported in the worker thread on first use, so that a page is on screen
before they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from explorer.app.runner import Job, Runner
from explorer.app.shared_models import SHELF, engine_for
from explorer.app.state import Prompts
from explorer.compute import turns
from explorer.errors import VocabularyError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.compute.engine import Engine
    from explorer.models.model import Model

FEW = 8
"""Images a task of a first picture while the room is crowded: half the usual, and half the time."""


@dataclass(frozen=True)
class Picture:
    """What was measured, and for which recipe and prompts."""

    recipe: Recipe
    prompts: Mapping[str, Prompts]
    result: xr.Dataset
    progress: float

    @property
    def complete(self) -> bool:
        return bool(self.result.attrs.get("complete", False))


class Measuring:
    """One session's measurements of one model: the latest request wins, pictures stream in."""

    def __init__(
        self,
        model: Model,
        show: Callable[[Picture], None],
        failed: Callable[[Exception], None],
        on_busy: Callable[[bool], None],
    ):
        self.model = model
        self.runner = Runner(on_busy)
        self._show, self._failed = show, failed
        self._engine: Engine | None = None
        self._own: Engine | None = None

    def measure(self, recipe: Recipe, prompts: Mapping[str, Prompts]) -> None:
        """Measure recipe on all tasks, coarse to fine; stale measurements are cancelled."""

        def make() -> Iterable[xr.Dataset]:
            from explorer.measures.accuracy import STAGES, accuracy_run

            engine = self._engine_for(recipe)
            heads = {task: _head(self.model, task, words) for task, words in prompts.items()}
            stages = (FEW, *STAGES[1:]) if turns.crowded() else STAGES
            return accuracy_run(
                self.model, recipe, self.model.all_tasks, stages, engine=engine, heads=heads or None
            )

        def show(result: xr.Dataset, progress: float) -> None:
            self._show(Picture(recipe, prompts, result, progress))

        self.runner.submit(Job(make, show, self._failed))

    def _engine_for(self, recipe: Recipe) -> Engine:
        """The engine for a recipe: where several sessions share one, only for what merges at once,
        since each takes the merged weights of whoever came before away."""
        from explorer.editing.methods import find_method

        if SHELF.engines is None or find_method(recipe.method).one_pass:
            self._engine = self._engine or engine_for(self.model)
            return self._engine
        if self._own is None:
            self._own = self.model.engine()
        return self._own

    def search(
        self,
        show: Callable[[xr.Dataset, float], None],
        failed: Callable[[Exception], None],
        on_busy: Callable[[bool], None],
    ) -> Runner:
        """Search the best shared coefficient on validation images, on a runner of its own."""

        def make() -> Iterable[xr.Dataset]:
            from explorer.measures.search import best_shared_coefficient

            return best_shared_coefficient(self.model)

        runner = Runner(on_busy)
        runner.submit(Job(make, show, failed))
        return runner

    async def check(self, task: str, prompts: Prompts) -> None:
        """Raise VocabularyError, with a sentence, if these prompts cannot make a head."""
        await asyncio.to_thread(_head, self.model, task, prompts)

    async def geometry(self) -> xr.Dataset:
        """Cosines and norms of the task vectors."""

        def measure() -> xr.Dataset:
            from explorer.measures.geometry import geometry

            return geometry(self.model)

        return await asyncio.to_thread(measure)

    async def images(self, task: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """All test images (n, y, x, 3) uint8, labels (n,), class names of a task."""
        return await asyncio.to_thread(self.model.images, task)

    def close(self) -> None:
        """Stop what is under way, within one batch."""
        self.runner.close()
        self._engine = self._own = None


def _head(model: Model, task: str, prompts: Prompts) -> Any:
    expected = len(model.task(task).class_names)
    if len(prompts.class_names) != expected:
        raise VocabularyError(
            f"{task} has {expected} classes, but {len(prompts.class_names)} class names are given; "
            f"write one a line."
        )
    if not prompts.templates or any("{}" not in template for template in prompts.templates):
        raise VocabularyError(
            "Every template needs {} where the class name goes, and there must be at least one: "
            "a photo of a {}."
        )
    return model.head(task, list(prompts.class_names), list(prompts.templates))
