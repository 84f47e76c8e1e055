"""One display of the schedule lens: sidebar, curve, accuracies, tabs, as a page or in a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui

from explorer.app.display import MARK, LensDisplay, accuracy_or_normalized
from explorer.app.dumbbell import Dumbbell
from explorer.app.late import LateChart
from explorer.app.picture import Rows
from explorer.app.schedule.forgetting_chart import ForgettingChart
from explorer.app.schedule.plane_chart import PlaneChart
from explorer.app.screen import push
from explorer.app.theme import MATERIAL

if TYPE_CHECKING:
    from explorer.app.schedule.lens import ScheduleLens

TABS = {"forgetting": "Forgetting", "search": "Alpha × beta", "compare": "Compare"}
PAGE_HEIGHT = "max(310px, calc(51vh - 36px))"
"""Of curve and accuracies on a page: with the tabs, one screen."""
PAGE_TABS = "max(236px, calc(49vh - 116px))"
CELL_TABS = "300px"
WIDEST_TITLE = 64
"""Letters of a picture's title that fit beside the legend in a window of 1280 x 720."""
CELL_HEIGHT = "350px"


class Display(LensDisplay):
    """Figures and layout of one lens on one screen."""

    title = "Weight explorer · schedules and merging"

    def __init__(self, lens: ScheduleLens):
        super().__init__(lens)
        self.chart = Dumbbell(lens.titles, lens.model.control, lens.model.base_title)
        self.chart.figure.on_event("tap", self._tapped)
        self.chart_pane = pn.pane.Bokeh(
            self.chart.figure, styles={"flex": "1 1 auto", "min-height": "0", "width": "100%"}
        )
        self.forgetting, self.plane = ForgettingChart(), PlaneChart()
        self.forgetting.figure.on_event("tap", self._point_tapped)
        self.plane.figure.on_event("tap", self._cell_tapped)
        self.toggle = accuracy_or_normalized(lens.state)
        outdated = lens.drawing.outdated
        self._late = {
            "forgetting": LateChart(
                self.forgetting.figure, lambda: outdated("forgetting"), [], "1300px", "var(--tab)"
            ),
            "search": LateChart(
                self.plane.figure, lambda: outdated("search"), [], "1300px", "var(--tab)"
            ),
        }
        self._areas: list[pn.FlexBox] = []
        self.tabs = self._make_tabs()

    # Updates

    def draw(self) -> None:
        """What is measured already."""
        if (drawn := self.lens.rows()) is not None:
            self.show(drawn)
        self.follow()
        self.show_forgetting()
        self.show_search()

    def show(self, rows: Rows) -> None:
        """Put new accuracies on the chart."""
        push(self.chart_pane, lambda: self.chart.show(rows))

    def follow(self) -> None:
        """Follow the state's choices of view: the target's row, the kind of accuracy, the tab."""
        state = self.lens.state
        self.toggle.value = state.chart
        self.tabs.active = [*TABS].index(state.tab)
        push(self.chart_pane, lambda: self.chart.focus(state.focus))

    def show_forgetting(self) -> None:
        """Draw target against control, while its tab is open."""
        lens = self.lens
        if lens.state.tab != "forgetting":
            return
        spec = lens.spec("forgetting")
        points, best = lens.jobs.points(spec), lens.chosen_schedule()
        # A step of undo may bring a schedule back that was tried; where none is, none is marked.
        here = [p for p in points if lens.state.single and p.schedule == lens.recipe.schedule]
        chosen = [p for p in points if best is not None and p.schedule == best]
        title = f"{lens.titles[spec.task]} and all other tasks: what is kept"
        self._late["forgetting"].draw(
            lambda: self.forgetting.show(
                points, chosen[0] if chosen else None, here[0] if here else None, title
            )
        )

    def show_search(self) -> None:
        """Draw the plane of alpha and beta, while its tab is open."""
        lens = self.lens
        found = lens.jobs.found.get("search")
        if lens.state.tab != "search" or found is None:
            return
        spec = found.spec
        title = plane_title(spec.method, [lens.titles[task] for task in spec.tasks])
        here = lens.place_on_plane()
        self._late["search"].draw(lambda: self.plane.show(found.result, here, title))

    # What a person does

    def _tapped(self, event: Any) -> None:
        task = self.chart.task_at(event.y) if event.y is not None else None
        if task in self.lens.model.tasks:
            self.lens.state.look_at(task)

    def _point_tapped(self, event: Any) -> None:
        if event.x is None or event.y is None:
            return
        there, schedule = self.forgetting.nearest(event.x, event.y)
        if there:
            self.lens.open_schedule(schedule)

    def _cell_tapped(self, event: Any) -> None:
        if event.x is None or event.y is None:
            return
        cell = self.plane.cell_at(event.x, event.y)
        if cell is not None:
            self.lens.open_cell(*cell)

    def _turned(self, event: Any) -> None:
        tab = [*TABS][event.new]
        if tab in self._late:
            self._late[tab].draw(lambda: None)
        self.lens.state.set_tab(tab)

    # Layout

    def _make_tabs(self) -> pmui.Tabs:
        drawing = self.lens.drawing
        contents = {
            "forgetting": self._late["forgetting"].view,
            "search": self._late["search"].view,
            "compare": drawing.board,
        }
        self._areas = [self._area(drawing.jobs[tab], view) for tab, view in contents.items()]
        # Not dynamic: in a notebook, what Panel 1.9.4 puts into a tab as it is opened asks a
        # content network for style sheets.
        tabs = pmui.Tabs(
            *zip(TABS.values(), self._areas, strict=True),
            active=[*TABS].index(self.lens.state.tab),
            sizing_mode="stretch_width",
            theme_config=MATERIAL,
        )
        tabs.param.watch(self._turned, "active")
        return tabs

    def _area(self, job: Any, view: pn.viewable.Viewable) -> pn.FlexBox:
        """What is started on the left, what it found on the right; below where it is narrow."""
        return pn.FlexBox(
            pn.Column(job, sizing_mode="stretch_width", styles={"flex": "1 1 230px"}),
            pn.Column(
                view,
                sizing_mode="stretch_width",
                styles={"flex": "3.6 1 430px", "min-width": "0"},
            ),
            flex_wrap="wrap",
            gap="0 8px",
            sizing_mode="stretch_width",
        )

    def sidebar(self) -> list[Any]:
        """The recipe: schedule, method, coefficients."""
        drawing = self.lens.drawing
        return [
            drawing.toolbar,
            drawing.kinds,
            drawing.lines,
            drawing.methods,
            drawing.mixer,
        ]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """Curve and accuracies side by side, the tabs below."""
        drawing = self.lens.drawing
        height = PAGE_HEIGHT if on_page else CELL_HEIGHT
        left = pn.Column(
            drawing.curve,
            sizing_mode="stretch_width",
            styles={"flex": "1.2 1 420px", "min-width": "0", "height": height},
        )
        right = pn.Column(
            self.chart_pane,
            sizing_mode="stretch_width",
            styles={"flex": "1 1 360px", "min-width": "0", "height": height},
        )
        for area in self._areas:
            tab = PAGE_TABS if on_page else CELL_TABS
            area.stylesheets = [f":host {{ --tab: {tab}; min-height: var(--tab); }}"]
        return pn.Column(
            pn.Row(drawing.notices, self.toggle, sizing_mode="stretch_width"),
            pn.FlexBox(left, right, flex_wrap="wrap", gap="10px", sizing_mode="stretch_width"),
            self.tabs,
            sizing_mode="stretch_width",
            css_classes=[MARK],
        )


def plane_title(method: str, titles: Sequence[str]) -> str:
    """What the plane of alpha and beta shows; titles: of the tasks merged, named if they fit."""
    name = method.replace("_", " ")
    what = "normalized accuracy (%)"
    long = f"LiNeS on {name} of {' and '.join(titles)}: {what}"
    few = len(titles) < 3 and len(long) <= WIDEST_TITLE
    return long if few else f"LiNeS on {name} of {len(titles)} tasks: {what}"
