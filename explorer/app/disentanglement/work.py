"""Pieces of the lens's work: runs that are stepped a little, left, and stepped further."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from explorer.app.disentanglement.picture import Picture
from explorer.app.disentanglement.spec import MapSpec, PairsSpec, Spec
from explorer.recipe import DEFAULT_METHOD

PACE = 0.1
"""Seconds between two pictures: at most ten a second reach the browser."""


class Work:
    """One wanted thing: its run, and how far it has come. Stepped in the worker thread alone."""

    def __init__(self, spec: Spec, make: Callable[[], Any]):
        self.spec = spec
        self.latest: Picture | None = None
        self.finished = False
        self.failed = False
        self.coarse = False
        """Whether a first complete picture, however coarse, is out."""
        self._make = make
        self._run: Any = None
        self._cancelled = False

    @property
    def progress(self) -> float:
        if self.finished:
            return 1.0
        return 0.0 if self._run is None else float(self._run.progress)

    def step(self) -> bool:
        """Compute up to the next partial result; False when there is none any more."""
        if self.finished or self._cancelled:
            return False
        try:
            if self._run is None:
                self._run = self._make()
                if self._cancelled:  # while it was being made
                    self._run.cancel()
            partial = next(self._run, None)
        except BaseException:
            self.failed = True
            raise
        if partial is None:
            self.finished = not self._cancelled
            return False
        self.latest = Picture(self.spec, partial)
        self.coarse = self.coarse or bool(np.all(partial.get("measured", 1)))
        return True

    def cancel(self) -> None:
        """Stop within one batch. May be called from any thread."""
        self._cancelled = True
        if self._run is not None:
            self._run.cancel()


class Steps:
    """The run of one job: steps several works in order of urgency, yields those that moved on."""

    def __init__(self, works: Sequence[Work], on_cancel: Callable[[], None]):
        self._works = works
        self._on_cancel = on_cancel
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Work]:
        for work in self._works:
            if isinstance(work.spec, MapSpec):
                yield from self._advance(work, coarsely=True)
        # A map in a linear space is finished in seconds, one in weight space in a minute or so.
        for work in sorted(self._works, key=_patience):
            yield from self._advance(work)

    def _advance(self, work: Work, coarsely: bool = False) -> Iterator[Work]:
        """Step one work to its end, or until its first complete picture."""
        shown_at = -PACE
        while not self._stopped.is_set() and not (coarsely and work.coarse):
            moved = work.step()
            enough = coarsely and work.coarse
            if not moved or enough or time.monotonic() - shown_at >= PACE:
                yield work
                shown_at = time.monotonic()
            if not moved:
                return

    @property
    def progress(self) -> float:
        return float(np.mean([work.progress for work in self._works])) if self._works else 1.0

    def cancel(self) -> None:
        """Step nothing further; each work keeps what it has."""
        self._stopped.set()
        self._on_cancel()


def _patience(work: Work) -> int:
    """The order in which works are finished: what takes seconds, a minute, several minutes."""
    spec = work.spec
    if isinstance(spec, MapSpec):
        if spec.space != "weights":
            return 0
        return 1 if spec.method == DEFAULT_METHOD else 2  # others merge anew in every cell
    return 4 if isinstance(spec, PairsSpec) else 3
