"""The head of an experiment's panel: what it is, and what a person can do with it."""

from __future__ import annotations

import param

from explorer.app.components import script, style
from explorer.app.messenger import Messenger


class Head(Messenger):
    """Title, law, axes rescaled or not, a slider of the examples to measure, what is shown."""

    name_of = param.String("", doc="Which experiment; sent with every message.")
    title = param.String("")
    law = param.String("", doc="The predicted law in a sentence.")
    shipped = param.String("", doc="How the shipped curve was made.")
    choices = param.List(doc="Numbers of examples that can be measured live.")
    examples = param.Integer(0, doc="The one chosen.")
    scaled = param.Boolean(False, doc="Whether the axis is P over the law.")
    key = param.List(doc="[label, colour, mark] of what the chart shows.")
    said = param.String("", doc="What was measured live, or is being.")
    busy = param.Boolean(False, doc="Whether this one is being measured.")
    heard = param.Integer(0, doc="Counts messages answered.")

    _esm = script("learning.js")
    _stylesheets = style("learning.css")
