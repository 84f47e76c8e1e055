"""In a notebook: have panel's browser half loaded before a lens is shown, with no network."""

from __future__ import annotations

import sys

import panel as pn


def prepare() -> None:
    """Load panel into the notebook this is called from, unless `pn.extension` was called before.

    The browser half is put into the cell's output (`inline`), since a lens must also work where no
    content network can be reached. Outside a notebook kernel this does nothing.
    """
    if in_kernel() and not pn.extension._loaded:
        pn.extension(inline=True)


def in_kernel() -> bool:
    """Whether this code runs in a notebook's kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")
