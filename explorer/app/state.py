"""What a session is looking at: one recipe and a few choices of view. Widgets are bound to this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import param

from explorer.app.history import History
from explorer.errors import RecipeError, UnknownNameError
from explorer.recipe import COEFFICIENT_RANGE, Recipe

CHARTS = ("absolute", "normalized")


@dataclass(frozen=True)
class Prompts:
    """The words of a zero-shot head: class names, and templates with {} where the name goes."""

    class_names: tuple[str, ...]
    templates: tuple[str, ...]


class LensState(param.Parameterized):
    """The arithmetic lens's state. Change it through its methods: they validate and remember.

    `off` holds the coefficients of tasks that are switched off, so that switching on restores them.
    `step` counts gestures: it changes when a new undo step begins, not while a slider is dragged.
    """

    recipe = param.ClassSelector(class_=Recipe, allow_refs=False)
    off = param.Dict({})
    solo = param.String("")
    focus = param.String("")
    chart = param.Selector(default="absolute", objects=list(CHARTS))
    prompts = param.Dict({}, doc="Task -> Prompts, for tasks whose prompts were edited.")
    page = param.Integer(0, bounds=(0, None))
    changed_only = param.Boolean(False)
    step = param.Integer(0)

    def __init__(self, tasks: Sequence[str], recipe: Recipe, control: str | None = None):
        """tasks: those with a task vector. control: a task to look at that has none."""
        super().__init__(recipe=recipe, focus=tasks[0])
        self.tasks = tuple(tasks)
        self.shown = (*self.tasks, control) if control else self.tasks
        self.history = History(recipe)

    # Values of the sliders

    @property
    def values(self) -> dict[str, float]:
        """Where every slider stands, also those of tasks switched off."""
        return {task: self.off.get(task, self.recipe.coefficient(task)) for task in self.tasks}

    @property
    def shared(self) -> float:
        """Mean of the coefficients of the tasks that are on: where the slider for all stands."""
        on = [x for task, x in self.values.items() if task not in self.off]
        return round(sum(on) / len(on), 2) if on else 0.0

    # Changes of the recipe

    def set_coefficient(self, task: str, value: Any, done: bool = True) -> None:
        """Move one slider; a task that was off comes on. done: False while it is being dragged."""
        number = self._number(self._task(task), value)
        off = {t: x for t, x in self.off.items() if t != task}
        self._change(self.recipe.with_coefficient(task, number), off, gesture=task, done=done)

    def set_all(self, value: Any, done: bool = True) -> None:
        """Move the sliders of all tasks that are on."""
        number = self._number("all tasks", value)
        moved = {task: number for task in self.tasks if task not in self.off}
        recipe = self.recipe.replace(coefficients={**self.recipe.coefficients, **moved})
        self._change(recipe, self.off, gesture="*", done=done, solo=self.solo)

    def switch(self, task: str, on: bool) -> None:
        """Switch a task vector on or off; its slider keeps its place."""
        self._task(task)
        if on == (task not in self.off):
            return
        off = {t: x for t, x in self.off.items() if t != task}
        if not on:
            off[task] = self.recipe.coefficient(task)
        self._change(
            self.recipe.with_coefficient(task, self.off.get(task, 0.0) if on else 0.0), off
        )

    def toggle_solo(self, task: str) -> None:
        """This task vector alone; a second time: all back on."""
        values = self.values
        off = (
            {} if self.solo == self._task(task) else {t: x for t, x in values.items() if t != task}
        )
        kept = {t: x for t, x in values.items() if t not in off}
        others = {t: x for t, x in self.recipe.coefficients.items() if t not in self.tasks}
        recipe = self.recipe.replace(coefficients={**others, **kept})
        self._change(recipe, off, solo=task if off else "")

    def replace(self, recipe: Recipe, off: Mapping[str, float] | None = None) -> None:
        """Another recipe altogether (a preset, a file, a link). Everything comes on but `off`."""
        self._check(recipe)
        self._change(recipe, dict(off or {}))

    def undo(self) -> None:
        self._change(self.history.undo(), self._still_off(self.history.current), remember=False)

    def redo(self) -> None:
        self._change(self.history.redo(), self._still_off(self.history.current), remember=False)

    def forget_history(self) -> None:
        """Let the present recipe be the first."""
        self.history = History(self.recipe)

    # Changes of the view

    def look_at(self, task: str) -> None:
        """Show this task's images and prompts."""
        if self._shown(task) != self.focus:
            self.param.update(focus=task, page=0)

    def set_chart(self, chart: str) -> None:
        """How accuracies are drawn: "absolute" or "normalized"."""
        if chart not in CHARTS:
            raise UnknownNameError("chart", chart, CHARTS)
        self.chart = chart

    def set_prompts(self, task: str, prompts: Prompts | None) -> None:
        """Edited prompts for a task's zero-shot head; None: the model's own."""
        others = {t: p for t, p in self.prompts.items() if t != self._shown(task)}
        self.prompts = others if prompts is None else {**others, task: prompts}

    # Validation, where values enter

    def _task(self, task: Any) -> str:
        if task not in self.tasks:
            raise UnknownNameError("task", task, self.tasks)
        return task

    def _shown(self, task: Any) -> str:
        if task not in self.shown:
            raise UnknownNameError("task", task, self.shown)
        return task

    def _number(self, name: str, value: Any) -> float:
        low, high = COEFFICIENT_RANGE
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise RecipeError(
                f"The coefficient of {name} must be a number between {low:g} and {high:g}, "
                f"not {value!r}."
            )
        return round(float(value), 4)

    def _check(self, recipe: Recipe) -> None:
        if recipe.base != self.recipe.base:
            raise RecipeError(
                f"This recipe edits the model {recipe.base!r}, but {self.recipe.base!r} is open; "
                f"choose {recipe.base!r} first."
            )
        for task, value in recipe.coefficients.items():
            self._number(self._task(task), value)

    def _still_off(self, recipe: Recipe) -> dict[str, float]:
        return {task: x for task, x in self.off.items() if recipe.coefficient(task) == 0.0}

    def _change(
        self,
        recipe: Recipe,
        off: Mapping[str, float],
        gesture: str | None = None,
        done: bool = True,
        solo: str = "",
        remember: bool = True,
    ) -> None:
        new_step = self.history.record(recipe, gesture, done) if remember else recipe != self.recipe
        self.param.update(recipe=recipe, off=dict(off), solo=solo, step=self.step + int(new_step))
