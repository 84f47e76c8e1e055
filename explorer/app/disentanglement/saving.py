"""Files and code a person takes home from the maps. Figures are drawn with matplotlib."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from explorer.app import saving, theme
from explorer.app.disentanglement.heatmap import SEARCH_REGION
from explorer.app.disentanglement.layers import layer_name, layer_values, measured, upsampled
from explorer.app.disentanglement.palette import palette
from explorer.app.disentanglement.picture import Picture, caption, pair_titles, subtitle
from explorer.app.disentanglement.spec import MapSpec
from explorer.errors import UnknownNameError

if TYPE_CHECKING:
    from explorer.app.disentanglement.lens import DisentanglementLens

FILES = (
    ["png", "All maps, PNG"],
    ["svg", "All maps, SVG"],
    ["csv", "Numbers of all maps, CSV"],
    ["nc", "All maps with every prediction, NetCDF"],
)
MIME = {what: saving.MIME[what] for what, _ in FILES}


def kind(what: Any) -> str:
    """what, if it is a kind of file there is. Raises UnknownNameError."""
    if what not in MIME:
        raise UnknownNameError("kind of file", what, MIME)
    return what


def file_name(base: str, pair: tuple[str, str], what: str) -> str:
    """A name for the browser's download folder."""
    return saving.file_name("-".join((base, *pair)), what, "disentanglement")


def names(specs: Sequence[MapSpec], pins: Sequence[MapSpec]) -> list[str]:
    """A name for each map on screen; two may have the same title."""
    pinned = (f"{spec.title} (pinned {i})" for i, spec in enumerate(pins, 1))
    return [*(spec.title for spec in specs), *pinned]


def python(opened: str, specs: Sequence[MapSpec], pins: Sequence[MapSpec] = ()) -> str:
    """Code that computes these maps again, number for number. opened: what opens the model."""
    maps = zip(names(specs, pins), [*specs, *pins], strict=True)
    lines = [f"    {name!r}: {spec.to_python()}.result()," for name, spec in maps]
    return "\n".join(
        [
            "import numpy as np",
            "",
            "import explorer as ex",
            "",
            f"m = {opened}",
            "maps = {",
            *lines,
            "}",
            "",
        ]
    )


def csv(pictures: Sequence[Picture], pins: Sequence[Picture] = ()) -> bytes:
    """One line a cell, task and map; what each map is in comment lines."""
    columns = ["error", "standard_error", "accuracy", "measured"]
    tables, comments = [], []
    titles = names([p.spec for p in pictures], [p.spec for p in pins])
    for name, picture in zip(titles, [*pictures, *pins], strict=True):
        result = picture.result
        table = result[columns].to_dataframe().reset_index()
        table.insert(0, "map", name)
        tables.append(table)
        facts = {key: result.attrs[key] for key in ("model", "n", "seed", "precision", "versions")}
        comments.append(f"# {name}: {picture.spec.to_python()} {facts}\n")
    text = "".join(comments) + pd.concat(tables).to_csv(index=False)
    return text.encode("utf-8")


def netcdf(pictures: Sequence[Picture], pins: Sequence[Picture] = ()) -> bytes:
    """Every map, predictions of every image included, each a group of its own: maps on screen may
    differ in tasks, range and images.

    Groups are named by the kind of map ("weights", "tangent"), pinned ones "weights_pinned1".
    `xr.open_datatree(path)` opens all of them, `xr.open_dataset(path, group="weights")` one.
    """
    groups = {picture.spec.kind: picture for picture in pictures}
    groups |= {f"{p.spec.kind}_pinned{i}": p for i, p in enumerate(pins, 1)}
    contents = xr.Dataset(attrs={"maps": ", ".join(groups), "open": "xr.open_datatree(path)"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.nc"
        contents.to_netcdf(path, engine="h5netcdf")
        for name, picture in groups.items():
            facts = {"title": picture.spec.title, "python": picture.spec.to_python()}
            result = picture.result.assign_attrs(facts)
            result.to_netcdf(path, mode="a", group=name, engine="h5netcdf")
        return path.read_bytes()


def figure(lens: DisentanglementLens, pictures: Sequence[Picture], kind: str) -> bytes:
    """All maps side by side with one colour bar, as PNG or SVG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    state = lens.state
    low, high = lens.colour_limits()
    chart = Figure(figsize=(3.4 * len(pictures) + 0.9, 4.2), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.subplots(1, len(pictures), squeeze=False)[0]
    colours = ListedColormap(palette(state.layer))
    for axis, picture in zip(axes, pictures, strict=True):
        drawn = _draw(axis, picture, state.layer, state.terms, {"vmin": low, "vmax": high}, colours)
        spec, titles = picture.spec, pair_titles(lens.titles, picture.spec)
        note = subtitle(picture.result, spec, lens.available(spec))
        axis.set_title(f"{spec.title}\n{note}", fontsize=9)
        rows = caption(picture, state.point, state.terms, titles)
        numbers = "\n".join(f"{label}: {number}" for label, number, _ in rows)
        axis.set_xlabel(f"merging coefficient of {titles[0]}\n{numbers}", fontsize=8)
        axis.set_ylabel(f"merging coefficient of {titles[1]}", fontsize=8)
        axis.plot(*state.point, "D", color=theme.EDITED, mec="white", ms=7)
    bar = chart.colorbar(drawn, ax=axes, shrink=0.8)
    titles = pair_titles(lens.titles, pictures[0].spec)
    bar.set_label(layer_name(state.layer, titles, state.terms), fontsize=8)
    out = io.BytesIO()
    note = "Description" if kind == "png" else "Title"
    chart.savefig(out, format=kind, dpi=saving.DOTS_PER_INCH, metadata={note: lens.to_python()})
    return out.getvalue()


def _draw(
    axis: Any, picture: Picture, layer: str, terms: str, limits: Mapping[str, float], colours: Any
) -> Any:
    """One map with its search region, its best point, and a cross where it is not computed."""
    alphas, result = picture.spec.alphas, picture.result
    coarse = (result["alpha1"].values, result["alpha2"].values)
    values = upsampled(layer_values(result, layer, terms), coarse, alphas)
    drawn = axis.pcolormesh(alphas, alphas, values.T, cmap=colours, rasterized=True, **limits)
    rows, columns = np.nonzero(~measured(result, alphas))
    axis.plot(alphas[rows], alphas[columns], "x", color=theme.ZERO_SHOT, ms=3)
    low, high = SEARCH_REGION
    axis.plot([low, high, high, low, low], [low, low, high, high, low], "--", color="white", lw=1)
    axis.plot(*picture.best, "*", color="white", mec="black", ms=11)
    axis.set_aspect("equal")
    return drawn
