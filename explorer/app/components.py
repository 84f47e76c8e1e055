"""The app's own browser components: sliders, presets, toolbar, gallery, notices.

Each is a few lines of Python over one JavaScript module in `js/` that imports nothing, so that it
runs with no network, served and in a notebook cell alike. They hold no state of their own: Python
sets parameters, the browser sends messages, and a message goes to the one listener.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import param
from bokeh.plotting import figure as Figure

from explorer.app import rules
from explorer.app.messenger import Confirmed, Messenger

JAVASCRIPT = Path(__file__).parent / "js"

RECIPE_FILES = (
    ["png", "Figure, PNG"],
    ["svg", "Figure, SVG"],
    ["csv", "Accuracies, CSV"],
    ["nc", "Everything measured, NetCDF"],
    ["json", "Recipe, JSON"],
)


def style(name: str) -> list[str]:
    """Style sheets of a component: what all share, and its own in `js/`."""
    return [(JAVASCRIPT / "common.css").read_text("utf-8"), (JAVASCRIPT / name).read_text("utf-8")]


def script(name: str) -> str:
    """A component's module in `js/`, behind the functions that several share."""
    return "\n".join((JAVASCRIPT / file).read_text("utf-8") for file in ("common.js", name))


class Mixer(Confirmed):
    """A row a task: switch, name, slider with number field, solo; and one row for all tasks."""

    tasks = param.List(doc="Rows in order: {name, title}.")
    values = param.Dict({}, doc="Coefficient a task, also of tasks switched off.")
    muted = param.List(doc="Tasks switched off.")
    solo = param.String("", doc="The task alone on, or nothing.")
    focus = param.String("", doc="The task whose images are shown.")
    shared = param.Number(0.0, doc="Where the slider for all tasks stands.")
    low = param.Number(-1.0, doc="Left end of every slider.")
    high = param.Number(2.0, doc="Right end of every slider.")
    step = param.Number(0.01)
    plain = param.Boolean(False, doc="Sliders alone: no switches, no solo, no row for all tasks.")

    _esm = script("mixer.js")
    _stylesheets = style("mixer.css")


class Presets(Messenger):
    """Buttons and menus for the recipes everybody wants first."""

    tasks = param.List(doc="Choices in order: {name, title}.")
    base = param.String("zero-shot", doc="What the model nobody edited is called.")
    best = param.Number(None, allow_None=True, doc="Best shared coefficient of the model card.")
    searching = param.Boolean(False, doc="Whether a search for it is under way.")

    _esm = JAVASCRIPT / "presets.js"
    _stylesheets = style("presets.css")


class Toolbar(Messenger):
    """Undo, redo, copy, save, load, and the keys that go with them."""

    can_undo = param.Boolean(False)
    can_redo = param.Boolean(False)
    python = param.String("", doc="The recipe as Python, ready for the clipboard.")
    query = param.String("", doc="Everything on screen as the query part of a link.")
    link_base = param.String("", doc="Address of a served app, for links copied in a notebook.")
    served = param.Boolean(False, doc="Whether this page is the app itself, not a notebook cell.")
    saves = param.List([*RECIPE_FILES], doc="Kinds of file offered: [kind, what it is called].")
    loads = param.Boolean(True, doc="Whether a recipe can be loaded from a file.")

    _esm = script("toolbar.js")
    _stylesheets = style("toolbar.css")

    def __init__(self, listener: Callable[[Mapping[str, Any]], None], **params: Any):
        super().__init__(listener, **params)
        self.loads = self.loads and rules.current().uploads

    def say(self, text: str) -> None:
        """Show a short sentence beside the buttons for a moment."""
        self._send_msg({"kind": "said", "text": text})

    def offer(self, name: str, mime: str, data: str) -> None:
        """Hand a file to the browser; data is base64."""
        self._send_msg({"kind": "file", "name": name, "mime": mime, "data": data})


class Gallery(Messenger):
    """Test images of one task, with predicted label, confidence and what changed."""

    tasks = param.List(doc="Choices in order: {name, title}.")
    base = param.String("zero-shot", doc="What the model nobody edited is called.")
    focus = param.String("")
    sprite = param.String("", doc="All pictures of this page in one image, as a data address.")
    columns = param.Integer(10, doc="Pictures in one row of the sprite.")
    labels = param.List(doc="True class of each picture.")
    class_names = param.List()
    tiles = param.List(doc="[predicted, confidence, change, was] or None of each picture.")
    counts = param.List(doc="Sentences above the pictures: [kind, text].")
    changed_only = param.Boolean(False)
    page = param.Integer(0)
    pages = param.Integer(1)
    where = param.String("", doc='Which images these are: "1-48 of 1,000".')

    _esm = JAVASCRIPT / "gallery.js"
    _stylesheets = style("gallery.css")


class Notices(Messenger):
    """What is on screen, whether it is catching up, and what went wrong, in sentences."""

    text = param.String("")
    busy = param.Boolean(False)
    progress = param.Number(0.0)
    sentences = param.List()
    action = param.String("", doc='A button beside the line ("stop"), or nothing.')
    queue = param.String("", doc='Who computes first ("3 people before you"), or nothing.')

    _esm = script("notices.js")
    _stylesheets = style("notices.css")


class Arrived(Messenger):
    """Nothing to see: says once that the browser has laid out the figure it was put beside."""

    figure = param.String("", doc="The figure's id.")

    _esm = JAVASCRIPT / "arrived.js"

    def __init__(self, figure: Figure, listener: Callable[[], None]):
        super().__init__(
            lambda _message: listener(),
            figure=figure.id,
            sizing_mode="fixed",
            width=0,
            height=0,
            margin=0,
        )
