"""How a lens lies on a screen: sidebar beside main in a notebook's cell, or a page of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.util import edit_readonly

from explorer.app.guide import guide_for
from explorer.app.state import LensState
from explorer.app.theme import MATERIAL, SLIM_BAR

SIDEBAR_WIDTH = 352
MARK = "explorer-lens"
"""CSS class of every display's root: the undo keys belong to the lens they were pressed in."""


class LensDisplay:
    """Base of the displays. A Bokeh figure lives in one document only, so each has its own."""

    title = "Weight explorer"

    def __init__(self, lens: Any):
        self.lens = lens
        self.guide = guide_for(lens.topic)

    def draw(self) -> None:
        """Everything there is to show, for the first time."""
        raise NotImplementedError

    def sidebar(self) -> list[Any]:
        """What a person sets."""
        raise NotImplementedError

    def side(self) -> list[Any]:
        """The sidebar under its row of help."""
        return [self.guide, *self.sidebar()]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """What a person sees, on a page or in a cell."""
        raise NotImplementedError

    def embedded(self) -> pn.viewable.Viewable:
        """Sidebar and main for a cell, one under the other where the cell is narrow."""
        return beside(self.side(), self.main())

    def page(self) -> pmui.Page:
        """A page of its own."""
        self.lens.drawing.toolbar.served = True
        return page_of(self.title, self.side(), self.main(on_page=True))


def page_of(
    title: str, sidebar: list[Any], main: pn.viewable.Viewable, header: Sequence[Any] = ()
) -> pmui.Page:
    """A page with a low title bar, which header stands in beside the title, and a sidebar."""
    page = pmui.Page(
        title=title,
        header=[*header],
        sidebar=sidebar,
        main=[main],
        sidebar_width=SIDEBAR_WIDTH,
        busy_indicator=None,
        theme_config=MATERIAL,
        sx=SLIM_BAR,
    )
    _ignore_busy(page)
    return page


def _ignore_busy(page: pmui.Page) -> None:
    """Undo that a page follows `pn.state.busy`, which is of all sessions (pmui 0.16.6).

    Each change of it searched all the page's models, 20 ms before and after every message, for no
    indicator; and the watcher keeps the page for good, so that a message cost the more the more
    pages had ever been opened: two thirds of a server's time with six people on it.
    """
    with edit_readonly(page):
        page.busy = False
    for watcher in [*pn.state.param.watchers.get("busy", {}).get("value", ())]:
        if getattr(getattr(watcher.fn, "__self__", None), "self", None) is page:
            pn.state.param.unwatch(watcher)


def empty(page: pmui.Page) -> None:
    """Let a page's contents go, when its session is over: whatever still holds the page would hold
    the session's whole document.

    In place: the page's models are gone by then and could not be updated.
    """
    for part in (page.header, page.main, page.sidebar):
        part.clear()


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
    return pn.FlexBox(
        side,
        rest,
        flex_wrap="wrap",
        sizing_mode="stretch_width",
        css_classes=[MARK],
        # Invisible boxes that Bokeh lays over lines reach beyond a figure; a cell must not scroll.
        styles={"overflow-x": "clip"},
    )


def accuracy_or_normalized(state: LensState) -> pmui.RadioButtonGroup:
    """What the chart of accuracies shows: accuracy, or its share of the fine-tuned model's."""
    names = {"absolute": "accuracy", "normalized": "normalized"}
    return _toggle(names, state.chart, state.set_chart)


def view_toggle(state: Any, views: Mapping[str, str], **look: Any) -> pmui.RadioButtonGroup:
    """Which of a lens's views is open. views: name -> title; look: what differs from the usual."""
    return _toggle(views, state.setting.view, state.look_at, **look)


def _toggle(
    titles: Mapping[str, str], chosen: str, choose: Callable[[str], None], **look: Any
) -> pmui.RadioButtonGroup:
    """Buttons of which one is pressed. titles: name -> title."""
    toggle = pmui.RadioButtonGroup(
        options={title: name for name, title in titles.items()},
        value=chosen,
        size="small",
        label="",
        margin=(2, 10),
        theme_config=MATERIAL,
        **look,
    )
    toggle.param.watch(lambda event: choose(event.new), "value")
    return toggle
