"""What the lenses of one recipe share: the recipe on screen, and its accuracies, measured live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from explorer.app.lens import Lens
from explorer.app.measuring import Measuring, Picture
from explorer.app.picture import Rows, resolution, rows
from explorer.app.state import LensState
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model


class RecipeLens(Lens):
    """Base of the lenses that look at one recipe through its accuracies on all tasks.

    `lens.recipe` is what is on screen and can be read and set from code; `lens.result` is what was
    measured for it.
    """

    __abstract = True

    model: Model

    def __init__(self, model: Model, state: LensState):
        super().__init__()
        self.model = model
        self.state = state
        self.titles = {task: model.task(task).title for task in model.all_tasks}
        self.classes = {task: len(model.task(task).class_names) for task in model.all_tasks}
        self.picture: Picture | None = None
        self.geometry: xr.Dataset | None = None
        self.busy = False
        self.measuring = Measuring(model, self._measured, self._failed, self._is_busy)

    # What is on screen

    @property
    def recipe(self) -> Recipe:
        """The recipe on screen. Setting it is one undo step."""
        return self.state.recipe

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self.state.replace(recipe)

    @property
    def result(self) -> xr.Dataset | None:
        """What was measured for the recipe on screen, as by `ex.accuracy_run`; None if nothing."""
        return None if self.picture is None or self.is_stale(self.picture) else self.picture.result

    def is_stale(self, picture: Picture) -> bool:
        """Whether picture belongs to another recipe or other prompts than those on screen."""
        return picture.recipe != self.recipe or picture.prompts != self.state.prompts

    def rows(self) -> Rows | None:
        """The numbers of the chart of accuracies, from the newest picture."""
        picture = self.picture
        if picture is None:
            return None
        return rows(
            picture.result,
            self.classes,
            self.state.chart,
            self.model.control,
            picture.recipe.coefficients,
        )

    def notice(self) -> dict[str, Any]:
        """What the status line says: parameters of `Notices`."""
        return {
            "text": self._status(),
            "busy": self.busy,
            "progress": self.picture.progress if self.picture else 0.0,
            "sentences": [*self.sentences],
        }

    def _status(self) -> str:
        """Which images stand behind the figures, and whether the picture is catching up."""
        picture = self.picture
        if picture is None:
            return "measuring the first images…" if self.busy else "nothing measured yet"
        if self.is_stale(picture):
            return "catching up…" if self.busy else "stopped before the picture caught up"
        total = [self.model.n_images(task, "test") for task in self.titles]
        return resolution(picture.result["n"].values.tolist(), total, picture.complete)

    # State -> measurement -> screen

    def start(self) -> None:
        """Begin to measure, as soon as there is an event loop. Every display calls this."""
        if self.measuring.runner.generation == 0:
            self._measure()
        self.measuring.runner.resume()

    def stop(self) -> None:
        """Stop measuring; what is on screen stays."""
        self.measuring.runner.cancel()

    def go_on(self) -> None:
        """Measure what is on screen, after a stop."""
        self._measure()

    def _measure(self, *_: Any) -> None:
        self.measuring.measure(self.recipe, self.state.prompts)
        self.drawing.outdated("notices", patient=True)

    def _measured(self, picture: Picture) -> None:
        if self.is_stale(picture) and self.result is not None:
            return  # never replace the right picture by an older one
        self.picture = picture
        self.drawing.outdated("picture", "notices")

    def _is_busy(self, busy: bool) -> None:
        self.busy = busy
        self.drawing.outdated("notices", patient=busy)

    def close(self) -> None:
        """Stop measuring and let go of threads. Called when a served session ends."""
        super().close()
        self.measuring.close()
