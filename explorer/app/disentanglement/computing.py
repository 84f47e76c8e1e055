"""The lens's only door to computation: what is wanted, most urgent first, in one worker thread.

A piece of work (a map, the matrix of all pairs, the kernel) is a `Run` that can be stepped a
little, left, and stepped further. So one runner serves them all: first every map coarsely, then
each to its end (the quick ones first), then what the tabs ask for; and when something else becomes
wanted, what is still wanted loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.disentanglement.picture import Picture
from explorer.app.disentanglement.spec import MapSpec
from explorer.app.runner import Job, Runner

if TYPE_CHECKING:
    from explorer.models.model import Model

PAIRS_IMAGES = 128
KERNEL_IMAGES = 100
REMEMBERED = 24
"""Complete results kept in memory, the last used."""
PACE = 0.1
"""Seconds between two pictures: at most ten a second reach the browser."""


@dataclass(frozen=True)
class PairsSpec:
    """The mean error of all pairs of tasks."""

    seed: int
    space: str = "weights"


@dataclass(frozen=True)
class KernelSpec:
    """Localisation of the tangent kernel's eigenfunctions on two tasks."""

    pair: tuple[str, str]
    seed: int


Spec = MapSpec | PairsSpec | KernelSpec


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
    """The order in which works are finished."""
    if isinstance(work.spec, MapSpec):
        return int(work.spec.space == "weights")
    return 2


class Computing:
    """One session's maps of one model. `show(picture)` is told of every picture."""

    def __init__(
        self,
        model: Model,
        show: Callable[[Picture], None],
        failed: Callable[[Exception], None],
        on_busy: Callable[[bool], None],
    ):
        self.model = model
        self.runner = Runner(on_busy)
        self._show, self._failed = show, failed
        self._works: dict[Spec, Work] = {}
        self._wanted: tuple[Spec, ...] = ()
        self._results: dict[Spec, Picture] = {}
        self._clock = (0.0, 0.0)

    # What is wanted

    def want(self, specs: Sequence[Spec]) -> None:
        """Compute these, most urgent first, and nothing else. What is known is shown at once."""
        self._wanted = tuple(specs)
        for spec in specs:
            if spec in self._results:
                self._show(self._results[spec])
        needed = [spec for spec in specs if spec not in self._results]
        self._drop_stale()
        if not needed:
            return
        works = [self._works.setdefault(s, Work(s, self._maker(s))) for s in needed]
        self._clock = (time.monotonic(), self.progress)
        self.runner.submit(Job(lambda: Steps(works, self._drop_stale), self._moved, self._broke))

    def _drop_stale(self) -> None:
        """Cancel what nobody wants any more, but let a first picture come out: a long drag of a
        slider would otherwise cancel every preview and show nothing."""
        for spec, work in [*self._works.items()]:
            if spec not in self._wanted and (work.latest is not None or not work.progress):
                work.cancel()
                self._works.pop(spec, None)

    def stop(self) -> None:
        """Cancel everything that is not finished. What is on screen stays."""
        self._wanted = ()
        for work in self._works.values():
            work.cancel()
        self._works.clear()
        self.runner.cancel()

    @property
    def progress(self) -> float:
        """How much of what is wanted is done, 0 to 1."""
        if not self._wanted:
            return 1.0
        done = [
            1.0 if s in self._results else w.progress if (w := self._works.get(s)) else 0.0
            for s in self._wanted
        ]
        return float(np.mean(done))

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest will take, as far as the pace can be told yet."""
        began, at = self._clock
        gained, elapsed = self.progress - at, time.monotonic() - began
        return elapsed * (1 - self.progress) / gained if gained > 0.02 and elapsed > 1 else None

    def _moved(self, work: Work, _progress: float) -> None:
        if work.latest is None:
            return
        if work.finished:
            self._works.pop(work.spec, None)
            self._results[work.spec] = work.latest
            while len(self._results) > REMEMBERED:
                self._results.pop(next(iter(self._results)))
        self._show(work.latest)

    def _broke(self, error: Exception) -> None:
        """One work failed: say so, and go on with the others."""
        broken = [spec for spec, work in self._works.items() if work.failed]
        for spec in broken:
            del self._works[spec]
        self._failed(error)
        if broken:
            self.want([spec for spec in self._wanted if spec not in broken])

    # What is computed

    def _maker(self, spec: Spec) -> Callable[[], Any]:
        def make() -> Any:
            if isinstance(spec, MapSpec):
                from explorer.measures.disentanglement import disentanglement

                return disentanglement(
                    self.model,
                    spec.pair,
                    spec.alphas.tolist(),
                    n=spec.n,
                    space=spec.space,
                    schedule=spec.schedule,
                    seed=spec.seed,
                )
            if isinstance(spec, PairsSpec):
                from explorer import disentanglement_pairs

                return disentanglement_pairs(
                    self.model, n=PAIRS_IMAGES, space=spec.space, seed=spec.seed
                )
            from explorer import kernel_localisation

            return kernel_localisation(self.model, spec.pair, n=KERNEL_IMAGES, seed=spec.seed)

        return make

    def close(self) -> None:
        """Stop what is under way, within one batch."""
        self.stop()
        self.runner.close()
