"""One display of the diffusion lens: sidebar, pictures, curves, as a page or inside a cell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app.diffusion.charts import AgainstLevel, Correlation, Flips, Similarity
from explorer.app.diffusion.setting import VIEWS
from explorer.app.display import MARK, LensDisplay, view_toggle
from explorer.app.late import LateChart
from explorer.app.screen import push

if TYPE_CHECKING:
    from explorer.app.diffusion.lens import DiffusionLens

CURVES_HEIGHT = "max(236px, calc(100vh - 128px - (100vw - 352px) * 0.3))"
"""On a page of its own: with the pictures, which are as high as the page is wide, one screen."""
CELL_HEIGHT = "280px"
AS_WRITTEN = {"& .MuiToggleButton-root": {"textTransform": "none", "whiteSpace": "nowrap"}}
"""The titles of the views, which are too long for capitals."""
CHART_STYLES = {"flex": "1 1 auto", "min-height": "0", "width": "100%"}


class Display(LensDisplay):
    """Figures and layout of one lens on one screen."""

    title = "Weight explorer · Noise and denoise"

    def __init__(self, lens: DiffusionLens):
        super().__init__(lens)
        self.chi = AgainstLevel("Susceptibility χ", "susceptibility", "χ", "χ")
        self.length = AgainstLevel(
            "Correlation length", "correlation_length", "length in patches", "length"
        )
        self.correlation = Correlation()
        self.flips, self.similarity = Flips(), Similarity()
        self._panes = [
            pn.pane.Bokeh(chart.figure, styles=CHART_STYLES)
            for chart in (self.chi, self.length, self.correlation)
        ]
        self._late: list[LateChart] = []
        self.toggle = view_toggle(lens.state, VIEWS, sx=AS_WRITTEN)
        self._curves = pn.FlexBox(flex_wrap="wrap", gap="4px 8px", sizing_mode="stretch_width")
        self._features = pn.FlexBox(flex_wrap="wrap", gap="4px 8px", sizing_mode="stretch_width")

    # Updates

    def draw(self) -> None:
        """Everything, for the first time."""
        self.draw_view()
        self.draw_curves()

    def draw_view(self) -> None:
        """Which view is open: curves below the pictures, or what a classifier sees."""
        view = self.lens.state.setting.view
        self.toggle.value = view
        features = view == "features"
        self._curves.visible, self._features.visible = not features, features
        if features:
            self.draw_features()

    def draw_curves(self) -> None:
        """What is measured so far."""
        shown = self.lens.measured
        for pane, chart in zip(self._panes[:2], (self.chi, self.length), strict=True):
            push(pane, partial(chart.show, shown))
        self.draw_level()

    def draw_level(self) -> None:
        """What follows the slider: its mark, and the correlation there."""
        level, shown = self.lens.state.setting.level, self.lens.measured
        for pane, chart in zip(self._panes[:2], (self.chi, self.length), strict=True):
            push(pane, partial(chart.move, level))
        push(self._panes[2], lambda: self.correlation.show(shown, level))
        if self.lens.state.setting.view == "features":
            self.draw_features()

    def draw_features(self) -> None:
        """Flips and similarity by depth; put on screen when they are first looked at."""
        if not self._late:  # nothing is laid out yet
            return
        seen, level = self.lens.features, self.lens.state.setting.level
        first = seen[0][1] if seen else None
        changes = (
            lambda: self.flips.show(seen, level),
            lambda: self.similarity.show(first, level),
        )
        for late, change in zip(self._late, changes, strict=True):
            late.draw(change)

    # Layout

    def sidebar(self) -> list[Any]:
        """Which model, picture and sampler."""
        return [self.lens.drawing.toolbar, self.lens.drawing.panel]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """The pictures above, the curves below; on a page and in a cell."""
        height = CURVES_HEIGHT if on_page else CELL_HEIGHT
        styles = {"flex": "1 1 210px", "min-width": "0", "height": height}
        self._curves.objects = [
            pn.Column(pane, sizing_mode="stretch_width", styles=styles) for pane in self._panes
        ]
        self._late = [
            LateChart(chart.figure, self.draw_features, [], "none", height)
            for chart in (self.flips, self.similarity)
        ]
        for late in self._late:
            late.view.styles = {**late.view.styles, "flex": "1 1 300px", "min-width": "0"}
        self._features.objects = [late.view for late in self._late]
        self.draw_view()
        drawing = self.lens.drawing
        return pn.Column(
            pn.FlexBox(
                pn.Column(
                    drawing.notices,
                    sizing_mode="stretch_width",
                    styles={"flex": "1 1 300px", "min-width": "0"},
                ),
                self.toggle,
                align_items="center",
                sizing_mode="stretch_width",
            ),
            drawing.noising,
            self._curves,
            self._features,
            sizing_mode="stretch_width",
            css_classes=[MARK],
        )
