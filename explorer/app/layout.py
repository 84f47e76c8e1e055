"""One display of the arithmetic lens: sidebar, chart, tabs, as a page or inside a cell.

The components are the lens's and may be on screen several times; the charts belong to a display,
because a Bokeh figure lives in one document only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui
import xarray as xr

from explorer.app.charts import coefficient_curve, cosine_matrix, norms_by_layer
from explorer.app.display import MARK, LensDisplay, accuracy_or_normalized
from explorer.app.dumbbell import Dumbbell
from explorer.app.late import LateChart
from explorer.app.picture import Rows
from explorer.app.screen import push
from explorer.app.theme import MATERIAL

if TYPE_CHECKING:
    from explorer.app.arithmetic import ArithmeticLens

PAGE_HEIGHT = "max(420px, calc(100vh - 62px))"
"""Of chart and tabs on a page of their own: everything on one screen, the tabs scroll."""
CELL_HEIGHT = "470px"
TABS = ("Images", "Vectors", "Prompts", "Search")


class Display(LensDisplay):
    """Charts and layout of one lens on one screen."""

    title = "Weight explorer · task arithmetic"

    def __init__(self, lens: ArithmeticLens):
        super().__init__(lens)
        self.chart = Dumbbell(lens.titles, lens.model.control, lens.model.base_title)
        self.chart_pane = pn.pane.Bokeh(
            self.chart.figure, styles={"flex": "1 1 auto", "min-height": "0", "width": "100%"}
        )
        self.chart.figure.on_event("tap", self._tapped)
        self.toggle = accuracy_or_normalized(lens.state)
        self.tabs = self._make_tabs()
        self.chart.focus(lens.state.focus)

    # Updates

    def draw(self) -> None:
        """Draw what is measured already."""
        if (drawn := self.lens.rows()) is not None:
            self.show(drawn)

    def show(self, rows: Rows) -> None:
        """Put new accuracies on the chart."""
        push(self.chart_pane, lambda: self.chart.show(rows))

    def follow(self) -> None:
        """Follow the state's choices of view: the focused row, the kind of accuracy."""
        state = self.lens.state
        self.toggle.value = state.chart
        push(self.chart_pane, lambda: self.chart.focus(state.focus))

    def _tapped(self, event: Any) -> None:
        task = self.chart.task_at(event.y) if event.y is not None else None
        if task is not None:
            self.lens.state.look_at(task)

    def open_search(self) -> None:
        """Turn to the tab where a search is drawn."""
        self.tabs.active = TABS.index("Search")

    def show_search(self, result: xr.Dataset) -> None:
        """Draw what a search has measured so far."""
        data = {
            "coefficient": result["coefficient"].values,
            "normalized": result["mean_normalized"].values,
        }
        self.search_chart.draw(lambda: self.curve.update(data=data))

    # Layout

    def _make_tabs(self) -> pmui.Tabs:
        self._geometry = pn.Column(sizing_mode="stretch_width")
        figure, self.curve = coefficient_curve(
            "One coefficient for all tasks: which is best on validation images?"
        )
        self.search_chart = LateChart(
            figure, lambda: self.lens.drawing.outdated("search"), [], "980px"
        )
        contents = (
            pn.Column(self.lens.drawing.gallery, sizing_mode="stretch_width"),
            self._geometry,
            self.lens.drawing.prompts,
            self.search_chart.view,
        )
        # Not dynamic: in a notebook, what Panel 1.9.4 puts into a tab as it is opened asks a
        # content network for style sheets.
        tabs = pmui.Tabs(
            *zip(TABS, contents, strict=True),
            sizing_mode="stretch_width",
            theme_config=MATERIAL,
        )
        tabs.param.watch(self._turned, "active")
        return tabs

    def _turned(self, event: Any) -> None:
        if event.new == TABS.index("Vectors") and not self._geometry.objects:
            self.lens.measure_geometry()
            self.show_geometry(self.lens.geometry)
        elif event.new == TABS.index("Search"):
            self.search_chart.draw(lambda: None)

    def show_geometry(self, geometry: xr.Dataset | None) -> None:
        """Draw cosines and norms of the task vectors, once they are measured and looked at."""
        if self.tabs.active != TABS.index("Vectors") or self._geometry.objects:
            return
        if geometry is None:
            return
        titles = self.lens.titles
        self._geometry.objects = [
            pn.pane.Bokeh(cosine_matrix(geometry, titles), sizing_mode="stretch_width"),
            pn.pane.Bokeh(norms_by_layer(geometry, titles), sizing_mode="stretch_width"),
        ]

    def sidebar(self) -> list[Any]:
        """The recipe: sliders, presets, toolbar."""
        drawing = self.lens.drawing
        return [drawing.toolbar, drawing.mixer, drawing.presets]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """Chart and tabs, side by side where there is room, otherwise one under the other."""
        height = PAGE_HEIGHT if on_page else CELL_HEIGHT
        left = pn.Column(
            pn.Row(self.lens.drawing.notices, self.toggle, sizing_mode="stretch_width"),
            self.chart_pane,
            sizing_mode="stretch_width",
            styles={"flex": "1.15 1 440px", "min-width": "0", "height": height},
        )
        right = pn.Column(
            self.tabs,
            sizing_mode="stretch_width",
            styles={"flex": "1 1 400px", "min-width": "0", "height": height, "overflow-y": "auto"},
        )
        return pn.FlexBox(
            left,
            right,
            flex_wrap="wrap",
            gap="14px",
            sizing_mode="stretch_width",
            css_classes=[MARK],
        )
