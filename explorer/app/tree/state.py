"""What a session looks at through the hierarchy lens. Components are bound to this."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import param

from explorer.app.learning.curves import PANELS, panel_of
from explorer.app.setting_state import SettingState, number, whole
from explorer.app.tree.setting import (
    CONTROLS,
    PRESETS,
    PROCESSES,
    VIEWS,
    GrammarSpec,
    Setting,
    Sizes,
)
from explorer.errors import GrammarError, UnknownNameError

MOST_SYMBOLS = 256
MOST_LEAVES = 1024
"""More leaves than that are narrower than a pixel on most screens."""
MOST_DRAWS = 2**18
"""Strings times trajectories: above that one level of noise takes minutes on a CPU."""
SEEDS = ("grammar", "datum", "noise", "seed")


class TreeState(SettingState):
    """The lens's state: one frozen `Setting`."""

    setting = param.ClassSelector(class_=Setting, allow_refs=False)

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting or Setting())

    # Changes

    def set_level(self, level: Any, done: bool = True) -> None:
        """Level of noise; done False while the slider is dragged or plays."""
        number = _number(level, "The level of noise", 0, 1)
        self._change(gesture="level", done=done, level=round(number, 2) + 0.0)

    def set_sizes(self, v: Any, m: Any, s: Any, L: Any) -> None:
        """Another grammar. Raises GrammarError where none of these sizes exists or can be drawn."""
        sizes = Sizes(*(_size(x) for x in (v, m, s, L)))
        if sizes not in PRESETS:
            check_drawable(sizes)
        if sizes != self.setting.sizes:
            self._change(grammar=GrammarSpec(sizes, self.setting.grammar.seed or 0))

    def set_process(self, process: str) -> None:
        """How strings are noised."""
        if process not in PROCESSES:
            raise UnknownNameError("process", process, PROCESSES)
        self._change(process=process)

    def set_seed(self, what: str, value: Any) -> None:
        """Seed of "grammar" (its rules), "datum" (the string), "noise" (what is drawn), or "seed"
        (of the strings and trajectories behind the curves)."""
        if what not in SEEDS:
            raise UnknownNameError("seed", what, SEEDS)
        seed = _whole(value, f"The seed of {what}" if what != "seed" else "The seed", 0, 2**31 - 1)
        if what == "grammar":
            self._change(grammar=GrammarSpec(self.setting.sizes, seed))
        else:
            seeds: dict[str, Any] = {what: seed}
            self._change(**seeds)

    def renew(self, what: str) -> None:
        """Another grammar, datum or noise: the one of the next seed."""
        if what not in SEEDS:
            raise UnknownNameError("seed", what, SEEDS)
        now = self.setting.grammar.seed if what == "grammar" else getattr(self.setting, what)
        self.set_seed(what, 0 if now is None else now + 1)

    def set_counts(self, data: Any = None, samples: Any = None) -> None:
        """Strings, and trajectories of each, behind every mark of the curves."""
        now = self.setting
        data = _whole(now.data if data is None else data, "The number of strings", 1, 4096)
        samples = now.samples if samples is None else samples
        samples = _whole(samples, "The number of trajectories", 2, 4096)
        if data * samples > MOST_DRAWS:
            raise GrammarError(
                f"{data} strings × {samples} trajectories are {data * samples:,} draws a level; "
                f"choose at most {MOST_DRAWS:,} here, or use ex.hierarchy.forward_backward."
            )
        self._change(data=data, samples=samples)

    def show_control(self, control: str, on: bool) -> None:
        """Measure a control as well, or no longer."""
        if control not in CONTROLS:
            raise UnknownNameError("control", control, CONTROLS)
        self.set_controls([c for c in CONTROLS if (on if c == control else self._shows(c))])

    def set_controls(self, controls: Sequence[str]) -> None:
        """Measure these controls."""
        for control in controls:
            if control not in CONTROLS:
                raise UnknownNameError("control", control, CONTROLS)
        self._change(controls=tuple(c for c in CONTROLS if c in controls))

    def look_at(self, view: str) -> None:
        """Turn to a string denoised ("tree"), or to experiments on learning ("learning")."""
        if view not in VIEWS:
            raise UnknownNameError("view", view, VIEWS)
        self._change(view=view)

    def rescale(self, experiments: Sequence[str]) -> None:
        """Divide the axis of these experiments on learning by the law, and of no others."""
        for name in experiments:
            panel_of(name)
        self._change(scaled=tuple(name for name in PANELS if name in experiments))

    def examples(self, experiment: str) -> int:
        """With how many examples an experiment on learning is measured live."""
        usual = panel_of(experiment).usual
        return dict(self.setting.examples).get(experiment, usual)

    def choose_examples(self, examples: Mapping[str, Any]) -> None:
        """Measure these experiments live with so many examples: {name: number}."""
        asked = {name: panel_of(name).check(number) for name, number in examples.items()}
        chosen = {**dict(self.setting.examples), **asked}
        kept = [(n, chosen[n]) for n, p in PANELS.items() if chosen.get(n, p.usual) != p.usual]
        self._change(examples=tuple(kept))

    def _shows(self, control: str) -> bool:
        return control in self.setting.controls


def check_drawable(sizes: Sizes) -> None:
    """Raise GrammarError unless a grammar of these sizes exists and can be drawn."""
    from explorer.hierarchy.grammar import check_sizes

    check_sizes(sizes.v, sizes.m, sizes.s, sizes.L)
    if sizes.v > MOST_SYMBOLS:
        raise GrammarError(f"The lens shows at most {MOST_SYMBOLS} symbols, not v = {sizes.v}.")
    # In logarithms first, since s^L itself may be too long a number to make.
    if sizes.L * math.log(sizes.s) > math.log(MOST_LEAVES) + 1e-9:
        raise GrammarError(
            f"The lens draws strings of at most {MOST_LEAVES:,} leaves, and s^L = "
            f"{sizes.s}^{sizes.L} are more; choose a smaller L, or use ex.hierarchy without a "
            "screen."
        )


def _size(value: Any) -> Any:
    """A float without a fraction, as browsers send, as an int; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_number = partial(number, error=GrammarError)
_whole = partial(whole, error=GrammarError)
