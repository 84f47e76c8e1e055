"""What is on screen as one figure for a paper: pictures and curves, filmstrips, or what a
classifier sees. matplotlib, imported on first use."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app import saving, theme
from explorer.app.diffusion.measured import Measured, Side
from explorer.app.diffusion.palette import CHANGE, SUBJECTS, layer_colours
from explorer.app.diffusion.setting import KINDS, METHODS, Setting
from explorer.app.diffusion.tracks import Row, Track, to_pictures
from explorer.app.tree.measured import Columns

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 5
"""Variants beside the large one."""
FILM_ROWS = 2
"""Variants under each other in a filmstrip, as on screen."""


def figure(setting: Setting, sides: Sequence[Side], kind: str, note: str) -> bytes:
    """The view that is open, as PNG or SVG: a part for each subject, above the curves it has.

    note: what is written into the file's metadata.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    film = setting.view == "filmstrip"
    height = 1.9 * len(sides) + (0.4 if film else 3.6)
    chart = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(chart)
    if film:
        parts: Any = chart.subfigures(len(sides), 1, squeeze=False)
        for part, side in zip(parts[:, 0], sides, strict=True):
            _film(part, setting, side.track)
    else:
        ratios = [*[1.0] * len(sides), 1.7]
        parts = chart.subfigures(len(sides) + 1, 1, height_ratios=ratios)
        *lines, below = parts
        for line, side in zip(lines, sides, strict=True):
            _pictures(line, setting, side.track, side.measured)
        if setting.view == "features":
            _features(below.subplots(1, 2), setting, sides)
        else:
            _curves(below.subplots(1, 3), setting, sides)
    out = io.BytesIO()
    name = "Description" if kind == "png" else "Title"
    chart.savefig(out, format=kind, dpi=saving.DOTS_PER_INCH, metadata={name: note})
    return out.getvalue()


def _film(place: Any, setting: Setting, track: Track) -> None:
    """One noise at all finished levels: noised above, some variants below."""
    rows = [*track.finished.values()]
    chosen = min(setting.variant, len(rows[0].images) - 1)
    names = [i for i in range(chosen, chosen + FILM_ROWS) if i < len(rows[0].images)]
    axes = place.subplots(1 + len(names), len(rows), squeeze=False)
    for column, row in zip(axes.T, rows, strict=True):
        column[0].set_title(f"{row.level:.2f}", fontsize=8)
        shown = [noised(track, row, chosen), *(row.images[i] for i in names)]
        for at, picture in zip(column, shown, strict=True):
            _show(at, picture)
            at.set_xticks([])
            at.set_yticks([])
            at.spines[:].set_visible(False)
    for at, words in zip(axes[:, 0], ["noised", *(f"variant {i + 1}" for i in names)], strict=True):
        at.set_ylabel(words, fontsize=8)
    _say(place, track, rows[0], "; the same noise at every t/T")


def _show(at: Any, picture: np.ndarray | None) -> None:
    if picture is not None:
        at.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _say(place: Any, track: Track, row: Row, more: str = "") -> None:
    """What was noised and how, above the pictures."""
    what = f"{track.title}: {METHODS.get(str(row.data.attrs.get('method')), '')}"
    counts = f"{len(row.images)} variants a level, seed {row.data.attrs.get('seed', '?')}"
    said = f"{what}, {track.steps} steps, {counts}{more}"
    place.suptitle(f"{said} (precomputed)" if track.precomputed else said, fontsize=9)


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
        _show(at, picture)
        at.set_title(title, fontsize=8)
        at.axis("off")
    if measured is not None and row.point in measured.fields:
        _change(axes[2], measured, row, chosen, setting.opacity, track.picture.shape[:2])
    _say(place, track, row)


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
    for colour, side in zip(SUBJECTS, sides, strict=False):
        measured = side.measured
        _marks(chi, measured.against_level("susceptibility"), "level", "value", colour, side.title)
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


def _features(axes: Any, setting: Setting, sides: Sequence[Side]) -> None:
    """Flips of every subject, and similarity by depth of the first, where a classifier looked."""
    flips, similarity = axes
    for colour, side in zip(SUBJECTS, sides, strict=False):
        if side.seen is not None:
            _marks(flips, _columns(side.seen, "flipped"), "level", "value", colour, side.title)
    seen = sides[0].seen
    if seen is not None:
        layers = seen["layer"].values.tolist()
        for i, colour in enumerate(layer_colours(len(layers))):
            columns = _columns(seen.isel(depth=i), "similarity")
            _marks(similarity, columns, "level", "value", colour, layers[i])
        similarity.legend(frameon=False, fontsize=7)
    for at, title in ((flips, "P(another class)"), (similarity, "cosine similarity of features")):
        at.axvline(setting.level, color=theme.EDITED, lw=1.2)
        at.set_xlim(0, 1.02)
        at.set_xlabel("noise level t / T")
        at.set_title(title if seen is not None else f"{title}: not looked at yet", fontsize=9)
        at.spines[["top", "right"]].set_visible(False)
    if len(sides) > 1:
        flips.legend(frameon=False, fontsize=7)


def _columns(seen: xr.Dataset, name: str) -> Columns:
    found = {"level": "level", "value": name, "error": f"{name}_error"}
    return {key: seen[variable].values.tolist() for key, variable in found.items()}


def _marks(at: Any, columns: Columns, x: str, y: str, colour: str, label: str = "") -> None:
    bars = np.nan_to_num(np.array(columns["error"], dtype=float))
    look = {"fmt": "o-", "ms": 3, "lw": 1, "color": colour}
    at.errorbar(columns[x], columns[y], bars, label=label or None, **look)
