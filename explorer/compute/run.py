"""Run: a long computation as a generator with a handle."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any, Generic, TypeVar

from explorer.compute import turns
from explorer.errors import RunCancelled

Partial = TypeVar("Partial")
Point = TypeVar("Point")


class Run(Generic[Partial]):
    """Iterate for partial results (coarse to fine), or wait for ``result()``.

        run = ex.accuracy_run(m, recipe)
        for partial in run:
            ...

    Work happens in the thread that iterates, and nowhere else; ``cancel()`` may come from any
    thread and takes effect within one batch. A run is used up once: every partial goes to one
    caller. Cancelled, the loop just ends and ``result()`` raises RunCancelled; an exception in
    the work is raised where it is met and again by ``result()``.

    The work is ``function(run)``, a generator that calls ``run.checkpoint(fraction)`` between
    batches.
    """

    def __init__(
        self, function: Callable[["Run[Partial]"], Iterator[Partial]], title: str = "run"
    ) -> None:
        self.title = title
        self.latest: Partial | None = None
        self._generator = function(self)
        self._turn = threading.Lock()
        self._cancel = threading.Event()
        self._finished = threading.Event()
        self._error: BaseException | None = None
        self._progress = 0.0
        self._started: float | None = None

    # --- for the one who waits ---------------------------------------------------------------

    def __iter__(self) -> Iterator[Partial]:
        return self

    def __next__(self) -> Partial:
        with self._turn:
            return self._advance()

    def result(self, show_progress: bool | None = None) -> Partial:
        """Compute to the end and return the last, finest result.

        ``show_progress`` draws a bar on stderr; by default only in a terminal.
        Raises RunCancelled after ``cancel()``, and whatever went wrong in the work.
        """
        if show_progress is None:
            show_progress = sys.stderr.isatty()
        with _bar(self, show_progress) as refresh:
            for _ in self:
                refresh()
        if self._error is not None:
            raise self._error
        if self.latest is None:
            raise RunCancelled(f"The run '{self.title}' ended without a result.")
        return self.latest

    def cancel(self) -> None:
        """Stop within one batch. Returns at once; harmless when the run is over."""
        self._cancel.set()
        if self._turn.acquire(blocking=False):  # nobody is computing: end it here
            try:
                self._end(self._cancelled_error())
            finally:
                self._turn.release()

    @property
    def cancelled(self) -> bool:
        """Whether the run ended by ``cancel()``."""
        return isinstance(self._error, RunCancelled)

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._finished.is_set()

    @property
    def error(self) -> BaseException | None:
        """What ended the run early, if anything did."""
        return self._error

    @property
    def progress(self) -> float:
        """Fraction of the work that is done, 0 to 1."""
        return self._progress

    # --- for the work ------------------------------------------------------------------------

    def checkpoint(self, progress: float | None = None) -> None:
        """Called by the work between batches: notes progress; lets others compute who wait for
        the device; raises RunCancelled if cancelled."""
        if progress is not None:
            self._progress = min(1.0, max(self._progress, float(progress)))
        if not self._cancel.is_set():
            turns.give_way()
        if self._cancel.is_set():
            raise self._cancelled_error()

    def _advance(self) -> Partial:
        if self._finished.is_set():
            raise StopIteration
        if self._cancel.is_set():
            self._end(self._cancelled_error())
            raise StopIteration
        self._started = self._started or time.monotonic()
        try:
            partial = next(self._generator)
        except StopIteration:
            self._progress = 1.0
            self._end(None)
            raise
        except RunCancelled as error:
            self._end(error)
            raise StopIteration from None
        except BaseException as error:
            self._end(error)
            raise
        self.latest = partial
        return partial

    def _end(self, error: BaseException | None) -> None:
        if self._finished.is_set():
            return
        self._error = error
        self._generator.close()  # type: ignore[attr-defined]
        self._finished.set()

    def _cancelled_error(self) -> RunCancelled:
        return RunCancelled(f"The run '{self.title}' was cancelled.")

    # --- display -----------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """One word or two: "waiting", "38 %", "done", "cancelled" or "failed"."""
        if self.done:
            return "cancelled" if self.cancelled else "failed" if self._error else "done"
        return "waiting" if self._started is None else f"{self._progress:.0%}"

    def __repr__(self) -> str:
        return f"<Run {self.title!r}: {self.status}>"

    def _repr_html_(self) -> str:
        latest: Any = self.latest
        shown = latest._repr_html_() if hasattr(latest, "_repr_html_") else escape(repr(latest))
        head = f"<b>Run</b> {escape(self.title)}: {escape(self.status)}"
        return head if latest is None else f"{head}{shown}"


class _bar:
    """A tqdm bar that follows a run's progress, or nothing."""

    def __init__(self, run: Run, shown: bool) -> None:
        self._run, self._shown, self._tqdm = run, shown, None

    def __enter__(self) -> Callable[[], None]:
        if self._shown:
            from tqdm import tqdm

            self._tqdm = tqdm(
                total=100, desc=self._run.title, unit="%", delay=0.5, leave=False, file=sys.stderr
            )
        return self._refresh

    def _refresh(self) -> None:
        if self._tqdm is not None:
            self._tqdm.update(round(100 * self._run.progress) - self._tqdm.n)

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()


def coarse_to_fine(points: Sequence[Point]) -> list[Point]:
    """Both ends first, then halving steps, so that early partials span the whole range."""
    order = dict.fromkeys([0, len(points) - 1])
    step = len(points) // 2
    while step >= 1:
        order |= dict.fromkeys(range(0, len(points), step))
        step //= 2
    return [points[i] for i in order]
