"""Pickles read without running them: data come out, every class becomes an inert record.

A pickle is a program for a small stack machine. This is such a machine with nothing to call:
it imports no module and calls no object that a file names. A name stays a ``Name``; an instance
becomes a ``Record`` with its state; tensors are put together by the table in ``rebuilding.py``. A
call of anything that runs code is refused rather than skipped, since no checkpoint needs it.
"""

import struct
from typing import Any

from explorer.checkpoints.pickle_machine import Machine, Persistent
from explorer.checkpoints.pickle_source import Source
from explorer.checkpoints.pickle_steps import STEPS
from explorer.checkpoints.stored import damaged
from explorer.errors import CheckpointError


def read_pickle(source: Source, persistent: Persistent | None = None) -> Any:
    """The data of the pickle at the source's position; the source then stands behind it.

    ``persistent`` gives what a persistent id (a torch storage) stands for. Raises CheckpointError
    for a pickle that is damaged, too long, or that calls code.
    """
    try:
        return _run(Machine(source, persistent))
    except CheckpointError:
        raise
    except (
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        struct.error,
        OverflowError,
        RecursionError,
        MemoryError,
        EOFError,
        OSError,
    ) as error:
        reason = str(error).partition("\n")[0][:80] or type(error).__name__
        raise damaged(source.path, f"its pickle makes no sense: {reason}") from None


def _run(machine: Machine) -> Any:
    while True:
        code = machine.source.read(1)[0]
        machine.spend()
        if code == ord("."):
            return machine.stack.pop()
        step = STEPS.get(code)
        if step is None:
            raise damaged(machine.source.path, f"its pickle has no such step as {code:#04x}")
        step(machine)
