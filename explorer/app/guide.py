"""The row of help above a lens: its text, its keys, and the tour on a first visit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import param

from explorer.app.components import script, style
from explorer.app.help import HELP, KEYS, TOUR, Help
from explorer.app.messenger import Messenger
from explorer.app.screen import served_document


class Guide(Messenger):
    """Buttons that open a lens's help and its keys.

    In a notebook its browser half asks for an answer after what a person does, and says what to do
    when none comes: a kernel that was restarted leaves its cells on screen, and deaf.
    """

    title = param.String(doc="Name of the lens.")
    sentences = param.List(doc="What it measures.")
    papers = param.List(doc="References: {text, link}.")
    keys = param.List(doc="[keys, what they do], the lens's own first.")
    tour = param.List(doc="Steps of the tour: {at, title, text}; none in a notebook's cell.")
    served = param.Boolean(False, doc="Whether this page is the app itself, not a notebook cell.")

    answered = param.Integer(0, doc="Number of the last question that was answered.")

    _esm = script("guide.js")
    _stylesheets = style("guide.css")


def guide_for(lens: str) -> Guide:
    """The guide of a lens by name. Raises KeyError for one without an entry in `HELP`."""
    served = served_document() is not None

    def answer(message: Mapping[str, Any]) -> None:
        if message["kind"] == "there?" and isinstance(message.get("number"), int):
            guide.answered = message["number"]

    guide = Guide(
        answer,
        **_words(HELP[lens]),
        tour=[{"at": at, "title": title, "text": text} for at, title, text in TOUR if served],
        served=served,
        margin=(4, 12, 0, 12),
    )
    return guide


def _words(found: Help) -> dict[str, Any]:
    return {
        "title": found.title,
        "sentences": [*found.sentences],
        "papers": [{"text": str(paper), "link": paper.link} for paper in found.papers],
        "keys": [[*pair] for pair in (*found.keys, *KEYS)],
    }
