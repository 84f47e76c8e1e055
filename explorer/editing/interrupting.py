"""Stopping a long merge between two of its steps, without a word about it in the methods' formulas.

Methods call ``step()`` between tensors, pieces and iterations. Whoever runs one inside
``checked_by(check)`` has ``check`` called there; what it raises ends the merge.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]

_check: ContextVar[Check | None] = ContextVar("check", default=None)  # each thread has its own


@contextmanager
def checked_by(check: Check | None) -> Iterator[None]:
    """Within, ``step`` calls ``check`` (nothing for None) in this thread."""
    before = _check.set(check)
    try:
        yield
    finally:
        _check.reset(before)


def step() -> None:
    """Between two steps of a merge: raises what the check of this thread raises."""
    check = _check.get()
    if check is not None:
        check()
