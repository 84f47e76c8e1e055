"""The maps of one display, side by side: their figures, captions, and what they share."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app.disentanglement.components import Caption
from explorer.app.disentanglement.heatmap import HeatMap, Shared
from explorer.app.disentanglement.layers import colour_limits, layer_values
from explorer.app.disentanglement.palette import palette
from explorer.app.disentanglement.picture import Picture, caption, pair_titles, subtitle
from explorer.app.disentanglement.spec import KINDS, MapSpec
from explorer.app.disentanglement.state import MOST_PINS
from explorer.app.screen import push

if TYPE_CHECKING:
    from explorer.app.disentanglement.lens import DisentanglementLens


WIDEST = "max(320px, min(100vh - 370px, 56vh))"
"""Of one map: then maps, captions and the first images fit a window together."""


@dataclass(frozen=True)
class Slot:
    """A place on the board: the map that belongs there, and the picture there is."""

    spec: MapSpec
    picture: Picture | None
    pinned: bool = False

    @property
    def stale(self) -> bool:
        """Whether the picture is of another map than the one that belongs here."""
        return self.picture is not None and self.picture.spec != self.spec


class _Place:
    """Figure and caption of one slot."""

    def __init__(self, board: Board, index: int):
        self.map = HeatMap(board.shared, lambda kind, x, y: board.moved(index, kind, x, y))
        self.caption = Caption(lambda message: board.heard(index, message), margin=(0, 6))
        self.pane = pn.pane.Bokeh(
            self.map.figure, styles={"flex": "1 1 auto", "min-height": "0", "width": "100%"}
        )
        self.view = pn.Column(
            pn.Column(
                self.pane,
                sizing_mode="stretch_width",
                styles={"width": "100%", "min-width": "0", "aspect-ratio": "1 / 1.05"},
            ),
            self.caption,
            sizing_mode="stretch_width",
            styles={
                "flex": "1 1 250px",
                "min-width": "0",
                "max-width": WIDEST,
            },
        )


class Board:
    """Draws the lens's slots, in places that are there from the start and hidden while not needed.

    What is put on a page later can be overtaken by its own changes, which the browser then drops;
    and in a notebook it asks a content network for style sheets (panel 1.9.4).
    """

    def __init__(self, lens: DisentanglementLens):
        self.lens = lens
        self.shared = Shared()
        self._places = [_Place(self, i) for i in range(len(KINDS) + 1 + MOST_PINS)]
        self._slots: list[Slot] = []
        self.view = pn.FlexBox(
            *(place.view for place in self._places),
            flex_wrap="wrap",
            gap="4px 8px",
            justify_content="center",
            sizing_mode="stretch_width",
            styles={"height": "fit-content", "max-height": "none"},
        )

    # What a person does

    def moved(self, index: int, kind: str, x: float, y: float) -> None:
        """A drag or a click in the map of a slot."""
        if index < len(self._slots):
            self.lens.drawing.actions.map(self._slots[index], kind, x, y)

    def heard(self, index: int, message: Mapping[str, Any]) -> None:
        """A button under the map of a slot."""
        if index < len(self._slots):
            self.lens.drawing.actions.caption(self._slots[index], message)

    # What is drawn

    def draw_maps(self) -> None:
        """Every map, its title and its place, from the newest pictures."""
        self._slots = self.lens.slots()
        low, high = self.lens.colour_limits()
        for slot, place in zip(self._slots, self._places, strict=False):
            push(place.pane, functools.partial(self._draw, slot, place, low, high))
        self.draw_captions()
        for i, place in enumerate(self._places):
            place.view.visible = i < len(self._slots)

    def _draw(self, slot: Slot, place: _Place, low: float, high: float) -> None:
        state, picture = self.lens.state, slot.picture
        self.shared.put_extent(slot.spec.extent, slot.spec.step)
        self.shared.put_point(state.point, state.extent)
        if self.shared.colours.palette[0] != palette(state.layer)[0]:
            self.shared.colours.palette = palette(state.layer)
        if (self.shared.colours.low, self.shared.colours.high) != (low, high):
            self.shared.colours.update(low=low, high=high)
        if picture is None:
            titles = pair_titles(self.lens.titles, slot.spec)
            place.map.name(slot.spec, titles, "nothing computed yet", slot.pinned)
            return
        spec = picture.spec
        titles = pair_titles(self.lens.titles, spec)
        text = subtitle(picture.result, spec, self.lens.available(spec))
        place.map.name(spec, titles, text, slot.pinned)
        place.map.show(spec, picture.result, state.layer, state.terms, slot.stale)
        place.map.mark_best(picture.best)

    def draw_point(self) -> None:
        """The point, and the numbers under the maps that belong to it."""
        state = self.lens.state
        push(self._places[0].pane, lambda: self.shared.put_point(state.point, state.extent))
        self.draw_captions()

    def draw_captions(self) -> None:
        """Numbers and notes under the maps."""
        state = self.lens.state
        for slot, place in zip(self._slots, self._places, strict=False):
            numbers, provisional = [], False
            if slot.picture is not None:
                provisional = not slot.picture.result.attrs["complete"]
                titles = pair_titles(self.lens.titles, slot.picture.spec)
                numbers = caption(slot.picture, state.point, state.terms, titles)
            place.caption.param.update(
                numbers=numbers,
                note="catching up…" if slot.stale and self.lens.busy else "",
                provisional=provisional,
                pinned=slot.pinned,
                looked_at=not slot.pinned and slot.spec.kind == state.looked_at,
            )


def limits_of(slots: list[Slot], layer: str, terms: str, fitted: bool) -> tuple[float, float]:
    """Ends of the colour bar that all slots share."""
    values = [
        layer_values(slot.picture.result, layer, terms)
        for slot in slots
        if slot.picture is not None
    ]
    return colour_limits(values, layer, terms, fitted)
