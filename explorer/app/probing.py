"""Linear probes as the heads of an open model: fitted once a process, for everybody who waits."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from explorer.compute import turns
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.models.model import Model
    from explorer.models.probes import ProbedModel

PROBE_TITLE = "linear probe"
"""What a base is called whose heads are linear probes (`explorer.models.probes`)."""
LOOK_EVERY = 0.1
"""Seconds between two looks at how far the fitting is."""

_log = logging.getLogger(__name__)


class Fitting:
    """The probes of one model, fitted task by task in a thread of their own.

    The thread works for as long as somebody waits; probes that are there stay. In a room it takes a
    turn a task.
    """

    def __init__(self, model: ProbedModel) -> None:
        self.model = model
        self.error: Exception | None = None
        """What ended it; whoever asks again needs another one."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting = 0

    @property
    def left(self) -> list[str]:
        """The tasks whose probes are still to be fitted."""
        return [task for task in self.model.all_tasks if not self.model.fitted(task)]

    def __str__(self) -> str:
        left, total = self.left, len(self.model.all_tasks)
        task = f": {left[0]}, {total - len(left) + 1} of {total}" if left else ""
        return f"fitting linear probes{task}…"

    async def wait(
        self, say: Callable[[str], None], wanted: Callable[[], bool]
    ) -> ProbedModel | None:
        """The model when all its probes are there; None as soon as it is ``wanted()`` no more.

        ``say`` is given a sentence on how far it is, now and then. Raises what ended the fitting.
        """
        said = ""
        with self._waited_for():
            while self.left:
                if self.error is not None:
                    raise self.error
                if not wanted():
                    return None
                self._go_on()
                if said != str(self):
                    said = str(self)
                    say(said)
                await asyncio.sleep(LOOK_EVERY)
        return self.model

    @contextmanager
    def _waited_for(self) -> Iterator[None]:
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def _go_on(self) -> None:
        """Have the thread work, unless it does."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._fit, daemon=True)
                self._thread.start()

    def _fit(self) -> None:
        try:
            for task in self.left:
                with turns.turn(self, preview=False):
                    if not self._waiting:
                        return
                    self.model.head(task)
        except ExplorerError as error:
            self.error = error
        except Exception as error:  # shown to those who wait
            from explorer.compute.device import memory_in_words

            _log.debug("fitting probes failed", exc_info=True)
            self.error = memory_in_words(error)
        finally:
            with self._lock:
                self._thread = None


def has_probes(model: Model) -> bool:
    """Whether a model's heads are linear probes."""
    return getattr(model, "unprobed", None) is not None


def is_closed(model: Model) -> bool:
    """Whether a model's own heads are linear probes, so that there is nothing to switch."""
    return model.base_title == PROBE_TITLE and not has_probes(model)


def without_probes(model: Model) -> Model:
    """The model whose heads are its own."""
    return getattr(model, "unprobed", model)


def is_fitted(model: ProbedModel) -> bool:
    """Whether all probes are there."""
    return all(model.fitted(task) for task in model.all_tasks)
