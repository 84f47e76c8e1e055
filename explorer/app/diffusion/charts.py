"""The curves: susceptibility and correlation length against the level, correlation by distance,
class flips and similarity of features. Marks with error bars; a magenta line at the slider's
level, as in the hierarchy lens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, HoverTool, Legend, LegendItem, LogTicker, Range1d
from bokeh.plotting import figure

from explorer.app.diffusion.measured import Measured
from explorer.app.diffusion.palette import MARKS, SUBJECTS, layer_colours
from explorer.app.text import axis_sizes, scale_text
from explorer.app.tree.marks import marks_with_bars, quiet_chart, slider_mark
from explorer.app.tree.measured import Columns, with_bars

Shown = Sequence[tuple[str, Measured | None]]
"""Title and measurements of each subject."""
LEVEL = "noise level t / T"


class _Series:
    """Marks of each subject, joined by thin lines, and a legend where there are two."""

    def __init__(self, chart: figure, x: str, y: str):
        self._empty: Columns = {name: [] for name in (x, y, "error", "lower", "upper")}
        self.sources: list[ColumnDataSource] = []
        self.marks = []
        for colour, marker in zip(SUBJECTS, MARKS, strict=True):
            source, marks = marks_with_bars(chart, [], x, y, color=colour, marker=marker)
            chart.line(x, y, source=source, line_color=colour, line_width=1.5, line_alpha=0.7)
            self.sources.append(source)
            self.marks.append(marks)
        self._items = [LegendItem(label=" ", renderers=[marks]) for marks in self.marks]
        self._legend = Legend(
            items=self._items, orientation="horizontal", border_line_color=None, padding=0,
            background_fill_alpha=0.0, label_text_font_size="12px", margin=0, visible=False,
        )  # fmt: skip
        chart.add_layout(self._legend, "above")

    def show(self, titles: Sequence[str], columns: Sequence[Columns]) -> None:
        """Draw each subject's columns; those there are none of become empty."""
        self._legend.visible = len(titles) > 1
        for i, source in enumerate(self.sources):
            if i < len(columns):
                source.data = columns[i]
                self._items[i].label = value(titles[i][:24])
            elif source.data["error"]:
                source.data = self._empty


class AgainstLevel:
    """One statistic against the level of noise."""

    def __init__(self, title: str, name: str, label: str, tip: str):
        self._name = name
        self.figure = quiet_chart(title, x_range=Range1d(0, 1.02), y_range=Range1d(0, 1))
        self.series = _Series(self.figure, "level", "value")
        tips = [("t / T", "@level{0.00}"), (tip, "@value{0.00} ± @error{0.00}")]
        self.figure.add_tools(HoverTool(renderers=self.series.marks, tooltips=tips))
        self.figure.xaxis.axis_label = LEVEL
        self.figure.yaxis.axis_label = label
        self.slider = slider_mark()
        self.figure.add_layout(self.slider)
        readable(self.figure)

    def show(self, shown: Shown) -> None:
        """Draw what is measured."""
        found = [(title, m.against_level(self._name)) for title, m in shown if m is not None]
        self.series.show(*_parted(found))
        tops = [x for _, columns in found for x in columns["upper"] if x == x]
        self.figure.y_range.update(start=0, end=1.08 * max([1.0, *tops]))

    def move(self, level: float) -> None:
        """Put the slider's line where it is."""
        self.slider.location = level


class Correlation:
    """Correlation of two patches' changes against their distance, both logarithmic."""

    def __init__(self) -> None:
        self.figure = quiet_chart("Correlation of changes", x_axis_type="log", y_axis_type="log")
        self.figure.x_range = Range1d(0.9, 11)
        self.figure.xaxis.ticker = LogTicker(mantissas=[1, 2, 3, 5])
        self.figure.y_range = Range1d(1e-3, 1.3)
        self.series = _Series(self.figure, "r", "correlation")
        tips = [("r", "@r{0.00} patches"), ("C(r) / C(0)", "@correlation{0.0000} ± @error{0.0000}")]
        self.figure.add_tools(HoverTool(renderers=self.series.marks, tooltips=tips))
        self.figure.xaxis.axis_label = "distance r of two patches"
        self.figure.yaxis.axis_label = "C(r) / C(0)"
        readable(self.figure)

    def show(self, shown: Shown, level: float) -> None:
        """Draw the correlation at the measured level nearest to the slider's."""
        found = [(title, m.correlation(level)) for title, m in shown if m is not None]
        self.series.show(*_parted([(title, columns) for title, (_, columns) in found]))
        far = [r for _, (_, columns) in found for r in columns["r"]]
        self.figure.x_range.update(end=1.1 * max([2.0, *far]))
        at = found[0][1][0] if found else float("nan")
        where = f" at t/T = {at:.2g}" if at == at else ""
        self.figure.title.text = f"Correlation{where}" if where else "Correlation of changes"


class Flips:
    """Share of variants that a classifier puts into another class."""

    def __init__(self) -> None:
        self.figure = quiet_chart(
            "Class flips", x_range=Range1d(0, 1.02), y_range=Range1d(-0.02, 1.04)
        )
        self.series = _Series(self.figure, "level", "flipped")
        tips = [("t / T", "@level{0.00}"), ("flipped", "@flipped{0.00} ± @error{0.00}")]
        self.figure.add_tools(HoverTool(renderers=self.series.marks, tooltips=tips))
        self.figure.xaxis.axis_label = LEVEL
        self.figure.yaxis.axis_label = "P(another class)"
        self.slider = slider_mark()
        self.figure.add_layout(self.slider)
        readable(self.figure)

    def show(self, seen: Sequence[tuple[str, xr.Dataset]], level: float) -> None:
        """Draw the flips of each subject."""
        self.slider.location = level
        found = [
            (
                title,
                with_bars(
                    {"level": data["level"].values.tolist()},
                    "flipped",
                    data["flipped"].values,
                    data["flipped_error"].values,
                ),
            )
            for title, data in seen
        ]
        self.series.show(*_parted(found))


class Similarity:
    """How alike the features of picture and variants are, a line a depth, of the first subject."""

    def __init__(self) -> None:
        self.figure = quiet_chart(
            "Similarity of features: blue the first layer, orange the logits",
            x_range=Range1d(0, 1.02),
            y_range=Range1d(0, 1.04),
        )
        empty: Columns = {name: [] for name in ("xs", "ys", "colour", "layer")}
        self.lines = ColumnDataSource(empty)
        self.figure.multi_line(
            "xs", "ys", source=self.lines, line_color="colour", line_width=2, line_alpha=0.85
        )
        self.source, marks = marks_with_bars(
            self.figure, ["colour", "layer"], "level", "similarity", color={"field": "colour"}
        )
        tips = [
            ("after", "@layer"),
            ("t / T", "@level{0.00}"),
            ("cosine similarity", "@similarity{0.000} ± @error{0.000}"),
        ]
        self.figure.add_tools(HoverTool(renderers=[marks], tooltips=tips))
        self.figure.xaxis.axis_label = LEVEL
        self.figure.yaxis.axis_label = "cosine similarity"
        self.slider = slider_mark()
        self.figure.add_layout(self.slider)
        readable(self.figure)

    def show(self, data: xr.Dataset | None, level: float) -> None:
        """Draw every depth."""
        self.slider.location = level
        if data is None:
            self.lines.data = {name: [] for name in self.lines.data}
            self.source.data = {name: [] for name in self.source.data}
            return
        layers, levels = data["layer"].values.tolist(), data["level"].values.tolist()
        colours = layer_colours(len(layers))
        values, errors = (
            data[name].transpose("depth", "level").values
            for name in ("similarity", "similarity_error")
        )
        self.lines.data = {
            "xs": [levels] * len(layers),
            "ys": values.tolist(),
            "colour": colours,
            "layer": layers,
        }
        self.figure.y_range.start = min(0.0, 1.1 * float(values.min()))
        start: Columns = {
            "level": levels * len(layers),
            "colour": np.repeat(colours, len(levels)).tolist(),
            "layer": np.repeat(layers, len(levels)).tolist(),
        }
        self.source.data = with_bars(start, "similarity", values.ravel(), errors.ravel())


def readable(chart: figure) -> None:
    """Text that grows with the chart, for the back of a room."""
    sizes = [*axis_sizes(chart), (chart.title, "text_font_size", 1)]
    scale_text(chart, sizes, per=26, low=12, high=18)


def _parted(found: Sequence[tuple[str, Columns]]) -> tuple[list[str], list[Columns]]:
    return [title for title, _ in found], [columns for _, columns in found]
