"""The app in a frame, served by the notebook's kernel: for a full tab beside a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from explorer.app import notebook
from explorer.app.serve import serve
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from IPython.display import IFrame

START_WITHIN = 30.0
"""Seconds in which the server must answer."""
_ports: dict[str, int] = {}


def tab(model: str = "", height: int = 720) -> IFrame:
    """The whole app as a page inside a frame: `ex.app.tab()` as the last line of a cell.

    A cell's lens cannot be shown in a second place of JupyterLab, this can: right-click it, choose
    "Create New View for Cell Output", and drag that tab beside the notebook. The kernel serves it
    on a free port of this computer (127.0.0.1), one server a model, until the kernel ends.

    model: name or path of the model to open first. height: of the frame, in pixels. Raises
    ExplorerError on a hub, whose browsers cannot reach that address.
    """
    from IPython.display import IFrame

    if "JUPYTERHUB_SERVICE_PREFIX" in os.environ:
        prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
        raise ExplorerError(
            "This kernel runs on a hub, and its own addresses cannot be opened from your browser; "
            f"open {prefix}panel/app instead, where jupyter-panel-proxy is installed, as on Binder."
        )
    notebook.prepare()
    if model not in _ports:
        _ports[model] = _serve_beside(model)
    return IFrame(f"http://127.0.0.1:{_ports[model]}/", "100%", height)


def _serve_beside(model: str) -> int:
    """Serve in a thread that ends with the process; the port, once it answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    def work() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        serve(port=port, show=False, model=model)

    threading.Thread(target=work, daemon=True, name="explorer-tab").start()
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return port
        time.sleep(0.05)
    raise ExplorerError(
        f"The app did not answer on port {port} within {START_WITHIN:.0f} s; run the cell again."
    )
