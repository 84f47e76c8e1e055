"""Which images make the error at the point: found, cut out and put on pages, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explorer.app.disentanglement.differing import Differing, differing
from explorer.app.disentanglement.picture import Picture
from explorer.app.gallery import Page, page_of

if TYPE_CHECKING:
    from explorer.models.model import Model


@dataclass(frozen=True)
class Wanted:
    """What the panel of images is to show."""

    picture: Picture
    point: tuple[float, float]
    task: int
    number: int


@dataclass(frozen=True)
class Found:
    """The differing images of both tasks at a cell, and the page of one of them."""

    wanted: Wanted
    both: tuple[Differing, Differing]
    page: Page

    @property
    def shown(self) -> Differing:
        return self.both[self.wanted.task]


class Images:
    """Follows the point: always works on the newest wish, and never on two at a time."""

    def __init__(self, model: Model, show: Callable[[], None]):
        self._model, self._show = model, show
        self._wanted: Wanted | None = None
        self._busy = False
        self.found: Found | None = None

    @property
    def page(self) -> Page | None:
        return None if self.found is None else self.found.page

    async def follow(self, wanted: Wanted) -> None:
        """Find these images, unless others are wanted by the time there is room."""
        self._wanted = wanted
        if self._busy:
            return
        self._busy = True
        try:
            while (now := self._wanted) is not None:
                self._wanted = None
                self.found = await asyncio.to_thread(self._find, now)
                self._show()
        finally:
            self._busy = False

    def _find(self, wanted: Wanted) -> Found:
        result = wanted.picture.result
        cell = wanted.picture.spec.nearest(wanted.point)
        both = (differing(result, 0, cell), differing(result, 1, cell))
        shown = both[wanted.task]
        images, labels, _ = self._model.images(shown.task)
        page = page_of(shown.task, images[shown.places], labels[shown.places], wanted.number)
        return Found(wanted, both, page)
