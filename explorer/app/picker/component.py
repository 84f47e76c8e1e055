"""The picker's browser half: search, rows, progress; messages for pull, cancel and open."""

from __future__ import annotations

import param

from explorer.app.components import Messenger, script, style


class ModelList(Messenger):
    """Rows of the catalogue with a search field; one download at a time with its progress."""

    rows = param.List(doc="Rows: name, title, family, kind, tasks, licence, local, size, ...")
    shown = param.Boolean(False, doc="Whether the list is open.")
    loading = param.Boolean(False, doc="Whether the catalogue is being read.")
    allowed = param.Boolean(False, doc="Whether this app may download.")
    pulling = param.String("", doc="Name of the set that is downloaded now, or nothing.")
    progress = param.Number(0.0, doc="How much of it is here, 0 to 1.")
    status = param.String("", doc="The same in words, or how the last one ended.")

    _esm = script("picker.js")
    _stylesheets = style("picker.css")
