"""Pictures and curves as one figure for a paper: matplotlib, imported on first use."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from explorer.app import saving, theme
from explorer.app.diffusion.measured import Measured
from explorer.app.diffusion.palette import CHANGE, SUBJECTS
from explorer.app.diffusion.setting import KINDS, METHODS, Setting
from explorer.app.diffusion.tracks import Row, Track, to_pictures
from explorer.app.tree.measured import Columns

SHOWN = 5
"""Variants beside the large one."""
Side = tuple[Track, Measured | None]


def figure(setting: Setting, sides: Sequence[Side], kind: str, note: str) -> bytes:
    """A line of pictures for each subject over the three curves, as PNG or SVG.

    note: what is written into the file's metadata.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chart = Figure(figsize=(11, 3.6 + 1.9 * len(sides)), layout="constrained")
    FigureCanvasAgg(chart)
    places: Any = chart.subfigures(len(sides) + 1, height_ratios=[*[1.0] * len(sides), 1.7])
    *lines, below = places
    for line, side in zip(lines, sides, strict=True):
        _pictures(line, setting, *side)
    _curves(below.subplots(1, 3), setting, sides)
    out = io.BytesIO()
    name = "Description" if kind == "png" else "Title"
    chart.savefig(out, format=kind, dpi=saving.DOTS_PER_INCH, metadata={name: note})
    return out.getvalue()


def _pictures(place: Any, setting: Setting, track: Track, measured: Measured | None) -> None:
    row = track.nearest(setting.level)
    assert row is not None  # the caller has looked
    chosen = min(setting.variant, len(row.images) - 1)
    rest = [i for i in range(len(row.images)) if i != chosen][:SHOWN]
    axes = place.subplots(1, 3 + len(rest))
    shown = [track.picture, noised(track, row, chosen), row.images[chosen]]
    titles = ["picture", f"noised, t/T = {row.level:.2g}", f"variant {chosen + 1}"]
    shown += [row.images[i] for i in rest]
    titles += [f"variant {i + 1}" for i in rest]
    for at, picture, title in zip(axes, shown, titles, strict=True):
        if picture is not None:
            at.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        at.set_title(title, fontsize=8)
        at.axis("off")
    if measured is not None and row.point in measured.fields:
        _change(axes[2], measured, row, chosen, setting.opacity, track.picture.shape[:2])
    what = f"{track.title}: {METHODS.get(str(row.data.attrs.get('method')), '')}"
    counts = f"{len(row.images)} variants a level, seed {row.data.attrs.get('seed', '?')}"
    said = f"{what}, {track.steps} steps, {counts}"
    place.suptitle(f"{said} (precomputed)" if track.precomputed else said, fontsize=9)


def _change(
    at: Any, measured: Measured, row: Row, chosen: int, opacity: float, size: tuple[int, ...]
) -> None:
    """The change map over a variant, and an outline around what counts as changed."""
    from matplotlib.colors import to_rgb

    field = measured.fields[row.point][0, chosen]
    colour = np.empty((*field.shape, 4))
    colour[..., :3] = to_rgb(CHANGE)
    colour[..., 3] = opacity * field / (measured.largest or 1)
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    at.imshow(colour, extent=extent, interpolation="nearest")
    high = np.pad(field > measured.threshold(row.point), 1)
    dy, dx = size[0] / field.shape[0], size[1] / field.shape[1]
    for y, x in np.argwhere(high[1:] != high[:-1]).tolist():
        _edge(at, [(x - 1) * dx, x * dx], [y * dy, y * dy])
    for y, x in np.argwhere(high[:, 1:] != high[:, :-1]).tolist():
        _edge(at, [x * dx, x * dx], [(y - 1) * dy, y * dy])


def _edge(at: Any, x: list[float], y: list[float]) -> None:
    xs, ys = np.array(x) - 0.5, np.array(y) - 0.5
    at.plot(xs, ys, color="black", lw=2, solid_capstyle="round")
    at.plot(xs, ys, color="white", lw=1, solid_capstyle="round")


def noised(track: Track, row: Row, chosen: int) -> np.ndarray | None:
    """x_t of a variant as a picture (h, w, c) uint8; None where it is not known."""
    if row.noised is not None:
        return row.noised[chosen]
    if track.noise is None:
        return None
    abar = track.alpha_bar[row.point]
    x = np.sqrt(abar) * (track.picture / 127.5 - 1) + np.sqrt(1 - abar) * track.noise[chosen]
    return to_pictures(x)


def _curves(axes: Any, setting: Setting, sides: Sequence[Side]) -> None:
    chi, length, correlation = axes
    level = setting.level
    for colour, (track, measured) in zip(SUBJECTS, sides, strict=False):
        if measured is None or measured.chunks is None:
            continue
        _marks(chi, measured.against_level("susceptibility"), "level", "value", colour, track.title)
        _marks(length, measured.against_level("correlation_length"), "level", "value", colour)
        level, columns = measured.correlation(setting.level)
        _marks(correlation, columns, "r", "correlation", colour)
    for at in (chi, length):
        at.axvline(setting.level, color=theme.EDITED, lw=1.2)
        at.set_xlim(0, 1.02)
        at.set_xlabel("noise level t / T")
    chi.set_title(f"susceptibility χ; change in {KINDS[setting.kind]}", fontsize=9)
    length.set_title("correlation length in patches", fontsize=9)
    correlation.set_xscale("log")
    correlation.set_yscale("log")
    correlation.set_ylim(1e-3, 1.3)
    correlation.set_xlabel("distance r of two patches")
    correlation.set_title(f"C(r) / C(0) at t/T = {level:.2g}", fontsize=9)
    if len(sides) > 1:
        chi.legend(frameon=False, fontsize=7)
    for at in axes:
        at.spines[["top", "right"]].set_visible(False)


def _marks(at: Any, columns: Columns, x: str, y: str, colour: str, label: str = "") -> None:
    bars = np.nan_to_num(np.array(columns["error"], dtype=float))
    look = {"fmt": "o-", "ms": 3, "lw": 1, "color": colour}
    at.errorbar(columns[x], columns[y], bars, label=label or None, **look)
