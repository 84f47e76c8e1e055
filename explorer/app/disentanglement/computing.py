"""The lens's only door to computation: what is wanted, most urgent first, in one worker thread.

A piece of work (a map, the matrix of all pairs, the kernel) is a `Run` that can be stepped a
little, left, and stepped further. So one runner serves them all: first every map coarsely, then
each to its end (the quick ones first), then what the tabs ask for, and at the very last the matrix
of all pairs, which fills in behind everything else. When something else becomes wanted, what is
still wanted loses nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.disentanglement.picture import Picture
from explorer.app.disentanglement.spec import (
    MapSpec,
    PairsSpec,
    Spec,
    method_of,
    schedule_of,
    space_of,
)
from explorer.app.disentanglement.work import PACE, Steps, Work
from explorer.app.runner import Job, Runner

if TYPE_CHECKING:
    from explorer.models.model import Model

PAIRS_IMAGES = 128
KERNEL_IMAGES = 100
PAIRS_CELLS = 81
"""Of the map of each pair, as `ex.disentanglement_pairs` measures it."""
LINEAR_EFFORT, KERNEL_EFFORT = 25, 450
"""Forwards an image that a map in a linear space and the kernel take as long as, measured on the
embedded model."""
LIGHT = 20_000_000
"""Weights in the blocks of a network that measures all pairs unasked on a CPU: 28 pairs take about
600,000 forwards, minutes for the embedded network (1.2 million), hours for a ViT-B/32 (85)."""
REMEMBERED = 24
"""Complete results kept in memory, the last used."""


def light(model: Model) -> bool:
    """Whether all pairs may be measured unasked: in minutes, not in hours of a laptop's time.

    Weights of the blocks tell; a tower whose blocks are not those of a transformer counts as heavy.
    """
    tower = model.architecture["vision_cfg"]
    layers, width = tower.get("layers"), tower.get("width")
    if not (isinstance(layers, int) and isinstance(width, int)):
        return False
    return model.device.type != "cpu" or 12 * layers * width**2 <= LIGHT


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
        self._behind: tuple[Spec, ...] = ()
        self._needed: tuple[Spec, ...] = ()  # of those wanted, what was not there already
        self._results: dict[Spec, Picture] = {}
        self._clock = (0.0, 0.0)
        self._reached: float | None = None

    # What is wanted

    def want(self, specs: Sequence[Spec], behind: Sequence[Spec] = ()) -> None:
        """Compute these, most urgent first, and nothing else. What is known is shown at once.

        What is wanted ``behind`` is computed when all else is done, and nobody waits for it.
        """
        self._wanted, self._behind, self._reached = tuple(specs), tuple(behind), None
        everything = (*specs, *behind)
        for spec in everything:
            if spec in self._results:
                self._results[spec] = self._results.pop(spec)  # the last is the last used
                self._show(self._results[spec])
        needed = [spec for spec in everything if spec not in self._results]
        self._needed = tuple(spec for spec in specs if spec in needed)
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
            wanted = spec in self._wanted or spec in self._behind
            if not wanted and (work.latest is not None or not work.progress):
                work.cancel()
                self._works.pop(spec, None)

    def stop(self) -> None:
        """Cancel everything that is not finished. What is on screen stays."""
        self._reached = self.progress
        self._wanted = self._behind = self._needed = ()
        for work in self._works.values():
            work.cancel()
        self._works.clear()
        self.runner.cancel()

    @property
    def progress(self) -> float:
        """How much is done of what was missing when it was asked for, 0 to 1; after a stop, how
        much was."""
        if self._reached is not None:
            return self._reached
        return self._share(self._needed)

    @property
    def progress_behind(self) -> float:
        """How much is done of what fills in behind, 0 to 1."""
        return self._share(self._behind)

    def _share(self, specs: Sequence[Spec]) -> float:
        if not specs:
            return 1.0
        done = [
            1.0 if s in self._results else w.progress if (w := self._works.get(s)) else 0.0
            for s in specs
        ]
        # A map of a linear space takes seconds: as one of two it is no half of the way.
        return float(np.average(done, weights=[effort(s, len(self.model.tasks)) for s in specs]))

    @property
    def busy(self) -> bool:
        """Whether anything that somebody waits for is not done yet."""
        only_behind = self._behind and all(spec in self._results for spec in self._wanted)
        return self.runner.busy and not only_behind

    async def settled(self) -> None:
        """Wait for all that is wanted, but not for what fills in behind."""
        self.runner.resume()
        while self.busy:
            await asyncio.sleep(PACE / 4)

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
            left = [spec for spec in self._wanted if spec not in broken]
            self.want(left, [spec for spec in self._behind if spec not in broken])

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
                    method=spec.method,
                    seed=spec.seed,
                )
            if isinstance(spec, PairsSpec):
                from explorer import disentanglement_pairs

                return disentanglement_pairs(
                    self.model,
                    n=PAIRS_IMAGES,
                    space=space_of(spec.kind),
                    schedule=schedule_of(spec.lines),
                    method=method_of(spec.kind),
                    seed=spec.seed,
                )
            from explorer import kernel_localisation

            return kernel_localisation(self.model, spec.pair, n=KERNEL_IMAGES, seed=spec.seed)

        return make

    def close(self) -> None:
        """Stop what is under way, within one batch."""
        self.stop()
        self.runner.close()


def effort(spec: Spec, tasks: int) -> int:
    """About how many forwards a piece of work takes, of a model with so many task vectors."""
    if isinstance(spec, MapSpec):
        cells = spec.points**2 if spec.space == "weights" else LINEAR_EFFORT
        return 2 * spec.n * cells
    if isinstance(spec, PairsSpec):
        cells = PAIRS_CELLS if space_of(spec.kind) == "weights" else LINEAR_EFFORT
        return math.comb(tasks, 2) * 2 * PAIRS_IMAGES * cells
    return 2 * KERNEL_IMAGES * KERNEL_EFFORT
