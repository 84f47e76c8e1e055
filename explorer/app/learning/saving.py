"""Files and code a person takes home from the learning view."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from explorer.app import saving, theme
from explorer.app.learning.curves import PANELS, Panel, Series, law_marks, lines
from explorer.app.learning.drawing import series_of
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.app.tree.lens import HierarchyLens


def python() -> str:
    """Code that reads every shipped curve; the attribute ``call`` of each says what made it."""
    reads = [
        f"{name} = [learning.cached({name!r}, sizes) for sizes in "
        f"learning.EXPERIMENTS[{name!r}].sizes]"
        for name in PANELS
    ]
    return "\n".join(["import explorer as ex", "", "learning = ex.hierarchy.learning", *reads, ""])


def file(lens: HierarchyLens, what: str) -> bytes:
    """All five panels as "png", "svg", "csv" (marks on screen) or "nc" (one group a curve)."""
    if not lens.desk.complete:
        raise ExplorerError("The curves are still being read; save again in a moment.")
    if what == "csv":
        return csv(lens)
    return netcdf(lens.desk.shipped, lens.desk.live) if what == "nc" else figure(lens, what)


def csv(lens: HierarchyLens) -> bytes:
    """One line a mark on screen."""
    tables = []
    for name, panel in PANELS.items():
        x, y = panel.scaled_axes if name in lens.state.setting.scaled else panel.axes
        for kind, series in zip(("cached", "measured now"), series_of(lens, name), strict=True):
            for one in series:
                columns = {"x": one.x, "y": one.y, "error": one.error}
                facts = {"experiment": name, "curve": kind, "label": one.label}
                table = pd.DataFrame({**facts, "x_axis": x, "y_axis": y, **columns})
                tables.append(table)
    comment = "".join(f"# {line}\n" for line in python().splitlines() if line)
    return (comment + pd.concat(tables).to_csv(index=False)).encode("utf-8")


def netcdf(shipped: Mapping[str, list[xr.Dataset]], live: Mapping[str, xr.Dataset]) -> bytes:
    """Every Dataset, a group each: experiment/v-m-s-L, and experiment/live."""
    groups: dict[str, xr.Dataset] = {f"{name}/live": data for name, data in live.items()}
    for name, datasets in shipped.items():
        for data in datasets:
            sizes = "-".join(str(int(data.attrs[x])) for x in ("v", "m", "s", "L"))
            groups[f"{name}/{sizes}"] = data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learning.nc"
        for group, data in groups.items():
            data.to_netcdf(path, mode="a", group=group, engine="h5netcdf")
        return path.read_bytes()


def figure(lens: HierarchyLens, kind: str) -> bytes:
    """The five charts as one figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chart = Figure(figsize=(13, 8), layout="constrained")
    FigureCanvasAgg(chart)
    for axes, (name, panel) in zip(chart.subplots(2, 3).flat, PANELS.items(), strict=False):
        _panel(axes, panel, *series_of(lens, name), name in lens.state.setting.scaled)
    chart.axes[-1].set_visible(False)
    out = io.BytesIO()
    note = "Description" if kind == "png" else "Title"
    chart.savefig(out, format=kind, dpi=saving.DOTS_PER_INCH, metadata={note: python()})
    return out.getvalue()


def _panel(
    axes: Any, panel: Panel, shipped: list[Series], live: list[Series], scaled: bool
) -> None:
    drawn = lines(shipped)
    for x, y, colour, dash, width in zip(*drawn.values(), strict=True):
        axes.plot(x, y, color=colour, ls="--" if dash == "dashed" else "-", lw=width)
    for one in shipped:
        marker = "s" if one.marker == "square" else "o"
        bars = {"fmt": marker, "ms": 3.5, "color": one.colour, "label": one.label}
        if len(one.x):
            axes.errorbar(one.x, one.y, one.error, **bars)
    law = law_marks(shipped)
    axes.scatter(law["x"], law["y"], marker="v", facecolors="none", edgecolors=law["colour"])
    for one in live:
        axes.plot(one.x, one.y, "D-", color=theme.EDITED, ms=5, lw=1)
    axes.set_xscale("log" if panel.log_x else "linear")
    axes.set_yscale("log" if panel.log_y else "linear")
    x, y = panel.scaled_axes if scaled else panel.axes
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(panel.title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=6, ncols=2)
