"""One display of the arithmetic lens: sidebar, chart, tabs, as a page or inside a cell.

The components are the lens's and may be on screen several times; the charts belong to a display,
because a Bokeh figure lives in one document only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui
import xarray as xr

from explorer.app.charts import coefficient_curve, cosine_matrix, norms_by_layer
from explorer.app.dumbbell import Dumbbell
from explorer.app.picture import Rows
from explorer.app.theme import MATERIAL, SLIM_BAR

if TYPE_CHECKING:
    from explorer.app.arithmetic import ArithmeticLens

SIDEBAR_WIDTH = 352
PAGE_HEIGHT = "max(420px, calc(100vh - 62px))"
"""Of chart and tabs on a page of their own: everything on one screen, the tabs scroll."""
CELL_HEIGHT = "470px"
TABS = ("Images", "Vectors", "Prompts", "Search")
MARK = "explorer-lens"
"""CSS class of every display's root: the undo keys belong to the lens they were pressed in."""


class Display:
    """Charts and layout of one lens on one screen."""

    def __init__(self, lens: ArithmeticLens):
        self.lens = lens
        self.chart = Dumbbell(lens.titles, lens.model.control)
        self.chart_pane = pn.pane.Bokeh(
            self.chart.figure, styles={"flex": "1 1 auto", "min-height": "0", "width": "100%"}
        )
        self.chart.figure.on_event("tap", self._tapped)
        self.toggle = self._make_toggle()
        self.tabs = self._make_tabs()
        self.chart.focus(lens.state.focus)

    # Updates

    def show(self, rows: Rows) -> None:
        """Put new accuracies on the chart."""
        _push(self.chart_pane, lambda: self.chart.show(rows))

    def follow(self) -> None:
        """Follow the state's choices of view: the focused row, the kind of accuracy."""
        state = self.lens.state
        self.toggle.value = state.chart
        _push(self.chart_pane, lambda: self.chart.focus(state.focus))

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
        _push(self.curve_pane, lambda: self.curve.update(data=data))

    # Layout

    def _make_tabs(self) -> pmui.Tabs:
        self._geometry = pn.Column(sizing_mode="stretch_width")
        figure, self.curve = coefficient_curve(
            "One coefficient for all tasks: which is best on validation images?"
        )
        self.curve_pane = pn.pane.Bokeh(figure, sizing_mode="stretch_width")
        contents = (
            pn.Column(self.lens.drawing.gallery, sizing_mode="stretch_width"),
            self._geometry,
            self.lens.drawing.prompts,
            pn.Column(self.curve_pane, sizing_mode="stretch_width"),
        )
        tabs = pmui.Tabs(
            *zip(TABS, contents, strict=True),
            dynamic=True,
            sizing_mode="stretch_width",
            theme_config=MATERIAL,
        )
        tabs.param.watch(self._turned, "active")
        return tabs

    def _make_toggle(self) -> pmui.RadioButtonGroup:
        state = self.lens.state
        kinds = {"accuracy": "absolute", "normalized": "normalized"}
        toggle = pmui.RadioButtonGroup(
            options=kinds,
            value=state.chart,
            size="small",
            label="",
            margin=(2, 10),
            theme_config=MATERIAL,
        )
        toggle.param.watch(lambda event: state.set_chart(event.new), "value")
        return toggle

    def _turned(self, event: Any) -> None:
        if event.new == TABS.index("Vectors") and not self._geometry.objects:
            self.lens.measure_geometry()
            self.show_geometry(self.lens.geometry)

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

    def main(self, height: str = CELL_HEIGHT) -> pn.viewable.Viewable:
        """Chart and tabs, side by side where there is room, otherwise one under the other."""
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

    def embedded(self) -> pn.viewable.Viewable:
        """Sidebar and main for a cell, one under the other where the cell is narrow."""
        return beside(self.sidebar(), self.main())

    def page(self) -> pmui.Page:
        """A page of its own."""
        self.lens.drawing.toolbar.served = True
        return pmui.Page(
            title="Weight explorer · task arithmetic",
            sidebar=self.sidebar(),
            main=[self.main(PAGE_HEIGHT)],
            sidebar_width=SIDEBAR_WIDTH,
            busy_indicator=None,
            theme_config=MATERIAL,
            sx=SLIM_BAR,
        )


def empty(page: pmui.Page) -> None:
    """Let a page's contents go, when its session is over.

    `pn.state.busy` remembers every pmui.Page for good (panel-material-ui 0.16.6), and through its
    contents the session's whole document. In place: the page's models are gone by then and could
    not be updated.
    """
    page.main.clear()
    page.sidebar.clear()


def beside(sidebar: list[Any], main: pn.viewable.Viewable) -> pn.FlexBox:
    """Sidebar and main side by side, or one under the other where there is little room."""
    side = pmui.Paper(
        pn.Column(*sidebar, sizing_mode="stretch_width"),
        elevation=0,
        variant="outlined",
        margin=(0, 12, 8, 0),
        css_classes=[MARK],
        styles={"flex": f"1 1 {SIDEBAR_WIDTH}px", "max-width": "460px"},
        theme_config=MATERIAL,
    )
    rest = pn.Column(main, styles={"flex": "4 1 480px", "min-width": "0"}, css_classes=[MARK])
    return pn.FlexBox(side, rest, flex_wrap="wrap", sizing_mode="stretch_width", css_classes=[MARK])


def _push(pane: pn.pane.Bokeh, change: Callable[[], None]) -> None:
    """Change Bokeh models of a pane that may be on screen, in whatever way its document asks for.

    This session's document is changed at once, since its lock is held (see `screen`), another
    session's on its next tick; a notebook's cell is sent the difference.
    """
    here = pn.state.curdoc
    views = [pn.state._views[ref] for ref in pane._models if ref in pn.state._views]
    elsewhere = [
        doc for _, _, doc, comm in views if comm is None and doc.session_context and doc is not here
    ]
    if elsewhere:
        elsewhere[0].add_next_tick_callback(change)
        return
    change()
    if any(comm is not None for *_, comm in views):
        pn.io.push_notebook(pane)
