"""Turns: one device, many people. Who computes next, for how long, and who is before whom.

A worker takes a turn for each step of a run and gives way between batches when somebody else
waits. Whoever has no picture yet goes before whoever refines one, and among equals the session
that was served longest ago goes first.

Nothing can hang on this queue. A worker that has to wait for a lock steps aside first (`holding`),
so that the lock's owner can have the turn; and a turn is a lease: after `LEASE` seconds without
giving way it no longer keeps anybody waiting.

Nobody queues until `open_queue` is called: scripts and notebooks have the device to themselves.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SLICE = 0.25
"""Seconds after which a turn ends at the next batch, if others wait."""
LEASE = 10.0
"""Seconds after which a turn that did not end is no longer waited for."""
PATIENCE = 30.0
"""Seconds after which a refinement that waits counts as much as a first picture."""
NOTICED = 0.5
"""Seconds of waiting that a person need not be told of."""
CROWD, LATELY = 8, 5.0
"""Sessions that had a first picture made in the last `LATELY` seconds, from which on a room is
crowded. Not those that wait at a moment: that number goes up and down with each of them."""
_REMEMBERED = 4096


@dataclass(eq=False)
class _Turn:
    """One worker's claim to the device: waiting until `granted` is set, then holding it."""

    session: Hashable
    preview: bool
    number: int
    since: float
    granted: threading.Event = field(default_factory=threading.Event)
    thread: int = field(default_factory=threading.get_ident)


@dataclass(frozen=True)
class QueueState:
    """How many turns are held and wanted now, and how many were given since the start."""

    computing: int
    waiting: int
    given: int


class Turns:
    """A fair queue for ``places`` workers at a time.

    Safe from any thread. One session alone never waits for itself.
    """

    def __init__(
        self,
        places: int = 1,
        slice_s: float = SLICE,
        lease_s: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places, self.slice_s, self.lease_s = places, slice_s, lease_s
        self._clock = clock
        self._lock = threading.Lock()
        self._holders: list[_Turn] = []
        self._waiting: list[_Turn] = []
        self._served: dict[Hashable, int] = {}
        self._pictured: dict[Hashable, float] = {}  # when a first picture was begun, oldest first
        self._numbers = itertools.count(1)
        self._given = 0
        self._closed = False

    @contextmanager
    def turn(self, session: Hashable, preview: bool) -> Iterator[bool]:
        """Hold the device in here; True if it had to be waited for."""
        turn = _Turn(session, preview, next(self._numbers), self._clock())
        waited = self._wait(turn)
        before, _here.held = getattr(_here, "held", None), (self, turn)
        try:
            yield waited
        finally:
            _here.held = before
            self._leave(turn)

    def ahead(self, session: Hashable) -> int:
        """How many other sessions come before this one, which has waited for `NOTICED` seconds."""
        with self._lock:
            now = self._clock()
            own = [turn for turn in self._waiting if turn.session == session]
            if not own or now - min(turn.since for turn in own) < NOTICED:
                return 0
            rank = min(self._rank(turn, now) for turn in own)
            before = {turn.session for turn in self._waiting if self._rank(turn, now) < rank}
            before |= {turn.session for turn in self._holders if not self._overdue(turn, now)}
            return len(before - {session})

    def crowded(self) -> bool:
        """Whether so many are at work that everybody should ask for less."""
        with self._lock:
            since = self._clock() - LATELY
            while self._pictured and next(iter(self._pictured.values())) < since:
                del self._pictured[next(iter(self._pictured))]
            return len(self._pictured) >= CROWD

    def state(self) -> QueueState:
        """Numbers for a health check."""
        with self._lock:
            return QueueState(len(self._holders), len(self._waiting), self._given)

    def forget(self, session: Hashable) -> None:
        """A session is over."""
        with self._lock:
            self._served.pop(session, None)
            self._pictured.pop(session, None)

    def excuse(self, thread: int) -> None:
        """A thread's run was cancelled: if it waits with a refinement it goes on without a turn, to
        its end. It would else wait for its turn only to learn that nobody wants the result, and
        the first picture of what is wanted instead with it."""
        with self._lock:
            for turn in [t for t in self._waiting if t.thread == thread and not t.preview]:
                self._waiting.remove(turn)
                turn.granted.set()

    def close(self) -> None:
        """Let everybody go on at once: the server ends."""
        with self._lock:
            self._closed = True
            self._admit()

    # --- what a turn does ---------------------------------------------------------------------

    def give_way(self, turn: _Turn) -> None:
        """Between batches: wait until it is this worker's turn again, if others are due."""
        if not self._waiting:  # read without the lock: whoever comes now is seen a batch later
            return
        with self._lock:
            tired = self._clock() - turn.since >= self.slice_s
            outranked = not turn.preview and any(other.preview for other in self._waiting)
        if tired or outranked:
            self._leave(turn)
            self._wait(turn)

    @contextmanager
    def aside(self, turn: _Turn) -> Iterator[None]:
        """Let others compute in here."""
        self._leave(turn)
        try:
            yield
        finally:
            self._wait(turn)

    def _wait(self, turn: _Turn) -> bool:
        """Queue until granted; True if that was not at once."""
        with self._lock:
            turn.since = self._clock()
            turn.granted.clear()
            self._waiting.append(turn)
            self._admit()
        if turn.granted.is_set():
            return False
        try:
            # Woken when a turn ends. The time-out is for one that does not.
            while not turn.granted.wait(max(0.01, self.lease_s / 4)):
                with self._lock:
                    self._admit()
        except BaseException:  # a worker told to exit must not keep its place in the queue
            self._leave(turn)
            raise
        return True

    def _leave(self, turn: _Turn) -> None:
        """Give a claim back, held or still waiting; one that was given back already is let be."""
        with self._lock:
            for claims in (self._holders, self._waiting):
                if turn in claims:
                    claims.remove(turn)
            self._admit()

    def _admit(self) -> None:
        """Grant turns while there are places. The lock is held."""
        now = self._clock()
        while self._waiting and self._room(now):
            turn = min(self._waiting, key=lambda waiting: self._rank(waiting, now))
            self._waiting.remove(turn)
            self._holders.append(turn)
            self._given += 1
            if turn.preview:
                self._pictured.pop(turn.session, None)
                self._pictured[turn.session] = now
            self._served.pop(turn.session, None)
            self._served[turn.session] = self._given
            if len(self._served) > _REMEMBERED:
                del self._served[next(iter(self._served))]
            turn.since = now
            turn.granted.set()

    def _room(self, now: float) -> bool:
        punctual = [turn for turn in self._holders if not self._overdue(turn, now)]
        sessions = {turn.session for turn in (*punctual, *self._waiting)}
        return self._closed or len(punctual) < self.places or len(sessions) == 1

    def _overdue(self, turn: _Turn, now: float) -> bool:
        return now - turn.since > self.lease_s

    def _rank(self, turn: _Turn, now: float) -> tuple[bool, int, int]:
        """Less is earlier: first pictures, then those served longest ago, then the first come."""
        later = not turn.preview and now - turn.since <= PATIENCE
        return later, self._served.get(turn.session, 0), turn.number


_here = threading.local()
_queue: Turns | None = None


def open_queue(places: int = 1) -> Turns:
    """From now on workers of this process queue. ``places`` compute at a time."""
    global _queue
    _queue = Turns(places)
    return _queue


def close_queue() -> None:
    """Nobody queues any more."""
    global _queue
    queue, _queue = _queue, None
    if queue is not None:
        queue.close()


@contextmanager
def turn(session: Hashable, preview: bool) -> Iterator[bool]:
    """A turn in the process's queue, if there is one; True if it had to be waited for."""
    if _queue is None:
        yield False
        return
    with _queue.turn(session, preview) as waited:
        yield waited


def crowded() -> bool:
    """Whether so many are at work in this process that everybody should ask for less."""
    return _queue is not None and _queue.crowded()


def excuse(thread: threading.Thread | None) -> None:
    """A thread's run was cancelled: see `Turns.excuse`."""
    if _queue is not None and thread is not None and thread.ident is not None:
        _queue.excuse(thread.ident)


def give_way() -> None:
    """Called between batches: lets others compute, if this thread holds a turn and they wait."""
    held = getattr(_here, "held", None)
    if held is not None:
        queue, own = held
        queue.give_way(own)


@contextmanager
def holding(lock: Any) -> Iterator[None]:
    """Hold a lock that others may hold while they give way; nobody waits for it with a turn."""
    if not lock.acquire(blocking=False):
        held = getattr(_here, "held", None)
        if held is None:
            lock.acquire()
        else:
            queue, own = held
            with queue.aside(own):
                lock.acquire()
    try:
        yield
    finally:
        lock.release()
