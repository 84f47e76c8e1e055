"""What is on screen, as frozen data: which grammar, which string, how it is noised, how much is
measured. Pure data, so that a link, undo and Python code are functions of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = np.linspace(0, 1, 101).round(2)
"""Levels of noise at which the tree is known: one a step of the slider."""
MEASURED_LEVELS = np.linspace(0, 1, 41).round(3)
"""Levels at which curves are measured."""

PROCESSES = {
    "epsilon": "belief mixing",
    "masking": "masking",
    "uniform": "uniform flips",
    "gaussian": "Gaussian noise",
}
"""Ways to noise a string, and what they are called (`ex.hierarchy.PROCESSES` without torch)."""
LEVEL_NAMES = {
    "epsilon": "belief mixing ε",
    "masking": "share of leaves masked, t/T",
    "uniform": "probability that a leaf is redrawn",
    "gaussian": "noise variance 1 − ᾱ",
}
LEVEL_SYMBOLS = {"epsilon": "ε", "masking": "t/T", "uniform": "flips", "gaussian": "1 − ᾱ"}
VIEWS = {"tree": "Denoising", "learning": "Learning"}
"""What is on screen: a string denoised, or experiments on learning."""
CONTROLS = {"mixture": "flat mixture", "field": "Gaussian field"}
"""Models without a hierarchy, measured like the grammar."""
CONTROL_LEVELS = {"mixture": LEVEL_SYMBOLS["epsilon"], "field": LEVEL_SYMBOLS["gaussian"]}
"""How each control is noised, whatever the grammar's process."""


@dataclass(frozen=True)
class Sizes:
    """A grammar's sizes: v symbols, m rules a symbol, s children a node, L levels."""

    v: int
    m: int
    s: int
    L: int

    @property
    def leaves(self) -> int:
        """Length of a string."""
        return self.s**self.L

    def __str__(self) -> str:
        return f"v = {self.v}, m = {self.m}, s = {self.s}, L = {self.L}"


PRESETS = {
    Sizes(32, 8, 2, 7): "a sharp transition",
    Sizes(64, 8, 2, 7): "χ diverges with L",
    Sizes(8, 2, 2, 6): "χ saturates",
    Sizes(8, 4, 3, 5): "three children a node",
}
"""Grammars to begin with, and what they are good for."""


@dataclass(frozen=True)
class GrammarSpec:
    """Which rules. `seed` None: those of the grammar that was handed to the lens."""

    sizes: Sizes
    seed: int | None = 0


@dataclass(frozen=True)
class TreeSpec:
    """Everything that the tree on screen depends on, but the level of noise."""

    grammar: GrammarSpec
    process: str = "epsilon"
    datum: int = 0
    noise: int = 0


@dataclass(frozen=True)
class CurveSpec:
    """Everything that measured curves depend on. `control` "" is the grammar itself."""

    grammar: GrammarSpec
    process: str = "epsilon"
    data: int = 64
    samples: int = 64
    seed: int = 0
    control: str = ""

    @property
    def title(self) -> str:
        """What is measured, for legends."""
        return CONTROLS.get(self.control, "Random Hierarchy Model")


@dataclass(frozen=True)
class Setting:
    """All that a person can choose."""

    grammar: GrammarSpec = GrammarSpec(Sizes(32, 8, 2, 7))
    process: str = "epsilon"
    level: float = 0.7
    datum: int = 0
    noise: int = 0
    data: int = 64
    samples: int = 64
    seed: int = 0
    # A peak of chi alone proves no hierarchy, so that the controls are there unless put away.
    controls: tuple[str, ...] = tuple(CONTROLS)
    view: str = "tree"
    scaled: tuple[str, ...] = ()
    """Experiments on learning whose axis is divided by the law."""
    examples: tuple[tuple[str, int], ...] = ()
    """With how many examples they are measured live, of those where a person chose that."""

    @property
    def sizes(self) -> Sizes:
        return self.grammar.sizes

    @property
    def tree(self) -> TreeSpec:
        """The tree that belongs on screen."""
        return TreeSpec(self.grammar, self.process, self.datum, self.noise)

    @property
    def curves(self) -> list[CurveSpec]:
        """The curves that belong on screen: the grammar's, then those of the controls."""
        counts = (self.data, self.samples, self.seed)
        # The rules play no part in a control, nor does the process: it has one of its own.
        of_controls = [
            CurveSpec(GrammarSpec(self.sizes), "", *counts, control) for control in self.controls
        ]
        return [CurveSpec(self.grammar, self.process, *counts), *of_controls]
