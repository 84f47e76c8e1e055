"""A chart that is put on screen when its tab is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
from bokeh.plotting import figure

from explorer.app.components import Arrived
from explorer.app.screen import push


class LateChart:
    """A figure in a column that stays empty until the chart is first drawn.

    A figure that a page holds from the start in a closed tab is never laid out, and one that was
    just put there must not be changed before the browser has it: what it is sent of models it does
    not know it drops. A component beside the figure says that it has it. (The figure's own size
    would say so too, but a notebook loses what comes with it in one message, such as that another
    tab was opened: Panel 1.9.4 holds a document back again while it listens to a figure.)
    """

    def __init__(
        self,
        chart: figure,
        redraw: Callable[[], None],
        before: Any,
        widest: str,
        height: str = "",
    ):
        """redraw is called when the browser has the figure; before is what stands above it.

        height: of it all, in the words of a style sheet, for a figure as large as its place.
        """
        self.figure = chart
        self._known = False
        self._redraw = redraw
        self._sizing = None if height else "stretch_width"
        self._pane: pn.pane.Bokeh | None = None
        styles = {"max-width": widest, **({"height": height} if height else {})}
        self.view = pn.Column(*before, sizing_mode="stretch_width", styles=styles)

    def arrived(self) -> None:
        """The browser has the figure."""
        self._known = True
        self._redraw()

    def draw(self, change: Callable[[], None]) -> None:
        """Change the figure's models, and put it on screen if it is not there yet."""
        if self._pane is None:
            change()
            self._pane = pn.pane.Bokeh(self.figure, sizing_mode=self._sizing)
            self.view.extend([self._pane, Arrived(self.figure, self.arrived)])
        elif self._known:
            push(self._pane, change)
