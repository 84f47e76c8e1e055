"""The whole app: a model, and a lens to see it through. On screen before torch is imported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui

from explorer.app import links, notebook
from explorer.app.components import Notices
from explorer.app.display import MARK, beside, empty, page_of
from explorer.app.lenses import (
    ARITHMETIC,
    TITLES,
    WITHOUT_MODEL,
    Lens,
    asked_for,
    hand_over,
    make,
)
from explorer.app.picker.picker import Picker
from explorer.app.screen import Screen
from explorer.app.shared_models import already_open, open_shared
from explorer.app.theme import MATERIAL
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.models.model import Model
    from explorer.recipe import Recipe

DEFAULT_MODEL = "glyphs"
TITLE = "Weight explorer"
_TITLES_ON_ONE_LINE = {
    "textTransform": "none",
    "whiteSpace": "nowrap",
    "fontSize": "14px",
    "padding": "3px 12px",
}
IN_A_CELL = {"flexWrap": "wrap", "& .MuiToggleButton-root": _TITLES_ON_ONE_LINE}
"""The lens chooser above a lens."""
ON_TITLE_BAR = {
    "flexWrap": "nowrap",
    "& .MuiToggleButton-root": {
        **_TITLES_ON_ONE_LINE,
        "color": "#fff !important",
        "border": "none",
        "borderRadius": "6px",
        "opacity": 0.8,
    },
    "& .MuiToggleButton-root.Mui-selected, & .MuiToggleButton-root.Mui-selected:hover": {
        "background": "rgb(255 255 255 / .22) !important",
        "opacity": 1,
    },
}
"""The lens chooser on the bar of a page, which is dark in both themes."""

_log = logging.getLogger(__name__)


def model_names() -> list[str]:
    """Names the model picker offers, the default first."""
    from explorer.checkpoints.zoo import model_folders

    names = [*model_folders()]
    return sorted(names, key=lambda name: (name != DEFAULT_MODEL, name))


class Shell(pn.viewable.Viewer):
    """Lens chooser, model picker and lens. Shows itself at once and says that it opens the model.

    A lens is made when it is first chosen and kept, hidden, while another is looked at.
    """

    def __init__(self, model: str = "", query: str = ""):
        notebook.prepare()
        super().__init__()
        self._query = query
        linked = links.read(query).recipe
        self._fallback = model or DEFAULT_MODEL
        self._wanted = linked.base if linked is not None else self._fallback
        self.chosen = asked_for(query) or ARITHMETIC
        self._lenses: dict[str, Lens] = {}
        self._left: dict[str, str] = {}  # links of lenses that were let go
        self._gone: set[str] = set()  # those of them still in the page, unseen
        self._handed: Recipe | None = None
        self._edited: Lens | None = None  # the last lens looked through that has a recipe
        self._model: Model | None = None
        self._text = "opening the model…"
        self._sentences: list[str] = []
        self._page: pmui.Page | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.notices = Notices(self._on_notice, text=self._text, busy=True)
        self.chooser = self._make_chooser()
        self.picker = self._make_picker()
        self.catalogue = Picker(self.open, lambda: self._model)
        self.side = pn.Column(sizing_mode="stretch_width", css_classes=[MARK])
        self.main = pn.Column(self.notices, sizing_mode="stretch_width", css_classes=[MARK])
        self.queue = ""
        self.screen = Screen(
            {
                "gone": self._draw_gone,
                "notices": self._draw_notices,
                "lens": self._draw_lens,
                "queue": self._draw_queue,
            }
        )

    @property
    def lens(self) -> Lens | None:
        """The lens on screen; None until it is made, which most need a model for."""
        return self._lenses.get(self.chosen)

    @property
    def lenses(self) -> list[Lens]:
        """The lenses made so far."""
        return [*self._lenses.values()]

    @property
    def model_name(self) -> str:
        """The open model's name, or nothing."""
        return "" if self._model is None else self._model.name

    @property
    def busy(self) -> bool:
        """Whether the lens on screen computes or waits to."""
        return bool(getattr(self.lens, "busy", False))

    def _make_chooser(self) -> pmui.RadioButtonGroup:
        chooser = pmui.RadioButtonGroup(
            options={title: name for name, title in TITLES.items()},
            value=self.chosen,
            size="small",
            label="",
            margin=(0, 12, 6, 0),
            theme_config=MATERIAL,
            sx=IN_A_CELL,
        )
        chooser.param.watch(lambda event: self.choose(event.new), "value")
        return chooser

    def choose(self, name: str) -> None:
        """Look through another lens, at the same recipe."""
        if self.lens is not None and self.lens.recipe is not None:
            self._edited = self.lens
        before, self.chosen = self._edited, name
        if self._model is None:
            self.start()
        self._draw_lens()
        after = self.lens
        if after is None or after.recipe is None or before is None or before is after:
            return
        hand_over(before, after, self._handed)
        self._handed = after.recipe

    def _make_picker(self) -> pmui.Select:
        names = model_names()
        picker = pmui.Select(
            label="model",
            options=names if self._wanted in names else [*names, self._wanted],
            value=self._wanted,
            size="small",
            sizing_mode="stretch_width",
            margin=(10, 12, 4, 12),
        )
        picker.param.watch(lambda event: self.open(event.new), "value")
        return picker

    def _on_notice(self, message: Mapping[str, Any]) -> None:
        if message["kind"] == "ready":
            self.screen.ready()
        elif message["kind"] == "action":
            self._sentences = []
            self.start()
        else:
            self._sentences = []
            self.screen.outdated("notices")

    # Opening

    def start(self) -> None:
        """Open the model asked for, if the lens needs one. Every display calls this."""
        if self.chosen in WITHOUT_MODEL:
            self._draw_lens()
            self._draw_notices()
        if self.lens is not None or self._tasks:
            return
        self._model = already_open(self._wanted)
        if self._model is not None:
            self._draw_lens()
            self._draw_notices()
        else:
            self.open(self._wanted)

    def open(self, name: str) -> None:
        """Open a model in the background and show it; the present one stays until then."""
        self._wanted = name
        if self.lens is not None and self._model is not None and self._model.name == name:
            return
        try:
            task = asyncio.get_running_loop().create_task(self._open(name))
        except RuntimeError:  # no event loop yet: the display that has one calls `start`
            return
        self._tasks.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        """An opening is over, well or not, and the screen may say so."""
        self._tasks.discard(task)
        self.screen.outdated("notices")

    async def _open(self, name: str) -> None:
        self._text = f"opening {name}…"
        self.screen.outdated("notices")
        await asyncio.sleep(0.05)  # the page goes out before the imports begin
        try:
            model = await asyncio.to_thread(open_shared, name)
        except ExplorerError as error:
            self._opening_failed(name, str(error))
            return
        except Exception as error:  # a model folder can be broken in ways nobody thought of
            _log.exception("could not open %s", name)
            sentence = f"{name} could not be opened: {type(error).__name__}: {error}."
            self._opening_failed(name, sentence)
            return
        if model.missing:
            sentence = f"{model.missing} Open it in Python: ex.open_model({name!r})."
            self._opening_failed(name, sentence)
        elif name == self._wanted:
            self._model = model
            self.screen.outdated("lens", "notices")

    def _opening_failed(self, failed: str, sentence: str) -> None:
        """Say why; go back to the open model, or to the one this app began with.

        What was chosen in the meantime stays chosen: another model may be on its way.
        """
        self._sentences = [*self._sentences, sentence]
        if failed != self._wanted:
            self.screen.outdated("notices")
            return
        self._text = "no model is open"
        if self._model is not None:
            self._wanted = self._model.name
        elif failed != self._fallback:
            self._query = ""
            self.open(self._fallback)
        self.screen.outdated("lens", "notices")

    # Drawing

    def _draw_notices(self) -> None:
        if self.lens is not None:
            for sentence in self._sentences:
                self.lens.complain(sentence)
            self._sentences = []
        busy = self._wanted != (self._model.name if self._model else None) and bool(self._tasks)
        again = "" if busy or self._model is not None else "try again"
        self.notices.param.update(
            text=self._text, busy=busy, sentences=[*self._sentences], action=again
        )
        self.notices.visible = self.lens is None or busy

    def say_queue(self, words: str) -> None:
        """Say beside every lens's status line how many people come before ("" for nobody)."""
        if words != self.queue:
            self.queue = words
            self.screen.outdated("queue")

    def _draw_queue(self) -> None:
        for lens in self._lenses.values():
            lens.drawing.notices.queue = self.queue

    def _draw_lens(self) -> None:
        if self._wanted not in self.picker.options:
            self.picker.options = [*self.picker.options, self._wanted]
        self.picker.value, self.chooser.value = self._wanted, self.chosen
        self.picker.visible = self.catalogue.list.visible = self.chosen not in WITHOUT_MODEL
        if self._model is None and self.chosen not in WITHOUT_MODEL:
            return
        stale = {
            name: lens
            for name, lens in self._lenses.items()
            if lens.model is not None and lens.model is not self._model
        }
        if stale:
            self._take_away({*stale})
            self._left = {}
            self._edited = None
        if self.lens is None:
            self._open_lens(self._model)
        for lens in stale.values():
            lens.close()
        for view in (*self.side, *self.main[1:]):
            view.visible = self.chosen in view.css_classes
        self._serve()
        self.screen.outdated("notices")

    def _take_away(self, names: set[str]) -> None:
        """Take lenses off the screen and out of the books."""
        self._lenses = {n: lens for n, lens in self._lenses.items() if n not in names}
        self.side.objects = [v for v in self.side if not {*v.css_classes} & names]
        kept = [v for v in self.main[1:] if not {*v.css_classes} & names]
        self.main.objects = [self.notices, *kept]

    def let_go(self) -> bool:
        """Let the first-made lens go that is not on screen, for its memory; False if there is none.

        When it is chosen again it comes back from its link, without its undo history.
        """
        name = next((name for name in self._lenses if name != self.chosen), None)
        if name is None:
            return False
        lens = self._lenses.pop(name)
        self._left[name] = lens.drawing.toolbar.query
        if self._edited is lens:
            self._edited = None
        lens.close()
        self._gone.add(name)
        self.screen.outdated("gone")
        return True

    def _draw_gone(self) -> None:
        """Take away what was let go, at the latest before it is made anew."""
        gone, self._gone = self._gone, set()
        if gone:
            self._take_away(gone)

    def say_goodbye(self) -> None:
        """Send the browser to a page that leads back here and takes no place."""
        location = pn.state.location
        if location is None:
            return
        query = self.lens.drawing.toolbar.query if self.lens is not None else self._query
        location.param.update(
            pathname=f"{location.pathname.rstrip('/')}/away",
            search=f"?{query.removeprefix('?')}" if query else "",
            reload=not location.reload,
        )

    def _open_lens(self, model: Model | None) -> None:
        """The chosen lens, in places of its own; what a link asked for goes to the first one."""
        self._draw_gone()
        query, self._query = self._query or self._left.pop(self.chosen, ""), ""
        lens = self._lenses[self.chosen] = make(self.chosen, model, query)
        display = lens.display()
        look = {"sizing_mode": "stretch_width", "css_classes": [MARK, self.chosen]}
        self.side.append(pn.Column(*display.side(), **look))
        self.main.append(pn.Column(display.main(on_page=self._page is not None), **look))

    def _serve(self) -> None:
        """The address in the browser is that of the lens on screen."""
        for name, lens in self._lenses.items():
            lens.drawing.toolbar.served = self._page is not None and name == self.chosen

    # Displays

    def embedded(self) -> pn.viewable.Viewable:
        """The app for a notebook cell."""
        self.start()
        rest = beside([self.picker, self.catalogue.list, self.side], self.main)
        return pn.Column(self.chooser, rest, sizing_mode="stretch_width", css_classes=[MARK])

    def page(self) -> pmui.Page:
        """The app as a page of its own, for serving."""
        self._page = page_of(
            TITLE, [self.picker, self.catalogue.list, self.side], self.main, [self.chooser]
        )
        self.chooser.param.update(sx=ON_TITLE_BAR, margin=(0, 12))
        self._serve()
        self.start()
        return self._page

    def __panel__(self) -> pn.viewable.Viewable:
        return self.embedded()

    def close(self) -> None:
        """End of a served session: stop computing, draw nothing any more, let the document go."""
        self.screen.close()
        self.catalogue.close()
        for lens in self._lenses.values():
            lens.close()
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
