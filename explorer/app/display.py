"""How a lens lies on a screen: sidebar beside main in a notebook's cell, or a page of its own."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui

from explorer.app.theme import MATERIAL, SLIM_BAR

SIDEBAR_WIDTH = 352
MARK = "explorer-lens"
"""CSS class of every display's root: the undo keys belong to the lens they were pressed in."""


class LensDisplay:
    """Base of the displays. A Bokeh figure lives in one document only, so each has its own."""

    title = "Weight explorer"

    def __init__(self, lens: Any):
        self.lens = lens

    def draw(self) -> None:
        """Everything there is to show, for the first time."""
        raise NotImplementedError

    def sidebar(self) -> list[Any]:
        """What a person sets."""
        raise NotImplementedError

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """What a person sees, on a page or in a cell."""
        raise NotImplementedError

    def embedded(self) -> pn.viewable.Viewable:
        """Sidebar and main for a cell, one under the other where the cell is narrow."""
        return beside(self.sidebar(), self.main())

    def page(self) -> pmui.Page:
        """A page of its own."""
        self.lens.drawing.toolbar.served = True
        return pmui.Page(
            title=self.title,
            sidebar=self.sidebar(),
            main=[self.main(on_page=True)],
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
