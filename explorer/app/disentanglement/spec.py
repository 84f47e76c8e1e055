"""What one map is, as frozen data: which model is edited how, on which grid, with which images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explorer.editing.schedule import Schedule, lines

KINDS = {
    "weights": "Standard",
    "posthoc": "Post-hoc linear",
    "tangent": "Tangent",
    "lines": "Standard, LiNeS",
}
"""Kinds of map that can be chosen, and what they are called."""
SPACES = ("weights", "posthoc", "tangent")
"""Kinds of map that need no more than a space: those that all pairs can be measured in."""
EXPLANATIONS = {
    "weights": "standard task vectors in the ordinary network",
    "posthoc": "the same task vectors in the network linearised at its base",
    "tangent": "task vectors of tangent fine-tuning, in the linearised network",
    "lines": "standard task vectors, scaled with depth from alpha to alpha + beta",
}


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
        return "weights" if self.kind == "lines" else self.kind

    @property
    def schedule(self) -> Schedule | None:
        return None if self.lines is None else lines(*self.lines)

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
        name = KINDS[self.kind]
        return name if self.lines is None else f"{name} α={self.lines[0]:g} β={self.lines[1]:g}"

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
        return f"ex.disentanglement(m, {', '.join(parts)}, seed={self.seed})"
