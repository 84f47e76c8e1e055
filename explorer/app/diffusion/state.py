"""What a session looks at through the diffusion lens. Components are bound to this."""

from __future__ import annotations

from functools import partial
from typing import Any

import param

from explorer.app.diffusion.setting import KINDS, METHODS, VIEWS, Setting, Subject, point
from explorer.app.setting_state import SettingState, number, whole
from explorer.errors import ModelError, UnknownNameError

MOST_STEPS = 1000
MOST_SAMPLES = 256
MOST_PICTURES = 64
MOST_TRAJECTORIES = 1024
"""Variants of all pictures at one level: more take long, and much memory."""
LONGEST_NAME = 300


class DiffusionState(SettingState):
    """The lens's state: one frozen `Setting`."""

    setting = param.ClassSelector(class_=Setting, allow_refs=False)

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting or Setting())

    # Changes

    def set_level(self, level: Any, done: bool = True) -> None:
        """Level of noise; done False while the slider is dragged or plays."""
        number = _number(level, "The level of noise", 0, 1)
        level = _on_grid(number, self.setting.slider_steps)
        self._change(gesture="level", done=done, level=level)

    def choose_model(self, name: Any, side: int = 0) -> None:
        """A model by catalogue name, folder or hub id; its first held-out picture comes with it."""
        if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
            raise ModelError(
                f"A model is a name, a folder or a hub id of at most {LONGEST_NAME} letters, not "
                f"{str(name)[:60]!r}."
            )
        before = self._subject(side)
        picture = before.picture if before.uploaded else "0"
        self._put(side, Subject(name.strip(), picture))

    def choose_picture(self, picture: Any, side: int = 0) -> None:
        """One of the model's held-out pictures by number, or one that was uploaded by its name.

        Beside a reopened run it is of the model that was there before it.
        """
        text = str(picture)
        own = Subject(picture=text).uploaded
        if not own and not (text.isascii() and text.isdigit() and len(text) < 7):
            raise ModelError(f"A picture is the number of a held-out one, not {text[:60]!r}.")
        now = self._subject(side)
        if now.run and not now.model:
            raise ModelError(
                "A saved run has only its own picture; choose a model to noise another one."
            )
        self._put(side, Subject(now.model, text if own else str(int(text))))

    def show_run(self, run: str, steps: int, side: int = 0) -> None:
        """A run that was saved before, by the name under which it was reopened, and its steps."""
        before = self._subject(side)
        self._put(side, Subject(before.model, before.picture, run, steps))

    def compare(self, on: bool) -> None:
        """Show a second subject beside the first, or no longer."""
        first = self.setting.subjects[0]
        if not on:
            self._change(subjects=(first,))
        elif not self.setting.pair:
            self._change(subjects=(first, first))

    def set_counts(self, samples: Any = None, steps: Any = None, data: Any = None) -> None:
        """Variants a level, steps from all noise to none, pictures behind the curves."""
        now = self.setting
        samples = now.samples if samples is None else samples
        samples = _whole(samples, "The number of variants", 2, MOST_SAMPLES)
        steps = now.steps if steps is None else steps
        steps = _whole(steps, "The number of steps", 2, MOST_STEPS)
        data = now.data if data is None else data
        data = _whole(data, "The number of pictures", 1, MOST_PICTURES)
        if samples * data > MOST_TRAJECTORIES:
            raise ModelError(
                f"{samples} variants of {data} pictures are {samples * data:,} a level; choose at "
                f"most {MOST_TRAJECTORIES:,} here, or use ex.forward_backward without a screen."
            )
        self._change(
            samples=samples,
            steps=steps,
            data=data,
            level=_on_grid(now.level, now.subjects[0].steps or steps),
            variant=min(now.variant, samples - 1),
        )

    def set_seed(self, seed: Any) -> None:
        """Seed of the noise and of everything drawn while denoising."""
        self._change(seed=_whole(seed, "The seed", 0, 2**31 - 1))

    def set_method(self, method: str) -> None:
        """How it is denoised."""
        self._change(method=_known("sampler", method, METHODS))

    def set_kind(self, kind: str) -> None:
        """What a change is measured in."""
        self._change(kind=_known("kind of change field", kind, KINDS))

    def set_task(self, task: str) -> None:
        """The classifier that looks at the variants: the fine-tuned one of a task of "glyphs"."""
        self._change(task=str(task)[:LONGEST_NAME])

    def set_opacity(self, opacity: Any, done: bool = True) -> None:
        """Of the change map over the variant, 0 to 1."""
        number = round(_number(opacity, "The opacity", 0, 1), 2)
        self._change(gesture="opacity", done=done, opacity=number)

    def choose_variant(self, number: Any) -> None:
        """The variant shown large, counted from 0."""
        last = self.setting.samples - 1
        self._change(variant=min(_whole(number, "The variant", 0, MOST_SAMPLES), last))

    def look_at(self, view: str) -> None:
        """Turn to one of `VIEWS`."""
        self._change(view=_known("view", view, VIEWS))

    def _subject(self, side: Any) -> Subject:
        if side not in range(len(self.setting.subjects)):
            raise ModelError(f"There is no side {side!r}: two subjects are shown only in pairs.")
        return self.setting.subjects[side]

    def _put(self, side: int, subject: Subject) -> None:
        self._subject(side)
        subjects = [*self.setting.subjects]
        subjects[side] = subject
        steps = subjects[0].steps or self.setting.steps
        self._change(subjects=tuple(subjects), level=_on_grid(self.setting.level, steps))


def _on_grid(level: float, steps: int) -> float:
    """Levels are whole numbers of steps."""
    return round(point(level, steps) / steps, 6)


def _known(what: str, name: str, choices: Any) -> str:
    if name not in choices:
        raise UnknownNameError(what, name, choices)
    return name


_number = partial(number, error=ModelError)
_whole = partial(whole, error=ModelError)
