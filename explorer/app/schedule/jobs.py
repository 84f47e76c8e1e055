"""What the tabs compute, one at a time, each started by a button; and what was tried by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from explorer.app.runner import Job, Runner
from explorer.app.schedule import curve
from explorer.app.schedule.spec import CompareSpec, ForgettingSpec, SearchSpec, Spec, TrialSpec
from explorer.editing.schedule import Schedule

if TYPE_CHECKING:
    from explorer.models.model import Model

TAB_OF = {ForgettingSpec: "forgetting", SearchSpec: "search", CompareSpec: "compare"}


@dataclass(frozen=True)
class Found:
    """What a tab's computation has found so far."""

    spec: Any
    result: xr.Dataset
    progress: float

    @property
    def complete(self) -> bool:
        return bool(self.result.attrs.get("complete", False))


@dataclass(frozen=True)
class Tried:
    """One schedule a person tried, with its relative accuracies on target and control tasks."""

    schedule: Schedule | None
    target: float
    control: float

    @property
    def label(self) -> str:
        return curve.title(self.schedule)


class Jobs:
    """One session's searches and comparisons of one model. `show(tab)` is told of every partial."""

    def __init__(
        self,
        model: Model,
        show: Callable[[str], None],
        failed: Callable[[Exception], None],
    ):
        self.model = model
        self.running: Spec | None = None
        self.found: dict[str, Found] = {}
        self.tried: dict[ForgettingSpec, dict[Schedule | None, Tried]] = {}
        self._show, self._failed = show, failed
        self._runner = Runner(self._is_busy)
        self._trials = Runner()
        self._began = 0.0
        self._wanted: TrialSpec | None = None

    # What a button starts

    @property
    def tab(self) -> str:
        """The tab whose computation is under way, or nothing."""
        return TAB_OF[type(self.running)] if self.running is not None else ""

    @property
    def busy(self) -> bool:
        """Whether anything is under way, trials included."""
        return self._runner.busy or self._trials.busy

    @property
    def progress(self) -> float:
        """How much of what runs is done, 0 to 1."""
        found = self.found.get(self.tab)
        return found.progress if found is not None and found.spec == self.running else 0.0

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest will take, as far as the pace can be told yet."""
        done, elapsed = self.progress, time.monotonic() - self._began
        return elapsed * (1 - done) / done if done > 0.03 and elapsed > 1 else None

    def start(self, spec: Spec) -> None:
        """Compute this; what was under way before is stopped and keeps what it has found."""
        self._runner.cancel()
        self.running, self._began = spec, time.monotonic()
        tab = TAB_OF[type(spec)]

        def show(result: xr.Dataset, progress: float) -> None:
            if self.running == spec:
                self.found[tab] = Found(spec, result, progress)
                self._show(tab)

        def failed(error: Exception) -> None:
            if self.running == spec:
                self._failed(error)

        self._runner.submit(Job(lambda: spec.run(self.model), show, failed))
        self._show(tab)

    def stop(self) -> None:
        """Stop what is under way within one batch; what it has found stays."""
        tab, self.running = self.tab, None
        self._runner.cancel()
        self._show(tab or "forgetting")

    def _is_busy(self, busy: bool) -> None:
        if not busy and self.running is not None:
            tab, self.running = self.tab, None
            self._show(tab)

    # What a person tries

    def try_out(self, spec: ForgettingSpec, schedule: Schedule | None) -> None:
        """Measure one schedule beside those of a forgetting run, unless it is known."""
        trial = TrialSpec(spec, schedule)
        if schedule in self.tried.get(spec, {}) or trial == self._wanted:
            return
        self._wanted = trial

        def show(result: xr.Dataset, _progress: float) -> None:
            values = (float(result[name][0]) for name in ("target", "control"))
            self.tried.setdefault(spec, {})[schedule] = Tried(schedule, *values)
            self._show("forgetting")

        def failed(error: Exception) -> None:
            self._wanted = None
            self._failed(error)

        self._trials.submit(Job(lambda: trial.run(self.model), show, failed))

    def points(self, spec: ForgettingSpec) -> list[Tried]:
        """Everything known of a task vector: of its run and tried by hand, each schedule once."""
        known = dict(self.tried.get(spec, {}))
        found = self.found.get("forgetting")
        if found is not None and found.spec == spec:
            known |= {point.schedule: point for point in points_of(found.result)}
        return [*known.values()]

    # Life

    def resume(self) -> None:
        """Go on with what waits for an event loop."""
        self._runner.resume()
        self._trials.resume()

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self.busy:
            await self._runner.settled()
            await self._trials.settled()

    def close(self) -> None:
        """Stop everything and let the threads end."""
        self.running = None
        self._runner.close()
        self._trials.close()


def points_of(result: xr.Dataset) -> list[Tried]:
    """The schedules of a forgetting run with their relative accuracies."""
    columns = (result[name].values for name in ("schedule_json", "target", "control"))
    return [
        Tried(Schedule.from_data(json.loads(str(text))), float(target), float(control))
        for text, target, control in zip(*columns, strict=True)
    ]


def front(points: list[Tried]) -> list[Tried]:
    """The points that no other dominates, by control accuracy."""
    from explorer.measures.forgetting import pareto_front

    if not points:
        return []
    target, control = (
        np.array([getattr(p, name) for p in points]) for name in ("target", "control")
    )
    kept = [p for p, on in zip(points, pareto_front(target, control), strict=True) if on]
    return sorted(kept, key=lambda point: (point.control, -point.target))
