"""One display of the hierarchy lens: sidebar, tree, curves, as a page or inside a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app.display import MARK, LensDisplay
from explorer.app.screen import push
from explorer.app.tree.charts import Correlation, Marginals, Susceptibility

if TYPE_CHECKING:
    from explorer.app.tree.lens import HierarchyLens

CURVES_HEIGHT = "max(250px, calc(54vh - 150px))"
"""With the tree, whose height is 46vh: together one screen."""


class Display(LensDisplay):
    """Figures and layout of one lens on one screen."""

    title = "Weight explorer · Random Hierarchy Model"

    def __init__(self, lens: HierarchyLens):
        super().__init__(lens)
        self.marginals, self.susceptibility = Marginals(), Susceptibility()
        self.correlation = Correlation()
        self._panes = [
            pn.pane.Bokeh(
                chart.figure, styles={"flex": "1 1 auto", "min-height": "0", "width": "100%"}
            )
            for chart in (self.marginals, self.susceptibility, self.correlation)
        ]

    # Updates

    def draw(self) -> None:
        """Everything, for the first time."""
        self.draw_curves()
        self.draw_level()

    def draw_curves(self) -> None:
        """What is measured so far."""
        measured, controls = self.lens.measured, self.lens.controls
        first, second, _ = self._panes
        push(first, lambda: self.marginals.show(measured))
        push(second, lambda: self.susceptibility.show(measured, controls))
        self.draw_level()

    def draw_level(self) -> None:
        """What follows the slider: its mark, and the correlation there."""
        lens, setting = self.lens, self.lens.state.setting
        measured, controls = lens.measured, lens.controls
        theory = measured.theory if measured is not None else None
        first, second, third = self._panes
        push(first, lambda: self.marginals.move(setting, theory))
        push(second, lambda: self.susceptibility.move(setting, theory))
        push(third, lambda: self.correlation.show(setting, measured, controls))

    # Layout

    def sidebar(self) -> list[Any]:
        """Which grammar, string and noise."""
        return [self.lens.drawing.toolbar, self.lens.drawing.grammar]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """The tree above, the curves below; the same on a page and in a cell."""
        drawing = self.lens.drawing
        curves = [
            pn.Column(
                pane,
                sizing_mode="stretch_width",
                styles={
                    "flex": "1 1 230px",
                    "min-width": "0",
                    "height": CURVES_HEIGHT if on_page else "290px",
                },
            )
            for pane in self._panes
        ]
        return pn.Column(
            drawing.notices,
            drawing.tree,
            pn.FlexBox(*curves, flex_wrap="wrap", gap="4px 8px", sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
            css_classes=[MARK],
        )
