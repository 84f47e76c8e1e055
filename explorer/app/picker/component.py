"""The picker's browser half: search, filters, rows, progress, files that are handed in."""

from __future__ import annotations

import param

from explorer.app.components import script, style
from explorer.app.messenger import Messenger


class ModelList(Messenger):
    """Rows of the catalogue with a search field and filters; one transfer at a time.

    Messages: show, find (an address or a path), pull, cancel, open, add (a path's towers), upload
    (name, size) and part (at, data).
    """

    rows = param.List(doc="Rows: name, title, family, kind, tasks, licence, local, size, ...")
    shown = param.Boolean(False, doc="Whether the list is open.")
    loading = param.Boolean(False, doc="Whether the catalogue is being read.")
    allowed = param.Boolean(False, doc="Whether this app may download.")
    paths = param.Boolean(False, doc="Whether paths of this machine may be named.")
    uploads = param.Boolean(False, doc="Whether checkpoints may be handed in.")
    wanted = param.Integer(-1, doc="From which byte the file that is handed in goes on; -1: none.")
    pulling = param.String("", doc="Name of the set that is downloaded now, or nothing.")
    progress = param.Number(0.0, doc="How much of it is here, 0 to 1.")
    status = param.String("", doc="The same in words, or how the last one ended.")

    _esm = script("picker.js")
    _stylesheets = style("picker.css")
