"""A chart that is put on screen when its tab is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
from bokeh.plotting import figure

from explorer.app.screen import push


class LateChart:
    """A figure in a column that stays empty until the chart is first drawn.

    A figure that a page holds from the start in a closed tab is never laid out, and one that was
    just put there must not be changed before the browser has it: what it is sent of models it does
    not know it drops. The browser says that it has a figure by giving it a size.
    """

    def __init__(self, chart: figure, redraw: Callable[[], None], before: Any, widest: str):
        """redraw is called when the browser has the figure; before is what stands above it."""
        self.figure = chart
        self._known = False
        self._redraw = redraw
        self._pane: pn.pane.Bokeh | None = None
        self.view = pn.Column(*before, sizing_mode="stretch_width", styles={"max-width": widest})
        chart.on_change("inner_width", lambda _name, _old, _new: self.sized())

    def sized(self) -> None:
        """The browser has the figure."""
        self._known = True
        self._redraw()

    def draw(self, change: Callable[[], None]) -> None:
        """Change the figure's models, and put it on screen if it is not there yet."""
        if self._pane is None:
            change()
            self._pane = pn.pane.Bokeh(self.figure, sizing_mode="stretch_width")
            self.view.append(self._pane)
        elif self._known:
            push(self._pane, change)
