"""The schedule, the norms under it and the accuracies beside it, as a figure for a paper."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from explorer.app import saving, theme
from explorer.app.picture import Rows, row_labels
from explorer.app.schedule import curve
from explorer.app.schedule.packing import norms_by_depth
from explorer.recipe import Recipe


def figure(
    recipe: Recipe,
    n_layers: int,
    rows: Rows,
    titles: Mapping[str, str],
    control: str | None,
    geometry: xr.Dataset | None,
    kind: str,
    base: str,
) -> bytes:
    """PNG or SVG, with the recipe in its metadata. titles: of all tasks, the control included.
    base: what the model nobody edited is called."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chart = Figure(figsize=(9.6, 4.4), layout="constrained")
    FigureCanvasAgg(chart)
    grid = chart.add_gridspec(2, 2, height_ratios=(3, 2), width_ratios=(5, 4))
    schedule = chart.add_subplot(grid[0, 0])
    norms = chart.add_subplot(grid[1, 0], sharex=schedule)
    _schedule(schedule, recipe, n_layers)
    _norms(norms, recipe, n_layers, titles, geometry)
    _accuracies(chart.add_subplot(grid[:, 1]), rows, row_labels(titles, control), base)
    for axes in chart.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    out = io.BytesIO()
    note = "Description" if kind == "png" else "Title"
    metadata = {note: recipe.to_json()}
    chart.savefig(out, format=kind, dpi=saving.DOTS_PER_INCH, metadata=metadata)
    return out.getvalue()


def _schedule(axes: Any, recipe: Recipe, n_layers: int) -> None:
    factors, places = curve.factors(recipe.schedule, n_layers), np.arange(n_layers + 2)
    axes.plot(places[1:-1], factors[1:-1], "o-", color=theme.EDITED)
    axes.plot(places[[0, -1]], [factors[0], factors[-1]], "s", mfc="none", color=theme.EDITED)
    axes.set_ylim(bottom=min(0.0, *factors), top=max(1.05, 1.05 * max(factors)))
    axes.set_ylabel("factor of the edit")
    axes.set_title(f"{recipe.method.replace('_', ' ')}, {curve.title(recipe.schedule)}", size=10)


def _norms(
    axes: Any,
    recipe: Recipe,
    n_layers: int,
    titles: Mapping[str, str],
    geometry: xr.Dataset | None,
) -> None:
    factors = np.abs(curve.factors(recipe.schedule, n_layers))
    places = np.arange(n_layers + 2)
    for task, coefficient in recipe.active.items():
        if geometry is None:
            break
        norm = 100 * np.array(norms_by_depth(geometry, task, n_layers, abs(coefficient)))
        look = theme.line_style([*titles].index(task))
        style = {"color": look["line_color"], "ls": look["line_dash"]}
        # Apart, as in the lens: no line leads from the blocks to what lies outside of them.
        parts = (places[1:-1], *(places[[k]] + 0.2 * np.array([-1, 1]) for k in (0, -1)))
        for part in parts:
            among = part.round().astype(int)
            axes.plot(part, norm[among], lw=0.8, alpha=0.7, **style)
            label = titles[task] if part is parts[0] else None
            axes.plot(part, (norm * factors)[among], lw=2.2, label=label, **style)
    axes.set_xticks(places, ["input", *map(str, places[1:-1]), "output"])
    axes.set_xlabel("block")
    axes.set_ylabel("‖τ‖ / ‖θ₀‖ (%)")
    axes.set_ylim(bottom=0)
    if recipe.active and geometry is not None:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=7, frameon=False, ncols=4
        )


def _accuracies(axes: Any, rows: Rows, labels: list[str], base: str) -> None:
    names = theme.names(base)
    height = np.arange(len(labels))[::-1]
    axes.hlines(height, rows.zero_shot, rows.edited, color=theme.EDITED, alpha=0.5, lw=2)
    for series, marker in (("zero_shot", "o"), ("fine_tuned", "s"), ("edited", "D")):
        colour = theme.COLOURS[series]
        fill = "white" if series == "zero_shot" else colour
        values = getattr(rows, series)
        axes.plot(values, height, marker, label=names[series], color=colour, mfc=fill)
    axes.set_yticks(height, labels)
    axes.set_xlim(left=0, right=max(1.02, axes.get_xlim()[1]))
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f}")
    kinds = {"absolute": "accuracy (%)", "normalized": "normalized accuracy (%)"}
    axes.set_xlabel(f"{kinds[rows.mode]}; {max(rows.n):,} test images")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=3, frameon=False, fontsize=8)
