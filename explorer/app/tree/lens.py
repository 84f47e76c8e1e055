"""The hierarchy lens: a string of a tree grammar is noised and denoised exactly, and one sees what
changed together.

import explorer as ex
ex.HierarchyLens()
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import xarray as xr

from explorer.app.learning import saving as learning_saving
from explorer.app.learning.desk import Desk
from explorer.app.lens import Lens
from explorer.app.links import read
from explorer.app.tree import links, saving
from explorer.app.tree.computing import Computing, Picture
from explorer.app.tree.display import Display
from explorer.app.tree.drawing import Drawing
from explorer.app.tree.measured import Measured
from explorer.app.tree.setting import GrammarSpec, Setting, Sizes
from explorer.app.tree.state import TreeState, check_drawable
from explorer.app.tree.trajectory import Trajectory
from explorer.errors import ExplorerError, GrammarError

if TYPE_CHECKING:
    from explorer.hierarchy import Grammar


class HierarchyLens(Lens):
    """The Random Hierarchy Model as a tree, with the curves that theory predicts.

    Displays itself as the last line of a notebook cell; `page()` is the same as a page of its own,
    `to_ipywidget()` the same for composing with ipywidgets. `lens.result` is what is measured so
    far, as by `ex.hierarchy.forward_backward`; `lens.state` says what is on screen and can be
    changed: `lens.state.set_level(0.73)`.
    """

    topic = links.LENS

    def __init__(self, grammar: Grammar | None = None, query: str = ""):
        """grammar: an `ex.hierarchy.Grammar` to begin with. query: a link's query part.

        Raises GrammarError for a grammar whose strings cannot be drawn; what does not fit in query
        becomes a sentence on screen.
        """
        super().__init__()
        setting = Setting() if grammar is None else Setting(grammar=_spec_of(grammar))
        self.state = TreeState(setting)
        self.busy = self.stopped = False
        self._started = False
        self.computing = Computing(grammar, self._computed, self._failed, self._is_busy)
        self.desk = Desk(self._learnt, self._failed, self._desk_is_busy)
        self.drawing = Drawing(self)
        for sentence in links.apply(read(query), self.state):
            self.complain(sentence)
        self.state.forget_history()
        self._asked_for = self.state.setting
        self.state.param.watch(self._asked, ["setting"])
        self.drawing.screen.draw_now()

    # What is on screen

    @property
    def grammar(self) -> Grammar:
        """The grammar on screen."""
        return self.computing.grammar(self.state.setting.grammar)

    @property
    def trajectory(self) -> Trajectory | None:
        """The tree at every level: the one that belongs on screen, or the one before it."""
        return self.computing.trees.get(self.state.setting.tree, self._latest)

    _latest: Trajectory | None = None

    @property
    def measured(self) -> Measured | None:
        """The grammar's curves, as far as they are measured."""
        return self.computing.curves.get(self.state.setting.curves[0])

    @property
    def controls(self) -> dict[str, Measured]:
        """Control -> its curves, of the controls on screen."""
        specs = self.state.setting.curves[1:]
        known = self.computing.curves
        return {spec.control: known[spec] for spec in specs if spec in known}

    @property
    def result(self) -> xr.Dataset:
        """What is measured so far, as by `ex.hierarchy.forward_backward`."""
        if self.measured is None or not self.measured.rows:
            raise ExplorerError("Nothing is measured yet; ask again in a moment.")
        return self.measured.dataset()

    @property
    def complete(self) -> bool:
        """Whether everything that belongs on screen is computed."""
        return self.computing.complete

    # State -> computation -> screen

    def start(self) -> None:
        """Begin to compute, as soon as there is an event loop. Every display calls this."""
        if not self._started:
            self._started = True
            if self.learning:
                self.desk.open()
            else:
                self._want()
        self.computing.runner.resume()
        self.desk.runner.resume()

    def _asked(self, *_: Any) -> None:
        """The state asks for something else, or only for another level."""
        before, now = self._asked_for, self.state.setting
        self._asked_for = now
        if before.view != now.view:
            self._turned()
        if (before.scaled, before.examples) != (now.scaled, now.examples):
            self.drawing.outdated("link", "learning")
        if (before.tree, before.curves) == (now.tree, now.curves):
            self._moved()
            return
        if self._started and not self.learning:
            self.stopped = False
            self._want()
        self.drawing.outdated("setting", "link", "tree", "curves", "notices")

    @property
    def learning(self) -> bool:
        """Whether experiments on learning are on screen."""
        return self.state.setting.view == "learning"

    def _turned(self) -> None:
        """The other view is on screen: what belongs to it is computed, and nothing else."""
        if self._started and self.learning:
            self.computing.stop()
            self.desk.open()
        elif self._started:
            self.desk.stop()
            if not self.stopped and not self.complete:
                self._want()
        self.drawing.outdated("learning", "notices")

    def _learnt(self) -> None:
        self.drawing.outdated("learning", "notices")

    def _desk_is_busy(self, busy: bool) -> None:
        self.drawing.outdated("learning", "notices")

    def act(self) -> None:
        """The button on the status line: stop, or go on."""
        if self.learning or self.busy:
            self.stop()
        else:
            self.go_on()

    def _moved(self) -> None:
        """The slider stands at another level: measure there, unless the person stopped that."""
        self.computing.look_at(self.state.setting.level)
        if self._ready_for_more():
            self._want()
        self.drawing.outdated("setting", "link", "level")

    def _ready_for_more(self) -> bool:
        idle = self._started and not self.learning and not self.busy
        return idle and not self.stopped and not self.complete

    def _computed(self, picture: Picture) -> None:
        if isinstance(picture, Trajectory):
            if picture.spec == self.state.setting.tree:
                self._latest = picture
            self.drawing.outdated("tree", "notices")
        else:
            self.drawing.outdated("curves", "notices")

    def _is_busy(self, busy: bool) -> None:
        self.busy = busy
        self.drawing.outdated("tree", "notices")
        if not busy:  # the runner takes a job again when it has told of the end of this one
            asyncio.get_running_loop().call_soon(self._catch_up)

    def _catch_up(self) -> None:
        """The slider may have moved after the last level was chosen."""
        moved = self.state.setting.level != self._wanted_level
        if moved and self._ready_for_more():
            self._want()

    def _want(self) -> None:
        self._wanted_level = self.state.setting.level
        self.computing.want(self.state.setting)

    _wanted_level: float | None = None

    def stop(self) -> None:
        """Stop computing; what is on screen stays."""
        if self.learning:
            self.desk.stop()
        else:
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
        return learning_saving.python() if self.learning else saving.python(self.state.setting)

    def _named(self, what: str) -> tuple[str, str]:
        if self.learning:
            return f"rhm-learning.{what}", saving.MIME[saving.kind(what)]
        return saving.file_name(self.state.setting, what), saving.MIME[saving.kind(what)]

    def file(self, what: str) -> bytes:
        """What is on screen as a file: "png" and "svg" (tree and curves), "csv" (the curves'
        numbers), "nc" (everything measured, and the tree at every level)."""
        saving.kind(what)
        if self.learning:
            return learning_saving.file(self, what)
        setting, measured, trajectory = self.state.setting, self.measured, self.trajectory
        if measured is None or not measured.rows or trajectory is None:
            raise ExplorerError("Nothing is measured yet; save again in a moment.")
        if what == "csv":
            return saving.csv(setting, measured, self.controls)
        if what == "nc":
            return saving.netcdf(setting, measured, trajectory)
        return saving.figure(setting, measured, self.controls, trajectory, what)

    # Displays and life

    def _make_display(self) -> Display:
        return Display(self)

    def to_ipywidget(self) -> Any:
        """The lens as an ipywidget; its `value` (the level) can be observed and set."""
        from explorer.app.tree.widget import HierarchyWidget

        return HierarchyWidget(self)

    async def settled(self) -> None:
        """Wait until everything on screen is complete (for scripts and tests)."""
        await self._settle(self.desk.runner if self.learning else self.computing.runner)

    def close(self) -> None:
        """Stop computing and let go of threads. Called when a served session ends."""
        super().close()
        self.computing.close()
        self.desk.close()


def _spec_of(grammar: Grammar) -> GrammarSpec:
    """Sizes of a grammar handed to the lens, and its seed if that alone makes the same rules."""
    import numpy as np

    from explorer.hierarchy import Grammar

    if not isinstance(grammar, Grammar):
        raise GrammarError(f"HierarchyLens takes a Grammar, not {type(grammar).__name__}.")
    sizes = Sizes(grammar.v, grammar.m, grammar.s, grammar.L)
    check_drawable(sizes)
    if grammar.seed is not None and grammar.n_classes == grammar.v:
        again = Grammar.random(sizes.v, sizes.m, sizes.s, sizes.L, seed=grammar.seed)
        if all(np.array_equal(*pair) for pair in zip(again.tables, grammar.tables, strict=True)):
            return GrammarSpec(sizes, grammar.seed)
    return GrammarSpec(sizes, None)
