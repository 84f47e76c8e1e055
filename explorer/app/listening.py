"""What the browser says, and doing it to a lens. A browser may send anything, so it is checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from explorer.app import rules
from explorer.errors import ExplorerError

Message = Mapping[str, Any]
Actions = dict[str, Callable[[], Any]]

_log = logging.getLogger(__name__)


class Listening:
    """Messages of the toolbar and the notices, which every lens has; a lens adds its components'.

    One method for each component; each turns a message into one change of the lens's state.
    `truth` are the parts drawn again after a message, whether or not it was followed: the browser
    shows what a person did before it knows whether that was possible.
    """

    truth: tuple[str, ...] = ("recipe",)

    def __init__(self, lens: Any):
        self._lens = lens
        self._allowance = rules.allowance()

    def toolbar(self, message: Message) -> None:
        """Undo, redo, save a file."""
        self._do(message, self._tools(message))

    def _tools(self, message: Message) -> Actions:
        lens = self._lens
        return {
            "undo": lens.state.undo,
            "redo": lens.state.redo,
            "save": lambda: lens.save(str(message.get("what"))),
        }

    def notices(self, message: Message) -> None:
        """The status line is on screen; a sentence was dismissed; stop or go on computing."""
        self._do(message, self._status(message))

    def _status(self, message: Message) -> Actions:
        lens = self._lens
        return {
            "ready": lens.drawing.screen.ready,
            "dismiss": lambda: lens.dismiss(int(message["index"])),
            "action": lambda: lens.stop() if lens.busy else lens.go_on(),
        }

    def _do(self, message: Message, actions: Mapping[str, Callable[[], Any]]) -> None:
        """Do what was asked, or say in a sentence why not; then let the screen tell the truth."""
        action = actions.get(message["kind"])
        if action is None:
            return
        try:
            self._allowance.take(message["kind"])
            action()
        except ExplorerError as error:
            self._lens.complain(str(error))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            _log.warning("a message from the browser made no sense (%r)", error)
        self._lens.drawing.outdated(*self.truth, patient=True)
