"""One computation at a time for one session: the latest wins, its partial results stream in.

`pn.bind` of an async generator cancels only every other stale run (panel 1.9.4), so the app has its
own rule. A job is a function that makes a `Run`. The run is stepped in this runner's only worker
thread, never on the event loop. A newer job cancels the older one, but not before the older one has
shown its first, coarse picture: otherwise a long drag would cancel every preview and show nothing.

On a server for many people each step waits for the session's turn (`explorer.compute.turns`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import panel as pn

from explorer.compute import turns
from explorer.errors import ExplorerError

SHORTEST_INTERVAL = 0.05
"""Seconds between two pictures of one job: at most 20 a second reach the browser."""

BREATH = 0.1
"""Seconds after a job's first picture in which the worker rests: on a laptop the browser that has
to paint it has the same cores, and painted some 40 ms later when refining began at once."""
BREATH_IN_A_CROWD = 1.0
"""The same in a crowded room, where what a drag soon makes stale would keep others waiting."""

STOPPED_FROM_OUTSIDE = (
    "The computation was ended from outside this page; what you set is kept. "
    "Move a slider to compute again."
)
_END = object()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What to compute and whom to tell. All callbacks are called on the event loop."""

    make: Callable[[], Iterable[Any]]
    show: Callable[[Any, float], None]
    """Receives a partial result and the progress, 0..1."""
    failed: Callable[[Exception], None]


class Runner:
    """Runs the latest `Job`; `on_busy(bool)` says when work begins and when none is left."""

    def __init__(self, on_busy: Callable[[bool], None] = lambda busy: None):
        self._on_busy = on_busy
        self._waiting: deque[Job] = deque(maxlen=1)  # the newest job takes the place of another
        self._task: asyncio.Task[None] | None = None
        self._run: Any = None
        self._job: Job
        self._shown = False
        self._stopped = False  # the job under way was cancelled, perhaps before it had a run
        self._newer = asyncio.Event()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explorer-lens")
        self._worker: threading.Thread | None = None
        self._session = _session()
        self.generation = 0
        """Number of the latest job; a picture of an older generation is stale."""

    @property
    def busy(self) -> bool:
        """Whether a job is being computed or is waiting for its turn."""
        return bool(self._waiting) or (self._task is not None and not self._task.done())

    def submit(self, job: Job) -> int:
        """Make job the latest. Without a running event loop it waits for `resume`."""
        if self._closed:
            return self.generation
        self.generation += 1
        self._waiting.append(job)
        self._newer.set()
        if self._shown:
            self._cancel_run()
        self.resume()
        return self.generation

    def resume(self) -> None:
        """Start what waits, if this is called on an event loop and nothing else is under way."""
        if not self._waiting or (self._task is not None and not self._task.done()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._task = loop.create_task(self._work())

    def cancel(self) -> None:
        """Stop the current run within one batch and forget the waiting job."""
        self._waiting.clear()
        self._newer.set()
        self._stopped = True
        self._cancel_run()

    def close(self) -> None:
        """Cancel and let the worker thread end. The runner takes no job afterwards."""
        self._closed = True
        self.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        self.resume()
        while self.busy and self._task is not None:
            await asyncio.shield(self._task)

    async def _work(self) -> None:
        self._on_busy(True)
        try:
            while self._waiting:
                await self._carry_out(self._waiting.pop())
        finally:
            self._run = None
            self._on_busy(False)

    async def _carry_out(self, job: Job) -> None:
        """Step one run to its end, or until a newer job waits and a first picture is out."""
        self._job, self._shown, shown_at = job, False, -SHORTEST_INTERVAL
        self._run, self._stopped = None, False
        try:
            partials = self._partials()
            while (partial := await self._in_thread(self._step, partials)) is not _END:
                # Before a picture that came soon, not after each: the worker would only wait.
                await asyncio.sleep(max(0.0, shown_at + SHORTEST_INTERVAL - time.monotonic()))
                self._job.show(partial, float(getattr(self._run, "progress", 0.0)))
                first, shown_at, self._shown = not self._shown, time.monotonic(), True
                if first:
                    await self._breath()
                if self._waiting or self._closed:
                    self._cancel_run()
                    break
        except Exception as error:  # shown to the person: a failed job must not end the session
            if not self._closed:
                _log.debug("job failed", exc_info=True)
                self._job.failed(_in_words(error))

    async def _breath(self) -> None:
        """Let the browser paint, unless a newer job is there or comes."""
        self._newer = asyncio.Event()  # belongs to the loop that waits: a script may use several
        if not self._waiting:
            with contextlib.suppress(TimeoutError):
                breath = BREATH_IN_A_CROWD if turns.crowded() else BREATH
                await asyncio.wait_for(self._newer.wait(), breath)

    # In the worker

    def _step(self, partials: Iterator[Any]) -> Any:
        """The next partial result, when it is this session's turn; `_END` when there is none."""
        self._worker = threading.current_thread()
        try:
            with turns.turn(self._session, preview=not self._shown) as waited:
                if self._closed or self._stopped:
                    return _END
                if waited and not self._shown:  # what a person wants by now, not what was queued
                    with contextlib.suppress(IndexError):
                        self._job = self._waiting.pop()
                return next(partials, _END)
        except Exception:
            raise
        except BaseException as error:  # a thread that is told to exit; the server must not follow
            raise ExplorerError(STOPPED_FROM_OUTSIDE) from error

    def _partials(self) -> Iterator[Any]:
        """Make the run together with its first step, one way there and back."""
        self._run = run = self._job.make()
        if not self._stopped:
            yield from run

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if self._worker is not None and not self._worker.is_alive():
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="explorer-lens")
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _cancel_run(self) -> None:
        cancel = getattr(self._run, "cancel", None)
        if cancel is not None:
            cancel()
            turns.excuse(self._worker)


def _session() -> Hashable:
    """Whose work this is: the served session's id; a notebook or a script is one session."""
    document = pn.state.curdoc
    context = None if document is None else document.session_context
    return None if context is None else context.id


def _in_words(error: Exception) -> Exception:
    """An error of memory as one with a sentence; others as they are."""
    if isinstance(error, ExplorerError):
        return error
    from explorer.compute.device import memory_in_words  # torch is there by now, if it is needed

    return memory_in_words(error)
