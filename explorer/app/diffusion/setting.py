"""What is on screen, as frozen data: which model and picture, how it is noised and denoised, how
much of it, and what is looked at. Pure data, so that a link, undo and Python code are functions
of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

METHODS = {
    "ddpm": "DDPM, ancestral",
    "ddim_eta1": "DDIM, η = 1",
    "dpm_sde": "DPM-Solver++ SDE",
    "ddim_preview": "DDIM, η = 0 (preview only)",
}
"""Samplers, and what they are called (`explorer.diffusion.samplers.SAMPLERS` without torch)."""
KINDS = {
    "blocks": "pixels in blocks",
    "clip": "CLIP patch tokens",
    "symbols": "symbols of tiles",
}
"""Change fields, and what they are called (those of `ex.change_field`)."""
VIEWS = {
    "variants": "Denoising",
    "filmstrip": "Same noise, all levels",
    "features": "Flips and features",
}
"""What is on screen: variants at one level, one noise at all levels, what a classifier sees."""
LEVELS = np.linspace(0.1, 1, 10).round(3)
"""Levels at which curves are measured, beside the slider's."""
CLASSIFIER = "glyphs"
"""The embedded model whose tower and classifiers look at the variants."""
UPLOAD = "upload-"
"""How the name of a picture that a person brought begins."""


@dataclass(frozen=True)
class Subject:
    """A model and the picture it noises: "3" is a number among its held-out ones,
    "upload-..." one that a person brought. ``run`` names a reopened run, which has its own picture
    and ``steps``; model and picture are then those to go back to."""

    model: str = ""
    picture: str = "0"
    run: str = ""
    steps: int = 0

    @property
    def uploaded(self) -> bool:
        """Whether the picture is a person's own, which no link can restore."""
        return self.picture.startswith(UPLOAD)


@dataclass(frozen=True)
class Spec:
    """Everything that the variants of one subject depend on, but the level."""

    subject: Subject
    samples: int = 16
    steps: int = 50
    seed: int = 0
    method: str = "ddpm"
    data: int = 1

    @property
    def points(self) -> list[int]:
        """The curves' levels as numbers of steps, rising."""
        return sorted({round(level * self.steps) for level in LEVELS.tolist()} - {0})

    def point(self, level: float) -> int:
        """A level as a number of steps."""
        return point(level, self.steps)


def point(level: float, steps: int) -> int:
    """The step nearest to a level; of two the higher, as in the browser."""
    return math.floor(level * steps + 0.5)


@dataclass(frozen=True)
class Setting:
    """All that a person can choose. ``subjects`` has two where two are compared."""

    subjects: tuple[Subject, ...] = (Subject(),)
    level: float = 0.5
    samples: int = 16
    steps: int = 50
    seed: int = 0
    method: str = "ddpm"
    data: int = 1
    """Pictures behind every mark of the curves: the chosen one and the model's next ones."""
    kind: str = "blocks"
    opacity: float = 0.6
    variant: int = 0
    view: str = "variants"
    task: str = ""
    """The task of "glyphs" whose classifier looks at the variants; empty for its first."""

    @property
    def specs(self) -> tuple[Spec, ...]:
        """What is computed: one a subject."""
        counts = (self.samples, self.steps, self.seed, self.method, self.data)
        return tuple(
            Spec(subject, steps=subject.steps or self.steps)
            if subject.run
            else Spec(subject, *counts)
            for subject in self.subjects
        )

    @property
    def slider_steps(self) -> int:
        """Steps of the slider from 0 to 1: those of the first subject, which may be a saved run."""
        return self.subjects[0].steps or self.steps

    @property
    def pair(self) -> bool:
        """Whether two subjects are compared."""
        return len(self.subjects) > 1
