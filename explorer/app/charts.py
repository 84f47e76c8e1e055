"""Charts beside the main one: geometry of the task vectors, search. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping

import colorcet
import numpy as np
import xarray as xr
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    FactorRange,
    HoverTool,
    LinearColorMapper,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure

from explorer.app import theme


def cosine_matrix(geometry: xr.Dataset, titles: Mapping[str, str]) -> figure:
    """Cosine similarity of every pair of task vectors, as colour and as digits."""
    names = [str(name) for name in geometry["task"].values]
    cosine = geometry["cosine"].values
    off = np.abs(cosine[~np.eye(len(names), dtype=bool)])
    limit = max(0.1, float(np.ceil(off.max(initial=0.1) * 20) / 20))
    shown = [titles.get(name, name) for name in names]
    cells = {
        "x": [b for _ in shown for b in shown],
        "y": [a for a in shown for _ in shown],
        "cosine": cosine.ravel(),
        "digits": [f"{c:.2f}".replace("-0.00", "0.00") for c in cosine.ravel()],
        "ink": ["#ffffff" if abs(c) > 0.6 * limit else "#24292f" for c in cosine.ravel()],
    }
    chart = theme.plain(
        figure(
            x_range=FactorRange(*shown),
            y_range=FactorRange(*reversed(shown)),
            sizing_mode="stretch_width",
            height=380,
            tools="save",
            toolbar_location="above",
            title="How alike are the task vectors? Cosine of each pair",
        )
    )
    colours = LinearColorMapper(palette=colorcet.CET_D1A, low=-limit, high=limit)
    squares = chart.rect(
        "x",
        "y",
        0.96,
        0.96,
        source=ColumnDataSource(cells),
        line_color=None,
        fill_color={"field": "cosine", "transform": colours},
    )
    chart.text(
        "x",
        "y",
        text="digits",
        text_color="ink",
        source=squares.data_source,
        text_align="center",
        text_baseline="middle",
        text_font_size="12px",
    )
    chart.add_tools(
        HoverTool(renderers=[squares], tooltips=[("pair", "@y, @x"), ("cosine", "@cosine{0.0000}")])
    )
    chart.add_layout(
        ColorBar(color_mapper=colours, width=10, title="cosine", bar_line_color=None), "right"
    )
    chart.xaxis.major_label_orientation = 0.7
    chart.grid.grid_line_color = None
    return chart


def norms_by_layer(geometry: xr.Dataset, titles: Mapping[str, str]) -> figure:
    """How far fine-tuning moved each layer, relative to the layer's own norm: a line a task."""
    layers = [str(layer) for layer in geometry["layer"].values]
    chart = theme.plain(
        figure(
            x_range=FactorRange(*layers),
            sizing_mode="stretch_width",
            height=340,
            tools="save",
            toolbar_location="above",
            title="Where in depth did fine-tuning move the weights?",
        )
    )
    lines = []
    for i, name in enumerate(geometry["task"].values):
        values = geometry["norm_by_layer"].sel(task=name).values
        data = ColumnDataSource(
            {
                "layer": layers,
                "norm": values,
                "task": [titles.get(str(name), str(name))] * len(layers),
            }
        )
        style = theme.line_style(i)
        chart.line(
            "layer", "norm", source=data, line_width=2, legend_label=data.data["task"][0], **style
        )
        lines.append(
            chart.scatter(
                "layer",
                "norm",
                source=data,
                size=7,
                color=style["line_color"],
                legend_label=data.data["task"][0],
            )
        )
    chart.add_tools(
        HoverTool(
            renderers=lines,
            tooltips=[("task", "@task"), ("layer", "@layer"), ("relative norm", "@norm{0.00%}")],
        )
    )
    chart.y_range.start = 0
    chart.xaxis.axis_label = "transformer block, first to last"
    chart.yaxis.axis_label = "norm of task vector ÷ norm of base"
    chart.yaxis.formatter = NumeralTickFormatter(format="0.0%")
    legend = chart.legend[0]
    chart.add_layout(legend, "right")
    legend.update(
        border_line_color=None,
        background_fill_alpha=0.0,
        label_text_font_size="12px",
        click_policy="mute",
    )
    return chart


def coefficient_curve(title: str) -> tuple[figure, ColumnDataSource]:
    """An empty chart of normalized accuracy against the shared coefficient, to stream into."""
    source = ColumnDataSource({"coefficient": [], "normalized": []})
    chart = theme.plain(
        figure(
            sizing_mode="stretch_width",
            height=300,
            tools="save",
            toolbar_location="above",
            title=title,
            x_range=Range1d(-0.02, 1.02),
            y_range=Range1d(0, 1.05),
        )
    )
    chart.line("coefficient", "normalized", source=source, line_color=theme.EDITED, line_width=2)
    points = chart.scatter(
        "coefficient", "normalized", source=source, color=theme.EDITED, size=8, marker="diamond"
    )
    chart.add_tools(
        HoverTool(
            renderers=[points],
            tooltips=[
                ("coefficient", "@coefficient{0.00}"),
                ("normalized mean", "@normalized{0.0%}"),
            ],
        )
    )
    chart.xaxis.axis_label = "one coefficient for all task vectors"
    chart.yaxis.axis_label = "mean normalized accuracy on validation images"
    chart.yaxis.formatter = NumeralTickFormatter(format="0%")
    return chart, source
