"""Undo and redo: a list of recipes, or of other frozen settings, and a place in it.

A drag is one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

Setting = TypeVar("Setting")

PAUSE = 0.8
"""Seconds after which a second key press on the same slider is a new step."""
LONGEST = 200
"""Recipes remembered."""


class History(Generic[Setting]):
    """The recipes a session went through.

    `record` is called for every change. Changes that belong to one gesture (the same slider held,
    or the same key pressed again within `PAUSE` seconds) make one step together.
    """

    def __init__(self, recipe: Setting, clock: Callable[[], float] = time.monotonic):
        self._recipes = [recipe]
        self._at = 0
        self._gesture: str | None = None
        self._held = False
        self._when = 0.0
        self._clock = clock

    @property
    def current(self) -> Setting:
        return self._recipes[self._at]

    @property
    def can_undo(self) -> bool:
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        return self._at < len(self._recipes) - 1

    @property
    def held(self) -> bool:
        """Whether a gesture is going on: a slider is held, or plays."""
        return self._held

    def record(self, recipe: Setting, gesture: str | None = None, done: bool = True) -> bool:
        """Remember recipe; `done` False says that the gesture (a drag) is still going on.

        Returns whether recipe begins a new step.
        """
        now = self._clock()
        same = gesture is not None and gesture == self._gesture
        joins = same and (self._held or now - self._when < PAUSE)
        self._gesture, self._held, self._when = gesture, not done, now
        if recipe == self.current:
            return False
        del self._recipes[self._at + 1 :]
        joins = joins and self._at > 0
        if joins:
            self._recipes[self._at] = recipe
        else:
            self._recipes.append(recipe)
            del self._recipes[:-LONGEST]
        self._at = len(self._recipes) - 1
        return not joins

    def undo(self) -> Setting:
        """One step back; at the first recipe, that recipe."""
        return self._go(-1)

    def redo(self) -> Setting:
        """One step forward; at the last recipe, that recipe."""
        return self._go(+1)

    def _go(self, step: int) -> Setting:
        self._gesture, self._held = None, False
        self._at = min(max(self._at + step, 0), len(self._recipes) - 1)
        return self.current
