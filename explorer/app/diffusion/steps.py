"""What one job of the diffusion lens does, step by step, and how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from explorer.app.diffusion.setting import Setting, Spec
from explorer.errors import RunCancelled

if TYPE_CHECKING:
    from explorer.app.diffusion.computing import Computing


class Steps:
    """The run of one job: yields whenever something on screen moved on."""

    def __init__(self, computing: Computing, setting: Setting):
        self._computing, self._setting = computing, setting
        self._stopped = threading.Event()
        self._run: Any = None

    def __iter__(self) -> Iterator[None]:
        computing, setting = self._computing, self._setting
        try:
            for spec in setting.specs:
                yield from self._begin(spec)
            for spec in setting.specs:  # once it is known what all subjects can be measured in
                yield from self._measure(spec)
            for spec in setting.specs:
                yield from self._levels(spec, [computing.point(spec, setting.level)], 1)
            for spec in setting.specs:
                yield from self._levels(spec, spec.points, setting.data)
            if setting.view == "features":
                for spec in setting.specs:
                    yield from self._features(spec)
        except RunCancelled:
            return

    def _begin(self, spec: Spec) -> Iterator[None]:
        """Open what is needed."""
        self._checkpoint()
        if spec not in self._computing.tracks:
            self._computing.begin(spec)
            yield

    def _measure(self, spec: Spec) -> Iterator[None]:
        """Measure what is known, in the kind that is asked for."""
        self._checkpoint()
        if self._computing.measure(spec, self._kind, self._setting.level):
            yield

    @property
    def _kind(self) -> str:
        return self._computing.kind_of(self._setting)

    def _levels(self, spec: Spec, points: list[int], pictures: int) -> Iterator[None]:
        computing = self._computing
        missing = computing.missing(spec, points, pictures)
        if not missing:
            return
        self._checkpoint()
        self._run = computing.run_of(spec, missing, pictures)
        if self._stopped.is_set():  # while it was being made
            self._run.cancel()
        for partial in self._run:
            computing.keep(spec, partial)
            computing.measure(spec, self._kind, self._setting.level)
            yield
        self._run.result(show_progress=False)  # raises what went wrong, or that it was cancelled
        self._run = None

    def _features(self, spec: Spec) -> Iterator[None]:
        self._checkpoint()
        if self._computing.look(spec, self._setting.task):
            yield

    def _checkpoint(self) -> None:
        if self._stopped.is_set():
            raise RunCancelled("Something else is wanted now.")

    @property
    def progress(self) -> float:
        return self._computing.progress

    @property
    def under_way(self) -> float:
        """The share of the run of levels that is done."""
        return float(self._run.progress) if self._run is not None else 0.0

    def cancel(self) -> None:
        """Stop within one batch; every finished level is kept."""
        self._stopped.set()
        if self._run is not None:
            self._run.cancel()
