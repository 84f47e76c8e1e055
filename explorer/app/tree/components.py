"""The lens's own browser components: the tree with its level of noise, and what it is a tree of."""

from __future__ import annotations

import param

from explorer.app.components import script, style
from explorer.app.messenger import Confirmed, Messenger


class Tree(Confirmed):
    """The tree at every level, its leaves before and after, slider, play button, number field.

    The browser has the whole trajectory, so that a moved slider repaints without asking Python.
    """

    picture = param.Dict({}, doc="Sizes, colours and packed arrays; see `packing.packed`.")
    level = param.Number(0.0, doc="Where the slider stands.")
    name_of_level = param.String("", doc="What is written before the slider.")
    title = param.String("", doc="The level's full name, for those who listen to the screen.")
    threshold = param.Number(0.0, doc="A mark on the slider; 0 for none.")
    note = param.String("", doc="What to say instead of what changed: that a new tree grows.")

    _esm = script("tree.js")
    _stylesheets = style("tree.css")


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

    _esm = script("grammar.js")
    _stylesheets = style("grammar.css")
