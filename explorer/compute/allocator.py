"""glibc's memory allocator in a process of many threads; nothing happens where there is another.

Each thread gets an arena of its own, in which what a forward freed stays: with a worker thread a
session some 15 MB a session, that others cannot use. Two arenas are shared by all instead.
"""

import contextlib
import ctypes

_M_ARENA_MAX = -8  # from malloc.h


def share_arenas(n: int = 2) -> None:
    """From now on all threads allocate from ``n`` arenas."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, n)


def give_back() -> None:
    """Return what is free to the system."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
