"""The lens's only door to computation, in one worker thread: the tree first, then the curves.

Levels of noise are independent and use the same random numbers whichever of them are asked for. So
a curve is measured level by level, keeps what it has when something else becomes urgent, and the
level that the slider stands at is measured before all others.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.runner import Job, Runner
from explorer.app.tree.measured import Measured, Row, Theory, levels_of, passes
from explorer.app.tree.setting import CurveSpec, GrammarSpec, Setting, TreeSpec
from explorer.app.tree.trajectory import Trajectory, trajectories
from explorer.errors import RunCancelled

if TYPE_CHECKING:
    from explorer.hierarchy import Grammar

PACE = 0.1
"""Seconds between two pictures of the curves: at most ten a second reach the browser."""
REMEMBERED = 24
"""Trees, and specs of curves, kept in memory: the last used."""
THEORY_LEVELS = np.linspace(0, 1, 201).round(3)
Picture = Trajectory | Measured


class Steps:
    """The run of one job: yields a picture whenever one moved on."""

    def __init__(self, computing: Computing, setting: Setting):
        self._computing, self._setting = computing, setting
        self._stopped = threading.Event()
        self._run: Any = None

    def __iter__(self) -> Iterator[Picture]:
        try:
            yield from self._tree(self._setting.tree)
            for spec in self._setting.curves:
                yield from self._curve(spec)
        except RunCancelled:
            return

    def _tree(self, spec: TreeSpec) -> Iterator[Trajectory]:
        computing = self._computing
        known = computing.trees.get(spec)
        if known is None or not known.complete:
            g = computing.grammar(spec.grammar)
            for trajectory in trajectories(g, spec, self._checkpoint):
                computing.keep_tree(trajectory)
                yield trajectory

    def _curve(self, spec: CurveSpec) -> Iterator[Measured]:
        """Measure what is missing, yielding at `PACE`, and at the end."""
        computing, shown_at = self._computing, 0.0
        computing.begin(spec)
        while (level := computing.next_level(spec)) is not None:
            self._checkpoint()
            computing.keep_row(spec, level, self._measure(spec, level))
            done = computing.next_level(spec) is None
            if done or time.monotonic() - shown_at >= PACE:
                yield computing.curves[spec]
                shown_at = time.monotonic()

    def _measure(self, spec: CurveSpec, level: float) -> Row:
        self._run = self._computing.run_of(spec, level)
        if self._stopped.is_set():  # while it was being made
            self._run.cancel()
        return Row.of(self._run.result(show_progress=False))

    def _checkpoint(self) -> None:
        if self._stopped.is_set():
            raise RunCancelled("Something else is wanted now.")

    @property
    def progress(self) -> float:
        return self._computing.progress

    def cancel(self) -> None:
        """Stop within one batch; every level measured so far is kept."""
        self._stopped.set()
        if self._run is not None:
            self._run.cancel()


class Computing:
    """One session's trees and curves. `show(picture)` is told of every picture."""

    def __init__(
        self,
        given: Grammar | None,
        show: Callable[[Picture], None],
        failed: Callable[[Exception], None],
        on_busy: Callable[[bool], None],
    ):
        self.runner = Runner(on_busy)
        self.trees: dict[TreeSpec, Trajectory] = {}
        self.curves: dict[CurveSpec, Measured] = {}
        self._given, self._show, self._failed = given, show, failed
        self._setting = Setting()
        self._grammars: dict[GrammarSpec, Grammar] = {}

    # What is wanted

    def want(self, setting: Setting) -> None:
        """Compute what belongs to a setting, and nothing else."""
        self._setting = setting
        self.runner.submit(
            Job(lambda: Steps(self, setting), lambda picture, _: self._show(picture), self._failed)
        )

    def look_at(self, level: float) -> None:
        """The slider stands at another level: that one is measured next."""
        self._setting = dataclasses.replace(self._setting, level=level)

    def stop(self) -> None:
        """Cancel what is under way; what is known stays."""
        self.runner.cancel()

    @property
    def progress(self) -> float:
        """Share of the levels of all curves that are measured."""
        specs = self._setting.curves
        done = sum(self.curves[spec].done for spec in specs if spec in self.curves)
        return done / sum(len(levels_of(spec)) for spec in specs)

    @property
    def complete(self) -> bool:
        """Whether nothing that the setting asks for is missing."""
        tree = self.trees.get(self._setting.tree)
        return (
            tree is not None
            and tree.complete
            and all(
                spec in self.curves and self.next_level(spec) is None
                for spec in self._setting.curves
            )
        )

    # What is known. Written by the worker thread, one assignment at a time.

    def grammar(self, spec: GrammarSpec) -> Grammar:
        """The rules, made when they are first needed."""
        from explorer.hierarchy import Grammar

        if spec.seed is None and self._given is not None:
            return self._given
        if spec not in self._grammars:
            sizes = spec.sizes
            made = Grammar.random(sizes.v, sizes.m, sizes.s, sizes.L, seed=spec.seed or 0)
            self._grammars = {spec: made}  # compiled rules are cached by the grammar's identity
        return self._grammars[spec]

    def keep_tree(self, trajectory: Trajectory) -> None:
        self.trees = _newest({**self.trees, trajectory.spec: trajectory})

    def begin(self, spec: CurveSpec) -> None:
        """Compute a curve's theory, where there is one."""
        if spec not in self.curves:
            self.curves = _newest({**self.curves, spec: Measured(spec, {}, theory_of(spec))})

    def keep_row(self, spec: CurveSpec, level: float, row: Row) -> None:
        known = self.curves[spec]
        measured = Measured(spec, {**known.rows, level: row}, known.theory)
        self.curves = {**self.curves, spec: measured}

    def next_level(self, spec: CurveSpec) -> float | None:
        """The slider's level, then a coarse grid, then finer ones, each from the slider outwards.

        None when all are measured.
        """
        at, rows = self._setting.level, self.curves[spec].rows
        first = [] if spec.control else [[at]]
        for levels in (*first, *passes(spec)):
            missing = [level for level in levels if level not in rows]
            if missing:
                return min(missing, key=lambda level: abs(level - at))
        return None

    def run_of(self, spec: CurveSpec, level: float) -> Any:
        """The run that measures one level."""
        from explorer import hierarchy

        sizes, counts = spec.grammar.sizes, (spec.data, spec.samples)
        if spec.control == "mixture":
            v, m, s, L = sizes.v, min(sizes.m, sizes.v), sizes.s, sizes.L
            return hierarchy.flat_mixture(v, m, s, L, [level], *counts, spec.seed)
        if spec.control == "field":
            return hierarchy.gaussian_field(
                sizes.s, sizes.L, [level], data=spec.data, samples=spec.samples, seed=spec.seed
            )
        g = self.grammar(spec.grammar)
        return hierarchy.forward_backward(g, [level], *counts, spec.process, spec.seed, shown=0)

    def close(self) -> None:
        """Stop what is under way, within one batch."""
        self.stop()
        self.runner.close()


def theory_of(spec: CurveSpec) -> Theory | None:
    """Mean field of the epsilon process; there is none of the other processes and the controls."""
    if spec.process != "epsilon" or spec.control:
        return None
    from explorer.hierarchy import mean_field

    sizes = spec.grammar.sizes
    return Theory(mean_field(sizes.v, sizes.m, sizes.s, sizes.L, THEORY_LEVELS))


def _newest(known: dict) -> dict:
    return dict([*known.items()][-REMEMBERED:])
