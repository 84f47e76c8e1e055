"""One chart an experiment: shipped marks and laws, and in magenta what was measured just now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, LogTicker, Whisker
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.learning.curves import (
    LINES,
    MARKS,
    Columns,
    Panel,
    Series,
    law_marks,
    lines,
    marks,
)
from explorer.app.tree.marks import quiet_chart


class Chart:
    """Marks with error bars, thin lines through them, dashed laws; live marks are diamonds."""

    def __init__(self, panel: Panel):
        self.panel = panel
        self.figure: figure = quiet_chart(
            "",
            x_axis_type="log" if panel.log_x else "linear",
            y_axis_type="log" if panel.log_y else "linear",
        )
        self.figure.title.visible = False
        self.figure.toolbar_location = None
        self.figure.min_height = 150
        if panel.log_y:
            self.figure.yaxis.ticker = LogTicker(mantissas=[1], desired_num_ticks=5)
        self.lines = ColumnDataSource({name: [] for name in LINES})
        self.marks, self.live = (ColumnDataSource({name: [] for name in MARKS}) for _ in range(2))
        self.laws = ColumnDataSource({"x": [], "y": [], "colour": [], "label": []})
        self.live_lines = ColumnDataSource({name: [] for name in LINES})
        self._draw()

    def _draw(self) -> None:
        chart = self.figure
        look = {"line_color": "colour", "line_dash": "dash", "line_width": "width"}
        chart.multi_line("xs", "ys", source=self.lines, line_alpha=0.75, **look)
        chart.multi_line("xs", "ys", source=self.live_lines, line_color=theme.EDITED, line_width=2)
        law = chart.scatter(
            "x", "y", source=self.laws, marker="inverted_triangle", size=11,
            fill_color=None, line_color="colour", line_width=2,
        )  # fmt: skip
        shown = chart.scatter(
            "x", "y", source=self.marks, marker="marker", size=6, color="colour", line_color=None
        )
        live = chart.scatter(
            "x", "y", source=self.live, marker="diamond", size=12, color=theme.EDITED,
            line_color="white",
        )  # fmt: skip
        for source in (self.marks, self.live):
            bars = Whisker(
                base="x", lower="lower", upper="upper", source=source, level="underlay",
                line_color={"field": "colour"}, upper_head=None, lower_head=None,
            )  # fmt: skip
            chart.add_layout(bars)
        tips = [("", "@label"), ("x", "@x{0.[00]a}"), ("y", "@y{0.000} ± @error{0.000}")]
        chart.add_tools(HoverTool(renderers=[shown, live], tooltips=tips))
        chart.add_tools(
            HoverTool(renderers=[law], tooltips=[("law, one constant fitted", "@label")])
        )

    def show(self, series: Sequence[Series], live: Sequence[Series], scaled: bool) -> None:
        """Draw shipped series and live ones against P, or against P over the law."""
        x, y = self.panel.scaled_axes if scaled else self.panel.axes
        self.figure.xaxis.axis_label, self.figure.yaxis.axis_label = x, y
        self.lines.data, self.marks.data = lines(series), self._positive(marks(series))
        self.laws.data = law_marks(series)
        self.live.data, self.live_lines.data = self._positive(marks(live)), self._joined(live)

    def _joined(self, live: Sequence[Series]) -> Columns:
        """Lines through live marks where there are several, without the law."""
        several = [Series(s.label, s.colour, s.x, s.y, s.error) for s in live if len(s.x) > 1]
        return lines(several)

    def _positive(self, columns: Columns) -> Columns:
        """A bar that would reach below zero has no end on a logarithmic axis."""
        if self.panel.log_y:
            columns["lower"] = np.maximum(np.array(columns["lower"]), 1e-6).tolist()
        return columns
