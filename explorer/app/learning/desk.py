"""What the learning view knows, and its door to computation: shipped curves, and live marks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from explorer.app.learning.curves import PANELS, panel_of
from explorer.app.runner import Job, Runner

if TYPE_CHECKING:
    import xarray as xr

FIRST_LIVE_SEED = 1000
"""Grammars measured live are none of those behind the shipped curves."""
LOOK_EVERY = 0.25
"""Seconds between two looks at the progress of what is measured."""


class Steps:
    """The run of one job: the shipped curves not read so far, then what is measured, if anything.

    Yields (name, shipped Datasets) and (name, live Dataset).
    """

    def __init__(self, desk: Desk, name: str = "", examples: int = 0, seed: int = 0):
        self._desk, self._name, self._seed = desk, name, seed
        self.examples = examples
        self._stopped = threading.Event()
        self._run: Any = None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        from explorer.hierarchy.learning import EXPERIMENTS, cached

        for name in PANELS:
            if name not in self._desk.shipped and not self._stopped.is_set():
                yield name, [cached(name, sizes) for sizes in EXPERIMENTS[name].sizes]
        if not self._name or self._stopped.is_set():
            return
        experiment = EXPERIMENTS[self._name]
        asked = {"examples": [self.examples], "seeds": 1, "seed": self._seed}
        self._run = experiment.run(experiment.sizes[0], **asked)
        if self._stopped.is_set():  # while it was being made
            self._run.cancel()
        for found in self._run:
            yield self._name, found

    @property
    def progress(self) -> float:
        return self._run.progress if self._run is not None else 0.0

    def cancel(self) -> None:
        """Stop within one batch."""
        self._stopped.set()
        if self._run is not None:
            self._run.cancel()


class Desk:
    """One session's experiments on learning. ``changed()`` is told that there is more to draw.

    ``shipped`` name -> the shipped Datasets, empty until read; ``live`` name -> what was measured
    here last, of the first shipped grammar's sizes.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        failed: Callable[[Exception], None],
        on_busy: Callable[[bool], None],
    ):
        self.runner = Runner(self._is_busy)
        self.shipped: Mapping[str, list[xr.Dataset]] = {}
        self.live: Mapping[str, xr.Dataset] = {}
        self.measuring = ""
        self._steps: Steps | None = None
        self._watch: asyncio.Task[None] | None = None
        self._changed, self._failed, self._on_busy = changed, failed, on_busy
        self._measured = 0

    @property
    def progress(self) -> float:
        """Share of what is being measured that is done."""
        return self._steps.progress if self._steps is not None else 0.0

    @property
    def complete(self) -> bool:
        """Whether every shipped curve is read."""
        return len(self.shipped) == len(PANELS)

    def open(self) -> None:
        """Read the shipped curves, off the event loop, unless that is done or under way."""
        if not self.complete and not self.runner.busy:
            self._submit(Steps(self))
        self.runner.resume()

    @property
    def examples(self) -> int:
        """With how many examples is being measured."""
        return self._steps.examples if self._steps is not None else 0

    def measure(self, name: str, examples: int) -> None:
        """Measure with so many examples: another grammar every time."""
        panel_of(name).check(examples)
        self.stop()
        self.measuring = name
        self._submit(Steps(self, name, examples, FIRST_LIVE_SEED + self._measured))
        self._measured += 1

    def stop(self) -> None:
        """Cancel what is being measured, within one batch; what is known stays."""
        self.measuring = ""
        self.runner.cancel()

    def close(self) -> None:
        """Stop, and let the worker thread end."""
        self.stop()
        self.runner.close()

    def _submit(self, steps: Steps) -> None:
        def make() -> Steps:
            self._steps = steps
            return steps

        self.runner.submit(Job(make, self._found, self._failed))

    def _found(self, found: Any, _: float) -> None:
        name, made = found
        if isinstance(made, list):
            self.shipped = {**self.shipped, name: made}
        else:
            self.live = {**self.live, name: made}
        self._changed()

    def _is_busy(self, busy: bool) -> None:
        if busy:
            self._watch = asyncio.get_running_loop().create_task(self._look())
        else:
            self.measuring = ""
            if self._watch is not None:
                self._watch.cancel()
        self._on_busy(busy)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._changed()
