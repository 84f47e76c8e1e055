"""One display of the hierarchy lens: sidebar, tree, curves, as a page or inside a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app.display import MARK, LensDisplay, view_toggle
from explorer.app.learning.display import LearningView
from explorer.app.learning.words import READING
from explorer.app.screen import push
from explorer.app.tree.charts import Correlation, Marginals, Statistic
from explorer.app.tree.setting import VIEWS

if TYPE_CHECKING:
    from explorer.app.tree.lens import HierarchyLens

CURVES_HEIGHT = "max(250px, calc(54vh - 150px))"
"""With the tree, whose height is 46vh: together one screen."""
CHART_STYLES = {"flex": "1 1 auto", "min-height": "0", "width": "100%"}


class Display(LensDisplay):
    """Figures and layout of one lens on one screen."""

    title = "Weight explorer · Random Hierarchy Model"

    def __init__(self, lens: HierarchyLens):
        super().__init__(lens)
        self.marginals = Marginals()
        self.susceptibility = Statistic("susceptibility", "Susceptibility χ", "χ", "grammar")
        self.length = Statistic(
            "correlation_length", "Correlation length", "length in leaves", "controls"
        )
        self.correlation = Correlation()
        self._panes = [
            pn.pane.Bokeh(chart.figure, styles=CHART_STYLES)
            for chart in (self.marginals, self.susceptibility, self.length, self.correlation)
        ]
        self.toggle = view_toggle(lens.state, VIEWS)
        self._reading = pn.pane.HTML(READING, sizing_mode="stretch_width", margin=(4, 12))
        self._tree = pn.Column(sizing_mode="stretch_width")
        self._tree_parts: list[Any] = []
        self._learning: LearningView | None = None
        self._grammar = pn.Column(lens.drawing.grammar, sizing_mode="stretch_width")

    # Updates

    def draw(self) -> None:
        """Everything, for the first time."""
        self.draw_curves()
        self.draw_level()
        self.draw_learning()

    def draw_curves(self) -> None:
        """What is measured so far."""
        measured, controls = self.lens.measured, self.lens.controls
        marginals, chi, length, _ = self._panes
        push(marginals, lambda: self.marginals.show(measured))
        push(chi, lambda: self.susceptibility.show(measured, controls))
        push(length, lambda: self.length.show(measured, controls))
        self.draw_level()

    def draw_level(self) -> None:
        """What follows the slider: its mark, and the correlation there."""
        lens, setting = self.lens, self.lens.state.setting
        measured, controls = lens.measured, lens.controls
        theory = measured.theory if measured is not None else None
        marginals, chi, length, correlation = self._panes
        push(marginals, lambda: self.marginals.move(setting, theory))
        push(chi, lambda: self.susceptibility.move(setting, theory))
        push(length, lambda: self.length.move(setting, theory))
        push(correlation, lambda: self.correlation.show(setting, measured, controls))

    def draw_learning(self) -> None:
        """Which of the two views is open, and the charts of the learning view if it is."""
        view = self.lens.state.setting.view
        self.toggle.value = view
        learning = view == "learning"
        self._grammar.visible, self._reading.visible = not learning, learning
        self._tree.visible = not learning
        # Not before it is seen: a figure that begins in a hidden place is never laid out.
        if not learning and len(self._tree.objects) != len(self._tree_parts):
            self._tree.objects = self._tree_parts
        if self._learning is not None:
            self._learning.draw()

    # Layout

    def sidebar(self) -> list[Any]:
        """Which grammar, string and noise."""
        return [self.lens.drawing.toolbar, self._grammar, self._reading]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """The tree above, the curves below, or the learning view; on a page and in a cell."""
        drawing = self.lens.drawing
        curves = [
            pn.Column(
                pane,
                sizing_mode="stretch_width",
                styles={
                    "flex": "1 1 200px",
                    "min-width": "0",
                    "height": CURVES_HEIGHT if on_page else "290px",
                },
            )
            for pane in self._panes
        ]
        below = pn.FlexBox(*curves, flex_wrap="wrap", gap="4px 8px", sizing_mode="stretch_width")
        self._tree_parts = [drawing.tree, below]
        self._learning = LearningView(self.lens, on_page)
        self.draw_learning()
        return pn.Column(
            pn.Row(drawing.notices, self.toggle, sizing_mode="stretch_width"),
            self._tree,
            self._learning.view,
            sizing_mode="stretch_width",
            css_classes=[MARK],
        )
