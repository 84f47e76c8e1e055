"""Serve the app: what `explorer app` does."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import panel as pn

from explorer.app.opening import DEFAULT_MODEL, model_names
from explorer.app.shared_models import SHELF, open_shared
from explorer.app.shell import TITLE, session
from explorer.compute.turns import Turns
from explorer.errors import ExplorerError

SESSION_SETTINGS = {
    "check_unused_sessions_milliseconds": 5_000,
    "unused_session_lifetime_milliseconds": 15_000,
}
"""Sessions of closed pages are let go within 20 s."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine's people can reach."""
PLACES_ON_A_GPU = 2
"""Sessions that compute at a time: one prepares its batch while the other's is computed."""


def serve(
    address: str = "127.0.0.1",
    port: int = 5006,
    show: bool = True,
    origins: Sequence[str] = (),
    model: str = "",
    workshop: bool = False,
) -> None:
    """Serve the app until interrupted.

    address, port: where to listen. show: open a browser. origins: further host[:port] that pages
    may come from, for servers behind a proxy. model: name or path to open first. workshop: for many
    people at once, see `explorer.app.workshop`.
    """
    local = [f"{address}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"]
    if workshop:
        from explorer.app.workshop import room_for, serve_room

        with room_for(model) as room:
            _warm_soon(model or DEFAULT_MODEL, room.queue)
            serve_room(room, address, port, [*dict.fromkeys([*local, *origins])], show)
        return
    # Who can reach the page can ask for any model, in its address too: strangers get names only,
    # and no path of this machine.
    SHELF.offered = None if address in LOOPBACK else known_names(model)
    try:
        _warm_soon(model or DEFAULT_MODEL)
        pn.serve(
            {"/": lambda: session(model)},
            title=TITLE,
            address=address,
            port=port,
            show=show,
            verbose=False,
            allow_websocket_origin=[*dict.fromkeys([*local, *origins])],
            **SESSION_SETTINGS,
        )
    finally:
        SHELF.offered = None


def known_names(model: str = "") -> frozenset[str]:
    """Names of the models that this machine's owner offers: embedded, local, of the catalogues, and
    the one that the app was started with."""
    from explorer.checkpoints.finding import published_sets

    return frozenset({*model_names(), *published_sets(), *([model] if model else [])})


def _warm_soon(model: str, queue: Turns | None = None) -> None:
    threading.Thread(target=_warm, args=(model, queue), daemon=True).start()


def _warm(model: str, queue: Turns | None) -> None:
    """Open the model while the browser starts; what goes wrong is said on the page."""
    try:
        opened = open_shared(model)
    except ExplorerError:
        return
    if queue is not None and opened.device.type == "cuda":
        queue.places = PLACES_ON_A_GPU
