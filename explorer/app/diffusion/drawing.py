"""The lens's components, each drawn from the lens's state by one function here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.app import rules
from explorer.app.components import Notices, Toolbar
from explorer.app.diffusion import links, packing, saving, words
from explorer.app.diffusion.actions import Actions
from explorer.app.diffusion.components import ExperimentPanel, Noising
from explorer.app.diffusion.opened import model_names
from explorer.app.diffusion.setting import METHODS
from explorer.app.drawing import LINK_BASE
from explorer.app.screen import Screen

if TYPE_CHECKING:
    from explorer.app.diffusion.display import Display
    from explorer.app.diffusion.lens import DiffusionLens
    from explorer.app.diffusion.tracks import Track


class Drawing:
    """Components of one lens, shared by its displays. `outdated(part, ...)` has parts redrawn.

    Parts: "setting" (slider, fields, undo), "link", "pictures" (what came back so far), "curves",
    "level" (what follows the slider on the curves), "notices".
    """

    def __init__(self, lens: DiffusionLens):
        self.lens = lens
        self.displays: list[Display] = []
        self.actions = actions = Actions(lens)
        self._fixed: tuple[Any, ...] = ()
        self._packed: dict[int, dict[str, tuple[tuple[Any, ...], dict[str, Any]]]] = {}
        uploads = rules.current().uploads
        self.noising = Noising(actions.noising, margin=(0, 12), uploads=uploads)
        self.panel = ExperimentPanel(actions.panel, uploads=uploads)
        self.toolbar = Toolbar(
            actions.toolbar, link_base=LINK_BASE, saves=[*saving.FILES], loads=False
        )
        self.notices = Notices(actions.notices)
        self.screen = Screen(
            {
                "setting": self._setting,
                "link": self._link,
                "pictures": self._pictures,
                "curves": self._curves,
                "level": self._level,
                "notices": self._notices,
            }
        )
        self.outdated = self.screen.outdated

    def _setting(self) -> None:
        lens = self.lens
        now, history = lens.state.setting, lens.state.history
        tasks = self._tasks()
        self.noising.param.update(
            heard={**self.noising.noted},
            level=now.level,
            steps=now.slider_steps,
            opacity=now.opacity,
            variant=now.variant,
            view=now.view,
        )
        self.panel.param.update(
            models=[*dict.fromkeys([*model_names(), *lens.computing.given])],
            subjects=[{"model": s.model, "picture": s.picture, "run": s.run} for s in now.subjects],
            examples=[packing.examples(pictures) for pictures in lens.examples],
            choices=self._choices(),
            values={
                "method": now.method,
                "kind": lens.kind,
                "task": now.task or next(iter(tasks), ""),
                "samples": now.samples,
                "steps": now.steps,
                "seed": now.seed,
                "data": now.data,
            },
            approximate=words.approximate(lens),
            heard=self.panel.heard + 1,
        )
        self.toolbar.param.update(
            can_undo=history.can_undo,
            can_redo=history.can_redo,
            saves=[*saving.FILES, *([saving.SECOND] if now.pair else [])],
        )
        for display in self.displays:
            display.draw_view()

    def _choices(self) -> dict[str, list[list[str]]]:
        lens, now = self.lens, self.lens.state.setting
        choices = {"method": METHODS, "kind": lens.computing.kinds(now)}
        pairs = {name: [[*pair] for pair in given.items()] for name, given in choices.items()}
        return {**pairs, "task": [[task, task] for task in self._tasks()]}

    def _tasks(self) -> list[str]:
        """Tasks to choose from, where a classifier looks."""
        return self.lens.tasks if self.lens.state.setting.view == "features" else []

    def _link(self) -> None:
        setting = self.lens.state.setting
        self.toolbar.param.update(query=links.to_query(setting), python=self.lens.to_python())

    def _pictures(self) -> None:
        """Pictures and noise when they are others, levels when one of them is finished."""
        tracks = [track for track in self.lens.tracks if track is not None]
        fixed = tuple(x for track in tracks for x in (track.picture, track.noise))
        if not _same(fixed, self._fixed):
            self._fixed = fixed
            self.noising.sides = [packing.side(track) for track in tracks]
            self._setting()
        rows = [self._levels(i, track) for i, track in enumerate(tracks)]
        # A preview that sharpens goes by itself: all levels together are many pictures.
        level, fresh = self.lens.state.setting.level, []
        for track, packed in zip(tracks, rows, strict=True):
            here = track.nearest(level)
            sharpens = here is not None and here.preview
            fresh.append(packed.pop(str(here.point)) if here is not None and sharpens else None)
        if rows != self.noising.rows:
            self.noising.rows = rows
        self.noising.param.update(fresh=fresh, note=self._note(bool(tracks)))

    def _levels(self, side: int, track: Track) -> dict[str, dict[str, Any]]:
        """Levels as the browser receives them, packed again only where something changed."""
        measured = self.lens.computing.measured_of(track.spec, self.lens.kind)
        known, packed = self._packed.setdefault(side, {}), {}
        for point, row in track.rows.items():
            key, field = str(point), measured.field_of(point) if measured else ()
            before = known.get(key)
            if before is None or not _same(before[0], (row, *field)):
                known[key] = before = ((row, *field), packing.row(row, measured))
            packed[key] = before[1]
        return packed

    def _note(self, opened: bool) -> str:
        if self.lens.busy:
            return "the first variants are being computed…" if opened else "opening the model…"
        return "" if opened else "choose a model, or open a saved run"

    def _curves(self) -> None:
        for display in self.displays:
            display.draw_curves()
        self.panel.approximate = words.approximate(self.lens)

    def _level(self) -> None:
        for display in self.displays:
            display.draw_level()

    def _notices(self) -> None:
        lens = self.lens
        action = "stop" if lens.busy else "go on" if lens.stopped and not lens.complete else ""
        self.notices.param.update(
            text=words.status(lens),
            busy=lens.busy,
            progress=lens.computing.progress,
            sentences=[*lens.sentences],
            action=action,
        )
        self.noising.note = self._note(lens.tracks[0] is not None)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two levels are drawn from the same arrays and numbers. Arrays are never changed."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(
        a == b if isinstance(a, float) else a is b for a, b in pairs
    )
