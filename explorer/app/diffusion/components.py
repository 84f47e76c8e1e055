"""The lens's own browser components: the pictures with the level of noise, and what is noised."""

from __future__ import annotations

import param

from explorer.app.components import JAVASCRIPT, script, style
from explorer.app.messenger import Confirmed, Messenger


def _script(name: str) -> str:
    """A module of this lens, behind what hands over files."""
    return "\n".join(((JAVASCRIPT / "handing.js").read_text("utf-8"), script(name)))


class Noising(Confirmed):
    """Slider and play button, the picture, its noised form, variants, the change map, a filmstrip.

    The browser has the noise and every finished level, so that a moved slider repaints without
    asking Python.
    """

    sides = param.List(doc="What is fixed of each subject; see `packing.side`.")
    rows = param.List(doc="Of each subject: finished levels and first previews, by steps.")
    fresh = param.List(doc="Of each subject: the level being denoised at the slider, or None.")
    level = param.Number(0.0, doc="Where the slider stands.")
    steps = param.Integer(50, doc="Steps of the slider from 0 to 1.")
    opacity = param.Number(0.6, doc="Of the change map.")
    variant = param.Integer(0, doc="The variant shown large.")
    view = param.String("variants", doc="One of `setting.VIEWS`.")
    note = param.String("", doc="What to say while there is nothing to show.")
    uploads = param.Boolean(True, doc="Whether a person may drop files.")

    _esm = _script("noise.js")
    _stylesheets = style("noise.css")


class ExperimentPanel(Messenger):
    """Model, picture, comparison, sampler, numbers, what a change is, saved runs."""

    models = param.List(doc="Names of the models at hand.")
    subjects = param.List(doc="Of each subject: {model, picture, run}.")
    examples = param.List(doc="Of each subject: {sheet, columns, n} of its held-out pictures.")
    choices = param.Dict({}, doc="For method, kind, task: [name, title] in order.")
    values = param.Dict({}, doc="method, kind, task, samples, steps, seed, data.")
    uploads = param.Boolean(True, doc="Whether a person may hand in files.")
    approximate = param.String("", doc="What is approximate in what is shown, in sentences.")
    heard = param.Integer(0, doc="Counts messages answered: after each the fields tell the truth.")

    _esm = _script("experiment.js")
    _stylesheets = style("experiment.css")
