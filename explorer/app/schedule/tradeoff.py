"""The paper's rule as geometry on the plane of others (x) and target (y): lines of equal trade-off.

2 x target + control is the same on straight lines that fall by one half; of two schedules the rule
takes the one on the higher line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from explorer.app.schedule.jobs import Tried

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MOST_LINES = 7
BEYOND = 4.0
"""Lines go on this many widths beyond the axes, for whoever pans."""


@dataclass(frozen=True)
class Line:
    """All places of one trade-off: its value, two points on it, and where its number stands."""

    value: float
    x: tuple[float, float]
    y: tuple[float, float]
    label: tuple[float, float]


def weight() -> float:
    """How much the target counts beside the others: the rule's, where it is computed."""
    from explorer.measures.forgetting import TARGET_WEIGHT

    return TARGET_WEIGHT


def trade_off(point: Tried) -> float:
    """2 x target + control of a schedule."""
    return weight() * point.target + point.control


def line_at(value: float, xs: tuple[float, float], ys: tuple[float, float]) -> Line:
    """The line of a trade-off; xs and ys are the ends of the axes."""
    w, (left, right) = weight(), xs
    ends = (left - BEYOND * (right - left), right + BEYOND * (right - left))
    at_left = (value - left) / w
    label = (left, at_left) if at_left <= ys[1] else (value - w * ys[1], ys[1])
    return Line(value, ends, ((value - ends[0]) / w, (value - ends[1]) / w), label)


def lines(xs: tuple[float, float], ys: tuple[float, float]) -> list[Line]:
    """Round trade-offs, evenly apart, that cross the rectangle of the axes."""
    low, high = (weight() * y + x for x, y in zip(xs, ys, strict=True))
    step = next((s for s in STEPS if (high - low) / s <= MOST_LINES), high - low)
    first, last = math.ceil(low / step + 1e-9), math.floor(high / step - 1e-9)
    return [line_at(round(i * step, 6), xs, ys) for i in range(first, last + 1)]


def alpha_curve(points: Sequence[Tried]) -> list[Tried]:
    """LiNeS with beta = 1 - alpha, by alpha: what the rule chooses among, as one line."""
    ramps = [
        (p.schedule.parameters[0], p)
        for p in points
        if p.schedule is not None
        and p.schedule.kind == "lines"
        and p.schedule.outside == "alpha"
        and abs(sum(p.schedule.parameters) - 1) < 1e-6
    ]
    return [point for _, point in sorted(ramps, key=lambda pair: pair[0])]
