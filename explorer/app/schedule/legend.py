"""Legends that stand before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import ColumnDataSource, Legend, LegendItem
from bokeh.plotting import figure

# A legend draws its marks once, from data: they need a point, and this one lies far off the axes.
_POINT = {"x": [-99.0], "y": [-99.0]}


def legend_item(chart: figure, label: str, **look: Any) -> LegendItem:
    """An item with a mark of that look."""
    mark = chart.scatter("x", "y", source=ColumnDataSource(_POINT), **look)
    return LegendItem(label=label, renderers=[mark])


def line_item(chart: figure, label: str, **look: Any) -> LegendItem:
    """An item with a line of that look."""
    line = chart.line("x", "y", source=ColumnDataSource(_POINT), **look)
    return LegendItem(label=label, renderers=[line])


def legend_of(items: Sequence[LegendItem]) -> Legend:
    """A quiet legend of these items, to be laid out beside the figure."""
    return Legend(
        items=[*items],
        border_line_color=None,
        background_fill_alpha=0.0,
        label_text_font_size="13px",
        padding=2,
        margin=0,
    )
