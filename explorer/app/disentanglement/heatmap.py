"""One error map as a Bokeh figure, and what all maps of a display share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import (
    BoxAnnotation,
    ColumnDataSource,
    CrosshairTool,
    CustomJS,
    CustomJSHover,
    HoverTool,
    LinearColorMapper,
    Range1d,
    Span,
    Title,
)
from bokeh.plotting import figure

from explorer.app import theme
from explorer.app.disentanglement.layers import columns
from explorer.app.disentanglement.palette import ERROR
from explorer.app.disentanglement.spec import MapSpec
from explorer.app.text import axis_sizes, scale_text

SEARCH_REGION = (0.0, 1.0)
"""Where merging coefficients are usually searched, on both axes."""
VEIL = ["rgba(0,0,0,0)", "rgba(128,136,146,0.55)"]
"""Over cells that are not computed yet, and show the nearest one's value."""

# The point follows the pointer in the browser at once; Python hears of it 30 times a second.
GESTURE = """
    if (window.isNaN(cb_obj.x) || cb_obj.x == null) return
    const [low, high] = point.tags
    const inside = (x) => Math.round(100 * Math.min(high, Math.max(low, x))) / 100
    const kind = cb_obj.event_name, now = performance.now()
    const x = inside(cb_obj.x), y = inside(cb_obj.y)
    if (kind !== "tap") point.data = {x: [x], y: [y]}
    const last = gesture.tags[0] ?? 0
    if (kind === "pan" && now - last < 33) return
    gesture.setv({tags: [now]}, {sync: false})
    gesture.data = {x: [x], y: [y], kind: [kind], at: [now]}
"""

TOLD = "return value > 0 ? 'not computed yet, shown is the nearest' : 'computed'"


class Shared:
    """What the maps of one display have in common."""

    def __init__(self) -> None:
        self.colours = LinearColorMapper(palette=ERROR, low=0, high=1)
        self.x_range, self.y_range = Range1d(-3, 3), Range1d(-3, 3)
        self.point = ColumnDataSource({"x": [0.0], "y": [0.0]}, tags=[-3, 3])
        self.across = Span(dimension="width", line_color=theme.ZERO_SHOT, line_alpha=0.9)
        self.down = Span(dimension="height", line_color=theme.ZERO_SHOT, line_alpha=0.9)

    def put_point(self, point: tuple[float, float], extent: tuple[float, float]) -> None:
        """Show the point of the recipe on every map."""
        if self.point.tags != [*extent]:
            self.point.tags = [*extent]
        if (self.point.data["x"][0], self.point.data["y"][0]) != point:
            self.point.data = {"x": [point[0]], "y": [point[1]]}

    def put_extent(self, extent: tuple[float, float], step: float) -> None:
        """Axes over the extent, and as far beyond as the cells at its ends reach."""
        low, high = extent[0] - step / 2, extent[1] + step / 2
        for axis in (self.x_range, self.y_range):
            if (axis.reset_start, axis.reset_end) != (low, high):
                axis.update(start=low, end=high, reset_start=low, reset_end=high)


class HeatMap:
    """A map of two coefficients. The image, its veil and the hover text are one data source."""

    def __init__(self, shared: Shared, moved: Callable[[str, float, float], None]):
        """moved(kind of gesture, x, y) hears where a person drags or clicks."""
        self._shared, self._moved = shared, moved
        self.source = ColumnDataSource(_blank())
        self.best = ColumnDataSource({"x": [], "y": []})
        self._texts: tuple[str, ...] = ()
        self.figure = self._figure()
        self.subtitle = Title(text="", text_font_size="12px", text_font_style="normal", standoff=2)
        self.figure.add_layout(self.subtitle, "above")
        self._hover = HoverTool(
            renderers=[self._draw()],
            tooltips=[],
            formatters={"@veil": CustomJSHover(code=TOLD)},
            point_policy="follow_mouse",
        )
        self.figure.add_tools(self._hover, CrosshairTool(overlay=[shared.across, shared.down]))
        self._listen()
        self._scale_text()

    def _figure(self) -> figure:
        chart = theme.plain(
            figure(
                x_range=self._shared.x_range,
                y_range=self._shared.y_range,
                width_policy="max",
                height_policy="max",
                title="…",
                tools="wheel_zoom,reset,save",
                active_scroll=None,
                toolbar_location="right",
                min_border_right=4,
            )
        )
        chart.grid.grid_line_color = None
        return chart

    def _draw(self) -> Any:
        chart, shared = self.figure, self._shared
        place = {"x": "x", "y": "y", "dw": "dw", "dh": "dh", "source": self.source}
        cells = chart.image("value", color_mapper=shared.colours, **place)
        veil = LinearColorMapper(palette=VEIL, low=0, high=1)
        chart.image("veil", color_mapper=veil, **place)
        low, high = SEARCH_REGION
        for colour, width, dash in (("#000000", 3, "solid"), ("#ffffff", 1.5, "dashed")):
            chart.add_layout(
                BoxAnnotation(
                    left=low,
                    right=high,
                    bottom=low,
                    top=high,
                    fill_color=None,
                    line_color=colour,
                    line_width=width,
                    line_alpha=0.9,
                    line_dash=dash,
                )
            )
        chart.scatter(
            "x",
            "y",
            source=self.best,
            marker="star",
            size=17,
            fill_color="#ffffff",
            line_color="#000000",
            line_width=1.5,
        )
        for size, colour in ((21, "#ffffff"), (16, theme.EDITED)):
            chart.scatter(
                "x",
                "y",
                source=shared.point,
                marker=theme.MARKS["edited"],
                size=size,
                fill_color=colour,
                line_color="#ffffff" if colour == theme.EDITED else "#000000",
                line_width=1.5,
            )
        return cells

    def _scale_text(self) -> None:
        """Larger text on a larger map, so that the back of the room can read it."""
        chart = self.figure
        sizes = [
            *axis_sizes(chart),
            (chart.title, "text_font_size", 3),
            (self.subtitle, "text_font_size", -1),
        ]
        scale_text(chart, sizes, per=27, low=12, high=19)

    def _listen(self) -> None:
        self._gesture = ColumnDataSource({"x": [0.0], "y": [0.0], "kind": [""], "at": [0.0]})
        follow = CustomJS(
            args={"point": self._shared.point, "gesture": self._gesture}, code=GESTURE
        )
        for event in ("panstart", "pan", "panend", "tap"):
            self.figure.js_on_event(event, follow)
        self._gesture.on_change("data", self._heard)

    def _heard(self, _name: str, _old: object, data: Mapping[str, Any]) -> None:
        kind, x, y = (data[name][0] for name in ("kind", "x", "y"))
        self._moved(str(kind), float(x), float(y))

    # Updates

    def show(self, spec: MapSpec, result: xr.Dataset, layer: str, terms: str, stale: bool) -> None:
        """Put a result on screen; stale: it is not what was asked for, and is veiled."""
        low, _ = spec.extent
        side = spec.step * spec.points
        drawn = columns(result, spec.alphas, layer, terms)
        if stale:
            drawn["veil"] = [np.ones_like(drawn["veil"][0])]
        corner, n = [low - spec.step / 2], " and ".join(f"{n:,}" for n in result["n"].values)
        place = {"x": corner, "y": corner, "dw": [side], "dh": [side]}
        self.source.data = {**drawn, **place, "n": [n]}

    def name(self, spec: MapSpec, titles: tuple[str, str], subtitle: str, pinned: bool) -> None:
        """Write what the map is: above it, along its axes and in the hover box."""
        title = f"{spec.title} (pinned)" if pinned else spec.title
        texts = (title, subtitle, *titles)
        if texts == self._texts:
            return
        self._texts = texts
        self.figure.title.text, self.subtitle.text = title, subtitle
        self.figure.xaxis.axis_label = f"merging coefficient of {titles[0]}"
        self.figure.yaxis.axis_label = f"merging coefficient of {titles[1]}"
        self._hover.tooltips = tooltips(titles)

    def mark_best(self, best: tuple[float, float]) -> None:
        """A star at the point of best normalized accuracy."""
        data = {"x": [best[0]], "y": [best[1]]}
        if data != self.best.data:
            self.best.data = data


def tooltips(titles: tuple[str, str]) -> list[tuple[str, str]]:
    """Everything known of one cell. Bokeh writes names and values as text."""
    first, second = titles
    return [
        (f"coefficient of {first}", "@alpha1{0.00}"),
        (f"coefficient of {second}", "@alpha2{0.00}"),
        (f"error on {first}", "@error1{0.0%} ± @deviation1{0.0%}"),
        (f"error on {second}", "@error2{0.0%} ± @deviation2{0.0%}"),
        ("error, mean | sum", "@mean{0.0%} | @sum{0.000}"),
        (f"accuracy on {first}", "@accuracy1{0.0%}"),
        (f"accuracy on {second}", "@accuracy2{0.0%}"),
        ("images", "@n"),
        ("this cell", "@veil{custom}"),
    ]


def _blank() -> dict[str, list[Any]]:
    nothing = [np.zeros((1, 1), np.float32)]
    names = ["value", "veil", "alpha1", "alpha2", "mean", "sum"]
    names += [f"{name}{t}" for name in ("error", "deviation", "accuracy") for t in (1, 2)]
    place = {"x": [0.0], "y": [0.0], "dw": [0.0], "dh": [0.0]}
    return {**dict.fromkeys(names, nothing), **place, "n": [""]}
