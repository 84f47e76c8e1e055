"""What the pictures of the tabs have in common: frame, colour bar, title."""

from __future__ import annotations

from typing import Any

from bokeh.models import ColorBar, LinearColorMapper, NumeralTickFormatter, Range1d
from bokeh.plotting import figure

from explorer.app import theme


def percent() -> NumeralTickFormatter:
    """A formatter of shares as percent: one each, since a model belongs to one document.

    With decimals only where a tick has them, so that no two ticks of a short axis read the same.
    """
    return NumeralTickFormatter(format="0.[00]%")


def frame(x_label: str, y_label: str, **more: Any) -> figure:
    """An empty figure as wide and high as its place, with axes from 0 to 1 until `show`."""
    return theme.plain(
        figure(
            width_policy="max",
            height_policy="max",
            x_range=Range1d(0, 1),
            y_range=Range1d(0, 1),
            toolbar_location="right",
            title="Nothing measured yet",
            x_axis_label=x_label,
            y_axis_label=y_label,
            **more,
        )
    )


def colour_bar(chart: figure, colours: LinearColorMapper, **more: Any) -> None:
    """A slim bar of the colours on the right."""
    chart.add_layout(ColorBar(color_mapper=colours, width=10, bar_line_color=None, **more), "right")


def retitle(chart: figure, title: str) -> None:
    """Set the title, unless it is there already: every change is a message to the browser."""
    if chart.title.text != title:
        chart.title.text = title
