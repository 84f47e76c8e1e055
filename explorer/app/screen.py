"""When what is on screen may change: under the document's lock, and always to the newest state.

Panel applies changes made outside the lock (from a coroutine that waited for a worker thread) by
scheduling one callback each, with the values of that moment, and drops what happens between the
page's request for the document and its word that it has it (panel 1.9.4). So the app never sends
values: it says which parts are out of date, and one scheduled callback draws those from the state
there is then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import panel as pn
from bokeh.document import Document
from bokeh.document.callbacks import invoke_with_curdoc
from bokeh.document.events import DocumentPatchedEvent

from explorer.app import notebook
from explorer.compute import turns

PATIENCE = 0.1
"""Seconds that what a person set may wait to be confirmed by Python. The browser shows it already;
the first picture of it, which comes in about this time, is what the two cores are needed for."""
PATIENCE_IN_A_CROWD = 1.0
"""The same while many wait for their pictures. The browser sends no further positions of a drag
before one is confirmed, and what is not sent keeps nobody waiting."""


class Screen:
    """Draws parts of the screen, each by its own function, as soon as the document allows.

    Created inside a served session it belongs to that session's document. In a notebook it waits
    until a browser has shown it (`ready`), since messages before that are lost, and draws when the
    kernel is through with the present message or cell. In a script parts are drawn at once.
    """

    def __init__(self, parts: Mapping[str, Callable[[], None]]):
        self.document = served_document()
        self._parts = parts
        self._outdated: dict[str, None] = {}
        self._scheduled = False
        self._closed = False
        self._in_kernel = notebook.in_kernel()
        if self.document is None:
            self._connected = not self._in_kernel
        else:
            self._connected = pn.state.loaded
            if not self._connected:
                pn.state.onload(self.connected)

    def draw_now(self) -> None:
        """Draw every part at once: for new parts, which no browser knows yet."""
        for draw in self._parts.values():
            draw()

    def outdated(self, *parts: str, patient: bool = False) -> None:
        """These parts no longer show the state. The order of the parts' definition is kept.

        patient: they may wait PATIENCE, in a crowd longer, for a part that cannot, and go with it.
        """
        if not parts:
            return
        asked = bool(self._outdated)
        self._outdated |= dict.fromkeys(parts)
        if self._connected and not self._scheduled and not (patient and asked):
            self._scheduled = not patient
            patience = PATIENCE_IN_A_CROWD if turns.crowded() else PATIENCE
            self._draw_soon(patience if patient else 0.0)

    def connected(self) -> None:
        """The browser listens: what it is sent from now on arrives."""
        if not self._connected:
            self._connected = True
            if self._outdated:
                self._scheduled = True
                self._draw_soon()

    def ready(self) -> None:
        """A browser has drawn this; in a notebook that is the first sign of a connection."""
        if self.document is None:
            self.connected()

    def _draw_soon(self, wait: float = 0.0) -> None:
        if self._closed:
            return
        if self.document is not None and wait:
            self.document.add_timeout_callback(self._draw, round(1000 * wait))
        elif self.document is not None:
            self.document.add_next_tick_callback(self._draw)
        elif self._in_kernel:
            notebook.call_soon(self._draw, wait=wait)
        else:
            self._draw()

    def close(self) -> None:
        """The session is over: draw nothing any more."""
        self._closed = True

    def _draw(self) -> None:
        outdated, self._outdated = self._outdated, {}
        self._scheduled = False
        if self._closed or not outdated:
            return
        with in_one_message(self.document):
            for name, draw in self._parts.items():
                if name in outdated:
                    draw()


@contextlib.contextmanager
def in_one_message(document: Document | None) -> Iterator[None]:
    """What changes in here reaches the browser at once; it then lays out and paints once.

    Bokeh's own hold, under the document's lock, and not panel's: that (1.9.4) keeps a message back
    while an earlier one is being written, and forgets it until the next one if the writing ends
    just then. A stopped computation has no next one, and stayed "filling in" on screen; a file that
    was to be saved did not come. Nothing to do in a notebook, which has no document of its own.
    """
    if document is None or document.callbacks.hold_value:
        yield
        return
    document.hold("combine")
    try:
        yield
    finally:
        _let_go(document)


def _let_go(document: Document) -> None:
    """End the hold, and send what was held in one message to each browser of the session.

    Bokeh (3.9) would send one for every change, and go through all models of the page for each.
    """
    context = document.session_context
    session = None if context is None else context.session
    if session is None or session._pending_writes is None:  # nobody there, or not under the lock
        document.unhold()
        return
    callbacks = document.callbacks
    held, callbacks._held_events, callbacks._hold = callbacks._held_events, [], None
    changes = [event for event in held if isinstance(event, DocumentPatchedEvent)]
    if changes:
        for connection in session._subscribed_connections:
            message = connection.protocol.create("PATCH-DOC", changes)
            session._pending_writes.append(connection._socket.send_message(message))
    for event in held:
        if not isinstance(event, DocumentPatchedEvent):
            callbacks.trigger_on_change(event)
            continue
        if event.callback_invoker is not None:
            invoke_with_curdoc(document, event.callback_invoker)
        for receiver, callback in [*callbacks._change_callbacks.items()]:
            if receiver is not session:  # the browsers have it
                callback(event)


def served_document() -> Document | None:
    """The document of the session that is served now; None in a notebook or a script."""
    document = pn.state.curdoc
    return document if document is not None and document.session_context is not None else None


def push(pane: pn.pane.Bokeh, change: Callable[[], None]) -> None:
    """Change Bokeh models of a pane that may be on screen, in whatever way its document asks for.

    This session's document is changed at once, since its lock is held (see `screen`), another
    session's on its next tick; a notebook's cell is sent the difference.
    """
    here = pn.state.curdoc
    views = [pn.state._views[ref] for ref in pane._models if ref in pn.state._views]
    elsewhere = [
        doc for _, _, doc, comm in views if comm is None and doc.session_context and doc is not here
    ]
    if elsewhere:
        elsewhere[0].add_next_tick_callback(change)
        return
    change()
    if any(comm is not None for *_, comm in views):
        pn.io.push_notebook(pane)
