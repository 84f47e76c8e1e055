"""Serve the app: what `explorer app` does."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import panel as pn

from explorer.app.shell import DEFAULT_MODEL, TITLE, open_shared, session
from explorer.errors import ExplorerError

SESSION_SETTINGS = {
    "check_unused_sessions_milliseconds": 5_000,
    "unused_session_lifetime_milliseconds": 15_000,
}
"""Sessions of closed pages are let go within 20 s."""


def serve(
    address: str = "127.0.0.1",
    port: int = 5006,
    show: bool = True,
    origins: Sequence[str] = (),
    model: str = "",
) -> None:
    """Serve the app until interrupted.

    address, port: where to listen. show: open a browser. origins: further host[:port] that pages
    may come from, for servers behind a proxy. model: name or path to open first.
    """
    threading.Thread(target=_warm, args=(model or DEFAULT_MODEL,), daemon=True).start()
    local = [f"{address}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"]
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


def _warm(model: str) -> None:
    """Open the model while the browser starts; what goes wrong is said on the page."""
    try:
        open_shared(model)
    except ExplorerError:
        return
