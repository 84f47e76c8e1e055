"""The models of this process: each opened once, its weights and images shared by all sessions."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from explorer.app.picker.remembered import restored
from explorer.app.probing import Fitting, is_closed, is_fitted, without_probes
from explorer.errors import BusyError, ExplorerError, UnknownNameError

if TYPE_CHECKING:
    from explorer.compute.engine import Engine
    from explorer.models.model import Model
    from explorer.models.probes import ProbedModel

ADDED = "+"
"""Between a model's name and those of the tasks that were added to it."""
MOST_ADDED = 50
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
        self._lock = threading.Lock()  # of the books only: nobody waits here for another's model
        self._opening: dict[str, Future[Model]] = {}
        self._kept: dict[str, tuple[Model, ...]] = {}  # with its probes, where there are some
        self._alive: weakref.WeakValueDictionary[str, Model] = weakref.WeakValueDictionary()
        self._probed: weakref.WeakValueDictionary[str, ProbedModel] = weakref.WeakValueDictionary()
        self._fittings: weakref.WeakValueDictionary[str, Fitting] = weakref.WeakValueDictionary()

    def open(self, name: str) -> Model:
        """The model of this name, shared. Raises ExplorerError, and BusyError for one too many.

        Several who ask for one model wait for the same opening; other models wait for nothing.
        """
        if self.offered is not None and name not in self.offered:
            raise UnknownNameError("model", name, sorted(self.offered))
        with self._lock:
            model = self._find(name)
            if model is not None:
                return model
            opening = self._opening.get(name)
            if opening is None:
                self._check_room(name)
                mine = self._opening[name] = Future()
        return opening.result() if opening is not None else self._open(name, mine)

    def fitting(self, name: str) -> Fitting:
        """The fitting of linear probes to the model of this name, shared. Raises as ``open``.

        It takes no memory to speak of: weights, images and features are the model's.
        """
        from explorer.models.probes import with_probes

        model = self.open(name)
        with self._lock:
            probed = self._probed.get(name)
            if probed is None or probed.unprobed is not model:
                probed = self._probed[name] = with_probes(model)
            self._keep(name, model, probed)
            fitting = self._fittings.get(name)
            if fitting is None or fitting.model is not probed or fitting.error is not None:
                fitting = self._fittings[name] = Fitting(probed)
            return fitting

    def put(self, model: Model) -> None:
        """Let a model that was made of another be opened by its name. Raises BusyError."""
        with self._lock:
            self._check_room(model.name)
            if self.offered is not None:
                self.offered |= {model.name}
            self._alive[model.name] = model
            self._keep(model.name, model)

    def _open(self, name: str, opening: Future[Model]) -> Model:
        """Open it, for everybody who waits for `opening`."""
        try:
            model = self._made(name)
        except BaseException as error:
            with self._lock:
                del self._opening[name]
            opening.set_exception(error)
            raise
        with self._lock:
            self._alive[name] = model
            self._keep(name, model)
            del self._opening[name]
        opening.set_result(model)
        return model

    def _made(self, name: str) -> Model:
        """The model of this name, or with the tasks that were once added to one by their paths."""
        from explorer.models.model import open_model

        try:
            return open_model(name)
        except ExplorerError:
            made = restored(name, self.open) if self.offered is None and ADDED in name else None
            if made is None:
                raise
            return made

    def _find(self, name: str) -> Model | None:
        """An open model, now the last used. The lock is held."""
        model = self._alive.get(name)
        if model is not None:
            self._keep(name, model)
        return model

    def engine(self, model: Model) -> Engine:
        """What a session measures with: its own merged weights, or those of a few for all."""
        if self.engines is None:
            return model.engine()
        return model.shared_engine(next(self._numbers) % self.engines)

    def opened(self, name: str) -> Model | None:
        """The model of this name if it is open, now the last used; never waits for an opening."""
        with self._lock:
            return self._find(name)

    def probed(self, name: str) -> ProbedModel | None:
        """The model of this name with its probes, if all of them are fitted; never waits."""
        with self._lock:
            model, probed = self._find(name), self._probed.get(name)
            if model is None or probed is None or probed.unprobed is not model:
                return None
            self._keep(name, model, probed)
            return probed if is_fitted(probed) else None

    def names(self) -> list[str]:
        """Names of the models in memory."""
        return sorted(self._alive)

    def _keep(self, name: str, *models: Model) -> None:
        """Keep these models of one name, which is now the last used. The lock is held."""
        before = self._kept.pop(name, ())
        probed = [m for m in before if m not in models and without_probes(m) in models]
        self._kept[name] = (*models, *probed)
        for oldest in [*self._kept][:-KEPT]:
            del self._kept[oldest]

    def _check_room(self, name: str) -> None:
        """Raise BusyError if one more model would be too many, also counting those on their way."""
        if self.most is None or self._number() < self.most:
            return
        for unused in [*self._kept]:  # what nobody looks at makes room
            del self._kept[unused]
        gc.collect()  # a model and its parts know each other
        if self._number() >= self.most:
            raise BusyError(
                f"{name} cannot be opened now: {self.most} models are open in this room already. "
                f"Choose one of them: {', '.join(sorted({*self._alive, *self._opening}))}."
            )

    def _number(self) -> int:
        return len({*self._alive, *self._opening})


SHELF = Shelf()


def open_shared(name: str) -> Model:
    """The model of this name, opened once a process. Raises ExplorerError."""
    return SHELF.open(name)


def engine_for(model: Model) -> Engine:
    """What a session of this process measures with."""
    return SHELF.engine(model)


def part_that_opens(name: str) -> str:
    """Of a name with added tasks that does not open, the longest beginning that does, or nothing.

    It is open then. Raises BusyError.
    """
    for _ in range(MOST_ADDED):
        name, added, _task = name.rpartition(ADDED)
        if not added:
            break
        try:
            return SHELF.open(name).name
        except BusyError:
            raise
        except ExplorerError:  # then without one more of the tasks
            continue
    return ""


async def open_probed(
    name: str, say: Callable[[str], None], wanted: Callable[[], bool]
) -> Model | None:
    """The model of this name with linear probes as heads, fitted once a process.

    ``say`` is told how far it is. None as soon as it is ``wanted()`` no more; a model of which
    something else is missing is not fitted, and one that has probes of its own is as it is.
    Raises ExplorerError.
    """
    model = await asyncio.to_thread(SHELF.open, name)
    if is_closed(model):
        return model
    fitting = await asyncio.to_thread(SHELF.fitting, name)
    return fitting.model if fitting.model.missing else await fitting.wait(say, wanted)


def already_probed(name: str) -> Model | None:
    """The same if this process has it open and fitted; never waits."""
    model = SHELF.opened(name)
    return model if model is not None and is_closed(model) else SHELF.probed(name)


def already_open(name: str) -> Model | None:
    """The model of this name if this process has it open; never waits."""
    return SHELF.opened(name)
