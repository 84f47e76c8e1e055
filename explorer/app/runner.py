"""One computation at a time for one session: the latest wins, its partial results stream in.

`pn.bind` of an async generator cancels only every other stale run (panel 1.9.4), so the app has its
own rule. A job is a function that makes a `Run`. The run is stepped in this runner's only worker
thread, never on the event loop. A newer job cancels the older one, but not before the older one has
shown its first, coarse picture: otherwise a long drag would cancel every preview and show nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

SHORTEST_INTERVAL = 0.05
"""Seconds between two pictures of one job: at most 20 a second reach the browser."""

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
        self._waiting: Job | None = None
        self._task: asyncio.Task[None] | None = None
        self._run: Any = None
        self._shown = False
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explorer-lens")
        self.generation = 0
        """Number of the latest job; a picture of an older generation is stale."""

    @property
    def busy(self) -> bool:
        """Whether a job is being computed or is waiting for its turn."""
        return self._waiting is not None or (self._task is not None and not self._task.done())

    def submit(self, job: Job) -> int:
        """Make job the latest. Without a running event loop it waits for `resume`."""
        if self._closed:
            return self.generation
        self.generation += 1
        self._waiting = job
        if self._shown:
            self._cancel_run()
        self.resume()
        return self.generation

    def resume(self) -> None:
        """Start what waits, if this is called on an event loop and nothing else is under way."""
        if self._waiting is None or (self._task is not None and not self._task.done()):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._task = loop.create_task(self._work())

    def cancel(self) -> None:
        """Stop the current run within one batch and forget the waiting job."""
        self._waiting = None
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
            while self._waiting is not None:
                job, self._waiting = self._waiting, None
                await self._carry_out(job)
        finally:
            self._run = None
            self._on_busy(False)

    async def _carry_out(self, job: Job) -> None:
        """Step one run to its end, or until a newer job waits and a first picture is out."""
        self._shown, shown_at = False, -SHORTEST_INTERVAL
        try:
            self._run = run = await self._in_thread(job.make)
            steps = iter(run)
            while (partial := await self._in_thread(_next, steps)) is not _END:
                # Before a picture that came soon, not after each: the worker would only wait.
                await asyncio.sleep(max(0.0, shown_at + SHORTEST_INTERVAL - time.monotonic()))
                job.show(partial, float(getattr(run, "progress", 0.0)))
                shown_at, self._shown = time.monotonic(), True
                if self._waiting is not None or self._closed:
                    self._cancel_run()
                    break
        except Exception as error:  # shown to the person: a failed job must not end the session
            if not self._closed:
                _log.debug("job failed", exc_info=True)
                job.failed(error)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _cancel_run(self) -> None:
        cancel = getattr(self._run, "cancel", None)
        if cancel is not None:
            cancel()


def _next(steps: Iterator[Any]) -> Any:
    return next(steps, _END)
