"""What one map is, as frozen data: which model is edited how, on which grid, with which images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.editing.schedule import Schedule, lines
from explorer.errors import UnknownNameError
from explorer.recipe import DEFAULT_METHOD

KINDS = {
    "weights": "Standard",
    "posthoc": "Post-hoc linear",
    "tangent": "Tangent",
    "lines": "Standard, LiNeS",
}
"""Kinds of map that are sums, and what they are called; each merging method is a kind too."""
SPACES = ("weights", "posthoc", "tangent")
"""Kinds of map that need no more than a space."""
NO_MAP = ("task_arithmetic", "slerp")
"""Methods that are no kinds: the first is the standard map, the second has no single-task edit."""
EXPLANATIONS = {
    "weights": "standard task vectors in the ordinary network",
    "posthoc": "the same task vectors in the network linearised at its base",
    "tangent": "task vectors of tangent fine-tuning, in the linearised network",
    "lines": "standard task vectors, scaled with depth from alpha to alpha + beta",
}


def methods() -> dict[str, str]:
    """Merging methods of two tasks that a map can be of: name -> what it does, in a sentence."""
    from explorer.editing.methods import merging_methods

    return {
        name: method.summary
        for name, method in merging_methods().items()
        if not (method.per_task or name in KINDS or name in NO_MAP)
    }


def kind_title(kind: str) -> str:
    """What a kind of map is called on screen."""
    return KINDS.get(kind) or kind.replace("_", " ")


def title_of(kind: str, lines: tuple[float, float] | None = None) -> str:
    """A kind of map with LiNeS's alpha and beta, where it has them."""
    name = kind_title(kind)
    return name if lines is None else f"{name} α={lines[0]:g} β={lines[1]:g}"


def kind_explanation(kind: str) -> str:
    """What a kind of map is, as a sentence's end."""
    return EXPLANATIONS.get(kind) or f"every cell merged by {kind_title(kind)}"


def space_of(kind: str) -> str:
    """The space of a kind of map."""
    return kind if kind in SPACES else "weights"


def method_of(kind: str) -> str:
    """The merging method of a kind of map."""
    return DEFAULT_METHOD if kind in KINDS else kind


def schedule_of(numbers: tuple[float, float] | None) -> Schedule | None:
    """LiNeS with these alpha and beta, or no schedule."""
    return None if numbers is None else lines(*numbers)


def check_kind(kind: Any, what: str) -> None:
    """Raise UnknownNameError unless kind is a kind of map; what names it in the sentence."""
    if kind not in KINDS and kind not in methods():
        raise UnknownNameError(what, kind, [*KINDS, *methods()])


@dataclass(frozen=True)
class MapSpec:
    """One disentanglement map: everything its numbers depend on, but the model."""

    pair: tuple[str, str]
    kind: str
    extent: tuple[float, float]
    points: int
    n: int
    seed: int
    lines: tuple[float, float] | None = None
    """LiNeS's alpha and beta, of the kind "lines" alone."""

    @property
    def space(self) -> str:
        """The space as `ex.disentanglement` knows it."""
        return space_of(self.kind)

    @property
    def method(self) -> str:
        """The merging method, its options at their defaults."""
        return method_of(self.kind)

    @property
    def schedule(self) -> Schedule | None:
        return schedule_of(self.lines)

    @property
    def alphas(self) -> np.ndarray:
        """The points of both axes, ascending."""
        # Ten decimals, as `ex.disentanglement` keeps: linspace alone gives 0.30000000000000004.
        return np.linspace(*self.extent, self.points).round(10) + 0.0

    @property
    def step(self) -> float:
        """Distance of two points: the side of a cell."""
        return (self.extent[1] - self.extent[0]) / (self.points - 1)

    @property
    def title(self) -> str:
        """What is compared, short enough to stand above the map."""
        return title_of(self.kind, self.lines)

    def nearest(self, point: tuple[float, float]) -> tuple[float, float]:
        """The centre of the cell that holds point."""
        alphas = self.alphas
        first, second = (float(alphas[np.abs(alphas - x).argmin()]) for x in point)
        return first, second

    def to_python(self) -> str:
        """The Python expression of the run that makes this map, for an open model `m`."""
        low, high = self.extent
        parts = [f"{self.pair!r}", f"np.linspace({low:g}, {high:g}, {self.points})", f"n={self.n}"]
        if self.space != "weights":
            parts.append(f"space={self.space!r}")
        if self.schedule is not None:
            parts.append(f"schedule={self.schedule.to_python()}")
        if self.method != DEFAULT_METHOD:
            parts.append(f"method={self.method!r}")
        return f"ex.disentanglement(m, {', '.join(parts)}, seed={self.seed})"


@dataclass(frozen=True)
class PairsSpec:
    """The mean error of all pairs of tasks, each by a map of one kind."""

    seed: int
    kind: str = "weights"
    lines: tuple[float, float] | None = None
    """LiNeS's alpha and beta, of the kind "lines" alone."""


@dataclass(frozen=True)
class KernelSpec:
    """Localisation of the tangent kernel's eigenfunctions on two tasks."""

    pair: tuple[str, str]
    seed: int


Spec = MapSpec | PairsSpec | KernelSpec
