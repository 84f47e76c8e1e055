"""One server for a room of people: what `explorer app --workshop` does.

Models and images are opened once and shared; each session has its own recipe, history and pictures.
Sessions take turns at the device (`explorer.compute.turns`) and are told how many come before
them. The room holds so many people and models and no more; files cannot be handed in; what is
expensive has a rate. A page that nobody connects to or uses gives its place back
(`explorer.app.visit`). The end of the server, or of a session, stops what it computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import panel as pn
from bokeh.events import ClientReconnected, ConnectionLost
from bokeh.models import CustomJS

from explorer.app import rules
from explorer.app.health import Away, Health, Pulse, RoomPage
from explorer.app.opening import model_names
from explorer.app.shared_models import SHELF
from explorer.app.shell import TITLE, begin
from explorer.app.visit import CONNECT_WITHIN_FULL, Visit
from explorer.compute import allocator, turns
from explorer.compute.cores import usable_cores
from explorer.errors import ExplorerError

MOST_SESSIONS = 60
MOST_MODELS = 3
SWITCH_S = 0.0005
"""Seconds after which the event loop and a computation give the interpreter to each other, not
Python's 5 ms: a computation is a hundred short operations, and asks for it after each."""
LOOK_EVERY = 0.5
"""Seconds between two looks at who waits."""
FEW = 3
"""People whose number is told exactly."""
TIDY_EVERY = 5.0
"""Seconds between two looks at who is idle."""
WEIGH_EVERY = 4
"""Rounds after which one session is weighed: that takes some 10 ms, in which nobody is answered."""
MESSAGE_BYTES = 2 * 2**20
"""The largest message that is taken from a browser."""
SETTINGS = {
    "check_unused_sessions_milliseconds": 5_000,
    "unused_session_lifetime_milliseconds": 15_000,
    "session_token_expiration": 600,
    "websocket_max_message_size": MESSAGE_BYTES,
}
"""Closed pages are let go within 20 s; a page must be connected ten minutes after it was asked
for, or is asked for anew."""
FULL = (
    "The room is full: {most} people are here. Close pages that nobody looks at, then reload this "
    "one; a place is free some 20 seconds later."
)

_log = logging.getLogger(__name__)

LOST = """
    const name = "explorer-lost"
    const banner = document.getElementById(name) ?? document.createElement("div")
    banner.id = name
    banner.setAttribute("role", "alert")
    banner.style.cssText = "position:fixed;z-index:9999;inset:auto 0 0 0;padding:12px 20px;"
        + "background:#7a1f1f;color:#fff;font:16px system-ui,sans-serif"
    banner.textContent = "The connection to the server is lost. What you set is in this page's "
        + "address. " + (cb_obj.timeout == null
            ? "Reload the page when the server is back." : "Connecting again…")
    document.body.append(banner)
"""
"""Says on the page that it has lost the server (Bokeh's own words are switched off by Panel)."""


class Room:
    """Everybody who is here."""

    def __init__(self, queue: turns.Turns, model: str = "", most: int = MOST_SESSIONS):
        self.queue, self.model, self.most = queue, model, most
        self.key = secrets.token_urlsafe(12)
        """Opens the page that shows the room."""
        self.people: dict[str, Visit] = {}
        self.pulse = Pulse(queue)
        self._began = self._looked_after = time.monotonic()
        self._left_something = False
        self._round = 0

    def session(self) -> pn.viewable.Viewable:
        """The page of somebody who comes in."""
        if not self._place():
            return pn.pane.Str(FULL.format(most=self.most), styles={"font-size": "20px"})
        document = pn.state.curdoc
        assert document is not None  # this is served
        assert document.session_context is not None
        name = document.session_context.id
        visit = Visit(begin(self.model), document.session_context)
        visit.follow(document)
        self.people[name] = visit
        pn.state.on_session_destroyed(lambda context: self._left(context.id))
        document.js_on_event(ConnectionLost, CustomJS(code=LOST))
        # The address has the recipe; what else the page shows may be of a server that is gone.
        document.js_on_event(ClientReconnected, CustomJS(code="window.location.reload()"))
        return visit.shell.page()

    def _place(self) -> bool:
        """Whether there is room; pages that nobody came to look at make some."""
        if self._number() >= self.most:
            for visit in self.people.values():
                visit.give_up(CONNECT_WITHIN_FULL)
        return self._number() < self.most

    def _number(self) -> int:
        """How many take up a place: those that never connected and are on their way out do not."""
        return sum(v.connected or v.leaving is None for v in self.people.values())

    def _left(self, name: str) -> None:
        self.people.pop(name, None)
        self.queue.forget(name)
        self._left_something = True

    async def look(self) -> None:
        """Keep looking after the room until cancelled, whatever goes wrong in one round."""
        while True:
            try:
                await self._look_once()
            except Exception:  # the next round is half a second away, and nobody else does this
                _log.exception("looking after the room failed; it is tried again")
            await self.pulse.wait(LOOK_EVERY)

    async def _look_once(self) -> None:
        """Tell those who wait how many come before them; tidy up when it is time and quiet."""
        for name, visit in [*self.people.items()]:
            visit.shell.say_queue(in_words(self.queue.ahead(name)))
        now = time.monotonic()
        if now - self._looked_after >= TIDY_EVERY:
            self._looked_after = now
            for visit in [*self.people.values()]:
                visit.tidy()
        self._round += 1
        if self.people and self._round % WEIGH_EVERY == 0:
            one = self._round // WEIGH_EVERY % len(self.people)
            [*self.people.values()][one].weigh()
        if self._left_something and not self.queue.state().waiting:
            self._left_something = False
            await asyncio.to_thread(allocator.give_back)

    def health(self) -> dict[str, Any]:
        """How full the room is, megabytes in memory, and the queue."""
        queue = self.queue.state()
        return {
            "sessions": len(self.people),
            "most_sessions": self.most,
            "models": SHELF.names(),
            **self.pulse.numbers(),
            "computing": queue.computing,
            "waiting": queue.waiting,
            "turns": queue.given,
            "seconds": round(time.monotonic() - self._began),
        }

    def table(self) -> list[list[Any]]:
        """A row a session: number, lens, model, minutes here, minutes idle, MB held, computing,
        people before it."""
        return [
            [
                number,
                visit.shell.chosen,
                visit.shell.model_name,
                round(visit.age / 60),
                round(visit.idle / 60),
                round(visit.held / 2**20),
                "yes" if visit.shell.busy else "",
                self.queue.ahead(name) or "",
            ]
            for number, (name, visit) in enumerate(self.people.items(), start=1)
        ]

    def close(self) -> None:
        """Stop everybody's computations."""
        for visit in [*self.people.values()]:
            visit.shell.close()


def in_words(people: int) -> str:
    """How many come before one, or nothing. Of many in steps of five: who waits behind a crowd is
    not told of every step, which is what the crowd would wait for."""
    if people > FEW:
        return f"about {5 * round(people / 5)} people before you"
    return f"{people} {'person' if people == 1 else 'people'} before you" if people else ""


@contextlib.contextmanager
def room_for(model: str = "", most: int = MOST_SESSIONS) -> Iterator[Room]:
    """A room with its rules, for as long as the server runs."""
    # One core is the browsers': they are answered while the others compute. More threads a
    # computation would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["EXPLORER_PULL"] = "0"  # strangers start no downloads, whatever the address
    allocator.share_arenas()
    switched = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    rules.follow(rules.WORKSHOP)
    SHELF.offered = frozenset({*model_names(), *([model] if model else [])})
    SHELF.most = MOST_MODELS
    pn.config.reconnect = True
    places = max(1, usable_cores() - 1)
    SHELF.engines = places
    room = Room(turns.open_queue(places), model, most)
    try:
        yield room
    finally:
        room.close()
        turns.close_queue()
        sys.setswitchinterval(switched)
        rules.follow(rules.OWN)
        pn.config.reconnect = False
        SHELF.offered = SHELF.most = SHELF.engines = None


def serve_room(
    room: Room, address: str, port: int, origins: Sequence[str], show: bool = False
) -> None:
    """Serve the room until SIGINT or SIGTERM, then let go of the sessions one after the other."""
    server = pn.serve(
        {"/": room.session},
        title=TITLE,
        address=address,
        port=port,
        show=show,
        start=False,
        verbose=False,
        allow_websocket_origin=[*origins],
        extra_patterns=[
            (r"/health", Health, {"room": room}),
            (r"/room", RoomPage, {"room": room}),
            (r"/away", Away),
        ],
        **SETTINGS,
        **login(),
    )
    loop = asyncio.get_event_loop()
    with contextlib.suppress(NotImplementedError):  # no such signals on Windows
        loop.add_signal_handler(signal.SIGTERM, server.io_loop.stop)
    watch = loop.create_task(room.look())
    print(f"Who is here: http://{address}:{port}/room?key={room.key}", flush=True)
    server.start()
    try:
        server.io_loop.start()
    finally:
        watch.cancel()
        server.stop(wait=False)


def login() -> dict[str, Any]:
    """Panel's own password or OAuth, from Panel's own variables of the environment.

    PANEL_BASIC_AUTH is a password, or a JSON file of names and passwords; PANEL_OAUTH_PROVIDER,
    PANEL_OAUTH_KEY and PANEL_OAUTH_SECRET name a provider. Without PANEL_COOKIE_SECRET a server
    makes a secret of its own, and everybody logs in again after a restart.
    """
    password, provider = os.environ.get("PANEL_BASIC_AUTH"), os.environ.get("PANEL_OAUTH_PROVIDER")
    if password and provider:
        raise ExplorerError(
            "Both PANEL_BASIC_AUTH and PANEL_OAUTH_PROVIDER are set; a server has one of them."
        )
    if not password and not provider:
        return {}
    chosen = {"basic_auth": password} if password else {"oauth_provider": provider}
    secret = os.environ.get("PANEL_COOKIE_SECRET") or secrets.token_hex(32)
    return {**chosen, "cookie_secret": secret}
