"""The lens's main chart: a row a task, with zero-shot, fine-tuned and edited accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.models import (
    BoxAnnotation,
    ColumnDataSource,
    FactorRange,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.picture import MEAN, Rows, row_labels, row_names
from explorer.app.text import axis_sizes, scale_text

SERIES = ("zero_shot", "fine_tuned", "edited")
TITLES = {
    "absolute": "Edited against {base} and fine-tuned",
    "normalized": "Share of each task's own fine-tuned model",
}
AXES = {
    "absolute": "accuracy on test images (%)",
    "normalized": "normalized accuracy (% of fine-tuned)",
}
RIGHT_MARGIN = 0.17
"""Room right of the axis for the edited accuracy in digits, as a share of the axis."""


class Dumbbell:
    """One row a task and one for the mean: zero-shot, fine-tuned and edited accuracy.

    A figure belongs to one document, so every display of a lens has its own `Dumbbell`. An update
    replaces one column data source, the fastest route to the screen (and draws the chart once).
    """

    def __init__(
        self, titles: Mapping[str, str], control: str | None = None, base: str = "zero-shot"
    ):
        """titles: name -> title of what has a row, the control task (if any) among them. base:
        what the model nobody edited is called."""
        self._base = base
        self._names = row_names(titles, control)
        self.labels = row_labels(titles, control)
        self.source = ColumnDataSource(self._columns(None))
        self.figure = self._figure()
        self._mark_mean()
        self.focus_band = BoxAnnotation(
            fill_alpha=0.13, fill_color=theme.ZERO_SHOT, line_color=None
        )
        self.figure.add_layout(self.focus_band)
        self._draw()
        self._scale_text()

    def _title(self, mode: str) -> str:
        return TITLES[mode].format(base=self._base)

    def _figure(self) -> figure:
        chart = theme.plain(
            figure(
                y_range=FactorRange(*reversed(self.labels)),
                x_range=Range1d(0, 1 + RIGHT_MARGIN),
                width_policy="max",
                height_policy="max",
                title=self._title("absolute"),
                tools="save",
                toolbar_location="above",
            )
        )
        chart.xaxis.axis_label = AXES["absolute"]
        chart.xaxis.formatter = NumeralTickFormatter(format="0%")
        chart.xaxis.ticker = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
        chart.ygrid.grid_line_color = None
        return chart

    def _draw(self) -> None:
        chart, source = self.figure, self.source
        chart.segment(
            "zero_shot",
            "task",
            "fine_tuned",
            "task",
            source=source,
            line_width=3,
            line_color=theme.ZERO_SHOT,
            line_alpha=0.45,
        )
        chart.segment(
            "zero_shot",
            "task",
            "edited",
            "task",
            source=source,
            line_width=3,
            line_color=theme.EDITED,
            line_alpha=0.55,
        )
        marks = [self._scatter(series, source) for series in SERIES]
        self._digits = chart.text(
            "right",
            "task",
            text="digits",
            source=source,
            text_color=theme.EDITED,
            text_align="right",
            text_baseline="middle",
            text_font_size="15px",
            text_font_style="bold",
        )
        chart.add_tools(
            HoverTool(
                renderers=marks,
                mode="hline",
                tooltips=[
                    ("task", "@task"),
                    ("edited", "@edited{0.00%}"),
                    (self._base, "@zero_shot{0.00%}"),
                    ("fine-tuned", "@fine_tuned{0.00%}"),
                    ("coefficient", "@coefficient{0.00}"),
                    ("chance", "@chance{0.0%}"),
                    ("images", "@n{0,0}"),
                ],
            )
        )
        self._legend = self._make_legend()
        chart.add_layout(self._legend, "above")

    def _scatter(self, series: str, source: ColumnDataSource) -> GlyphRenderer:
        colour = theme.COLOURS[series]
        return self.figure.scatter(
            series,
            "task",
            source=source,
            marker=theme.MARKS[series],
            size=18 if series == "edited" else 11,
            line_color=colour,
            line_width=2,
            fill_color=colour,
            fill_alpha=0.0 if series == "zero_shot" else 1.0,
        )

    def _make_legend(self) -> Legend:
        # A legend draws its marks once, from data: they need points before anything is measured,
        # and these lie left of the axis.
        hidden = ColumnDataSource({s: [-1.0] for s in SERIES} | {"task": self.labels[:1]})
        names = theme.names(self._base)
        items = [LegendItem(label=names[s], renderers=[self._scatter(s, hidden)]) for s in SERIES]
        return Legend(
            items=items,
            orientation="horizontal",
            border_line_color=None,
            border_line_width=0,
            background_fill_alpha=0.0,
            label_text_font_size="13px",
            margin=0,
            padding=2,
            spacing=16,
        )

    def _scale_text(self) -> None:
        """Larger text on a larger chart, so that the back of the room can read it."""
        chart = self.figure
        sizes = [
            *axis_sizes(chart),
            (self._legend, "label_text_font_size", 0),
            (chart.title, "text_font_size", 1),
            (self._digits.glyph, "text_font_size", 1),
        ]
        scale_text(chart, sizes, per=45, low=13, high=20)

    def _mark_mean(self) -> None:
        """A band behind the mean."""
        bottom = self._height(MEAN)
        self.figure.add_layout(
            BoxAnnotation(
                bottom=bottom,
                top=bottom + 1,
                fill_color=theme.FINE_TUNED,
                fill_alpha=0.08,
                line_color=None,
            )
        )

    def _height(self, name: str) -> int:
        """Where a row begins on the axis, which counts from below."""
        return len(self._names) - 1 - self._names.index(name)

    def _columns(self, rows: Rows | None) -> dict[str, list[Any]]:
        n = len(self.labels)
        if rows is None:
            nothing = [float("nan")] * n
            blank: dict[str, list[Any]] = dict.fromkeys(
                (*SERIES, "chance", "right", "coefficient"), nothing
            )
            return blank | {
                "task": self.labels,
                "name": self._names,
                "digits": [""] * n,
                "n": [0] * n,
            }
        values = {series: [*getattr(rows, series)] for series in SERIES}
        digits = ["" if np.isnan(x) else f"{100 * x:.0f} %" for x in values["edited"]]
        return values | {
            "task": self.labels,
            "name": self._names,
            "coefficient": [*rows.coefficient],
            "chance": [*rows.chance],
            "right": [_right_edge(rows)] * n,
            "digits": digits,
            "n": [*rows.n],
        }

    def show(self, rows: Rows) -> None:
        """Put rows on screen: one column data source, and the axis if the mode changed."""
        self.source.data = self._columns(rows)
        end = _right_edge(rows)
        if self.figure.x_range.end != end:
            self.figure.x_range.end = end
        if self.figure.title.text != self._title(rows.mode):
            self.figure.title.text = self._title(rows.mode)
            self.figure.xaxis.axis_label = AXES[rows.mode]

    def focus(self, task: str) -> None:
        """Shade the row whose images the gallery shows."""
        bottom = self._height(task)
        self.focus_band.update(bottom=bottom, top=bottom + 1)

    def task_at(self, y: float) -> str | None:
        """The task whose row is at height y of the axis, for a click."""
        place = len(self._names) - 1 - int(np.floor(y))
        name = self._names[place] if 0 <= place < len(self._names) else MEAN
        return None if name == MEAN else name


def _right_edge(rows: Rows) -> float:
    """1, or in steps of .2 as far as normalized accuracies reach, plus room for the digits."""
    highest = max(
        [1.0, *(x for series in SERIES for x in getattr(rows, series) if not np.isnan(x))]
    )
    return float(np.ceil(round(highest, 6) * 5) / 5 * (1 + RIGHT_MARGIN))
