"""The lens's only door to computation, in one worker thread: the slider's level first, then the
levels of the curves, then what a classifier says.

Levels are independent and use the same random numbers whichever of them are asked for (see
``ex.forward_backward``). So finished levels are kept when something else becomes urgent, and the
level that the slider stands at is computed before all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.diffusion import beginning, opened
from explorer.app.diffusion.measured import Measured, change_of, statistics
from explorer.app.diffusion.runs import Runs
from explorer.app.diffusion.setting import CLASSIFIER, KINDS, Setting, Spec
from explorer.app.diffusion.steps import Steps
from explorer.app.diffusion.tracks import Row, Track, rows_of
from explorer.app.runner import Job, Runner

if TYPE_CHECKING:
    import xarray as xr

    from explorer.diffusion.model import Diffusion

KEPT_UPLOADS = 16
"""Pictures that a person brought, kept in memory: the last."""
REMEMBERED = 8
"""Subjects, with everything computed of them, kept in memory: the last used."""


class Computing:
    """One session's tracks. `show()` is told whenever something moved on."""

    def __init__(
        self,
        show: Callable[[], None],
        failed: Callable[[Exception], None],
        on_busy: Callable[[bool], None],
    ):
        self.runner = Runner(on_busy)
        self.tracks: dict[Spec, Track] = {}
        self.measured: dict[tuple[Spec, str], Measured] = {}
        self.features: dict[tuple[Spec, str], xr.Dataset] = {}
        self.uploads: dict[str, bytes] = {}
        self.runs = Runs()
        self.given: dict[str, Diffusion] = {}
        self._show, self._failed = show, failed
        self._setting = Setting()
        self._steps: Steps | None = None
        self._began = (0.0, 0.0)  # when, and how much was done then

    # What is wanted

    def want(self, setting: Setting) -> None:
        """Compute what belongs to a setting, and nothing else."""
        self._setting = setting

        def make() -> Steps:
            self._steps = Steps(self, setting)
            self._began = (time.monotonic(), self.progress)
            return self._steps

        self.runner.submit(Job(make, lambda _, __: self._show(), self._failed))

    def stop(self) -> None:
        """Cancel what is under way; what is known stays."""
        self.runner.cancel()

    @property
    def progress(self) -> float:
        """Share of the network's calls that are behind us, of all that the setting asks for."""
        total = done = 0.0
        for spec in self._setting.specs:
            points = [self.point(spec, self._setting.level), *self._points(spec)]
            for point in dict.fromkeys(points):
                pictures = self._pictures(spec) if point in self._points(spec) else 1
                total += _cost(spec, [point], pictures)
                done += (
                    0 if self.missing(spec, [point], pictures) else _cost(spec, [point], pictures)
                )
        if self._steps is not None and self.runner.busy and self._under_way is not None:
            spec, points, pictures = self._under_way
            finished = [k for k in points if not self.missing(spec, [k], pictures)]
            ahead = self._steps.under_way * _cost(spec, points, pictures)
            done += max(0.0, ahead - _cost(spec, finished, pictures))
        return min(1.0, done / total) if total else 0.0

    _under_way: tuple[Spec, list[int], int] | None = None
    """Levels of the run of `Steps`."""

    @property
    def seconds_left(self) -> float | None:
        """How long it may still take; None before there is anything to judge by."""
        since, before = self._began
        gained, passed = self.progress - before, time.monotonic() - since
        if gained < 0.02 or passed < 1:
            return None
        return passed / gained * (1 - self.progress)

    def complete(self, setting: Setting) -> bool:
        """Whether nothing that a setting asks for is missing."""
        return all(self._complete(spec, setting) for spec in setting.specs)

    def _complete(self, spec: Spec, setting: Setting) -> bool:
        if spec not in self.tracks:
            return False
        level = self.missing(spec, [self.point(spec, setting.level)], 1)
        curves = self.missing(spec, self._points(spec), self._pictures(spec))
        measured = self.measured_of(spec, self.kind_of(setting))
        known = measured is not None and (measured.chunks is not None or not self._points(spec))
        seen = setting.view != "features" or self._seen(spec, setting.task)
        return not level and not curves and known and seen

    # What is known. Written by the worker thread, one assignment at a time.

    def model(self, spec: Spec) -> Diffusion:
        """The model of a subject, opened when it is first needed."""
        name = spec.subject.model
        return self.given[name] if name in self.given else opened.open_shared(name)

    def begin(self, spec: Spec) -> None:
        """Open the model and the picture of a subject, or the run that was reopened."""
        if spec.subject.run:
            track = beginning.of_run(spec, self.runs.of(spec.subject.run))
        else:
            track = beginning.of_model(spec, self.model(spec), self.uploads)
        tracks = {**self.tracks, spec: track}
        others = [known for known in tracks if known != spec and known not in self._setting.specs]
        for oldest in others[: max(0, len(tracks) - REMEMBERED)]:
            del tracks[oldest]
        self.tracks = tracks

    def keep(self, spec: Spec, partial: xr.Dataset) -> None:
        """Take over the levels of a partial result."""
        track, p = self.tracks[spec], self.model(spec)
        pictures = partial.sizes["datum"]
        finished = [point for point in track.rows if track.done(point, pictures)]
        for row in rows_of(partial, track.steps, finished):
            if p.vae is not None and row.point not in track.rows:
                row = _decoded(p, row)
            elif p.vae is not None:
                row = replace(row, noised=track.rows[row.point].noised)
            track = track.with_row(row)
        self.tracks = {**self.tracks, spec: track}

    def measure(self, spec: Spec, kind: str, level: float) -> bool:
        """Change fields of the finished levels and of the slider's; whether any were new."""
        track = self.tracks[spec]
        known = self.measured.get((spec, kind), Measured(kind))
        here = track.nearest(level)
        wanted = {**track.finished, **({here.point: here} if here is not None else {})}
        kept = dict(known.levels)
        fields = {k: known.fields[k] for k, row in wanted.items() if kept.get(k) == row.pictures}
        if len(fields) == len(wanted):
            return False
        tiles = self.model(spec).tiles if kind == "symbols" else None
        note = known.note
        for point, row in wanted.items():
            if point not in fields:
                fields[point], said = change_of(row.data, kind, tiles)
                note = said or note
        levels = frozenset((point, row.pictures) for point, row in track.finished.items())
        chunks, rows = known.chunks, track.curve_rows
        if rows and levels != known.levels:
            chunks = statistics({row.level: fields[row.point] for row in rows})
        made = Measured(kind, fields, chunks, levels, note)
        self.measured = dict([*self.measured.items(), ((spec, kind), made)][-3 * REMEMBERED :])
        return True

    def look(self, spec: Spec, task: str) -> bool:
        """Flips and similarity of features, as by ``ex.depth_similarity``."""
        from explorer.app.shared_models import open_shared
        from explorer.measures.depth_similarity import depth_similarity

        rows = self.tracks[spec].curve_rows
        if not rows or self._seen(spec, task):
            return False
        m = open_shared(CLASSIFIER)
        result = self.tracks[spec].dataset().assign_attrs(note="")  # the run's own is known
        seen = depth_similarity(result, m, task or m.tasks[0])
        self.features = dict([*self.features.items(), ((spec, task), seen)][-3 * REMEMBERED :])
        return True

    def _seen(self, spec: Spec, task: str) -> bool:
        """Whether a classifier has looked at all levels of the curves."""
        seen = self.features.get((spec, task))
        levels = [row.level for row in self.tracks[spec].curve_rows]
        return seen is not None and seen["level"].values.tolist() == levels

    def missing(self, spec: Spec, points: list[int], pictures: int) -> list[int]:
        """Which of these levels are not finished; none of a reopened run's."""
        track = self.tracks.get(spec)
        if spec.subject.run:
            return []
        return [k for k in points if track is None or not track.done(k, pictures)]

    def run_of(self, spec: Spec, points: list[int], pictures: int) -> Any:
        """The run that computes some levels."""
        from explorer.diffusion.experiment import forward_backward

        p = self.model(spec)
        images = opened.picture_of(spec.subject.picture, p, self.uploads, pictures)
        self._under_way = (spec, points, pictures)
        levels = [k / spec.steps for k in points]
        return forward_backward(p, images, levels, spec.samples, spec.steps, spec.seed, spec.method)

    def point(self, spec: Spec, level: float) -> int:
        """A level as a number of the subject's steps."""
        return spec.point(level)

    def _points(self, spec: Spec) -> list[int]:
        return [] if spec.subject.run else spec.points

    def _pictures(self, spec: Spec) -> int:
        return 1 if spec.subject.run else spec.data

    def kinds(self, setting: Setting) -> Mapping[str, str]:
        """Change fields that all subjects have, as far as they are known: symbols only of tiles.

        Two subjects share their axes, so that both are measured in the same kind.
        """
        if all(self._of_tiles(spec) for spec in setting.specs):
            return KINDS
        return {name: title for name, title in KINDS.items() if name != "symbols"}

    def _of_tiles(self, spec: Spec) -> bool:
        known = spec in self.tracks and not spec.subject.run
        return known and self.model(spec).tiles is not None

    def kind_of(self, setting: Setting) -> str:
        """The kind of change asked for, or blocks where a subject has none of that kind."""
        return setting.kind if setting.kind in self.kinds(setting) else "blocks"

    def measured_of(self, spec: Spec, kind: str) -> Measured | None:
        """What is measured of a subject in one kind."""
        return self.measured.get((spec, kind))

    def take_run(self, result: xr.Dataset) -> str:
        """Keep a run that was reopened; the name it is known under. Old ones may make room."""
        shown = {subject.run for subject in self._setting.subjects}
        name, gone = self.runs.keep(result, shown)
        if gone:
            self.tracks = {
                s: track for s, track in self.tracks.items() if s.subject.run not in gone
            }
            self.measured = {
                key: found for key, found in self.measured.items() if key[0].subject.run not in gone
            }
        return name

    def take_picture(self, data: bytes) -> str:
        """Keep the bytes of a picture; the name it is known under."""
        name = opened.name_of_upload(data)
        self.uploads = dict([*self.uploads.items(), (name, data)][-KEPT_UPLOADS:])
        return name

    def close(self) -> None:
        """Stop what is under way, within one batch."""
        self.stop()
        self.runner.close()


def _cost(spec: Spec, points: list[int], pictures: int) -> float:
    """Pictures that go through the network for some levels."""
    return float(sum(k + 1 for k in points) * pictures * spec.samples)


def _decoded(p: Diffusion, row: Row) -> Row:
    """The row of a model of latents with its x_t as pictures."""
    import torch

    from explorer.compute.batches import Batches, with_note
    from explorer.diffusion.results import DECODED_AT_ONCE, decoded

    x = torch.from_numpy(np.moveaxis(row.data["x_t"].values[0, 0], -1, 1).copy())
    batches = Batches(DECODED_AT_ONCE, "decoded")
    noised = decoded(p, x.to(p.device), batches)
    data = row.data.assign_attrs(with_note(row.data.attrs.get("note"), batches.note))
    return replace(row, data=data, noised=noised)
