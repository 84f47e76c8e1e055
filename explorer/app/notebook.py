"""In a notebook: have panel's browser half loaded before a lens is shown, with no network."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import panel as pn

DEBOUNCE = 5
"""Milliseconds the browser waits for more changes before it sends one to a notebook's kernel."""


def prepare() -> None:
    """Load panel into the notebook this is called from, unless `pn.extension` was called before.

    The browser half is put into the cell's output (`inline`), since a lens must also work where no
    content network can be reached. Outside a notebook kernel this does nothing.
    """
    if in_kernel():
        if not pn.extension._loaded:
            pn.extension(inline=True)
        _listen_in_the_main_thread()
        _listen_soon()


def in_kernel() -> bool:
    """Whether this code runs in a notebook's kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def call_soon(function: Callable[..., None], *args: Any, wait: float = 0.0) -> None:
    """Call function on the kernel's main event loop, after what it is at. From any thread.

    wait: seconds before that.
    """
    from IPython import get_ipython

    loop = get_ipython().kernel.io_loop
    if wait:
        loop.add_callback(loop.call_later, wait, function, *args)
    else:
        loop.add_callback(function, *args)


def _listen_in_the_main_thread() -> None:
    """Handle what the browser says on the kernel's main event loop, as cells are.

    JupyterLab >= 4.4 hands a widget's messages to a thread of its own (a kernel subshell). A lens
    would then live in two threads at once, and an update is several messages: two threads that
    send at the same time mix them up, and the browser drops both.
    """
    from panel.io.notebook import JupyterCommJSBinary, JupyterCommManagerBinary

    class MainThreadComm(JupyterCommJSBinary):
        def _handle_msg(self, msg: dict[str, Any]) -> None:
            if threading.current_thread() is threading.main_thread():
                super()._handle_msg(msg)
            else:
                call_soon(super()._handle_msg, msg)

    if JupyterCommManagerBinary.client_comm is JupyterCommJSBinary:
        JupyterCommManagerBinary.client_comm = MainThreadComm


def _listen_soon() -> None:
    """Have the browser send what a person does after DEBOUNCE, not panel's 50 ms.

    Panel has no setting for it. The sliders hold back further messages until one is answered, so
    they do not need the wait.
    """
    from panel.models import comm_manager

    if isinstance(comm_manager.CommManager, type):
        comm_manager.CommManager = functools.partial(comm_manager.CommManager, debounce=DEBOUNCE)
