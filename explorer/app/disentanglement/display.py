"""One display of the disentanglement lens: sidebar, maps, tabs, as a page or inside a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui

from explorer.app.disentanglement.board import Board
from explorer.app.disentanglement.charts import Carried, Eigenfunctions, PairMatrix
from explorer.app.disentanglement.picture import Picture
from explorer.app.disentanglement.spec import title_of
from explorer.app.display import MARK, LensDisplay
from explorer.app.late import LateChart
from explorer.app.theme import MATERIAL

if TYPE_CHECKING:
    from explorer.app.disentanglement.lens import DisentanglementLens

TABS = {"images": "Images", "pairs": "All pairs", "kernel": "Kernel"}
KERNEL = (
    "Each bar is one eigenfunction of the tangent kernel on both tasks' images: where it is of one "
    "colour, the function lives on one task's images alone, which is what weight disentanglement "
    "asks of the kernel (Ortiz-Jimenez, Favero and Frossard 2023, “Task Arithmetic in the Tangent "
    "Space”, section 5). The lower chart says how much of what a task vector does, to the first "
    "order and on both tasks' images, goes along each eigenfunction: where it lives matters only "
    "for those that carry something."
)


class Display(LensDisplay):
    """Figures and layout of one lens on one screen."""

    title = "Weight explorer · weight disentanglement"

    def __init__(self, lens: DisentanglementLens):
        super().__init__(lens)
        self.board = Board(lens)
        self.matrix = PairMatrix(lens.titles)
        self.matrix.figure.on_event("tap", self._tapped)
        self.eigenfunctions, self.carried = Eigenfunctions(), Carried()
        outdated = lens.drawing.outdated
        explanation = pmui.Typography(KERNEL, variant="body2", margin=(6, 10))
        self._pairs = LateChart(
            self.matrix.figure, lambda: outdated("pairs"), [lens.drawing.pairs_kinds], "820px"
        )
        self._kernel = LateChart(
            self.eigenfunctions.figure, lambda: outdated("kernel"), [explanation], "980px"
        )
        self._carried = LateChart(self.carried.figure, lambda: outdated("kernel"), [], "980px")
        self.tabs = self._make_tabs()

    # Updates

    def draw(self) -> None:
        """Everything, for the first time."""
        self.board.draw_maps()

    def turn_to(self, tab: str) -> None:
        """Open a tab."""
        self.tabs.active = [*TABS].index(tab)

    def _turned(self, event: Any) -> None:
        self.lens.open_tab([*TABS][event.new])

    def _open(self, tab: str) -> bool:
        return self.tabs.active == [*TABS].index(tab)

    def show_pairs(self, pairs: Picture | None) -> None:
        """Draw the matrix of all pairs, if there is that of the kind of map on screen, while its
        tab is open."""
        if not self._open("pairs"):
            return
        wanted = self.lens.pairs_spec
        result = pairs.result if pairs is not None and pairs.spec == wanted else None
        self._pairs.draw(lambda: self.matrix.show(result, title_of(wanted.kind, wanted.lines)))

    def _tapped(self, event: Any) -> None:
        if event.x is None or event.y is None:
            return
        pair = self.matrix.pair_at(event.x, event.y)
        if pair is not None:
            self.lens.state.show(self.lens.state.pairs_kind, True)
            self.lens.state.set_pair(*pair)

    def show_kernel(self, kernel: Picture | None) -> None:
        """Draw the kernel's eigenfunctions, if those there are belong to the pair and seed on
        screen."""
        if not self._open("kernel"):
            return
        wanted = self.lens.kernel_spec
        first, second = (self.lens.titles[task] for task in wanted.pair)
        result = kernel.result if kernel is not None and kernel.spec == wanted else None
        self._kernel.draw(lambda: self.eigenfunctions.show(result, (first, second)))
        self._carried.draw(lambda: self.carried.show(result, (first, second)))

    # Layout

    def _make_tabs(self) -> pmui.Tabs:
        images = pn.Column(self.lens.drawing.difference, sizing_mode="stretch_width")
        kernel = pn.Column(self._kernel.view, self._carried.view, sizing_mode="stretch_width")
        contents = (images, self._pairs.view, kernel)
        # Not dynamic: in a notebook, what Panel 1.9.4 puts into a tab as it is opened asks a
        # content network for style sheets.
        tabs = pmui.Tabs(
            *zip(TABS.values(), contents, strict=True),
            sizing_mode="stretch_width",
            theme_config=MATERIAL,
        )
        tabs.param.watch(self._turned, "active")
        return tabs

    def sidebar(self) -> list[Any]:
        """What is mapped, and the recipe: the point's two sliders."""
        drawing = self.lens.drawing
        return [drawing.toolbar, drawing.plane, drawing.mixer, drawing.lines]

    def main(self, on_page: bool = False) -> pn.viewable.Viewable:
        """Maps above, tabs below; the same on a page and in a cell."""
        drawing = self.lens.drawing
        return pn.Column(
            drawing.notices,
            drawing.scale,
            self.board.view,
            self.tabs,
            sizing_mode="stretch_width",
            css_classes=[MARK],
        )
