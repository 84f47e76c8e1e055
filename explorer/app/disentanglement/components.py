"""The lens's own browser components: what is mapped, the colour bar, captions, differing images."""

from __future__ import annotations

import param

from explorer.app.components import JAVASCRIPT, script, style
from explorer.app.messenger import Messenger


class Plane(Messenger):
    """Which maps: the pair of tasks, kinds of map, merging method, range, resolution, images,
    seed."""

    tasks = param.List(doc="Choices in order: {name, title}.")
    pair = param.List(doc="Tasks of the horizontal and the vertical axis.")
    kinds = param.List(doc="Kinds of map in order: {name, title, explanation}.")
    maps = param.List(doc="Kinds shown.")
    methods = param.List(doc="Merging methods to choose from: {name, title, explanation}.")
    method = param.String("", doc="The merging method that is mapped, or nothing.")
    extents = param.List(doc="Ranges to choose from: [low, high].")
    extent = param.List()
    resolutions = param.List(doc="Points an axis to choose from.")
    points = param.Integer(21)
    n = param.Integer(400)
    seed = param.Integer(0)
    heard = param.Integer(0, doc="Counts messages answered: after each the fields tell the truth.")

    _esm = script("plane.js")
    _stylesheets = style("plane.css")


class Scale(Messenger):
    """The layer all maps show, and the one colour bar they share."""

    layers = param.List(doc="Choices in order: {name, title}.")
    layer = param.String("error")
    terms = param.String("mean", doc="Whether the error is the mean or the sum of two terms.")
    fitted = param.Boolean(False, doc="Whether the colours are fitted to the values.")
    colours = param.List(doc="Colours of the bar, from its lowest to its highest number.")
    low = param.Number(0.0)
    high = param.Number(1.0)

    _esm = JAVASCRIPT / "scale.js"
    _stylesheets = style("scale.css")


class Caption(Messenger):
    """Numbers under one map, and whether it is pinned."""

    numbers = param.List(doc="[label, value, explanation] in order.")
    note = param.String("", doc="What is not as it should be: catching up, stopped.")
    provisional = param.Boolean(False, doc="Whether the numbers will still change.")
    pinned = param.Boolean(False)
    looked_at = param.Boolean(False, doc="Whether the images shown are this map's.")

    _esm = JAVASCRIPT / "caption.js"
    _stylesheets = style("caption.css")


class Difference(Messenger):
    """The images of one task whose label differs between the single and the joint edit."""

    tasks = param.List(doc="Titles of the two tasks with how many images differ: [title, count].")
    task = param.Integer(0)
    sentence = param.String("")
    detail = param.String("")
    sprite = param.String("", doc="All pictures of this page in one image, as a data address.")
    columns = param.Integer(8, doc="Pictures in one row of the sprite.")
    tiles = param.List(doc="[label alone, label together, true label] of each picture, as words.")
    page = param.Integer(0)
    pages = param.Integer(1)
    where = param.String("")

    _esm = JAVASCRIPT / "difference.js"
    _stylesheets = style("difference.css")


class Choice(Messenger):
    """One of a few, as buttons side by side."""

    label = param.String("", doc="What is chosen.")
    choices = param.List(doc="In order: {name, title, explanation}.")
    chosen = param.String("")

    _esm = JAVASCRIPT / "choice.js"
    _stylesheets = style("scale.css")
