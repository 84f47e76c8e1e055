"""When what is on screen may change: under the document's lock, and always to the newest state.

Panel applies changes made outside the lock (from a coroutine that waited for a worker thread) by
scheduling one callback each, with the values of that moment, and drops what happens between the
page's request for the document and its word that it has it (panel 1.9.4). So the app never sends
values: it says which parts are out of date, and one scheduled callback draws those from the state
there is then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import panel as pn

from explorer.app import notebook


class Screen:
    """Draws parts of the screen, each by its own function, as soon as the document allows.

    Created inside a served session it belongs to that session's document. In a notebook it waits
    until a browser has shown it (`ready`), since messages before that are lost, and draws when the
    kernel is through with the present message or cell. In a script parts are drawn at once.
    """

    def __init__(self, parts: Mapping[str, Callable[[], None]]):
        document = pn.state.curdoc
        served = document is not None and document.session_context is not None
        self.document = document if served else None
        self._parts = parts
        self._outdated: dict[str, None] = {}
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

    def outdated(self, *parts: str) -> None:
        """These parts no longer show the state. The order of the parts' definition is kept."""
        waiting = bool(self._outdated)
        self._outdated |= dict.fromkeys(parts)
        if self._connected and not waiting:
            self._draw_soon()

    def connected(self) -> None:
        """The browser listens: what it is sent from now on arrives."""
        if not self._connected:
            self._connected = True
            if self._outdated:
                self._draw_soon()

    def ready(self) -> None:
        """A browser has drawn this; in a notebook that is the first sign of a connection."""
        if self.document is None:
            self.connected()

    def _draw_soon(self) -> None:
        if self._closed:
            return
        if self.document is not None:
            self.document.add_next_tick_callback(self._draw)
        elif self._in_kernel:
            notebook.call_soon(self._draw)
        else:
            self._draw()

    def close(self) -> None:
        """The session is over: draw nothing any more."""
        self._closed = True

    def _draw(self) -> None:
        outdated, self._outdated = self._outdated, {}
        if self._closed:
            return
        for name, draw in self._parts.items():
            if name in outdated:
                draw()


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
