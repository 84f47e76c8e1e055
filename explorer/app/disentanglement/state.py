"""What a session looks at through the disentanglement lens. Components are bound to this."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import param

from explorer.app.disentanglement.layers import LAYERS, TERMS
from explorer.app.disentanglement.spec import KINDS, MapSpec, check_kind
from explorer.app.history import History
from explorer.errors import RecipeError, UnknownNameError
from explorer.recipe import Recipe

EXTENTS = ((-3.0, 3.0), (-2.0, 2.0), (-1.0, 1.0), (0.0, 1.0))
WIDEST = (-10.0, 10.0)
RESOLUTIONS = (9, 21, 41)
MOST_IMAGES = 100_000
USUAL_IMAGES = 400
"""A task: a 21 x 21 map in less than a minute on two cores, its errors known within 2.5 %."""
MOST_PINS = 2
"""Maps that can be kept beside those chosen."""
START = (0.6, 0.6)
"""Where the point stands first: a cell of the default grid, inside the usual search region."""
Numbers = tuple[float, float]


class MapState(param.Parameterized):
    """The lens's state. Change it through its methods: they validate and remember.

    The pair and the point are one `Recipe` (its two coefficients), so that undo and redo are the
    arithmetic lens's.
    """

    recipe = param.ClassSelector(class_=Recipe, allow_refs=False)
    maps = param.ClassSelector(
        default=("weights", "tangent"),
        class_=tuple,
        doc="Kinds of map in order; a merging method, at most one, comes last.",
    )
    lines = param.NumericTuple((0.2, 0.8), length=2, doc="LiNeS's alpha and beta.")
    extent = param.NumericTuple(EXTENTS[0], length=2)
    points = param.Integer(21)
    n = param.Integer(USUAL_IMAGES)
    seed = param.Integer(0)
    layer = param.Selector(default="error", objects=list(LAYERS))
    terms = param.Selector(default="mean", objects=list(TERMS))
    fitted = param.Boolean(False, doc="Colours fitted to the values, not from 0 to 1.")
    pins = param.ClassSelector(
        default=(), class_=tuple, doc="Maps kept beside those chosen, each a `MapSpec`."
    )
    pairs_kind = param.String("weights", doc="The kind of map that all pairs are measured by.")
    looked_at = param.String("weights", doc="The kind of map whose images are shown.")
    task = param.Integer(0, bounds=(0, 1), doc="The task whose images are shown.")
    page = param.Integer(0, bounds=(0, None))

    def __init__(self, tasks: Sequence[str], base: str):
        self.tasks = tuple(tasks)
        recipe = Recipe(base=base, coefficients=dict(zip(self.tasks[:2], START, strict=True)))
        super().__init__(recipe=recipe)
        self.history = History(recipe)

    # What follows from the state

    @property
    def pair(self) -> tuple[str, str]:
        """The two tasks: of the horizontal axis, of the vertical axis."""
        first, second = self.recipe.coefficients
        return first, second

    @property
    def point(self) -> Numbers:
        """The two coefficients of the recipe on screen."""
        first, second = self.recipe.coefficients.values()
        return first, second

    def spec(self, kind: str) -> MapSpec:
        """The map of this kind that belongs on screen."""
        scaled = self.lines if kind == "lines" else None
        return MapSpec(self.pair, kind, self.extent, self.points, self.n, self.seed, scaled)

    @property
    def method(self) -> str:
        """The merging method among the kinds shown, or nothing."""
        return next((kind for kind in self.maps if kind not in KINDS), "")

    @property
    def specs(self) -> list[MapSpec]:
        """The maps that belong on screen, in order."""
        return [self.spec(kind) for kind in self.maps]

    # Changes of the point

    def move(self, point: Sequence[Any], done: bool = True) -> None:
        """Move the point; done False while it is being dragged."""
        first, second = point
        values = {t: self._inside(t, x) for t, x in zip(self.pair, (first, second), strict=True)}
        self._change(self.recipe.replace(coefficients=values), gesture="point", done=done)

    def set_coefficient(self, task: str, value: Any, done: bool = True) -> None:
        """Move one of the two sliders."""
        if task not in self.pair:
            raise UnknownNameError("task on the map", task, self.pair)
        moved = self.recipe.with_coefficient(task, self._inside(task, value))
        self._change(moved, gesture=task, done=done)

    def undo(self) -> None:
        self._change(self.history.undo(), remember=False)

    def redo(self) -> None:
        self._change(self.history.redo(), remember=False)

    def forget_history(self) -> None:
        """Let the present point be the first."""
        self.history = History(self.recipe)

    # Changes of the maps

    def set_pair(self, first: str, second: str) -> None:
        """Look at another pair of tasks; choosing the other axis's task swaps the axes."""
        for task in (first, second):
            if task not in self.tasks:
                raise UnknownNameError("task", task, self.tasks)
        if first == second:
            raise RecipeError(f"A map is of two different tasks, not of {first} twice.")
        point = dict(zip(self.pair, self.point, strict=True))
        if {first, second} != {*self.pair}:
            point = dict(zip((first, second), self.point, strict=True))
        self._change(self.recipe.replace(coefficients={t: point[t] for t in (first, second)}))

    def set_axis(self, axis: int, task: str) -> None:
        """Choose the task of one axis (0 horizontal); the other's task there swaps the two."""
        first, second = self.pair
        if task == self.pair[1 - axis]:
            self.set_pair(second, first)
        else:
            self.set_pair(*((task, second) if axis == 0 else (first, task)))

    def show(self, kind: str, on: bool) -> None:
        """Show a kind of map, or no longer. A merging method takes the place of another one."""
        check_kind(kind, "kind of map")
        if kind not in KINDS:
            self.show_method(kind if on else "")
            return
        shown = [k for k in KINDS if (on if k == kind else k in self.maps)]
        self.set_maps([*shown, *filter(None, [self.method])])

    def show_method(self, method: str) -> None:
        """Show the map of a merging method beside the others; of none if it is empty."""
        if method:
            check_kind(method, "merging method to map")
        self.set_maps([*(k for k in self.maps if k in KINDS), *filter(None, [method])])

    def set_maps(self, kinds: Sequence[str]) -> None:
        """Show these kinds of map, in this order."""
        for kind in kinds:
            check_kind(kind, "kind of map")
        merging = [kind for kind in kinds if kind not in KINDS]
        if len({*merging}) > 1:
            raise RecipeError(
                f"One merging method is mapped at a time, not {' and '.join(merging)}; pin the map "
                "of one to compare it with another."
            )
        if not kinds or len({*kinds}) < len(kinds):
            raise RecipeError("At least one kind of map is shown, and each at most once.")
        looked_at = self.looked_at if self.looked_at in kinds else kinds[0]
        self.param.update(maps=tuple(kinds), looked_at=looked_at, page=0)

    def set_lines(self, alpha: Any, beta: Any) -> None:
        """LiNeS's two numbers, each between 0 and 1 as in the paper's search."""
        numbers = tuple(
            _number(x, f"LiNeS's {name}", 0, 1) for name, x in (("alpha", alpha), ("beta", beta))
        )
        self.lines = numbers

    def set_extent(self, low: Any, high: Any) -> None:
        """The range of both coefficients; the point is moved inside."""
        low, high = (_number(x, "an end of the map's range", *WIDEST) for x in (low, high))
        if high - low < 0.1:
            raise RecipeError(
                f"The map's range goes from a lower to a higher number, not {low:g} to {high:g}."
            )
        inside = [min(max(x, low), high) for x in self.point]
        with param.parameterized.batch_call_watchers(self):
            self.extent = (low, high)
            self._change(
                self.recipe.replace(coefficients=dict(zip(self.pair, inside, strict=True)))
            )

    def set_points(self, points: Any) -> None:
        """Cells along each axis."""
        if points not in RESOLUTIONS or isinstance(points, bool):
            choices = ", ".join(map(str, RESOLUTIONS))
            raise RecipeError(f"A map has {choices} points an axis here, not {points!r}.")
        self.points = points

    def set_n(self, n: Any) -> None:
        """Images a task."""
        self.n = _whole(n, "The number of images a task", 1, MOST_IMAGES)

    def set_seed(self, seed: Any) -> None:
        """Seed of the draw of the images."""
        self.seed = _whole(seed, "The seed", 0, 2**31 - 1)

    def pin(self, spec: MapSpec) -> None:
        """Keep a map beside those chosen, whatever they become."""
        if spec in self.pins:
            return
        if len(self.pins) >= MOST_PINS:
            raise RecipeError(f"{MOST_PINS} maps are pinned already; let one of them go first.")
        self.pins = (*self.pins, spec)

    def unpin(self, spec: MapSpec) -> None:
        """Let a pinned map go."""
        self.pins = tuple(pinned for pinned in self.pins if pinned != spec)

    def set_pairs_kind(self, kind: str) -> None:
        """Measure all pairs by maps of this kind."""
        check_kind(kind, "kind of map of all pairs")
        self.pairs_kind = kind

    # Changes of the view

    def set_layer(self, layer: str) -> None:
        if layer not in LAYERS:
            raise UnknownNameError("layer", layer, LAYERS)
        self.layer = layer

    def set_terms(self, terms: str) -> None:
        """Whether the error is the mean (0 to 1) or the sum (0 to 2) of the two tasks' terms."""
        if terms not in TERMS:
            raise UnknownNameError("way to join the two terms", terms, TERMS)
        self.terms = terms

    def look_at(self, kind: str) -> None:
        """Show the images of this kind of map."""
        if kind not in self.maps:
            raise UnknownNameError("map on screen", kind, self.maps)
        if kind != self.looked_at:
            self.param.update(looked_at=kind, page=0)

    def look_at_task(self, task: Any) -> None:
        """Show the images of the first (0) or the second (1) task."""
        if task not in (0, 1) or isinstance(task, bool):
            raise RecipeError(f"The map has a task 0 and a task 1, no task {task!r}.")
        if task != self.task:
            self.param.update(task=task, page=0)

    # Validation, where values enter

    def _inside(self, task: str, value: Any) -> float:
        return round(_number(value, f"the coefficient of {task}", *self.extent), 4)

    def _change(
        self, recipe: Recipe, gesture: str | None = None, done: bool = True, remember: bool = True
    ) -> None:
        if remember:
            self.history.record(recipe, gesture, done)
        self.param.update(recipe=recipe, page=self.page if recipe == self.recipe else 0)


def _number(value: Any, name: str, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise RecipeError(
            f"{name[0].upper()}{name[1:]} must be a number between {low:g} and {high:g}, "
            f"not {value!r}."
        )
    return float(value)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RecipeError(f"{name} must be a whole number from {low} to {high:,}, not {value!r}.")
    return value
