"""How much of an edit each depth receives: layer schedules, from LiNeS to drawn by hand."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from explorer.editing import schedule_forms
from explorer.editing.layers import layer_of, lies_after_blocks
from explorer.editing.patterns import EVERYWHERE, Order, Outside, Pattern, group
from explorer.errors import RecipeError

FACTOR_RANGE = (-1.0, 3.0)
"""Factors that hands and searches reach: the curve, its fields and the grids of ``ex.lines_search``
and ``ex.compare`` agree on it. A schedule itself may hold any finite number."""

Kind = Literal["constant", "lines", "inverse_lines", "shuffled_lines", "piecewise", "per_layer"]
Terms = tuple[tuple[Pattern, float], ...]
_ORDERS: dict[str, Order] = {
    "lines": "rising",
    "inverse_lines": "falling",
    "shuffled_lines": "shuffled",
}


@dataclass(frozen=True)
class Schedule:
    """Depth -> scale. Frozen and hashable; build one with ``lines``, ``constant``, ``piecewise``,
    ``per_layer``, or as a control with ``inverse_lines`` or ``shuffled_lines``.

    ``scale(layer, n_layers)`` gives the factor of a block (0 = first), or of everything outside
    the blocks (``layer=None``).
    """

    kind: Kind
    parameters: tuple[float, ...]
    outside: Outside = "alpha"

    def __post_init__(self) -> None:
        numbers = schedule_forms.checked(self.kind, self.parameters, self.outside)
        object.__setattr__(self, "parameters", numbers)

    def scale(self, layer: int | None, n_layers: int, *, after: bool = False) -> float:
        """The factor of block ``layer`` of ``n_layers``; ``after`` marks ln_post and proj.

        Raises RecipeError for a block that the tower does not have, and where the schedule has
        the numbers of another depth.
        """
        terms = self.terms(n_layers)
        return sum(weight * pattern.at(layer, n_layers, after=after) for pattern, weight in terms)

    def terms(self, n_layers: int) -> Terms:
        """The schedule as a weighted sum of fixed depth patterns: (pattern, weight) pairs.

        The patterns do not depend on the numbers, so a linearised model needs one Jacobian
        product a pattern and then follows the numbers for free: two patterns for LiNeS and its
        controls, one for a constant, one for each block and each side for the drawn ones.
        """
        if self.kind == "constant":
            return ((EVERYWHERE, self.parameters[0]),)
        if self.kind in _ORDERS:
            alpha, beta, *seed = self.parameters
            ramp = Pattern("ramp", _ORDERS[self.kind], int(*seed), self.outside)
            return ((EVERYWHERE, alpha), (ramp, beta))
        before, blocks, after = self._drawn(n_layers)
        groups = [(group(f"block {i + 1}"), value) for i, value in enumerate(blocks)]
        return ((group("input"), before), *groups, (group("output"), after))

    def _drawn(self, n_layers: int) -> tuple[float, Sequence[float], float]:
        """The factors before the blocks, in them and after them, of a schedule drawn by hand."""
        if self.kind == "per_layer":
            outside, *blocks = self.parameters
            if len(blocks) != n_layers:
                raise RecipeError(
                    f"The schedule has numbers for {len(blocks)} blocks, but the tower has "
                    f"{n_layers}: draw it again for this tower, or use ex.piecewise."
                )
            return outside, blocks, blocks[-1] if self.outside == "depth" else outside
        points = schedule_forms.points_of(self.parameters)
        depths = [i / (n_layers - 1) if n_layers > 1 else 0.0 for i in range(n_layers)]
        blocks = [interpolated(points, depth) for depth in depths]
        first = interpolated(points, 0.0)
        last = blocks[-1] if blocks else first
        return first, blocks, last if self.outside == "depth" else first

    def scale_of(self, key: str, n_blocks: int) -> float:
        """The factor of a parameter by its name."""
        return self.scale(layer_of(key, n_blocks), n_blocks, after=lies_after_blocks(key))

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_data`` reads it back."""
        return schedule_forms.to_data(self.kind, self.parameters, self.outside)

    @classmethod
    def from_data(cls, data: object) -> "Schedule":
        """Read what ``to_data`` wrote; RecipeError names what is missing."""
        return cls(*schedule_forms.from_data(data))  # type: ignore[arg-type]  # checked on entry

    def to_text(self) -> str:
        """Compact form for links, such as ``lines:0.1,0.9``."""
        return schedule_forms.to_text(self.kind, self.parameters, self.outside)

    @classmethod
    def from_text(cls, text: str) -> "Schedule":
        """Read what ``to_text`` wrote."""
        return cls(*schedule_forms.from_text(text))  # type: ignore[arg-type]  # checked on entry

    def to_python(self) -> str:
        """The Python expression that builds this schedule, ``ex.lines(0.1, 0.9)``."""
        return schedule_forms.to_python(self.kind, self.parameters, self.outside)


def lines(alpha: float, beta: float, outside: Outside = "alpha") -> Schedule:
    """LiNeS layer scaling: ``alpha + beta * (l-1)/(L-1)`` for block l = 1 ... L.

    Wang et al. 2024, "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model
    Merging". Everything outside the blocks, ln_post and proj included, gets alpha, as in the
    authors' code; ``outside="depth"`` lets ln_post and proj follow the last block (alpha + beta).
    For a single task the paper takes beta = 1 - alpha.
    """
    return Schedule("lines", (alpha, beta), outside)


def inverse_lines(alpha: float, beta: float, outside: Outside = "alpha") -> Schedule:
    """LiNeS upside down, a control: ``alpha + beta * (L-l)/(L-1)``, the first block most.

    What lies outside the blocks is treated as by ``lines``: only the blocks are reversed.
    """
    return Schedule("inverse_lines", (alpha, beta), outside)


def shuffled_lines(
    alpha: float, beta: float, seed: int = 0, outside: Outside = "alpha"
) -> Schedule:
    """LiNeS with its blocks in another order, a control: the same factors, no trend over depth.

    The order depends on ``seed`` and the number of blocks only.
    """
    return Schedule("shuffled_lines", (alpha, beta, seed), outside)


def constant(value: float) -> Schedule:
    """The same factor at every depth."""
    return Schedule("constant", (value,))


def piecewise(points: Sequence[tuple[float, float]], outside: Outside = "alpha") -> Schedule:
    """Straight lines through points (depth, scale); depth 0 is the first block, 1 the last.

        ex.piecewise([(0, 0.1), (0.5, 0.2), (1, 1)])

    Before the first point and behind the last the scale stays what it is there. Everything
    outside the blocks gets the first block's factor; ``outside="depth"`` lets ln_post and proj
    follow the last block. Raises RecipeError for depths that do not rise from 0 to 1.
    """
    return Schedule("piecewise", schedule_forms.flat_points(points), outside)


def per_layer(
    values: Sequence[float], outside: float | None = None, layout: Outside = "alpha"
) -> Schedule:
    """One factor for each block, first to last, and one for everything outside the blocks.

    ``outside`` is the first block's factor unless given; ``layout="depth"`` lets ln_post and proj
    follow the last block instead. The tower must have as many blocks.
    """
    numbers = tuple(values)
    first = numbers[:1] if outside is None else (outside,)
    return Schedule("per_layer", (*first, *numbers), layout)


def interpolated(points: Sequence[tuple[float, float]], depth: float) -> float:
    """The scale at a depth on straight lines through (depth, scale) points, flat at both ends."""
    behind = bisect_right([d for d, _ in points], depth)
    if behind in (0, len(points)):
        return points[0][1] if behind == 0 else points[-1][1]
    (d0, s0), (d1, s1) = points[behind - 1], points[behind]
    return s0 + (s1 - s0) * (depth - d0) / (d1 - d0)
