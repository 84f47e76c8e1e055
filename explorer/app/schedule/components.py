"""The lens's own browser components: the curve, its kinds, merging methods, what tabs compute."""

from __future__ import annotations

import param

from explorer.app.components import JAVASCRIPT, script, style
from explorer.app.messenger import Confirmed, Messenger


class ScheduleCurve(Confirmed):
    """The schedule over depth with its handles, and the norms of the task vectors under it.

    The browser has the basis of the curve and all norms, so that a dragged handle repaints
    without asking Python.
    """

    curve = param.Dict({}, doc="Depths, basis, handles and norms; see `packing.packed`.")

    _esm = JAVASCRIPT / "curve.js"
    _stylesheets = style("curve.css")


class Kinds(Messenger):
    """Which kind of schedule, what happens outside the blocks, and recipes to begin with."""

    kinds = param.List(doc="Choices in order: {name, title, explanation}.")
    presets = param.List(doc="Recipes in order: {name, title, explanation}.")
    chosen = param.String("")
    outside = param.String("", doc='"alpha" or "depth"; empty where there is no choice.')
    order = param.Integer(-1, doc="Seed of the order of a shuffled schedule; -1 for the others.")
    heard = param.Integer(0, doc="Counts messages answered: after each the fields tell the truth.")

    _esm = script("kinds.js")
    _stylesheets = style("kinds.css")


class Methods(Confirmed):
    """Which merging method, its options from its signature, and its reference."""

    methods = param.List(doc="Choices in order: {name, title}.")
    method = param.String("")
    options = param.List(doc="{name, text, low, high, step, whole, choices, value} in order.")
    summary = param.String("")
    reference = param.String("")

    _esm = script("methods.js")
    _stylesheets = style("methods.css")


class Job(Messenger):
    """Start and stop of what a tab computes, its settings, and what it found in a sentence."""

    title = param.String("", doc="What the button that starts says.")
    busy = param.Boolean(False)
    progress = param.Number(0.0)
    left = param.String("", doc="How far it is.")
    says = param.String("", doc="What it found.")
    fields = param.List(doc="Settings in order: {name, label} and choices or low.")
    values = param.Dict({}, doc="Value of each setting.")
    heard = param.Integer(0, doc="Counts messages answered: after each the fields tell the truth.")

    _esm = script("job.js")
    _stylesheets = style("job.css")


class Board(Messenger):
    """Methods against tasks: a table that is sorted by its heads and opens a row's recipe."""

    columns = param.List(doc="{name, title, kind, explanation} in order; kind text, mean, seconds.")
    rows = param.List(doc="{index, values, mark, says} in order.")
    note = param.String("", doc="Images and seed behind the numbers.")
    open = param.Integer(-1, doc="The row whose recipe is on screen.")
    saves = param.List(doc="Kinds of file offered: [kind, what it is called].")

    _esm = script("board.js")
    _stylesheets = style("board.css")
