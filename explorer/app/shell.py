"""The whole app: a model, and a lens to see it through. On screen before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import panel as pn
import panel_material_ui as pmui

from explorer.app import links, notebook
from explorer.app.chooser import heads_switch, lens_chooser, put_on_title_bar
from explorer.app.components import Notices
from explorer.app.display import MARK, beside, empty, page_of
from explorer.app.lenses import ARITHMETIC, WITHOUT_MODEL, Lens, asked_for
from explorer.app.opening import DEFAULT_MODEL, Opening, model_names
from explorer.app.picker.picker import Picker
from explorer.app.probing import is_closed
from explorer.app.screen import Screen
from explorer.app.stage import Stage

TITLE = "Weight explorer"
USE_PROBES = "use linear probes"


class Shell(pn.viewable.Viewer):
    """Lens chooser, model picker and lens. Shows itself at once and says that it opens the model.

    model: name or path of the model to open first. query: a link's query part.
    """

    def __init__(self, model: str = "", query: str = ""):
        notebook.prepare()
        super().__init__()
        link = links.read(query)
        linked = link.recipe
        fallback = model or DEFAULT_MODEL
        self.notices = Notices(self._on_notice, text="", busy=True)
        self.stage = Stage(asked_for(query) or ARITHMETIC, query, self.notices)
        self.screen = Screen(
            {
                "gone": self.stage.draw_gone,
                "notices": self._draw_notices,
                "lens": self._draw_lens,
                "heads": self._draw_heads,
                "queue": self._draw_queue,
            }
        )
        self.opening = Opening(
            linked.base if linked is not None else fallback,
            fallback,
            self.screen.outdated,
            self.stage.rewrite,
            probes=links.asks_for_probes(link),
        )
        self.notices.text = self.opening.text
        self.queue = ""
        self.chooser = lens_chooser(self.chosen, self.choose)
        self.picker = self._make_picker()
        self.heads = heads_switch(self.opening.probes, self.choose_heads)
        self.catalogue = Picker(self.open, lambda: self.opening.model)
        self._page: pmui.Page | None = None

    @property
    def chosen(self) -> str:
        """Name of the lens looked through."""
        return self.stage.chosen

    @property
    def lens(self) -> Lens | None:
        """The lens on screen; None until it is made, which most need a model for."""
        return self.stage.lens

    @property
    def lenses(self) -> list[Lens]:
        """The lenses made so far."""
        return [*self.stage.lenses.values()]

    @property
    def side(self) -> pn.Column:
        """The sidebars of the lenses."""
        return self.stage.side

    @property
    def model_name(self) -> str:
        """The open model's name, or nothing."""
        return self.opening.name

    @property
    def busy(self) -> bool:
        """Whether the lens on screen computes or waits to."""
        return bool(getattr(self.lens, "busy", False))

    # What a person does

    def choose(self, name: str) -> None:
        """Look through another lens, at the same recipe."""
        self.stage.choose(name)
        if self.opening.model is None:
            self.start()
        self._draw_lens()
        self.stage.hand_over()

    def start(self) -> None:
        """Open the model asked for, if the lens needs one. Every display calls this."""
        if self.chosen in WITHOUT_MODEL:
            self._draw_lens()
            self._draw_notices()
        if self.lens is not None or self.opening.tasks:
            return
        if self.opening.start():
            self._draw_lens()
            self._draw_notices()

    def open(self, name: str) -> None:
        """Open a model in the background and show it; the present one stays until then."""
        self.opening.open(name)

    def choose_heads(self, probes: bool) -> None:
        """Look at the same model with linear probes as heads, or with its own."""
        self.opening.open(self.opening.wanted, probes)
        self.screen.outdated("heads")

    def let_go(self) -> bool:
        """Let a lens go that is not on screen, for its memory; False if there is none."""
        gone = self.stage.let_go()
        if gone:
            self.screen.outdated("gone")
        return gone

    def _make_picker(self) -> pmui.Select:
        names, wanted = model_names(), self.opening.wanted
        picker = pmui.Select(
            label="model",
            options=names if wanted in names else [*names, wanted],
            value=wanted,
            size="small",
            sizing_mode="stretch_width",
            margin=(10, 12, 4, 12),
        )
        picker.param.watch(lambda event: self.open(event.new), "value")
        return picker

    def _on_notice(self, message: Mapping[str, Any]) -> None:
        if message["kind"] == "ready":
            self.screen.ready()
        elif message["kind"] == "action" and self.opening.offered:
            self.opening.sentences = []
            self.opening.open(self.opening.offered, probes=True)
        elif message["kind"] == "action":
            self.opening.sentences = []
            self.start()
        else:
            self.opening.sentences, self.opening.offered = [], ""
            self.screen.outdated("notices")

    # Drawing

    def _draw_heads(self) -> None:
        self.heads.chosen = links.PROBES if self.opening.probes else ""
        model = self.opening.model
        own = model is not None and is_closed(model)  # then there is nothing to switch
        self.heads.visible = self.chosen not in WITHOUT_MODEL and not own

    def _draw_notices(self) -> None:
        opening = self.opening
        if self.lens is not None and not opening.offered:
            for sentence in opening.sentences:
                self.lens.complain(sentence)
            opening.sentences = []
        again = "" if opening.busy or opening.model is not None else "try again"
        self.notices.param.update(
            text=opening.text,
            busy=opening.busy,
            sentences=[*opening.sentences],
            action=USE_PROBES if opening.offered else again,
        )
        self.notices.visible = self.lens is None or opening.busy or bool(opening.offered)

    def _draw_lens(self) -> None:
        wanted = self.opening.wanted
        if wanted not in self.picker.options:
            self.picker.options = [*self.picker.options, wanted]
        self.picker.value, self.chooser.value = wanted, self.chosen
        self._draw_heads()
        self.picker.visible = self.catalogue.list.visible = self.chosen not in WITHOUT_MODEL
        if self.opening.model is None and self.chosen not in WITHOUT_MODEL:
            return
        self.stage.show(self.opening.model)
        self.screen.outdated("notices")

    def say_queue(self, words: str) -> None:
        """Say beside every lens's status line how many people come before ("" for nobody)."""
        if words != self.queue:
            self.queue = words
            self.screen.outdated("queue")

    def _draw_queue(self) -> None:
        for lens in self.lenses:
            lens.drawing.notices.queue = self.queue

    # Displays

    def _sidebar(self) -> list[pn.viewable.Viewable]:
        return [self.picker, self.heads, self.catalogue.list, self.stage.side]

    def embedded(self) -> pn.viewable.Viewable:
        """The app for a notebook cell."""
        self.start()
        rest = beside(self._sidebar(), self.stage.main)
        return pn.Column(self.chooser, rest, sizing_mode="stretch_width", css_classes=[MARK])

    def page(self) -> pmui.Page:
        """The app as a page of its own, for serving."""
        self._page = page_of(TITLE, self._sidebar(), self.stage.main, [self.chooser])
        put_on_title_bar(self.chooser)
        self.stage.on_page = True
        self.stage.serve()
        self.start()
        return self._page

    def __panel__(self) -> pn.viewable.Viewable:
        return self.embedded()

    def say_goodbye(self) -> None:
        """Send the browser to a page that leads back here and takes no place."""
        location = pn.state.location
        if location is None:
            return
        query = self.stage.query.removeprefix("?")
        location.param.update(
            pathname=f"{location.pathname.rstrip('/')}/away",
            search=f"?{query}" if query else "",
            reload=not location.reload,
        )

    def close(self) -> None:
        """End of a served session: stop computing, draw nothing any more, let the document go."""
        self.screen.close()
        self.catalogue.close()
        self.stage.close()
        if self._page is not None:
            empty(self._page)


def app(model: str = "") -> pn.viewable.Viewable:
    """The whole app as a Panel viewable: the last line of a notebook cell, or `.servable()`.

    model: name or path of the model to open first; "glyphs", the embedded one, if not given.
    """
    if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
        return session(model)
    return Shell(model)


def session(model: str = "") -> pmui.Page:
    """The app for one browser session, restored from the address it was asked for with."""
    return begin(model).page()


def begin(model: str = "") -> Shell:
    """The app of one browser session, which ends with it."""
    query = pn.state.location.search if pn.state.location is not None else ""
    shell = Shell(model, query or "")
    pn.state.on_session_destroyed(lambda _context: shell.close())
    return shell
