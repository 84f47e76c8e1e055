"""The lenses made so far, each in places of its own, all hidden but the one looked through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import panel as pn

from explorer.app import links
from explorer.app.display import MARK
from explorer.app.lenses import WITHOUT_MODEL, Lens, hand_over, make

if TYPE_CHECKING:
    from explorer.models.model import Model
    from explorer.recipe import Recipe


class Stage:
    """A column of sidebars and one of charts, which the lenses share.

    A lens is made when it is first chosen and kept, hidden, while another is looked at. query: a
    link's query part, for the first lens made. above: what stands over every lens.
    """

    def __init__(self, chosen: str, query: str, above: pn.viewable.Viewable):
        self.chosen = chosen
        self.side = pn.Column(sizing_mode="stretch_width", css_classes=[MARK])
        self.main = pn.Column(above, sizing_mode="stretch_width", css_classes=[MARK])
        self.on_page = False
        """Whether the lens on screen writes the browser's address."""
        self.lenses: dict[str, Lens] = {}
        self._query = query
        self._left: dict[str, str] = {}  # links of lenses that were let go
        self._gone: set[str] = set()  # those of them still in the page, unseen
        self._handed: Recipe | None = None
        self._edited: Lens | None = None  # the last lens looked through that has a recipe

    @property
    def lens(self) -> Lens | None:
        """The lens on screen; None until it is made, which most need a model for."""
        return self.lenses.get(self.chosen)

    @property
    def query(self) -> str:
        """The link of what is on screen, or of what was asked for."""
        return self.lens.drawing.toolbar.query if self.lens is not None else self._query

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Change the link that the first lens will show, where not all of it can be shown."""
        self._query = change(self._query)

    # What is looked through

    def choose(self, name: str) -> None:
        """From now on another lens is meant; `show` puts it on screen."""
        if self.lens is not None and self.lens.recipe is not None:
            self._edited = self.lens
        self.chosen = name

    def hand_over(self) -> None:
        """Give the lens on screen the recipe that was last edited in another."""
        before, after = self._edited, self.lens
        if after is None or after.recipe is None or before is None or before is after:
            return
        hand_over(before, after, self._handed)
        self._handed = after.recipe

    def show(self, model: Model | None) -> None:
        """Put the chosen lens on screen, made anew if there is none; those of another model end.

        If only the heads are others, what they showed is shown of the new ones."""
        stale = {
            name: lens
            for name, lens in self.lenses.items()
            if lens.model is not None and lens.model is not model
        }
        if stale:
            self._take_away({*stale})
            self._left = self._left_for(model, stale)
            self._edited = None
        if self.lens is None:
            self._make(model)
        for lens in stale.values():
            lens.close()
        for view in (*self.side, *self.main[1:]):
            view.visible = self.chosen in view.css_classes
        self.serve()

    def _left_for(self, model: Model | None, stale: Mapping[str, Lens]) -> dict[str, str]:
        """The links that lenses of another model leave: none, if it is not the same but for its
        heads. Lenses without a model are not concerned."""
        kept = {name: query for name, query in self._left.items() if name in WITHOUT_MODEL}
        before = {lens.model.name for lens in stale.values() if lens.model is not None}
        if model is None or before != {model.name}:
            return kept
        last = {name: lens.drawing.toolbar.query for name, lens in stale.items()}
        return kept | {
            name: links.with_heads(query, model)
            for name, query in {**self._left, **last}.items()
            if name not in WITHOUT_MODEL
        }

    def serve(self) -> None:
        """The address in the browser is that of the lens on screen."""
        for name, lens in self.lenses.items():
            lens.drawing.toolbar.served = self.on_page and name == self.chosen

    def _make(self, model: Model | None) -> None:
        """The chosen lens, in places of its own; what a link asked for goes to the first one."""
        self.draw_gone()
        query, self._query = self._query or self._left.pop(self.chosen, ""), ""
        lens = self.lenses[self.chosen] = make(self.chosen, model, query)
        display = lens.display()
        look = {"sizing_mode": "stretch_width", "css_classes": [MARK, self.chosen]}
        self.side.append(pn.Column(*display.side(), **look))
        self.main.append(pn.Column(display.main(on_page=self.on_page), **look))

    # What goes

    def let_go(self) -> bool:
        """Let the first-made lens go that is not on screen, for its memory; False if there is none.

        When it is chosen again it comes back from its link, without its undo history. Until
        `draw_gone` its places stay in the page, unseen.
        """
        name = next((name for name in self.lenses if name != self.chosen), None)
        if name is None:
            return False
        lens = self.lenses.pop(name)
        self._left[name] = lens.drawing.toolbar.query
        if self._edited is lens:
            self._edited = None
        lens.close()
        self._gone.add(name)
        return True

    def draw_gone(self) -> None:
        """Take away what was let go, at the latest before it is made anew."""
        gone, self._gone = self._gone, set()
        if gone:
            self._take_away(gone)

    def _take_away(self, names: set[str]) -> None:
        """Take lenses off the screen and out of the books."""
        self.lenses = {n: lens for n, lens in self.lenses.items() if n not in names}
        self.side.objects = [v for v in self.side if not {*v.css_classes} & names]
        kept = [v for v in self.main[1:] if not {*v.css_classes} & names]
        self.main.objects = [self.main[0], *kept]

    def close(self) -> None:
        """End of the session."""
        for lens in self.lenses.values():
            lens.close()
