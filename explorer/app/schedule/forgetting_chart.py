"""Target against control accuracy, as alpha moves and for everything that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, LinearColorMapper, Range1d
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.disentanglement.palette import ERROR
from explorer.app.schedule import curve, tradeoff
from explorer.app.schedule.frame import colour_bar, frame, percent, retitle
from explorer.app.schedule.jobs import Tried, front
from explorer.app.schedule.legend import legend_item, legend_of, line_item
from explorer.editing.schedule import Schedule

NAMES = ("x", "y", "alpha", "label", "index")


class ForgettingChart:
    """A point a schedule: how much of the target task it keeps, and how much of all the others."""

    def __init__(self) -> None:
        self.ramps = ColumnDataSource({name: [] for name in NAMES})
        self.others = ColumnDataSource({name: [] for name in NAMES})
        self.front = ColumnDataSource({"x": [], "y": []})
        self.alphas = ColumnDataSource({"x": [], "y": []})
        self.equal = ColumnDataSource({"xs": [], "ys": []})
        self.chosen_line = ColumnDataSource({"x": [], "y": []})
        self.labels = ColumnDataSource({"x": [], "y": [], "text": []})
        self.best = ColumnDataSource({"x": [], "y": []})
        self.here = ColumnDataSource({"x": [], "y": [], "label": []})
        self._schedules: list[Schedule | None] = []
        self.figure = self._figure()
        self._draw()

    def _figure(self) -> figure:
        chart = frame(
            "other tasks: mean accuracy / zero-shot",
            "target: accuracy / fine-tuned",
            tools="pan,wheel_zoom,reset,save",
            active_drag=None,
        )
        for axis in (chart.xaxis, chart.yaxis):
            axis.formatter = percent()
        return chart

    def _draw(self) -> None:
        chart = self.figure
        colours = LinearColorMapper(palette=ERROR, low=0, high=1)
        equal = {"line_color": theme.ZERO_SHOT, "line_width": 1, "line_alpha": 0.6}
        chosen = equal | {"line_width": 2, "line_alpha": 1.0}
        chart.multi_line("xs", "ys", source=self.equal, **equal)
        chart.line("x", "y", source=self.chosen_line, **chosen)
        chart.text(
            "x",
            "y",
            text="text",
            source=self.labels,
            text_color=theme.ZERO_SHOT,
            text_font_size="11px",
            text_baseline="top",
            x_offset=4,
            y_offset=3,
        )
        alphas = {"line_color": ERROR[128], "line_width": 2}
        chart.line("x", "y", source=self.alphas, **alphas)
        line = {"line_color": theme.RIGHT, "line_width": 2.5, "line_dash": "dashed"}
        chart.line("x", "y", source=self.front, **line)
        looks = {
            "ring": {
                "marker": "circle",
                "size": 25,
                "fill_color": None,
                "line_color": theme.RIGHT,
                "line_width": 3,
            },
            "others": {
                "marker": "triangle",
                "size": 12,
                "fill_color": theme.ZERO_SHOT,
                "line_color": theme.ZERO_SHOT,
            },
            "ramps": {"marker": "circle", "size": 13, "line_color": theme.ZERO_SHOT},
            "here": {
                "marker": theme.MARKS["edited"],
                "size": 18,
                "fill_color": theme.EDITED,
                "line_color": "#ffffff",
                "line_width": 1.5,
            },
        }
        chart.scatter("x", "y", source=self.best, **looks["ring"])
        coloured = {"field": "alpha", "transform": colours}
        marks = [
            chart.scatter("x", "y", source=self.others, **looks["others"]),
            chart.scatter("x", "y", source=self.ramps, fill_color=coloured, **looks["ramps"]),
        ]
        chart.scatter("x", "y", source=self.here, **looks["here"])
        for mark in marks:
            mark.nonselection_glyph = mark.selection_glyph = None
        chart.add_tools(
            HoverTool(
                renderers=marks,
                tooltips=[
                    ("schedule", "@label"),
                    ("target", "@y{0.0%} of fine-tuned"),
                    ("others", "@x{0.0%} of zero-shot"),
                    ("", "click: open it"),
                ],
            )
        )
        colour_bar(chart, colours, title="α", ticker=FixedTicker(ticks=[0, 0.5, 1]))
        names = {
            "ramps": "LiNeS, colour α",
            "others": "other schedules",
            "ring": "paper's choice",
            "here": "on screen",
        }
        # A mark in a legend is small: a white rim would leave little of it.
        more = {"ramps": {"fill_color": ERROR[128]}, "here": {"line_color": theme.EDITED}}
        items = [legend_item(chart, n, **(looks[k] | more.get(k, {}))) for k, n in names.items()]
        paths = {
            "α with β = 1 − α": alphas,
            "Pareto front": line,
            "2 × target + others": equal,
            "… of the choice": chosen,
        }
        items += [line_item(chart, name, **look) for name, look in paths.items()]
        chart.add_layout(legend_of(items), "left")

    def show(
        self,
        points: Sequence[Tried],
        best: Tried | None,
        here: Tried | None,
        title: str,
    ) -> None:
        """Put points on screen, their front, the paper's choice and the present schedule."""
        self._schedules = [point.schedule for point in points]
        is_ramp = [p.schedule is not None and p.schedule.kind == "lines" for p in points]
        self.ramps.data = self._columns(points, is_ramp)
        self.others.data = self._columns(points, [not ramp for ramp in is_ramp])
        known = [p for p in points if np.isfinite([p.target, p.control]).all()]
        line = front(known)
        _fit(self.figure.x_range, [p.control for p in known])
        _fit(self.figure.y_range, [p.target for p in known])
        self.front.data = {"x": [p.control for p in line], "y": [p.target for p in line]}
        moved = tradeoff.alpha_curve(known)
        self.alphas.data = {"x": [p.control for p in moved], "y": [p.target for p in moved]}
        self._show_lines(bool(known), best)
        self.best.data = _place(best)
        self.here.data = {**_place(here), "label": [] if here is None else [here.label]}
        retitle(self.figure, title)

    def _show_lines(self, there: bool, best: Tried | None) -> None:
        """Lines of equal trade-off across the axes, and the one that the rule's choice is on."""
        xs, ys = (
            (axis.reset_start, axis.reset_end)
            for axis in (self.figure.x_range, self.figure.y_range)
        )
        lines = tradeoff.lines(xs, ys) if there else []
        self.equal.data = {"xs": [[*line.x] for line in lines], "ys": [[*line.y] for line in lines]}
        self.labels.data = {
            "x": [line.label[0] for line in lines],
            "y": [line.label[1] for line in lines],
            "text": [f"{line.value:g}" for line in lines],
        }
        chosen = None if best is None else tradeoff.line_at(tradeoff.trade_off(best), xs, ys)
        ends = ((), ()) if chosen is None else (chosen.x, chosen.y)
        self.chosen_line.data = {"x": [*ends[0]], "y": [*ends[1]]}

    def _columns(self, points: Sequence[Tried], kept: Sequence[bool]) -> dict[str, list[Any]]:
        chosen = [(i, p) for i, (p, keep) in enumerate(zip(points, kept, strict=True)) if keep]
        return {
            "x": [p.control for _, p in chosen],
            "y": [p.target for _, p in chosen],
            "alpha": [curve.ends(p.schedule)[0] for _, p in chosen],
            "label": [p.label for _, p in chosen],
            "index": [i for i, _ in chosen],
        }

    def nearest(self, x: float, y: float) -> tuple[bool, Schedule | None]:
        """Whether a click at figure coordinates is on a point, and on which schedule's."""
        spans = [axis.end - axis.start for axis in (self.figure.x_range, self.figure.y_range)]
        best, chosen = 0.035, -1
        for source in (self.ramps, self.others):
            columns = (source.data[name] for name in ("x", "y", "index"))
            for px, py, index in zip(*columns, strict=True):
                distance = float(np.hypot((px - x) / spans[0], (py - y) / spans[1] / 2))
                if distance < best:
                    best, chosen = distance, index
        return chosen >= 0, self._schedules[chosen] if chosen >= 0 else None


def _fit(axis: Range1d, values: Sequence[float]) -> None:
    """Bring an axis round values, with a little room, unless it is there already."""
    if not values:
        return
    low, high = min(values), max(values)
    room = 0.1 * max(high - low, 0.05)
    start, end = low - room, high + room
    if (axis.reset_start, axis.reset_end) != (start, end):
        axis.update(start=start, end=end, reset_start=start, reset_end=end)


def _place(point: Tried | None) -> dict[str, list[float]]:
    return {"x": [], "y": []} if point is None else {"x": [point.control], "y": [point.target]}
