"""The diffusion lens: a picture is noised and denoised many times, and one sees what changed
together.

import explorer as ex
ex.DiffusionLens()
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from explorer.app.diffusion import links, opened, runs, saving
from explorer.app.diffusion.computing import Computing
from explorer.app.diffusion.display import Display
from explorer.app.diffusion.drawing import Drawing
from explorer.app.diffusion.measured import Measured, Side
from explorer.app.diffusion.setting import CLASSIFIER, Setting, Subject
from explorer.app.diffusion.state import DiffusionState
from explorer.app.diffusion.tracks import Track
from explorer.app.lens import Lens
from explorer.app.links import read
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.diffusion.model import Diffusion


class DiffusionLens(Lens):
    """Pictures noised and denoised, with a map of what changed and how far changes reach.

        ex.DiffusionLens("tiles")
        ex.DiffusionLens(ex.open_diffusion("google/ddpm-cifar10-32"))
        ex.DiffusionLens(result=xr.load_dataset("run.nc"))       # precomputed, needs no model

    Displays itself as the last line of a notebook cell; `page()` is the same as a page of its own,
    `to_ipywidget()` the same for composing with ipywidgets. `lens.result` is what is computed so
    far, as by `ex.forward_backward`; `lens.state` says what is on screen and can be changed:
    `lens.state.set_level(0.6)`.
    """

    topic = links.LENS

    def __init__(
        self,
        model: Diffusion | str | Path | None = None,
        query: str = "",
        *,
        result: xr.Dataset | None = None,
    ):
        """model: an opened model, or the name, folder or hub id of one; None is the first that is
        embedded. result: a run to show instead. query: a link's query part.

        What does not fit in query becomes a sentence on screen. Raises ImageError for a result
        that is none of `ex.forward_backward`.
        """
        super().__init__()
        self.busy = self.stopped = False
        self._started = False
        self.computing = Computing(self._computed, self._failed, self._is_busy)
        self.state = DiffusionState(Setting(subjects=(self._first(model, result),)))
        self.drawing = Drawing(self)
        for sentence in links.apply(read(query), self.state):
            self.complain(sentence)
        self.state.forget_history()
        self._asked_for = self.state.setting
        self.state.param.watch(self._asked, ["setting"])
        self.drawing.screen.draw_now()

    def _first(self, model: Diffusion | str | Path | None, result: xr.Dataset | None) -> Subject:
        """The subject to begin with."""
        if result is not None:
            checked = runs.check_run(result)
            name = self.computing.take_run(checked)
            return Subject(self._embedded(), run=name, steps=checked.attrs["steps"])
        if model is None:
            return Subject(self._embedded())
        if isinstance(model, str | Path):
            return Subject(str(model))
        self.computing.given[model.name] = model
        return Subject(model.name)

    def _embedded(self) -> str:
        return next(iter(opened.model_names()), "")

    # What is on screen

    @property
    def tracks(self) -> list[Track | None]:
        """What is known of each subject; None until its model is open."""
        return [self.computing.tracks.get(spec) for spec in self.state.setting.specs]

    @property
    def measured(self) -> list[tuple[str, Measured | None]]:
        """Title and change statistics of each subject."""
        pairs = zip(self._titles(), self.state.setting.specs, strict=True)
        return [(title, self.computing.measured_of(spec, self.kind)) for title, spec in pairs]

    @property
    def kind(self) -> str:
        """What changes are measured in on screen: what was asked for, if all subjects have it."""
        return self.computing.kind_of(self.state.setting)

    @property
    def features(self) -> list[tuple[str, xr.Dataset]]:
        """Title and what a classifier sees of each subject, where that is known."""
        task, known = self.state.setting.task, self.computing.features
        pairs = zip(self._titles(), self.state.setting.specs, strict=True)
        return [(title, known[spec, task]) for title, spec in pairs if (spec, task) in known]

    def _titles(self) -> list[str]:
        """Names of the subjects, told apart by their pictures where the model is the same."""
        names = [track.title if track is not None else "…" for track in self.tracks]
        subjects = self.state.setting.subjects
        if len({*names}) == len(names):
            return names
        words = [
            "saved run" if s.run else "yours" if s.uploaded else f"picture {s.picture}"
            for s in subjects
        ]
        return [f"{name}, {word}" for name, word in zip(names, words, strict=True)]

    @property
    def examples(self) -> list[np.ndarray | None]:
        """Held-out pictures of each subject's model, where it is open."""
        found: list[np.ndarray | None] = []
        for spec, track in zip(self.state.setting.specs, self.tracks, strict=True):
            name = spec.subject.model
            known = opened.already_open(name) or self.computing.given.get(name)
            shown = track is not None or known is not None
            found.append(known.examples if shown and known is not None else None)
        return found

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks of the classifiers that can look at the variants."""
        from explorer.checkpoints.zoo import embedded_root, read_folder

        return read_folder(embedded_root() / CLASSIFIER).tasks

    @property
    def result(self) -> xr.Dataset:
        """The finished levels of the first subject, as by `ex.forward_backward`."""
        track = self.tracks[0]
        if track is None or not track.finished:
            raise ExplorerError("No level is denoised to the end yet; ask again in a moment.")
        return track.dataset()

    @property
    def complete(self) -> bool:
        """Whether everything that belongs on screen is computed."""
        return self.computing.complete(self.state.setting)

    # Pictures and runs that a person brings

    def upload(self, name: str, data: bytes, side: int = 0) -> None:
        """Show a picture from the bytes of the file `name`. Raises ImageError."""
        opened.check_picture(name, data)
        self.state.choose_picture(self.computing.take_picture(data), side)

    def reopen(self, name: str, data: bytes, side: int = 0) -> None:
        """Show a saved run from the bytes of the file `name`. Raises ImageError."""
        result = runs.read_run(name, data)
        self.state.show_run(self.computing.take_run(result), result.attrs["steps"], side)

    def move(self, level: Any, done: bool = True) -> None:
        """Put the slider elsewhere; done False while it is dragged or plays."""
        self.state.set_level(level, done)
        if done and self._started:  # let go where the drag had already brought it: nothing changed
            self._want_level()

    # State -> computation -> screen

    def start(self) -> None:
        """Begin to compute, as soon as there is an event loop. Every display calls this."""
        if not self._started:
            self._started = True
            self._want()
        self.computing.runner.resume()

    def _asked(self, *events: Any) -> None:
        """The state asks for something else, or only for another level."""
        before, now = self._asked_for, self.state.setting
        self._asked_for = now
        if _computed_for(before) == _computed_for(now):
            self._moved()
            return
        self.stopped = False
        if self._started:
            self._want()
        self.drawing.outdated("setting", "link", "pictures", "curves", "notices")

    def _moved(self) -> None:
        """The slider stands elsewhere: once it is let go, that level comes first."""
        if self._started and not self.state.history.held:
            self._want_level()
        self.drawing.outdated("setting", "link", "pictures", "level", "notices")

    def _want_level(self) -> None:
        setting, computing = self.state.setting, self.computing
        missing = any(
            spec not in computing.tracks
            or computing.missing(spec, [computing.point(spec, setting.level)], 1)
            for spec in setting.specs
        )
        if missing and not self.stopped and setting.level != self._wanted_level:
            self._want()

    def _want(self) -> None:
        self._wanted_level = self.state.setting.level
        self.computing.want(self.state.setting)

    _wanted_level: float | None = None
    _saved = 0
    """Bytes of the run that was saved last."""

    def _computed(self) -> None:
        self.drawing.outdated("pictures", "curves", "link", "notices")

    def _is_busy(self, busy: bool) -> None:
        self.busy = busy
        self.drawing.outdated("pictures", "setting", "notices")
        if not busy:  # the runner takes a job again when it has told of the end of this one
            asyncio.get_running_loop().call_soon(self._want_level)

    def act(self) -> None:
        """The button on the status line: stop, or go on."""
        if self.busy:
            self.stop()
        else:
            self.go_on()

    def stop(self) -> None:
        """Stop computing; what is on screen stays."""
        self.stopped = True
        self.computing.stop()
        self.drawing.outdated("notices")

    def go_on(self) -> None:
        """Compute what is missing."""
        self.stopped = False
        self._want()

    # Code and files

    def to_python(self) -> str:
        """What is on screen as Python that computes the same."""
        return saving.python(self._on_screen, self.tracks)

    @property
    def _on_screen(self) -> Setting:
        """The setting with what changes are really measured in."""
        return replace(self.state.setting, kind=self.kind)

    def _named(self, what: str) -> tuple[str, str]:
        saving.kind(what)
        side = saving.side(what)
        track = self.tracks[side] if side < len(self.tracks) else None
        return saving.file_name(track, what), saving.MIME[what]

    def file(self, what: str) -> bytes:
        """What is on screen as a file: "png" and "svg" (the view that is open), "csv" (the curves'
        numbers, flips and similarities), "nc" (the run, which can be opened again) and "nc2" (that
        of the second subject). Raises ExplorerError while there is nothing to save."""
        saving.kind(what)
        setting, side = self._on_screen, saving.side(what)
        if side >= len(setting.subjects):
            raise ExplorerError("One subject is on screen, and no second run to save.")
        sides = [
            Side(title, track, measured, self.computing.features.get((spec, setting.task)))
            for (title, measured), track, spec in zip(
                self.measured, self.tracks, setting.specs, strict=True
            )
            if track is not None and track.finished
            if measured is not None and measured.chunks is not None
        ]
        if len(sides) < len(setting.subjects):
            raise ExplorerError("No level is denoised to the end yet; save again in a moment.")
        if what == "csv":
            return saving.csv(sides, self.to_python())
        if saving.suffix(what) == "nc":
            data = saving.netcdf(setting.subjects[side], sides[side], self.to_python())
            self._saved = len(data)
            return data
        return saving.figure(setting, sides, what, self.to_python())

    async def _save(self, what: str) -> None:
        """Hand over the file; a run that no browser can hand back is said to be one."""
        self._saved = 0
        await super()._save(what)
        if sentence := runs.too_large("The saved run", self._saved):
            self.complain(sentence)

    # Displays and life

    def _make_display(self) -> Display:
        return Display(self)

    def to_ipywidget(self) -> Any:
        """The lens as an ipywidget; its `value` (the level) can be observed and set."""
        from explorer.app.diffusion.widget import DiffusionWidget

        return DiffusionWidget(self)

    async def settled(self) -> None:
        """Wait until everything on screen is complete (for scripts and tests)."""
        await self._settle(self.computing.runner)

    def close(self) -> None:
        """Stop computing and let go of threads. Called when a served session ends."""
        super().close()
        self.computing.close()


def _computed_for(setting: Setting) -> tuple[Any, ...]:
    """All of a setting that is computed, but for the slider's level."""
    return setting.specs, setting.kind, setting.view == "features", setting.task
