"""Which experiments there are, and the marks and lines their charts are drawn from. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from explorer.app import theme
from explorer.app.tree.palette import depth_colours
from explorer.errors import ExplorerError, UnknownNameError

Columns = dict[str, list]
MARKS = ("x", "y", "error", "lower", "upper", "label", "colour", "marker")
LINES = ("xs", "ys", "colour", "dash", "width")


@dataclass(frozen=True)
class Series:
    """Marks of one label with their errors, and the law beside them.

    ``joined``: a thin line goes through the marks. ``law`` (x, y) is a curve of its own; of one
    point it is a mark where the law puts the curve's threshold.
    """

    label: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    law: tuple[np.ndarray, np.ndarray] | None = None
    marker: str = "circle"
    joined: bool = True


@dataclass(frozen=True)
class Panel:
    """An experiment on screen: words, axes, numbers of examples that can be measured live.

    ``series(datasets, scaled)``: what is drawn of the shipped curves of all its grammars, against
    P or against P over the law.
    """

    name: str
    title: str
    law: str
    axes: tuple[str, str]
    scaled_axes: tuple[str, str]
    live: tuple[int, ...]
    series: Callable[[Sequence[xr.Dataset], bool], list[Series]]
    log_x: bool = True
    log_y: bool = False

    @property
    def usual(self) -> int:
        """The number of examples to measure live with, until a person chooses."""
        return self.live[len(self.live) // 2]

    def check(self, examples: Any) -> int:
        """A number of examples, if it is one that can be chosen. Raises ExplorerError."""
        if isinstance(examples, bool) or examples not in self.live:
            raise ExplorerError(
                f"{examples!r} examples cannot be measured here; choose one of "
                f"{', '.join(map(str, self.live))}, or use ex.hierarchy.learning.{self.name}."
            )
        return int(examples)


def marks(series: Sequence[Series]) -> Columns:
    """All marks as columns. What is not positive has no place on a logarithmic axis: see charts."""
    columns: Columns = {name: [] for name in MARKS}
    for one in series:
        bars = np.where(np.isfinite(one.error), one.error, 0.0)
        n = len(one.x)
        columns["x"] += np.asarray(one.x, float).tolist()
        columns["y"] += np.asarray(one.y, float).tolist()
        columns["error"] += np.asarray(one.error, float).tolist()
        columns["lower"] += (one.y - bars).tolist()
        columns["upper"] += (one.y + bars).tolist()
        columns["label"] += [one.label] * n
        columns["colour"] += [one.colour] * n
        columns["marker"] += [one.marker] * n
    return columns


def lines(series: Sequence[Series]) -> Columns:
    """Thin lines through the marks, and the laws, dashed."""
    columns: Columns = {name: [] for name in LINES}
    for one in series:
        drawn = [(one.x, one.y, "solid", 1.0)] if one.joined else []
        if one.law is not None and len(one.law[0]) > 1:
            drawn.append((*one.law, "dashed", 1.8))
        for x, y, dash, width in drawn:
            columns["xs"].append(np.asarray(x, float).tolist())
            columns["ys"].append(np.asarray(y, float).tolist())
            columns["colour"].append(one.colour)
            columns["dash"].append(dash)
            columns["width"].append(width)
    return columns


def law_marks(series: Sequence[Series]) -> Columns:
    """Where a law of one point puts each curve's threshold."""
    found = [one for one in series if one.law is not None and len(one.law[0]) == 1]
    return {
        "x": [float(one.law[0][0]) for one in found if one.law],
        "y": [float(one.law[1][0]) for one in found if one.law],
        "colour": [one.colour for one in found],
        "label": [one.label for one in found],
    }


def key(series: Sequence[Series]) -> list[list[str]]:
    """What the colours and marks mean: [label, colour, marker or "dashed"]."""
    return [[s.label, s.colour, s.marker if len(s.x) else "dashed"] for s in series]


def _tuples(datasets: Sequence[xr.Dataset], scaled: bool) -> list[Series]:
    found = []
    for i, data in enumerate(datasets):
        x = data["scaled" if scaled else "examples"].values
        y, error = (data[f"separation{suffix}"].values for suffix in ("", "_error"))
        label, law = f"({_sizes(data)})", (x, data["law"].values)
        found.append(Series(label, theme.LINES[i], x, y, error, law, joined=False))
    return found


def _staircase(datasets: Sequence[xr.Dataset], scaled: bool) -> list[Series]:
    """Scaled: signal over noise, of all grammars; else the correlation and noise of the first."""
    found = []
    for data, marker in zip(
        datasets if scaled else datasets[:1], ("circle", "square"), strict=False
    ):
        colours = depth_colours(int(data.attrs["L"]))[::-1]
        for distance in data["distance"].values.tolist():
            here = data.sel(distance=distance)
            x = here["scaled" if scaled else "examples"].values
            y, error = here["correlation"].values, here["correlation_error"].values
            law = here["law"].values
            if scaled:
                noise = here["noise"].values
                y, error = (y / noise) ** 2, 2 * y * error / noise**2
                law = 1 + x
            label = f"ℓ = {distance}" + (f", ({_sizes(data)})" if scaled else "")
            found.append(
                Series(label, colours[distance - 1], x, y, error, (x, law), marker, joined=False)
            )
        if not scaled:
            x, noise = data["examples"].values, data["noise"].mean("distance").values
            nothing = np.array([])
            floor = (x, noise)
            found.append(
                Series("noise", theme.ZERO_SHOT, nothing, nothing, nothing, floor, joined=False)
            )
    return found


def _latents(datasets: Sequence[xr.Dataset], scaled: bool) -> list[Series]:
    """The first grammar's levels; circles latents, squares tokens."""
    found, data = [], datasets[0]
    colours = depth_colours(int(data.attrs["L"]))[::-1]
    for target, marker in (("latent", "circle"), ("token", "square")):
        for height in data["height"].values.tolist():
            here = data.sel(target=target, height=height)
            x = here["scaled" if scaled else "examples"].values
            y, error = here["recovered"].values, here["recovered_error"].values
            at = 1.0 if scaled else float(here["needed_law"]) if "needed_law" in here else 0.0
            law = (np.array([at * constant(datasets)]), np.array([0.8]))
            label = f"{target} h = {height}"
            found.append(Series(label, colours[height - 1], x, y, error, law, marker))
    return found


def _learns(datasets: Sequence[xr.Dataset], scaled: bool) -> list[Series]:
    found, data = [], datasets[0]
    colours = depth_colours(int(data.attrs["L"]))[::-1]
    for height in data["height"].values.tolist():
        here = data.sel(height=height)
        x = here["scaled" if scaled else "examples"].values
        y, error = here["legal"].values, here["legal_error"].values
        at = 1.0 if scaled else float(here["needed_law"])
        law = (np.array([at * constant(datasets)]), np.array([(1 + float(here["chance"])) / 2]))
        found.append(Series(f"h = {height}", colours[height - 1], x, y, error, law))
    return found


def _memorises(datasets: Sequence[xr.Dataset], scaled: bool) -> list[Series]:
    found, data = [], datasets[0]
    for i, P in enumerate(data["examples"].values.tolist()):
        here = data.sel(examples=P)
        x = here["scaled" if scaled else "step"].values
        at = float(here["tau_law"]) / (P if scaled else 1)
        law = (np.array([at]), np.array([0.05]))
        y, error = here["copied"].values, here["copied_error"].values
        found.append(Series(f"P = {P}", theme.LINES[i % len(theme.LINES)], x, y, error, law))
    return found


def constant(datasets: Sequence[xr.Dataset]) -> float:
    """Measured over predicted P, the geometric mean over all curves: laws leave a factor open."""
    ratio = np.concatenate([(d["needed"] / d["needed_law"]).values.ravel() for d in datasets])
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    return float(np.exp(np.log(ratio).mean())) if len(ratio) else 1.0


def against_law(datasets: Sequence[xr.Dataset]) -> str:
    """What is measured of a law that leaves a constant open, over all its curves; "" of others."""
    name, law = next(
        (
            (n, x)
            for n, x in (("needed", "needed_law"), ("tau_copied", "tau_law"))
            if n in datasets[0]
        ),
        ("", ""),
    )
    if not name:
        return ""
    ratio = np.concatenate([(data[name] / data[law]).values.ravel() for data in datasets])
    ratio = ratio[np.isfinite(ratio)]
    return f"measured {ratio.min():.2f} to {ratio.max():.2f} of it"


def panel_of(name: str) -> Panel:
    """The panel of an experiment. Raises UnknownNameError."""
    if name not in PANELS:
        raise UnknownNameError("experiment on learning", name, PANELS)
    return PANELS[name]


def _sizes(data: xr.Dataset) -> str:
    return ", ".join(str(int(data.attrs[name])) for name in ("v", "m", "s", "L"))


def _powers(first: int, last: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(first, last + 1))


PANELS: Mapping[str, Panel] = {
    panel.name: panel
    for panel in (
        Panel(
            "tuples_cluster",
            "Tuples cluster by their parent",
            "1 + P / (n_c m^L): distance to other parents' tuples over that to synonyms",
            ("examples P", "distance ratio"),
            ("P / (n_c m^L)", "distance ratio"),
            _powers(6, 15),
            _tuples,
            log_y=True,
        ),
        Panel(
            "correlation_staircase",
            "Correlations rise above the noise",
            "distance ℓ needs P_ℓ = v m^(2ℓ−1) / (1 − m/v)",
            ("examples P", "correlation"),
            ("P / P_ℓ", "(signal / noise)²"),
            _powers(5, 17),
            _staircase,
            log_y=True,
        ),
        Panel(
            "latent_or_token",
            "Latents or tokens as targets",
            "latents need v m³ at every height h, tokens v m^(h+2)",
            ("examples P", "Rand index"),
            ("P / law", "Rand index"),
            _powers(5, 16),
            _latents,
        ),
        Panel(
            "diffusion_learns",
            "A diffusion model learns the rules",
            "rules of height h need about v m^(h+1) examples",
            ("examples P", "legal share"),
            ("P / (v m^(h+1))", "legal share"),
            _powers(4, 10),
            _learns,
        ),
        Panel(
            "memorisation_time",
            "… and then memorises its examples",
            "the time to memorise grows as P",
            ("training step", "share copied"),
            ("training step / P", "share copied"),
            _powers(6, 10),
            _memorises,
            log_x=False,
        ),
    )
}
