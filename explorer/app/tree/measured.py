"""What is measured of a grammar or a control so far, and the columns its curves are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from explorer.app.tree.setting import MEASURED_LEVELS, CurveSpec

NEAR_ONE = (0.96, 0.98, 0.985, 0.99, 0.995)
"""A flat mixture's class is lost only when almost nothing is known of any leaf."""
AGAINST_LEVEL = ("susceptibility", "correlation_length")
"""What is drawn against the level, one number a level."""
PASSES = (8, 4, 2, 1)
"""Steps between the levels of each pass over a curve, in levels of the finest."""
Columns = dict[str, list]


@dataclass(frozen=True, eq=False)
class Theory:
    """Annealed mean field of the epsilon process (`ex.hierarchy.mean_field`), and its threshold."""

    result: xr.Dataset

    @property
    def threshold(self) -> float:
        """nan where there is no transition."""
        return float(self.result["threshold"])

    def by_distance(self, level: float) -> Columns:
        """The correlation at a level, as a line over distance."""
        here = self.result.sel(epsilon=level, method="nearest")
        return correlation_columns(here["correlation"].values, int(self.result.attrs["s"]))

    def power_law(self) -> Columns:
        """r^-a through the middle of the correlation at the threshold; empty without one."""
        s, L = int(self.result.attrs["s"]), int(self.result.attrs["L"])
        if not np.isfinite(self.threshold):
            return {"r": [], "correlation": []}
        critical = self.by_distance(self.threshold)
        middle = (L - 1) // 2
        r = np.array([0.8 * (s - 1), 1.25 * (s**L - 1)])
        scale = critical["correlation"][middle] * critical["r"][middle] ** float(
            self.result["decay"]
        )
        return {
            "r": r.tolist(),
            "correlation": (scale * r ** -float(self.result["decay"])).tolist(),
        }


@dataclass(frozen=True, eq=False)
class Row:
    """One level's result, and its numbers as plain arrays: curves are drawn ten times a second."""

    result: xr.Dataset
    statistics: Mapping[str, tuple[float, float]]
    """Value and error of each of `AGAINST_LEVEL`."""
    correlation: np.ndarray
    correlation_error: np.ndarray
    marginal: np.ndarray
    marginal_error: np.ndarray
    depths: list[int]

    @classmethod
    def of(cls, result: xr.Dataset) -> Row:
        """From a Dataset of one level, as by `ex.hierarchy.forward_backward` and the controls."""

        def numbers(name: str) -> np.ndarray:
            return result[name].values[0] if name in result else np.array([])

        depths = result["depth"].values.tolist() if "depth" in result.coords else []
        return cls(
            result,
            {
                name: (float(numbers(name)), float(numbers(f"{name}_error")))
                for name in AGAINST_LEVEL
            },
            numbers("correlation"),
            numbers("correlation_error"),
            numbers("marginal"),
            numbers("marginal_error"),
            depths,
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """One spec's results: level -> row."""

    spec: CurveSpec
    rows: Mapping[float, Row] = field(default_factory=dict)
    theory: Theory | None = None

    @property
    def levels(self) -> list[float]:
        return sorted(self.rows)

    @property
    def done(self) -> int:
        """How many of the levels every curve has are measured."""
        return len({*levels_of(self.spec)} & {*self.rows})

    @property
    def complete(self) -> bool:
        return self.done == len(levels_of(self.spec))

    def dataset(self) -> xr.Dataset:
        """All levels as one Dataset, as by `ex.hierarchy.forward_backward`."""
        rows = [self.rows[level].result for level in self.levels]
        made = xr.concat(rows, "level", data_vars="minimal", coords="minimal", compat="override")
        return made.assign_attrs(rows[0].attrs, complete=int(self.complete))

    def nearest(self, level: float) -> float | None:
        """The measured level nearest to one."""
        return min(self.rows, key=lambda found: abs(found - level), default=None)

    def widest(self) -> float | None:
        """The measured level of the largest susceptibility."""
        chi = {x: row.statistics["susceptibility"][0] for x, row in self.rows.items()}
        known = {x: value for x, value in chi.items() if np.isfinite(value)}
        return max(known, key=lambda x: known[x], default=None)

    # Columns of the charts

    def against_level(self, name: str) -> Columns:
        """One mark a level: one of `AGAINST_LEVEL` with its error bar."""
        levels = self.levels
        found = [self.rows[x].statistics[name] for x in levels]
        values, errors = np.array(found).reshape(-1, 2).T
        return with_bars({"level": levels}, "value", values, errors)

    def marginals(self, colours: list[str]) -> Columns:
        """One mark a level and depth: the probability of the true symbol with its error bar."""
        rows = {x: self.rows[x] for x in self.levels}
        depths = [depth for row in rows.values() for depth in row.depths]
        levels = [x for x, row in rows.items() for _ in row.depths]
        nothing = [np.array([])]
        values = np.concatenate([*nothing, *(row.marginal for row in rows.values())])
        errors = np.concatenate([*nothing, *(row.marginal_error for row in rows.values())])
        colour = [colours[depth] for depth in depths]
        start: Columns = {"level": levels, "depth": depths, "colour": colour}
        return with_bars(start, "marginal", values, errors)

    def correlation(self, level: float) -> Columns:
        """One mark a distance at a measured level: C(l) / C(0) with its error bar."""
        row, s = self.rows[level], self.spec.grammar.sizes.s
        found, error = row.correlation, row.correlation_error
        columns = correlation_columns(found, s)
        bars = np.divide(
            error[1:], found[0], out=np.full(len(found) - 1, np.nan), where=found[0] > 0
        )
        values = np.array(columns.pop("correlation"))
        made = with_bars(columns, "correlation", values, bars)
        # A bar that would reach below zero has no end on a logarithmic axis.
        made["lower"] = np.maximum(np.array(made["lower"]), 1e-6).tolist()
        return made


def correlation_columns(correlation: np.ndarray, s: int) -> Columns:
    """C(l) / C(0) over the distance r = s^l - 1 of leaves l levels from their common ancestor.

    What is not positive has no place on a logarithmic axis and becomes nan.
    """
    distance = np.arange(1, len(correlation))
    ratio = np.full(len(distance), np.nan)
    if correlation[0] > 0:
        ratio = correlation[1:] / correlation[0]
    ratio = np.where(ratio > 0, ratio, np.nan)
    r = (float(s) ** distance - 1).tolist()
    return {"distance": distance.tolist(), "r": r, "correlation": ratio.tolist()}


def levels_of(spec: CurveSpec) -> list[float]:
    """The levels at which a spec is measured, coarse to fine."""
    return [level for levels in passes(spec) for level in levels]


def passes(spec: CurveSpec) -> list[list[float]]:
    """The same in passes, each of which halves the steps: early results span the whole range."""
    levels = MEASURED_LEVELS.tolist()
    found: list[list[float]] = []
    for step in PASSES:
        known = {level for before in found for level in before}
        found.append([level for level in levels[::step] if level not in known])
    if spec.control == "mixture":
        found[0] += NEAR_ONE
    return found


def with_bars(columns: Columns, name: str, values: np.ndarray, errors: np.ndarray) -> Columns:
    """A value, its error, and the ends of its error bar (none where the error is not known)."""
    bars = np.where(np.isfinite(errors), errors, 0.0)
    return {
        **columns,
        name: values.tolist(),
        "error": errors.tolist(),
        "lower": (values - bars).tolist(),
        "upper": (values + bars).tolist(),
    }
