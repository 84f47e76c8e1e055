"""The models of this process: each opened once, its weights and images shared by all sessions."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from typing import TYPE_CHECKING

from explorer.errors import BusyError, UnknownNameError

if TYPE_CHECKING:
    from explorer.compute.engine import Engine
    from explorer.models.model import Model

KEPT = 3
"""Models kept open that nobody looks at any more, the last used."""


class Shelf:
    """Models by name. Those in use stay; of the others the last `KEPT` do."""

    def __init__(self) -> None:
        self.offered: frozenset[str] | None = None
        """The only names that may be opened, on a server for strangers; None: any name or path."""
        self.most: int | None = None
        """Different models that may be open at a time; None: no limit."""
        self.engines: int | None = None
        """How many engines the sessions of a model share, in turns; None: each has its own."""
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._kept: dict[str, Model] = {}
        self._alive: weakref.WeakValueDictionary[str, Model] = weakref.WeakValueDictionary()

    def open(self, name: str) -> Model:
        """The model of this name, shared. Raises ExplorerError, and BusyError for one too many."""
        if self.offered is not None and name not in self.offered:
            raise UnknownNameError("model", name, sorted(self.offered))
        with self._lock:
            model = self._alive.get(name)
            if model is None:
                self._check_room(name)
                from explorer.models.model import open_model

                self._alive[name] = model = open_model(name)
            self._keep(name, model)
            return model

    def engine(self, model: Model) -> Engine:
        """What a session measures with: its own merged weights, or those of a few for all."""
        if self.engines is None:
            return model.engine()
        return model.shared_engine(next(self._numbers) % self.engines)

    def opened(self, name: str) -> Model | None:
        """The model of this name if it is open; never waits."""
        return self._alive.get(name)

    def names(self) -> list[str]:
        """Names of the models in memory."""
        return sorted(self._alive)

    def _keep(self, name: str, model: Model) -> None:
        self._kept = {n: m for n, m in self._kept.items() if n != name} | {name: model}
        for oldest in [*self._kept][:-KEPT]:
            del self._kept[oldest]

    def _check_room(self, name: str) -> None:
        if self.most is None or len(self._alive) < self.most:
            return
        for unused in [*self._kept]:  # what nobody looks at makes room
            del self._kept[unused]
        gc.collect()  # a model and its parts know each other
        if len(self._alive) >= self.most:
            raise BusyError(
                f"{name} cannot be opened now: {self.most} models are open in this room already. "
                f"Choose one of them: {', '.join(self.names())}."
            )


SHELF = Shelf()


def open_shared(name: str) -> Model:
    """The model of this name, opened once a process. Raises ExplorerError."""
    return SHELF.open(name)


def engine_for(model: Model) -> Engine:
    """What a session of this process measures with."""
    return SHELF.engine(model)


def already_open(name: str) -> Model | None:
    """The model of this name if this process has it open; never waits."""
    return SHELF.opened(name)
