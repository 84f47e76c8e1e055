"""What a person may do here: anything on a computer of one's own, less on a server for many."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from explorer.app.screen import served_document
from explorer.errors import BusyError

MINUTE = 60.0


@dataclass(frozen=True)
class Rules:
    """The rules of one server, the same for all its sessions."""

    uploads: bool = True
    """Whether files may be handed in (recipes, pictures)."""
    a_minute: Mapping[str, int] = field(default_factory=dict)
    """What the browser asks for (kind of message) -> how often a minute it may."""


OWN = Rules()
WORKSHOP = Rules(
    uploads=False,
    a_minute={
        "save": 12,
        "prompts": 30,
        "preset": 30,  # of these, merging with LiNeS begins a search
        "search": 6,
        "start": 6,
        "measure": 6,
        "choose": 12,  # another space for the maps of all pairs
        "find": 6,
    },
)
"""What takes seconds of a room's processor, or asks a hub, or makes a file."""
UPLOADS = ("load", "upload", "reopen")
"""Kinds of message that bring a file."""

_rules = OWN


def follow(rules: Rules) -> None:
    """From now on these are the rules of this process."""
    global _rules
    _rules = rules


def current() -> Rules:
    """The rules of this process."""
    return _rules


_allowances: weakref.WeakKeyDictionary[Any, Allowance] = weakref.WeakKeyDictionary()


def allowance() -> Allowance:
    """What this session has asked for so far, in all its lenses; a notebook's lens has its own."""
    document = served_document()
    if document is None:
        return Allowance()
    return _allowances.setdefault(document, Allowance())


class Allowance:
    """How often one session has asked for what is expensive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._taken: dict[str, deque[float]] = {}

    def take(self, kind: str) -> None:
        """Note that kind is asked for. Raises BusyError with a sentence if it may not be."""
        if kind in UPLOADS and not _rules.uploads:
            raise BusyError("Files cannot be loaded on this server; a link can be opened.")
        limit = _rules.a_minute.get(kind)
        if limit is None:
            return
        now, taken = self._clock(), self._taken.setdefault(kind, deque(maxlen=limit))
        if len(taken) == limit and now - taken[0] < MINUTE:
            wait = max(1, round(MINUTE - (now - taken[0])))
            raise BusyError(f"That was asked for {limit} times within a minute; wait {wait} s.")
        taken.append(now)
