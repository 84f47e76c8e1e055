"""Files a person takes home: the figure for a paper, the numbers for a notebook, the recipe.

Figures are drawn with matplotlib, imported on first use, so that they are publication-ready vector
graphics, and carry their recipe in their metadata.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from explorer.app import theme
from explorer.app.picture import MEAN, Rows, row_labels
from explorer.errors import UnknownNameError
from explorer.recipe import Recipe

MIME = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "csv": "text/csv",
    "nc": "application/x-netcdf",
    "json": "application/json",
}
STEMS = {"json": "recipe"}
DOTS_PER_INCH = 200


def file_name(base: str, what: str, stem: str = "task-arithmetic") -> str:
    """A name for the browser's download folder; what is one of `MIME`."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in base).strip("-") or "model"
    return f"{safe}-{STEMS.get(what, stem)}.{what}"


def csv(result: xr.Dataset, recipe: Recipe) -> bytes:
    """One line a task: coefficient, accuracies, number of images; the recipe in a comment line."""
    names = [str(name) for name in result["task"].values]
    table = result[["zero_shot", "fine_tuned", "edited", "normalized", "n"]].to_dataframe()
    table.insert(0, "coefficient", [recipe.coefficient(name) for name in names])
    comment = f"# {recipe.to_json()}\n"
    return (comment + table.to_csv()).encode("utf-8")


def netcdf(result: xr.Dataset) -> bytes:
    """The whole dataset, predictions of every image included."""
    plain = result.copy()
    plain.attrs = {key: _attribute(value) for key, value in result.attrs.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.nc"
        plain.to_netcdf(path, engine="h5netcdf")
        return path.read_bytes()


def _attribute(value: Any) -> Any:
    """NetCDF attributes are numbers and text."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float | str | np.ndarray) else str(value)


def kind(what: Any) -> str:
    """what, if it is a kind of file there is. Raises UnknownNameError."""
    if what not in MIME:
        raise UnknownNameError("kind of file", what, MIME)
    return what


def figure(
    rows: Rows,
    titles: Mapping[str, str],
    control: str | None,
    recipe: Recipe,
    kind: str,
    base: str = "zero-shot",
) -> bytes:
    """The dumbbell chart as PNG or SVG. titles: name -> title of every task, control among them.
    base: what the model nobody edited is called."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = row_labels(titles, control)
    height = np.arange(len(labels))[::-1]
    chart = Figure(figsize=(6.4, 0.36 * len(labels) + 1.3), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.subplots()
    axes.hlines(height, rows.zero_shot, rows.fine_tuned, color=theme.ZERO_SHOT, alpha=0.5, lw=2)
    axes.hlines(height, rows.zero_shot, rows.edited, color=theme.EDITED, alpha=0.6, lw=2)
    names = theme.names(base)
    for series, marker in (("zero_shot", "o"), ("fine_tuned", "s"), ("edited", "D")):
        colour = theme.COLOURS[series]
        axes.plot(
            getattr(rows, series),
            height,
            marker,
            label=names[series],
            zorder=3,
            color=colour,
            markerfacecolor="white" if series == "zero_shot" else colour,
        )
    axes.set_yticks(height, labels)
    mean = height[labels.index(MEAN)]
    axes.axhspan(mean - 0.5, mean + 0.5, color=theme.FINE_TUNED, alpha=0.07, lw=0)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]), right=max(1.02, axes.get_xlim()[1]))
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f}")
    kinds = {"absolute": "accuracy (%)", "normalized": "normalized accuracy (% of fine-tuned)"}
    axes.set_xlabel(f"{kinds[rows.mode]}; {max(rows.n[: len(titles) - 1]):,} test images a task")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    chart.legend(loc="outside upper center", ncols=3, frameon=False)
    out = io.BytesIO()
    note = "Description" if kind == "png" else "Title"
    chart.savefig(out, format=kind, dpi=DOTS_PER_INCH, metadata={note: recipe.to_json()})
    return out.getvalue()
