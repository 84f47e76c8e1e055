"""Components whose browser half sends messages, and the short ways they take through panel.

A drag sends and is sent a few messages for every picture, and a room of people shares one event
loop. Panel (1.9.4) does for each of them what only some components need: it looks up style sheets
on disk, freezes the document in case a value is a Bokeh model, counts itself busy, and works
through what Python has just sent as if the browser had. Together that was about half of the loop's
work in a room where forty people drag (a profile of `python -m benchmarks workshop`). Nothing here
is public in panel, so each way falls back to panel's own where it does not apply, and the browser
tests go through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import param
from bokeh.document import Document
from bokeh.model import Model
from panel.custom import JSComponent
from panel.io.document import hold
from panel.io.state import set_curdoc
from panel.reactive import Reactive

from explorer.app.screen import in_one_message, served_document

_LAYOUT = frozenset(Reactive.param)


class Messenger(JSComponent):
    """A component whose browser half sends dictionaries with a "kind"; its parameters are plain."""

    __abstract = True

    def __init__(self, listener: Callable[[Mapping[str, Any]], None], **params: Any):
        super().__init__(**{"sizing_mode": "stretch_width", "margin": (4, 12)} | params)
        self._listener = listener

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, Mapping) and isinstance(data.get("kind"), str):
            with in_one_message(served_document()):
                self._listener(data)

    def _update_properties(self, *events: Any, doc: Document) -> dict[str, Any]:
        """What changes in the browser. The style sheets stay when the looks do."""
        if _LAYOUT.isdisjoint(event.name for event in events):
            return self._process_param_change({event.name: event.new for event in events})
        return super()._update_properties(*events, doc=doc)

    def _update_model(
        self, events: Any, msg: dict[str, Any], root: Model, model: Any, doc: Document, comm: Any
    ) -> None:
        """Put parameters into the model that the browser follows: they hold no Bokeh models.

        Not in a notebook: of a chart put on screen together with them something was lost then.
        """
        looks = not _LAYOUT.isdisjoint(msg) or not model.data.properties() >= msg.keys()
        if comm is not None or looks:
            super()._update_model(events, msg, root, model, doc, comm)
            return
        ref = root.ref["id"]
        before = self._changing.get(ref)
        try:
            with hold(doc):
                self._changing[ref] = self._set_on_model(msg, root, model.data)
        finally:
            if before is None:
                self._changing.pop(ref, None)
            else:
                self._changing[ref] = before

    def _server_change(
        self, doc: Document, ref: str, subpath: str | None, attr: str, old: Any, new: Any
    ) -> None:
        """A property changed. What Python has already was sent by Python: Bokeh tells of it at the
        end of `in_one_message`, when panel knows its own changes no more."""
        if subpath or attr not in self.param or getattr(self, attr) != new:
            super()._server_change(doc, ref, subpath, attr, old, new)

    def _process_bokeh_event(self, doc: Document, event: Any) -> None:
        """A message, without panel's count of what is busy: `Notices` says what is."""
        with set_curdoc(doc):
            self._process_event(event)


class Confirmed(Messenger):
    """A component that shows at once what a person does, and is told which message was answered.

    Its messages carry the display they come from (`view`) and a number (`seq`). Whoever draws it
    sets `heard` to `noted` together with the values that the messages led to: ahead of them, it
    would have the browser take the old values for an answer.
    """

    __abstract = True

    heard = param.Dict({}, doc="Number of the last message taken into account, a display.")

    noted: Mapping[str, int] = MappingProxyType({})

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, Mapping):
            view, seq = data.get("view"), data.get("seq")
            if isinstance(view, str) and isinstance(seq, int):
                others = {v: s for v, s in [*self.noted.items()][-7:] if v != view}
                self.noted = {**others, view: seq}
        super()._handle_msg(data)
