"""The lens's own browser components: the tree with its level of noise, and what it is a tree of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import param

from explorer.app.components import JAVASCRIPT, Messenger, style


class Tree(Messenger):
    """The tree at every level, its leaves before and after, slider, play button, number field.

    The browser has the whole trajectory, so that a moved slider repaints without asking Python.
    """

    picture = param.Dict({}, doc="Sizes, colours and packed arrays; see `packing.packed`.")
    level = param.Number(0.0, doc="Where the slider stands.")
    heard = param.Dict({}, doc="Number of the last message taken into account, a display.")
    name_of_level = param.String("", doc="What is written before the slider.")
    title = param.String("", doc="The level's full name, for those who listen to the screen.")
    threshold = param.Number(0.0, doc="A mark on the slider; 0 for none.")
    note = param.String("", doc="What to say instead of what changed: that a new tree grows.")

    _esm = JAVASCRIPT / "tree.js"
    _stylesheets = style("tree.css")

    def hear(self, message: Mapping[str, Any]) -> None:
        """Message was taken into account: the display that sent it may now be corrected."""
        view, seq = message.get("view"), message.get("seq")
        if isinstance(view, str) and isinstance(seq, int):
            others = {v: s for v, s in [*self.heard.items()][-7:] if v != view}
            self.heard = {**others, view: seq}


class GrammarPanel(Messenger):
    """Presets and sizes, process, seeds, counts, controls."""

    presets = param.List(doc="Choices in order: {sizes: [v, m, s, L], title}.")
    sizes = param.List(doc="v, m, s, L of the grammar on screen.")
    processes = param.List(doc="Choices in order: {name, title}.")
    process = param.String("")
    seeds = param.Dict({}, doc="Seed of grammar, datum, noise, and of the measurement.")
    counts = param.Dict({}, doc="Strings (data) and trajectories (samples) of the curves.")
    all_controls = param.List(doc="Choices in order: {name, title, colour}.")
    controls = param.List(doc="Controls on screen.")
    heard = param.Integer(0, doc="Counts messages answered: after each the fields tell the truth.")

    _esm = JAVASCRIPT / "grammar.js"
    _stylesheets = style("grammar.css")
