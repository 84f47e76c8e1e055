"""What the browser asks of the arithmetic lens, done to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.app import listening, presets
from explorer.app.listening import Listening, Message
from explorer.errors import ExplorerError
from explorer.recipe import Recipe

LARGEST_FILE = 1_000_000
"""Characters of a recipe file; the browser sends no larger ones."""


class Actions(Listening):
    """Messages of sliders, presets and gallery, and recipes loaded from a file."""

    def mixer(self, message: Message) -> None:
        """Sliders, switches, solo, focus; `task` is None for the slider of all tasks."""
        state, task, done = self._lens.state, message.get("task"), bool(message.get("done", True))

        def move(value: Any) -> None:
            if task is None:
                state.set_all(value, done)
            else:
                state.set_coefficient(task, value, done)

        self._do(
            message,
            {
                "set": lambda: move(message.get("value")),
                "reset": lambda: move(0.0),
                "toggle": lambda: state.switch(str(task), bool(message.get("on"))),
                "solo": lambda: state.toggle_solo(str(task)),
                "focus": lambda: state.look_at(str(task)),
            },
        )

    def presets(self, message: Message) -> None:
        """A recipe everybody wants first, by name."""
        lens, now, name = self._lens, self._lens.recipe, message.get("name")
        if name == "search" or (name == "addition" and lens.best is None):
            asked = {**message, "kind": "stop" if lens.searching else "search"}
            self._do(asked, {"search": lens.search, "stop": lens.search})
            return
        scale = presets.USUAL_COEFFICIENT if lens.best is None else lens.best
        made: dict[str, Callable[[], Recipe]] = {
            "zero_shot": lambda: presets.zero_shot(now),
            "addition": lambda: presets.addition(now, lens.model.tasks, scale),
            "single": lambda: presets.single(now, message["task"]),
            "forget": lambda: presets.forget(now, message["task"]),
            "analogy": lambda: presets.analogy(
                now, message["a"], message["b"], message["c"], scale
            ),
        }

        def apply() -> None:
            lens.state.replace(made[str(name)]())
            if "task" in message:
                lens.state.look_at(message["task"])

        self._do(message, {"preset": apply})

    def _tools(self, message: Message) -> listening.Actions:
        load = {"load": lambda: self._lens.state.replace(_read_recipe(message))}
        return super()._tools(message) | load

    def gallery(self, message: Message) -> None:
        """Which task's images, which page of them, all or only those whose label changed."""
        state, shown = self._lens.state, self._lens.images_shown

        def turn() -> None:
            last = shown.pages - 1 if shown else 0
            state.page = min(max(state.page + int(message["step"]), 0), last)

        def changed_only() -> None:
            state.changed_only = bool(message.get("on"))

        self._do(
            message,
            {
                "focus": lambda: state.look_at(str(message.get("task"))),
                "page": turn,
                "changed_only": changed_only,
            },
        )


def _read_recipe(message: Message) -> Recipe:
    text, name = message.get("text"), str(message.get("name", "the file"))[:80]
    if not isinstance(text, str) or len(text) > LARGEST_FILE:
        raise ExplorerError(f"{name} is larger than 1 MB; a recipe file is a few lines of JSON.")
    try:
        return Recipe.from_json(text)
    except ExplorerError as error:
        raise ExplorerError(f"{name} cannot be used: {error}") from None
