"""The state of a lens that is one frozen setting: changed by replacing fields, undone in steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import param

from explorer.app.history import History
from explorer.errors import ExplorerError


class SettingState(param.Parameterized):
    """Base of such states; a subclass says which class `setting` is of.

    Change it through the subclass's methods: they validate and remember, so that undo is a list of
    settings.
    """

    setting: Any = param.Parameter(allow_refs=False)

    def __init__(self, setting: Any):
        super().__init__(setting=setting)
        self.history = History(self.setting)

    def undo(self) -> None:
        self.setting = self.history.undo()

    def redo(self) -> None:
        self.setting = self.history.redo()

    def forget_history(self) -> None:
        """Let the present setting be the first."""
        self.history = History(self.setting)

    def _change(self, gesture: str | None = None, done: bool = True, **changes: Any) -> None:
        setting = dataclasses.replace(self.setting, **changes)
        self.history.record(setting, gesture, done)
        self.setting = setting


def number(value: Any, name: str, low: float, high: float, *, error: type[ExplorerError]) -> float:
    """value, if it is a number from low to high; raises error with a sentence that names it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise error(f"{name} must be a number between {low:g} and {high:g}, not {value!r}.")
    return float(value)


def whole(value: Any, name: str, low: int, high: int, *, error: type[ExplorerError]) -> int:
    """value, if it is a whole number from low to high; raises error with a sentence."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise error(f"{name} must be a whole number from {low} to {high:,}, not {value!r}.")
    return value
