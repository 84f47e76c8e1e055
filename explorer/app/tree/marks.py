"""What the curves are made of: marks with error bars, lines that mark a level, legends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import ColumnDataSource, Legend, LegendItem, Span, TeeHead, Whisker
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.text import Size, axis_sizes, scale_text
from explorer.app.tree.measured import Columns, Measured
from explorer.app.tree.palette import CONTROL_LINES

MEASURED_INK = theme.FINE_TUNED
_OVER_THE_AXIS = -40
"""Pixels by which a title begins left of the frame, over the axis: four charts beside each other in
a notebook's cell are too narrow for a long title that begins where the frame does."""


def quiet_chart(title: str, **settings: Any) -> figure:
    """A figure in the look of the app, as high as its place."""
    chart = theme.plain(
        figure(
            sizing_mode="stretch_width",
            height_policy="max",
            min_height=200,
            tools="save",
            toolbar_location="above",
            title=title,
            **settings,
        )
    )
    chart.title.update(text_font_size="14px", offset=_OVER_THE_AXIS)
    for axis in (*chart.xaxis, *chart.yaxis):
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "13px"
    return chart


def growing(chart: figure, legend: Legend | None = None) -> figure:
    """A chart whose text is larger where the chart is, for the back of the room."""
    sizes: list[Size] = [*axis_sizes(chart), (chart.title, "text_font_size", 1)]
    sizes += [(legend, "label_text_font_size", -1)] if legend is not None else []
    scale_text(chart, sizes, per=25, low=13, high=18)
    return chart


def marks_with_bars(
    chart: figure, names: list[str], x: str, y: str, **look: Any
) -> tuple[Any, Any]:
    """Marks with error bars on a source of their own: (source, renderer)."""
    source = ColumnDataSource({name: [] for name in (x, y, "error", "lower", "upper", *names)})
    colour = look.get("color", MEASURED_INK)
    whisker = Whisker(
        base=x,
        lower="lower",
        upper="upper",
        source=source,
        line_color=colour if isinstance(colour, str) else {"field": "colour"},
        upper_head=TeeHead(size=5, line_color=None),
        lower_head=TeeHead(size=5, line_color=None),
        level="underlay",
    )
    chart.add_layout(whisker)
    return source, chart.scatter(x, y, source=source, size=6, line_color=None, **look)


def slider_mark() -> Span:
    """Where the slider stands."""
    return Span(location=0, dimension="height", line_color=theme.EDITED, line_width=2)


def threshold_mark() -> Span:
    """Where theory has its threshold; not shown until there is one."""
    return Span(
        location=0,
        dimension="height",
        line_color=theme.ZERO_SHOT,
        line_dash="dashed",
        line_width=2,
        visible=False,
    )


class ControlMarks:
    """Marks joined by thin lines, one colour a control."""

    def __init__(self, chart: figure, x: str, y: str, names: list[str] | None = None):
        self.sources, self.marks = {}, []
        for name, colour in CONTROL_LINES.items():
            source, marks = marks_with_bars(
                chart, names or [], x, y, color=colour, marker="triangle"
            )
            chart.line(x, y, source=source, line_color=colour, line_width=1.5, line_alpha=0.8)
            self.sources[name] = source
            self.marks.append(marks)

    def show(self, columns: Mapping[str, Columns]) -> None:
        for name, source in self.sources.items():
            if name not in columns and not source.data["error"]:
                continue
            source.data = columns.get(name, {key: [] for key in source.data})


class ChartLegend:
    """A legend above the chart that names what is on it."""

    def __init__(
        self,
        chart: figure,
        theory: Any = None,
        marks: Any = None,
        controls: ControlMarks | None = None,
        power: Any = None,
    ):
        self._theory = LegendItem(label="theory", renderers=[theory]) if theory else None
        self._power = LegendItem(label="power law", renderers=[power]) if power else None
        self._controls = {
            name: LegendItem(label=name, renderers=[mark], visible=False)
            for name, mark in (
                zip(controls.sources, controls.marks, strict=True) if controls else ()
            )
        }
        measured = LegendItem(label="measured", renderers=[marks]) if marks else None
        items = [item for item in (measured, self._theory, self._power) if item is not None]
        legend = Legend(
            items=[*items, *self._controls.values()],
            orientation="horizontal",
            ncols=4,
            border_line_color=None,
            background_fill_alpha=0.0,
            label_text_font_size="12px",
            padding=0,
            margin=0,
            glyph_width=16,
            spacing=6,
        )
        chart.add_layout(legend, "above")
        growing(chart, legend)

    def theory(self, shown: bool) -> None:
        if self._theory is not None:
            self._theory.visible = shown

    def power(self, shown: bool) -> None:
        if self._power is not None:
            self._power.visible = shown

    def controls(self, shown: Mapping[str, Measured]) -> None:
        for name, item in self._controls.items():
            item.visible = name in shown
