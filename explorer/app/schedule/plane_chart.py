"""The plane of LiNeS's alpha and beta: mean normalized accuracy of every cell, as it fills in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    NumeralTickFormatter,
)
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.disentanglement.palette import ACCURACY
from explorer.app.schedule.frame import colour_bar, frame, percent, retitle
from explorer.app.schedule.legend import legend_item, legend_of

CELLS = ("left", "right", "bottom", "top", "x", "y", "value", "accuracy", "digits", "ink")
Point = tuple[float, float]


class PlaneChart:
    """Beta to the right, alpha upwards, a cell a recipe; the paper's and the best one marked."""

    def __init__(self) -> None:
        self.cells = ColumnDataSource({name: [] for name in CELLS})
        self.paper = ColumnDataSource({"x": [], "y": []})
        self.best = ColumnDataSource({"x": [], "y": []})
        self.here = ColumnDataSource({"x": [], "y": []})
        # Blue is good, as in every layer of the maps.
        self.colours = LinearColorMapper(
            palette=ACCURACY, low=0, high=1, nan_color="rgba(128,136,146,0.18)"
        )
        self._alphas: list[float] = []
        self._betas: list[float] = []
        self.figure = self._figure()
        self._draw()

    def _figure(self) -> figure:
        chart = frame("β (rise from the first block to the last)", "α (first block)", tools="save")
        chart.grid.grid_line_color = None
        return chart

    def _draw(self) -> None:
        chart = self.figure
        quads = chart.quad(
            left="left",
            right="right",
            bottom="bottom",
            top="top",
            source=self.cells,
            fill_color={"field": "value", "transform": self.colours},
            line_color=theme.ZERO_SHOT,
            line_alpha=0.3,
        )
        chart.text(
            "x",
            "y",
            text="digits",
            source=self.cells,
            text_color="ink",
            text_align="center",
            text_baseline="middle",
            text_font_size="12px",
        )
        # The three may lie on one cell: a frame, in it a diamond, on it a star. White with a dark
        # rim is seen on every colour.
        signs = (
            (self.paper, "square", 26, None, "#000000", 6, ""),
            (self.paper, "square", 26, None, "#ffffff", 2.5, "paper's choice"),
            (self.here, theme.MARKS["edited"], 20, theme.EDITED, "#ffffff", 1.5, "on screen"),
            (self.best, "star", 13, "#ffffff", "#000000", 1, "best cell"),
        )
        items = []
        for source, marker, size, fill, line, width, label in signs:
            look = {
                "marker": marker,
                "size": size,
                "fill_color": fill,
                "line_color": line,
                "line_width": width,
            }
            chart.scatter("x", "y", source=source, **look)
            if label:
                # On any background, and with no white rim that leaves little of a small mark.
                rim = theme.ZERO_SHOT if fill is None else fill if line == "#ffffff" else line
                items.append(legend_item(chart, label, **(look | {"line_color": rim})))
        chart.add_tools(
            HoverTool(
                renderers=[quads],
                tooltips=[
                    ("α, β", "@y{0.000}, @x{0.00}"),
                    ("mean normalized", "@value{0.0%}"),
                    ("mean accuracy", "@accuracy{0.0%}"),
                    ("", "click: open it"),
                ],
            )
        )
        colour_bar(chart, self.colours, formatter=percent())
        chart.add_layout(legend_of(items), "left")

    def show(self, result: xr.Dataset, here: Point | None, title: str) -> None:
        """Put a search on screen, as far as it is; here: alpha and beta of the recipe on screen."""
        alphas, betas = (result[name].values.astype(float) for name in ("alpha", "beta"))
        self._alphas, self._betas = alphas.tolist(), betas.tolist()
        value = result["mean_normalized"].values
        finite = value[np.isfinite(value)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            self.colours.update(low=low, high=max(high, low + 0.01))
        rows, columns = edges(alphas), edges(betas)
        middle = (self.colours.low + self.colours.high) / 2
        y, x = (grid.ravel() for grid in np.meshgrid(alphas, betas, indexing="ij"))
        grid = np.meshgrid(np.arange(len(alphas)), np.arange(len(betas)), indexing="ij")
        i, j = (index.ravel() for index in grid)
        self.cells.data = {
            "left": columns[j],
            "right": columns[j + 1],
            "bottom": rows[i],
            "top": rows[i + 1],
            "x": x,
            "y": y,
            "value": value.ravel(),
            "accuracy": result["mean_accuracy"].values.ravel(),
            "digits": ["" if np.isnan(v) else f"{100 * v:.0f}" for v in value.ravel()],
            # The low end of the colours is yellow, the high end dark blue.
            "ink": ["#16202b" if v < middle else "#ffffff" for v in value.ravel()],
        }
        attrs = result.attrs
        self.paper.data = _place(attrs["paper_alpha"], attrs["paper_beta"], bool(finite.size))
        self.best.data = _place(attrs["best_alpha"], attrs["best_beta"], bool(finite.size))
        self.here.data = _place(*(here or (np.nan, np.nan)), here is not None)
        self.figure.x_range.update(start=columns[0], end=columns[-1])
        self.figure.y_range.update(start=rows[0], end=rows[-1])
        self.figure.xaxis.ticker = FixedTicker(ticks=betas.tolist())
        self.figure.yaxis.ticker = FixedTicker(ticks=alphas.tolist())
        self.figure.yaxis.formatter = NumeralTickFormatter(format="0.00[0]")
        retitle(self.figure, title)

    def cell_at(self, x: float, y: float) -> Point | None:
        """(alpha, beta) of the cell at figure coordinates; None outside."""
        if not self._alphas:
            return None
        rows, columns = edges(np.array(self._alphas)), edges(np.array(self._betas))
        inside = rows[0] <= y <= rows[-1] and columns[0] <= x <= columns[-1]
        i, j = (int(np.searchsorted(e, v)) - 1 for e, v in ((rows, y), (columns, x)))
        return (self._alphas[max(i, 0)], self._betas[max(j, 0)]) if inside else None


def edges(points: Sequence[float] | np.ndarray) -> np.ndarray:
    """Borders of the cells around points: half-way between neighbours, as far out at the ends."""
    points = np.asarray(points, dtype=float)
    if len(points) == 1:
        return np.array([points[0] - 0.5, points[0] + 0.5])
    between = (points[1:] + points[:-1]) / 2
    first, last = points[0] - (between[0] - points[0]), points[-1] + (points[-1] - between[-1])
    return np.array([first, *between, last])


def _place(alpha: float, beta: float, known: bool) -> dict[str, list[float]]:
    return {"x": [float(beta)], "y": [float(alpha)]} if known else {"x": [], "y": []}
