"""One person's page in a room: whether it is connected, used, idle, and what it holds in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bokeh.document import Document
from bokeh.models import ColumnDataSource

from explorer.app.held import held_bytes

if TYPE_CHECKING:
    from explorer.app.shell import Shell

CONNECT_WITHIN = 8.0
"""Seconds after which a page that never opened its websocket is let go: whoever asked for it was
no browser, or gave up. A slow one is made anew when it connects."""
CONNECT_WITHIN_FULL = 3.0
"""The same, once somebody else waits for the place."""
IDLE_AFTER = 45 * 60.0
"""Seconds without anything done after which a connected page gives its place back."""
FAREWELL = 60.0
"""Seconds a page has to leave after it was asked to; then its connection is closed."""
MOST_BYTES = 64 * 2**20
"""What one session may hold: results, pictures, history. Models are shared and not counted."""
TOO_LARGE = (
    "This lens holds {held} MB, more than the {most} MB that one person may have on this server, "
    "so it was stopped. Choose fewer images or samples."
)


@dataclass(eq=False)
class Visit:
    """A session of the room. Times are of `clock`, in seconds."""

    shell: Shell
    context: Any
    """Bokeh's session context: it knows the session and its connections."""
    clock: Callable[[], float] = time.monotonic
    since: float = 0.0
    last: float = 0.0
    """When the person last did something."""
    connected: bool = False
    """Whether its websocket was ever there."""
    leaving: float | None = None
    """Since when the session is asked to end."""
    held: int = 0
    """Bytes it held when it was last weighed."""
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.since = self.last = self.clock()

    def follow(self, document: Document) -> None:
        """Note whatever the browser sends from now on."""
        document.on_message("bokeh_event", lambda _event: self.used())
        document.on_change(self._changed)

    def _changed(self, event: Any) -> None:
        if event.setter is not None:  # a browser's change has one, the server's own has none
            self.used()

    def used(self) -> None:
        """The person did something."""
        self.last = self.clock()
        self.connected = True

    @property
    def session(self) -> Any:
        """Bokeh's session; None before it is made and after it is gone."""
        return None if self.context.destroyed else self.context.session

    @property
    def age(self) -> float:
        """Seconds since the page was asked for."""
        return self.clock() - self.since

    @property
    def idle(self) -> float:
        """Seconds since anything was done."""
        return self.clock() - self.last

    def tidy(self) -> None:
        """Let the session go if nobody is there, or nobody has done anything for long."""
        session = self.session
        if session is None:
            return
        self.connected = self.connected or session.connection_count > 0
        if not self.connected:
            self.give_up(CONNECT_WITHIN)
        elif self.leaving is not None:
            if self.clock() - self.leaving > FAREWELL:
                _hang_up(session)
        elif self.idle > IDLE_AFTER and session.connection_count:
            self.leaving = self.clock()
            session.request_expiration()
            session.document.add_next_tick_callback(self.shell.say_goodbye)

    def give_up(self, after: float) -> None:
        """Let a page go that nobody connected to within so many seconds.

        Only Bokeh's own round of tidying ends it, and only if it is still not connected.
        """
        session = self.session
        if session is None or self.connected or session.connection_count or self.age <= after:
            return
        self.leaving = self.leaving or self.clock()
        session.request_expiration()

    def weigh(self, most: int = MOST_BYTES) -> int:
        """Bytes held. Above `most` lenses that nobody looks at go, then the one on screen stops."""
        self.held = held = self._held()
        while held > most and self.shell.let_go():
            self.held = held = self._held()
        lens = self.shell.lens
        if held <= most or lens is None:
            self._told.clear()
        elif self.shell.chosen not in self._told:
            self._told.add(self.shell.chosen)
            lens.stop()
            lens.complain(TOO_LARGE.format(held=held // 2**20, most=most // 2**20))
        return held

    def _held(self) -> int:
        session = self.session
        models = () if session is None else session.document.models
        charts = [model.data for model in models if isinstance(model, ColumnDataSource)]
        return held_bytes([self.shell.lenses, charts])


def _hang_up(session: Any) -> None:
    """Close the session's connections. Bokeh (3.9) has no public way to."""
    for connection in [*session._subscribed_connections]:
        connection._socket.close()
