"""Token-token correlations rise above the sampling noise one tree distance after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from explorer.compute.run import Run
from explorer.errors import GrammarError
from explorer.hierarchy.grammar import Grammar, check_sizes
from explorer.hierarchy.learning.sweep import (
    Sweep,
    check_examples,
    check_sweep,
    named,
    over_seeds,
    sampled,
    spread_out,
    with_errors,
)
from explorer.hierarchy.learning.transitions import leaf_joint, probabilities

if TYPE_CHECKING:
    import xarray as xr

PORTION = 2**16
"""Strings counted at once."""


def correlation_staircase(
    v: int = 16,
    m: int = 4,
    s: int = 2,
    L: int = 3,
    examples: ArrayLike | None = None,
    *,
    seeds: int = 4,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """Root mean square correlation of two leaves from P strings, by tree distance, and its noise.

        run = ex.hierarchy.learning.correlation_staircase(16, 4, 2, 3)
        run.result().correlation.plot(hue="distance", xscale="log", yscale="log")

    C(x, y) = p(x, y) - p(x) p(y) of two leaves whose common ancestor is ``distance`` levels up,
    squared, averaged over x, y and pairs of leaves. With P strings it cannot be less than the
    ``noise`` of counting, about 1 / (v sqrt(P)). Law, averaged over grammars with v large:
    C^2 = (1 - m / v^(s-1)) / (v^3 m^(2l-1)) at distance l, so that step l rises above the noise
    at P_l = v m^(2l-1) / (1 - m / v^(s-1)) (Cagnetta and Wyart 2024, arXiv 2406.00048; signal
    over noise is 1 + P / P_l). ``exact`` is the same of the grammars drawn here, computed from
    their rules.

    ``examples`` numbers of strings (None: 1/4 P_1 to 4 P_L). One grammar a seed. Over (distance,
    examples): correlation, noise, exact with standard errors over seeds, and law, all in root
    mean square; over distance: limit and limit_law (no noise: P to infinity), needed (the P at
    which correlation^2 first is twice the noise^2, nan if never) and needed_law (P_l). Raises
    GrammarError, also for rules that leave nothing to correlate (m = v^(s-1)).
    """
    check_sizes(v, m, s, L)
    if m >= v ** (s - 1):
        raise GrammarError(
            f"With m = v^(s-1) = {m} every string is legal and leaves are independent: there is "
            "no correlation to measure. Choose a smaller m."
        )
    law = needed_law(v, m, s, L)
    grid = spread_out(law[0], 1 / 4, 4 * law[-1] / law[0], 2 * L + 7)
    wanted = check_examples(grid if examples is None else examples, s, L)
    work = _Work(v, m, s, L, tuple(wanted))
    return over_seeds("correlation_staircase", *check_sweep(seeds, seed), work.measure, work.made)


def needed_law(v: int, m: int, s: int, L: int) -> np.ndarray:
    """P_l = v m^(2l-1) / (1 - m / v^(s-1)) of l = 1 ... L."""
    distance = np.arange(1, L + 1)
    return v * float(m) ** (2 * distance - 1) / (1 - m / v ** (s - 1))


@dataclass(frozen=True)
class _Work(Sweep):
    @property
    def pairs(self) -> list[tuple[int, int, int]]:
        """(distance, leaf i, leaf j): the first leaf with every other."""
        found = [(1, 0, j) for j in range(1, self.s)]
        for distance in range(2, self.L + 1):
            found += [(distance, 0, j) for j in range(self.s ** (distance - 1), self.s**distance)]
        return found

    def measure(self, seed: int, checkpoint: Callable[[float], None]) -> dict[str, np.ndarray]:
        g = self.grammar(seed)
        counts = {pair: np.zeros((g.v, g.v)) for pair in self.pairs}
        found: dict[str, list[np.ndarray]] = {"correlation": [], "noise": [], "exact": []}
        limit, floor = self._exact(g)
        for drawn, trees in sampled(g, self.examples, seed, PORTION):
            checkpoint(drawn / self.examples[-1])
            leaves = trees[-1]
            for _, i, j in counts:
                code = leaves[:, i] * g.v + leaves[:, j]
                counts[_, i, j] += np.bincount(code, minlength=g.v**2).reshape(g.v, g.v)
            if drawn in self.examples:
                squares = self._by_distance({k: squared(table) for k, table in counts.items()})
                found["correlation"].append(squares**0.5)
                found["noise"].append((floor / drawn) ** 0.5)
                found["exact"].append((limit + floor / drawn) ** 0.5)
        values = {name: np.stack(x, axis=-1) for name, x in found.items()}
        return {**values, "limit": limit**0.5, "needed": self._needed(values)}

    def _exact(self, g: Grammar) -> tuple[np.ndarray, np.ndarray]:
        """Mean square correlation of the grammar, and of the noise of one string, a distance."""
        alone = probabilities(g, g.L)
        spread = [1 - (p**2).sum() for p in alone]
        signal = {pair: covariance_squared(leaf_joint(g, *pair[1:])) for pair in self.pairs}
        noise = {pair: spread[pair[1]] * spread[pair[2]] / g.v**2 for pair in self.pairs}
        return self._by_distance(signal), self._by_distance(noise)

    def _by_distance(self, of_pair: Mapping[tuple[int, int, int], float]) -> np.ndarray:
        values: list[list[float]] = [[] for _ in range(self.L)]
        for (distance, _, _), value in of_pair.items():
            values[distance - 1].append(value)
        return np.array([np.mean(x) for x in values])

    def _needed(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """P at which the square is twice that of the noise, on a logarithmic scale."""
        ratio = (values["correlation"] / values["noise"]) ** 2
        return np.array([first_above(self.examples, line, 2.0) for line in ratio])

    def made(self, values: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> "xr.Dataset":
        import xarray as xr

        P, over = self.P[1], ("distance", "examples")
        needed, limit = needed_law(self.v, self.m, self.s, self.L), self.limit_law()
        names = {
            "correlation": (over, "root mean square correlation of two leaves", "1"),
            "noise": (over, "root mean square noise of counting P strings", "1"),
            "exact": (over, "expected of these grammars, with noise", "1"),
            "limit": (over[:1], "correlation without noise", "1"),
            "needed": (over[:1], "P at which a step is twice the noise, squared", "1"),
        }
        variables = with_errors(names, values)
        with_noise = (limit[:, None] * (1 + needed[:, None] / P)) ** 0.5
        variables["law"] = (over, with_noise, named("law, with noise"))
        variables["limit_law"] = ("distance", limit**0.5, named("law without noise"))
        variables["needed_law"] = ("distance", needed, named("P at which a step emerges", "1"))
        coordinates = {
            "distance": ("distance", np.arange(1, self.L + 1), named("levels up")),
            "examples": self.P,
            "scaled": (over, P / needed[:, None], named("P / P_l")),
        }
        return xr.Dataset(variables, coordinates, {**attrs, **self.sizes})

    def limit_law(self) -> np.ndarray:
        """Mean square C(x, y) = (1 - m / v^(s-1)) / (v^3 m^(2l-1)) of l = 1 ... L."""
        return 1 / (self.v**2 * needed_law(self.v, self.m, self.s, self.L))


def squared(counts: np.ndarray) -> float:
    """Mean over symbols of the squared covariance, from counts of pairs (v, v)."""
    return covariance_squared(counts / counts.sum())


def covariance_squared(joint: np.ndarray) -> float:
    """Mean over symbols of (p(x, y) - p(x) p(y))^2."""
    return float(((joint - np.outer(joint.sum(1), joint.sum(0))) ** 2).mean())


def first_above(x: "tuple[int, ...] | np.ndarray", y: np.ndarray, threshold: float) -> float:
    """The x at which y first reaches a threshold, both on logarithmic scales; nan if never.

    x rises. A line that begins above it has reached it at or before its first x: that x.
    """
    above = np.flatnonzero(y >= threshold)
    if not len(above):
        return float("nan")
    at = int(above[0])
    if at == 0:
        return float(x[0])
    low, high = max(y[at - 1], 1e-12), y[at]
    share = np.log(threshold / low) / np.log(high / low)
    return float(np.exp(np.log(x[at - 1]) + share * np.log(x[at] / x[at - 1])))
