"""What was measured at some levels of noise, as one labelled Dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.hierarchy.chunks import (
    bootstrap_error,
    correlation,
    correlation_length,
    susceptibility,
)
from explorer.hierarchy.mean_field_theory import CORRELATION_LENGTH
from explorer.measures.provenance import versions

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Measured:
    """One level of noise, string by string.

    ``variance`` (data, L + 1): see ``chunks.block_variance``. ``marginal``, ``changed``
    (data, depth): probability of, and share without, the true symbol. ``moved`` (data, depth):
    changed leaves a trajectory whose chunk begins at that depth. Of the shown strings ``after``
    (shown, samples, node) and ``noised`` (shown, samples, leaf); ``leaves`` (data, samples, leaf)
    whether each leaf changed. None where a model has no such thing or nobody asked.
    """

    variance: np.ndarray
    marginal: np.ndarray | None = None
    changed: np.ndarray | None = None
    moved: np.ndarray | None = None
    after: np.ndarray | None = None
    noised: np.ndarray | None = None
    leaves: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: "Sequence[Measured]") -> "Measured":
        """Several batches of strings as one."""
        fields = {name: [getattr(part, name) for part in parts] for name in cls.__annotations__}
        return cls(**{k: np.concatenate(x) for k, x in fields.items() if x[0] is not None})


@dataclass(frozen=True)
class Experiment:
    """What all levels of a run have in common, and how they become a Dataset.

    ``before`` are the shown strings' trees (shown, node); ``depths`` those measured (empty: all).
    """

    title: str
    s: int
    L: int
    seed: int
    level_name: str
    attrs: Mapping[str, Any]
    before: np.ndarray | None = None
    depths: Sequence[int] = ()

    def dataset(self, found: Mapping[float, Measured], complete: bool) -> "xr.Dataset":
        """Everything measured so far, levels in rising order."""
        import xarray as xr

        levels = sorted(found)
        stacked = _stacked([found[level] for level in levels])
        variables = self._statistics(stacked["variance"])
        variables |= self._by_depth(stacked)
        variables |= self._shown(stacked)
        return xr.Dataset(
            variables,
            coords=self._coordinates(levels, variables),
            attrs={**self.attrs, "versions": versions(), "complete": int(complete)},
        )

    def _statistics(self, variance: np.ndarray) -> dict[str, Any]:
        mean, s = variance.mean(-2), self.s
        chi_error = bootstrap_error(variance, lambda table: susceptibility(table, s), self.seed)
        c_error = bootstrap_error(variance, lambda table: correlation(table, s), self.seed)
        length_error = bootstrap_error(variance, lambda x: correlation_length(x, s), self.seed)
        by_distance, words = ("level", "distance"), "bootstrap error over strings"
        leaves = {"units": "leaves"}
        return {
            "susceptibility": ("level", susceptibility(mean, s), _named("susceptibility chi")),
            "susceptibility_error": ("level", chi_error, _named(words)),
            "correlation": (by_distance, correlation(mean, s), _named("correlation of changes")),
            "correlation_error": (by_distance, c_error, _named(words)),
            "correlation_length": (
                "level",
                correlation_length(mean, s),
                leaves | {"long_name": CORRELATION_LENGTH},
            ),
            "correlation_length_error": ("level", length_error, leaves | {"long_name": words}),
        }

    def _by_depth(self, stacked: Mapping[str, np.ndarray]) -> dict[str, Any]:
        names = {"marginal": "probability of the true symbol", "changed": "share of nodes changed"}
        variables: dict[str, Any] = {}
        for name, words in names.items():
            if name in stacked:
                table = stacked[name]
                error = bootstrap_error(table, lambda mean: mean, self.seed)
                variables[name] = (("level", "depth"), table.mean(-2), _named(words))
                words = "bootstrap error over strings"
                variables[f"{name}_error"] = (("level", "depth"), error, _named(words))
        if "moved" in stacked:
            moved = stacked["moved"].mean(-2)
            total = moved.sum(-1, keepdims=True)
            share = np.divide(moved, total, out=np.zeros_like(moved), where=total > 0)
            words = "share of changed leaves whose chunk begins at this depth"
            variables["moved_by"] = (("level", "depth"), share, _named(words))
        return variables

    def _shown(self, stacked: Mapping[str, np.ndarray]) -> dict[str, Any]:
        variables: dict[str, Any] = {}
        if self.before is not None and len(self.before):
            variables["before"] = (("shown", "node"), self.before, _named("symbols at the start"))
            words = "symbols after noising and denoising"
            variables["after"] = (
                ("level", "shown", "sample", "node"),
                stacked["after"],
                _named(words),
            )
            words = "likeliest symbol of the noised leaf, -1 for none"
            variables["noised"] = (
                ("level", "shown", "sample", "leaf"),
                stacked["noised"],
                _named(words),
            )
        if "leaves" in stacked:
            over = ("level", "datum", "sample", "leaf")
            variables["changed_leaf"] = (over, stacked["leaves"], _named("1 where a leaf changed"))
        return variables

    def _coordinates(self, levels: list[float], variables: Mapping[str, Any]) -> dict[str, Any]:
        distance = np.arange(self.L + 1)
        coordinates: dict[str, Any] = {
            "level": ("level", np.array(levels), _named(self.level_name)),
            "distance": ("distance", distance, _named("levels up to the common ancestor")),
        }
        if "marginal" in variables:
            depths = np.array(self.depths or range(self.L + 1))
            coordinates["depth"] = ("depth", depths, _named("depth, 0 the root"))
        if "before" in variables:
            sizes = [self.s**depth for depth in range(self.L + 1)]
            position = np.concatenate([np.arange(size) for size in sizes])
            coordinates["node_depth"] = ("node", np.repeat(np.arange(self.L + 1), sizes))
            coordinates["node_position"] = ("node", position)
        return coordinates


def _stacked(measured: Sequence[Measured]) -> dict[str, np.ndarray]:
    fields = {name: [getattr(m, name) for m in measured] for name in Measured.__annotations__}
    return {name: np.stack(x) for name, x in fields.items() if x[0] is not None}


def _named(words: str) -> dict[str, str]:
    return {"units": "1", "long_name": words}
