"""The lens's components, each drawn from the lens's state by one function here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.app.components import Notices, Toolbar
from explorer.app.drawing import LINK_BASE
from explorer.app.learning.drawing import Heads
from explorer.app.screen import Screen
from explorer.app.tree import links, saving
from explorer.app.tree.actions import Actions
from explorer.app.tree.components import GrammarPanel, Tree
from explorer.app.tree.measured import levels_of
from explorer.app.tree.packing import packed
from explorer.app.tree.palette import CONTROL_LINES
from explorer.app.tree.setting import (
    CONTROLS,
    LEVEL_NAMES,
    LEVEL_SYMBOLS,
    PRESETS,
    PROCESSES,
)

if TYPE_CHECKING:
    from explorer.app.tree.display import Display
    from explorer.app.tree.lens import HierarchyLens
    from explorer.app.tree.trajectory import Trajectory


class Drawing:
    """Components of one lens, shared by its displays. `outdated(part, ...)` has parts redrawn.

    Parts: "setting" (slider, fields, undo), "link", "tree", "curves", "level" (what follows the
    slider on the curves), "learning", "notices".
    """

    def __init__(self, lens: HierarchyLens):
        self.lens = lens
        self.displays: list[Display] = []
        self.actions = actions = Actions(lens)
        self._packed: Trajectory | None = None
        self.tree = Tree(actions.tree, margin=(0, 12))
        self.grammar = GrammarPanel(
            actions.grammar,
            presets=[
                {"sizes": [p.v, p.m, p.s, p.L], "title": title} for p, title in PRESETS.items()
            ],
            processes=[{"name": name, "title": title} for name, title in PROCESSES.items()],
            all_controls=[
                {"name": name, "title": title, "colour": CONTROL_LINES[name]}
                for name, title in CONTROLS.items()
            ],
        )
        self.heads = Heads(lens, actions.learning)
        self.toolbar = Toolbar(
            actions.toolbar, link_base=LINK_BASE, saves=[*saving.FILES], loads=False
        )
        self.notices = Notices(actions.notices)
        self.screen = Screen(
            {
                "setting": self._setting,
                "link": self._link,
                "tree": self._tree,
                "curves": self._curves,
                "level": self._level,
                "learning": self._learning,
                "notices": self._notices,
            }
        )
        self.outdated = self.screen.outdated

    def _setting(self) -> None:
        state = self.lens.state
        now, sizes, history = state.setting, state.setting.sizes, state.history
        theory = self.lens.measured.theory if self.lens.measured is not None else None
        threshold = theory.threshold if theory is not None else 0.0
        self.tree.param.update(
            heard={**self.tree.noted},
            level=now.level,
            name_of_level=LEVEL_SYMBOLS[now.process],
            title=LEVEL_NAMES[now.process],
            threshold=threshold if threshold == threshold else 0.0,
        )
        self.grammar.param.update(
            sizes=[sizes.v, sizes.m, sizes.s, sizes.L],
            process=now.process,
            seeds={
                "grammar": now.grammar.seed,
                "datum": now.datum,
                "noise": now.noise,
                "seed": now.seed,
            },
            counts={"data": now.data, "samples": now.samples},
            controls=[*now.controls],
            heard=self.grammar.heard + 1,
        )
        self.toolbar.param.update(can_undo=history.can_undo, can_redo=history.can_redo)

    def _link(self) -> None:
        setting = self.lens.state.setting
        self.toolbar.param.update(query=links.to_query(setting), python=self.lens.to_python())

    def _tree(self) -> None:
        trajectory = self.lens.trajectory
        if trajectory is not None and trajectory is not self._packed:
            self._packed = trajectory
            self.tree.picture = packed(trajectory)
        stale = trajectory is not None and trajectory.spec != self.lens.state.setting.tree
        self.tree.note = "growing another tree…" if stale and self.lens.busy else ""

    def _curves(self) -> None:
        for display in self.displays:
            display.draw_curves()
        self._setting()  # the threshold comes with the theory

    def _level(self) -> None:
        for display in self.displays:
            display.draw_level()

    def _learning(self) -> None:
        self.heads.draw()
        for display in self.displays:
            display.draw_learning()

    def _notices(self) -> None:
        lens = self.lens
        if lens.state.setting.view == "learning":
            self.notices.param.update(
                text=self.heads.status(),
                busy=lens.desk.runner.busy,
                progress=lens.desk.progress,
                sentences=[*lens.sentences],
                action="stop" if lens.desk.measuring else "",
            )
            return
        action = "stop" if lens.busy else "go on" if lens.stopped and not lens.complete else ""
        self.notices.param.update(
            text=self._status(),
            busy=lens.busy,
            progress=lens.computing.progress,
            sentences=[*lens.sentences],
            action=action,
        )

    def _status(self) -> str:
        """Which grammar this is, and how far the curves are."""
        lens = self.lens
        now, measured = lens.state.setting, lens.measured
        seed = (
            "given rules, which no link holds"
            if now.grammar.seed is None
            else f"rules of seed {now.grammar.seed}"
        )
        what = f"{now.sizes}, {seed}"
        done = measured.done if measured is not None else 0
        total = len(levels_of(now.curves[0]))
        counts = f"{now.data} strings × {now.samples} trajectories a level, seed {now.seed}"
        if lens.trajectory is None or lens.trajectory.spec != now.tree:
            return f"{what} · growing the tree…"
        if not lens.trajectory.complete:
            return f"{what} · the tree's finer levels are being computed…"
        levels = f"{total}" if done == total else f"{done} of {total}"
        stopped = " · stopped" if lens.stopped and not lens.complete else ""
        return f"{what} · curves: {levels} levels, {counts}{stopped}"
