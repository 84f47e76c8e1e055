"""A schedule as a curve with handles. Pure functions; every curve is linear in its handles.

The browser therefore needs no formula of any kind of schedule: it draws basis @ values, and
follows the hand without asking Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from explorer.editing.patterns import shuffled
from explorer.editing.schedule import (
    FACTOR_RANGE,
    Schedule,
    constant,
    inverse_lines,
    lines,
    per_layer,
    piecewise,
    shuffled_lines,
)
from explorer.editing.schedule_forms import points_of
from explorer.errors import RecipeError, UnknownNameError

NONE = "none"
KINDS = {
    NONE: "none",
    "lines": "LiNeS",
    "inverse_lines": "inverse",
    "shuffled_lines": "shuffled",
    "piecewise": "piecewise",
    "per_layer": "by layer",
    "constant": "constant",
}
"""Kinds of schedule, and what they are called on screen."""
EXPLANATIONS = {
    NONE: "every depth receives the whole edit",
    "lines": "LiNeS: alpha at the first block, rising in a straight line to alpha + beta at the "
    "last (Wang et al. 2024)",
    "inverse_lines": "a control: LiNeS upside down, the first block most",
    "shuffled_lines": "a control: the factors of LiNeS with the blocks in another order",
    "piecewise": "straight lines through points; double click adds one, Delete removes one",
    "per_layer": "one factor a block, drawn by hand: drag across the plot",
    "constant": "the same factor at every depth",
}
RAMPS = ("lines", "inverse_lines", "shuffled_lines")
"""Kinds with alpha and beta."""
LAID_OUT = (*RAMPS, "piecewise", "per_layer")
"""Kinds that let ln_post and proj have alpha or follow the last block."""
FIRST = (0.1, 0.9)
"""Alpha and beta where no schedule says otherwise: one task, as in the paper's notebook."""
CLOSEST = 0.02
"""Two points of a piecewise schedule are at least this far apart in depth."""


@dataclass(frozen=True)
class Handle:
    """A handle at a place on the axis of blocks (0 = first, -1 = outside), with its factor."""

    name: str
    place: float
    value: float


def kind_of(schedule: Schedule | None) -> str:
    """Which of `KINDS` a schedule is."""
    return NONE if schedule is None else schedule.kind


def ends(schedule: Schedule | None) -> tuple[float, float]:
    """Alpha and beta of a schedule that has them, else `FIRST`."""
    if schedule is None or schedule.kind not in RAMPS:
        return FIRST
    return schedule.parameters[0], schedule.parameters[1]


def handles(schedule: Schedule | None, n_layers: int) -> list[Handle]:
    """What can be dragged: two ends of a ramp, the points, one a layer and one outside."""
    if schedule is None:
        return []
    if schedule.kind == "constant":
        return [Handle("every depth", (n_layers - 1) / 2, schedule.parameters[0])]
    if schedule.kind in RAMPS:
        alpha, beta = ends(schedule)
        low, high = _ends_of_ramp(schedule, n_layers)
        return [Handle("alpha", low, alpha), Handle("alpha + beta", high, alpha + beta)]
    if schedule.kind == "piecewise":
        return [
            Handle(f"depth {depth:g}", depth * (n_layers - 1), value)
            for depth, value in points_of(schedule.parameters)
        ]
    outside, *blocks = schedule.parameters
    drawn = [Handle(f"block {i + 1}", i, value) for i, value in enumerate(blocks)]
    return [*drawn, Handle("outside the blocks", -1, outside)]


def bounds(schedule: Schedule | None, n_layers: int) -> tuple[float, float]:
    """Between which numbers a factor, alpha or beta may be moved.

    `FACTOR_RANGE`, and in whole numbers as far as what is there already, which may come from code
    or a file: a handle that is not moved never stands in the way of another.
    """
    there = [handle.value for handle in handles(schedule, n_layers)]
    if kind_of(schedule) in RAMPS:
        there += ends(schedule)
    reached = [*FACTOR_RANGE, *there]
    return float(math.floor(min(reached))), float(math.ceil(max(reached)))


def with_values(schedule: Schedule, values: Sequence[float]) -> Schedule:
    """The same kind of schedule with its handles elsewhere, in the order of `handles`."""
    if schedule.kind == "constant":
        wanted = 1
    elif schedule.kind in RAMPS:
        wanted = 2
    else:
        wanted = len(schedule.parameters) // (2 if schedule.kind == "piecewise" else 1)
    if len(values) != wanted:
        raise RecipeError(f"This schedule has {wanted} handles, not {len(values)}.")
    if schedule.kind == "constant":
        return constant(values[0])
    if schedule.kind in RAMPS:
        alpha, last = values
        return Schedule(
            schedule.kind,
            (alpha, round(last - alpha, 10), *schedule.parameters[2:]),
            schedule.outside,
        )
    if schedule.kind == "piecewise":
        depths = [depth for depth, _ in points_of(schedule.parameters)]
        return piecewise([*zip(depths, values, strict=True)], schedule.outside)
    *blocks, outside = values
    return per_layer(blocks, outside, schedule.outside)


def factors(schedule: Schedule | None, n_layers: int) -> list[float]:
    """The factor of every depth in order: before the blocks, each block, after them."""
    if schedule is None:
        return [1.0] * (n_layers + 2)
    blocks = [schedule.scale(layer, n_layers) for layer in range(n_layers)]
    return [
        schedule.scale(None, n_layers),
        *blocks,
        schedule.scale(None, n_layers, after=True),
    ]


def basis(schedule: Schedule | None, n_layers: int) -> list[list[float]]:
    """(depth, handle): factors = basis @ values of the handles."""
    if schedule is None:
        return [[] for _ in range(n_layers + 2)]
    n = len(handles(schedule, n_layers))
    units = [[float(i == j) for j in range(n)] for i in range(n)]
    columns = [factors(with_values(schedule, unit), n_layers) for unit in units]
    return [[*row] for row in zip(*columns, strict=True)]


def reshaped(schedule: Schedule | None, kind: str, n_layers: int) -> Schedule | None:
    """A schedule of another kind, as near to this one as that kind allows."""
    if kind not in KINDS:
        raise UnknownNameError("kind of schedule", kind, KINDS)
    if kind == kind_of(schedule):
        return schedule
    if kind == NONE:
        return None
    now = [round(x, 4) for x in factors(schedule, n_layers)]
    outside, *blocks, _ = now
    if kind == "constant":
        return constant(round(sum(blocks) / len(blocks), 4))
    layout = "alpha" if schedule is None else schedule.outside
    if kind == "per_layer":
        return per_layer(blocks, outside, layout)
    if kind == "piecewise":
        middle = blocks[(len(blocks) - 1) // 2] / 2 + blocks[len(blocks) // 2] / 2
        return piecewise([(0, blocks[0]), (0.5, round(middle, 4)), (1, blocks[-1])], layout)
    if schedule is None or schedule.kind in RAMPS:
        alpha, beta = ends(schedule)
    else:
        alpha, beta = blocks[0], round(blocks[-1] - blocks[0], 4)
    made = {"lines": lines, "inverse_lines": inverse_lines}
    if kind == "shuffled_lines":
        return shuffled_lines(alpha, beta, 0, layout)
    return made[kind](alpha, beta, layout)


def with_point(schedule: Schedule, depth: float, value: float) -> Schedule:
    """A piecewise schedule with one point more. Raises RecipeError too near to another one."""
    points = points_of(schedule.parameters)
    if any(abs(depth - d) < CLOSEST for d, _ in points):
        raise RecipeError(f"There is a point at depth {depth:g} already; drag that one.")
    return piecewise(sorted([*points, (depth, value)]), schedule.outside)


def without_point(schedule: Schedule, index: int) -> Schedule:
    """A piecewise schedule with one point less. Raises RecipeError when it is the last one."""
    points = points_of(schedule.parameters)
    if len(points) == 1:
        raise RecipeError("A piecewise schedule has at least one point.")
    del points[index]
    return piecewise(points, schedule.outside)


def with_seed(schedule: Schedule, seed: int) -> Schedule:
    """A shuffled schedule in another order."""
    alpha, beta = ends(schedule)
    return shuffled_lines(alpha, beta, seed, schedule.outside)


def title(schedule: Schedule | None) -> str:
    """A short name with its numbers: "LiNeS α=0.1 β=0.9"."""
    name = KINDS[kind_of(schedule)]
    if schedule is None:
        return "no schedule"
    if schedule.kind in RAMPS:
        alpha, beta = ends(schedule)
        return f"{name} α={alpha:g} β={beta:g}"
    if schedule.kind == "constant":
        return f"constant {schedule.parameters[0]:g}"
    return name


def _ends_of_ramp(schedule: Schedule, n_layers: int) -> tuple[int, int]:
    """The blocks that get alpha and alpha + beta."""
    if schedule.kind == "lines":
        return 0, n_layers - 1
    if schedule.kind == "inverse_lines":
        return n_layers - 1, 0
    order = shuffled(n_layers, int(schedule.parameters[2]))
    return order.index(0), order.index(n_layers - 1)
