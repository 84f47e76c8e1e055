"""The learning view of one display: five panels, each a head over a chart."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import panel as pn

from explorer.app import notebook
from explorer.app.components import Arrived
from explorer.app.learning.charts import Chart
from explorer.app.learning.curves import PANELS
from explorer.app.learning.drawing import series_of
from explorer.app.screen import push

if TYPE_CHECKING:
    from explorer.app.tree.lens import HierarchyLens

PAGE_HEIGHT = "max(286px, calc(50vh - 59px))"
"""Of a panel on a page of its own: two rows on one screen."""
CELL_HEIGHT = "330px"
CHART_STYLES = {"flex": "1 1 auto", "min-height": "0", "width": "100%"}


class LearningView:
    """Charts of one display. They are put on screen when the view is first opened: a figure that
    begins in a hidden place is never laid out."""

    def __init__(self, lens: HierarchyLens, on_page: bool):
        self._lens = lens
        self._charts: dict[str, Chart] = {}
        self._panes: dict[str, pn.pane.Bokeh] = {}
        self._known: set[str] = set()
        height = PAGE_HEIGHT if on_page else CELL_HEIGHT
        self._cards = {
            name: pn.Column(
                lens.drawing.heads.of[name],
                sizing_mode="stretch_width",
                styles={"flex": "1 1 max(290px, 31%)", "min-width": "0", "height": height},
            )
            for name in PANELS
        }
        self.view = pn.FlexBox(
            *self._cards.values(), flex_wrap="wrap", gap="6px 10px", sizing_mode="stretch_width",
            visible=False,
        )  # fmt: skip

    def draw(self) -> None:
        """Draw what is known, if the view is open."""
        self.view.visible = opened = self._lens.state.setting.view == "learning"
        if not opened:
            return
        for name in PANELS:
            if name not in self._charts:
                self._open(name)
            elif name in self._known:
                push(self._panes[name], partial(self._show, name))

    def _open(self, name: str) -> None:
        chart = self._charts[name] = Chart(PANELS[name])
        self._show(name)
        pane = pn.pane.Bokeh(chart.figure, styles=CHART_STYLES)
        self._panes[name] = pane
        if notebook.in_kernel():  # which loses what comes with a figure's size: see `app.late`
            self._cards[name].extend([pane, Arrived(chart.figure, partial(self.arrived, name))])
            return
        # On a page, where five figures arrive one by one, a component beside one of them would
        # have Bokeh measure the next before it is laid out.
        chart.figure.on_change("inner_width", lambda _attr, _old, _new: self.arrived(name))
        self._cards[name].append(pane)

    def arrived(self, name: str) -> None:
        """The browser has the figure: from now on it can be sent changes."""
        if name not in self._known:
            self._known.add(name)
            push(self._panes[name], lambda: self._show(name))

    def _show(self, name: str) -> None:
        shipped, live = series_of(self._lens, name)
        self._charts[name].show(shipped, live, name in self._lens.state.setting.scaled)
