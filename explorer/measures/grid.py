"""The plane of two coefficients: points, stages and the order of its cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.errors import RecipeError

DEFAULT_POINTS = tuple(round(-3 + 0.3 * i, 10) for i in range(21))
MOST_POINTS = 201
# Points an axis of the stages before the last.
COARSE = (5, 9)

Points = Sequence[float] | np.ndarray
Alphas = Points | tuple[Points, Points]
Cell = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """Points of alpha1 and of alpha2, each sorted and unique."""

    alpha1: tuple[float, ...]
    alpha2: tuple[float, ...]

    @classmethod
    def of(cls, alphas: Alphas | None) -> "Grid":
        """From points for both axes, a pair of them (one an axis), or None: 21 of [-3, 3].

        Raises RecipeError for anything but finite numbers.
        """
        if alphas is None:
            return cls(DEFAULT_POINTS, DEFAULT_POINTS)
        if _is_pair(alphas):
            first, second = alphas
            return cls(_points(first), _points(second))
        points = _points(alphas)
        return cls(points, points)

    @property
    def work1(self) -> tuple[float, ...]:
        """Points of alpha1 and 0: on the axes lie the single-task edits."""
        return tuple(sorted({*self.alpha1, 0.0}))

    @property
    def work2(self) -> tuple[float, ...]:
        """Points of alpha2 and 0."""
        return tuple(sorted({*self.alpha2, 0.0}))

    def coarse(self, points: int) -> "Grid":
        """At most ``points`` of each axis, evenly spread, both ends among them."""
        return Grid(_spread(self.alpha1, points), _spread(self.alpha2, points))

    def stages(self) -> list["Grid"]:
        """Sub-grids of 5 and of 9 points an axis where there are more, then the whole grid."""
        grids = [*(self.coarse(k) for k in COARSE), self]
        return [g for i, g in enumerate(grids) if g not in grids[:i]]

    def axis_cells(self) -> list[Cell]:
        """(a1, 0) and (0, a2): every other cell is compared with two of these."""
        cells = [(0.0, 0.0), *((a, 0.0) for a in self.alpha1), *((0.0, a) for a in self.alpha2)]
        return list(dict.fromkeys(cells))

    def visits(self) -> list[Cell]:
        """Every cell once: the axes first, then coarse to fine, row by row within a level.

        So the fill-in looks even, and theta_0 + a1 tau1 is reused along a row.
        """
        rows, columns = _levels(self.alpha1), _levels(self.alpha2)
        inside = sorted(
            ((a, b) for a in self.alpha1 for b in self.alpha2),
            key=lambda cell: (max(rows[cell[0]], columns[cell[1]]), rows[cell[0]], cell),
        )
        return list(dict.fromkeys([*self.axis_cells(), *inside]))

    def __str__(self) -> str:
        return f"{len(self.alpha1)} x {len(self.alpha2)}"


def nearest_measured(measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every cell of a boolean map, the row and the column of the nearest True one.

    Distances are Euclidean in steps of the grid, first along the rows, then across them (as
    scipy's distance_transform_edt, whose import takes a third of a second).
    """
    n_rows, n_columns = measured.shape
    row, column = np.arange(n_rows), np.arange(n_columns)
    far = 10 * (n_rows + n_columns)
    left = np.maximum.accumulate(np.where(measured, column, -far), axis=1)
    right = np.minimum.accumulate(np.where(measured, column, far)[:, ::-1], axis=1)[:, ::-1]
    in_row = np.where(column - left <= right - column, left, right)
    across = np.subtract.outer(row, row)[:, :, None] ** 2 + ((in_row - column) ** 2)[None]
    rows = across.argmin(1)
    return rows, in_row[rows, column]


def _is_pair(alphas: object) -> bool:
    return isinstance(alphas, list | tuple) and len(alphas) == 2 and np.ndim(alphas[0]) == 1


def _points(values: object) -> tuple[float, ...]:
    try:
        points = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        points = np.array(np.nan)
    if points.ndim != 1 or not len(points) or not np.isfinite(points).all():
        raise RecipeError(
            "The points of a map are a list of finite numbers for both axes, or a pair of such "
            f"lists, not {_shortened(values)}."
        )
    # Ten decimals: linspace gives 0.30000000000000004, and grids are to share their cells.
    unique = sorted({round(float(x), 10) + 0.0 for x in points})
    if len(unique) > MOST_POINTS:
        raise RecipeError(f"A map has at most {MOST_POINTS} points an axis, not {len(unique)}.")
    return tuple(unique)


def _shortened(values: object) -> str:
    text = repr(values)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _spread(points: tuple[float, ...], n: int) -> tuple[float, ...]:
    if len(points) <= n:
        return points
    places = [round(i * (len(points) - 1) / (n - 1)) for i in range(n)]
    return tuple(points[i] for i in places)


def _levels(points: tuple[float, ...]) -> dict[float, int]:
    """Point -> the number of the halving that reaches it: 0 for the ends, 1 for the middle..."""
    levels = dict.fromkeys((points[0], points[-1]), 0)
    n, level = 3, 1
    while len(levels) < len(points):
        for point in _spread(points, n):
            levels.setdefault(point, level)
        n, level = 2 * n - 1, level + 1
    return levels
