"""A measurement repeated over seeds: one complete Dataset after every step, as a Run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from explorer.compute.run import Run
from explorer.errors import GrammarError
from explorer.hierarchy.grammar import Grammar, check_seed, check_whole
from explorer.measures.provenance import versions

if TYPE_CHECKING:
    import xarray as xr

Values = Mapping[str, np.ndarray]
Dataset = Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], "xr.Dataset"]
MOST_SYMBOLS_DRAWN = 2**30
"""Leaves of all examples of one seed: more would take hours to count."""


@dataclass(frozen=True)
class Sweep:
    """What every experiment is about: a grammar's sizes, and rising numbers of examples P."""

    v: int
    m: int
    s: int
    L: int
    examples: tuple[int, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes as attributes of a Dataset."""
        return {"v": self.v, "m": self.m, "s": self.s, "L": self.L, "n_classes": self.v}

    @property
    def P(self) -> tuple[str, np.ndarray, dict[str, str]]:
        """The coordinate ``examples``."""
        return "examples", np.array(self.examples), named("training strings P")

    def grammar(self, seed: int) -> Grammar:
        """The grammar of a seed."""
        return Grammar.random(self.v, self.m, self.s, self.L, seed)


def over_seeds(
    title: str,
    seeds: int,
    seed: int,
    measure: Callable[[int, Callable[[float], None]], Values],
    dataset: Dataset,
) -> "Run[xr.Dataset]":
    """Measure with seeds ``seed``, ``seed`` + 1, ...; yield means and standard errors so far.

    ``measure(seed, checkpoint)`` gives named arrays, equal in shape for every seed;
    ``dataset(values, attrs)`` makes a Dataset of each name's mean and of ``{name}_error``, which
    is nan as long as there is one seed.
    """

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        found: list[Values] = []

        def told(share: float) -> None:
            run.checkpoint((len(found) + share) / seeds)

        for number in range(seeds):
            told(0.0)
            found.append(measure(seed + number, told))
            attrs = {
                "experiment": title,
                "seed": seed,
                "seeds": len(found),
                "complete": int(len(found) == seeds),
                "versions": versions(),
            }
            yield dataset(averaged(found), attrs)

    return Run(partials, title=title)


def averaged(found: Sequence[Values]) -> dict[str, np.ndarray]:
    """Mean of each name over the seeds, and as ``{name}_error`` its standard error."""
    values: dict[str, np.ndarray] = {}
    for name in found[0]:
        table = np.stack([one[name] for one in found]).astype(float)
        values[name] = table.mean(0)
        spread = table.std(0, ddof=1) if len(found) > 1 else np.full(table.shape[1:], np.nan)
        values[f"{name}_error"] = spread / len(found) ** 0.5
    return values


def check_examples(examples: ArrayLike, s: int, L: int) -> list[int]:
    """Sorted distinct numbers of examples P.

    Raises GrammarError for none, for fewer than two examples, and for more than can be counted.
    """
    given = np.atleast_1d(np.asarray(examples))
    if not given.size or given.ndim != 1 or given.dtype.kind not in "iu":
        raise GrammarError(
            f"examples are whole numbers of training strings, at least one, not {examples!r}."
        )
    for value in given.tolist():
        check_whole("The number of examples", value, 2)
    most = MOST_SYMBOLS_DRAWN // s**L
    if given.max() > most:
        raise GrammarError(
            f"{given.max():,} examples of s^L = {s**L} leaves are too many to count here; choose "
            f"at most {most:,}."
        )
    return sorted({*given.tolist()})


def check_sweep(seeds: int, seed: int) -> tuple[int, int]:
    """How many seeds, and the first of them. Raises GrammarError."""
    return check_whole("seeds", seeds, 1), check_seed(seed)


def spread_out(law: float, least: float, most: float, points: int) -> list[int]:
    """Numbers of examples from ``least`` to ``most`` times ``law``, evenly on a log axis."""
    grid = np.geomspace(least * law, most * law, points)
    return sorted({max(2, round(x)) for x in grid.tolist()})


def sampled(g: Grammar, examples: Sequence[int], seed: int, at_once: int = 2**17) -> Iterator:
    """Strings in portions that end at every number of examples: (number so far, new trees).

    Trees are int64 arrays (n, s^depth), root first; no portion is longer than ``at_once``.
    """
    drawn, portion = 0, 0
    for end in examples:
        while drawn < end:
            n = min(at_once, end - drawn)
            trees = g.sample(n, seed + 1_000_003 * portion)
            drawn, portion = drawn + n, portion + 1
            yield drawn, trees


def with_errors(
    names: Mapping[str, tuple[tuple[str, ...], str, str]], values: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Each name's mean and standard error as variables; ``names`` {name: (dims, words, units)}."""
    return {
        f"{name}{error}": (dims, values[f"{name}{error}"], named(words, units))
        for name, (dims, words, units) in names.items()
        for error in ("", "_error")
    }


def named(words: str, units: str = "1") -> dict[str, str]:
    """Attributes of a variable."""
    return {"units": units, "long_name": words}
