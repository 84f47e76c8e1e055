"""A room of people on one server: `explorer app --workshop` with headless visitors.

40 visitors drag one slider each for two minutes (strokes of 1.5 s, five positions a second, pauses
of 2 to 4 s to look) on the embedded model; then 200 pages are opened and closed. A position counts
as answered when the chart's data carry it or a later one. The visitors are a process of their own
on the same machine: their share of the cores is the browsers' that a real room brings along.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import Row, main
from benchmarks._browser import browser_page, serving
from benchmarks._visitors import Visitor

MODEL = "glyphs"
AT_ONCE = 10  # pages that open and close together


@dataclass(frozen=True)
class Size:
    """How large a room is measured."""

    people: int
    seconds: float
    pages: int


FULL = Size(40, 120, 200)
QUICK = Size(4, 3, 10)
LIMITS = {
    "preview, median": 1000,
    "preview, 95th percentile": 3000,
    "errors": 0,
    "recipes lost": 0,
    "memory a session": 15,
    "pages opened and closed: memory": 10,
    "first paint in Chromium, server warm": 2,
    "cold start until the page answers": 8,
}
"""End of a row's name -> the most it may be, in its unit, for forty people on two idle cores."""
SOON = (
    "import sys; from explorer.app.workshop import SETTINGS; from explorer.cli import main; "
    "SETTINGS.update(check_unused_sessions_milliseconds=500, "
    "unused_session_lifetime_milliseconds=1000); sys.exit(main())"
)
"""The command line with closed pages let go within 1.5 s instead of 20, so as not to wait."""


def measure(quick: bool = False) -> list[Row]:
    """Latency, errors, lost state, memory and start of a room."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder, room(Path(folder), soon=quick) as (url, cold):
        rows = [Row("cold start until the page answers", cold, "s")]
        asyncio.run(_warm_up(url))
        if not quick:
            rows += _first_paint(url)
        rows += asyncio.run(_dragging(url, size))
        rows += asyncio.run(_coming_and_going(url, size))
    return [_judged(row) for row in rows]


def _judged(row: Row) -> Row:
    """The row with its limit in its note, where it has one."""
    limit = next((most for end, most in LIMITS.items() if row.what.endswith(end)), None)
    if limit is None:
        return row
    verdict = f"limit {limit:g}: {'kept' if row.value <= limit else 'MISSED'}"
    return replace(row, note=f"{verdict}; {row.note}" if row.note else verdict)


@contextmanager
def room(
    folder: Path, model: str = "", environment: dict | None = None, soon: bool = False
) -> Iterator[tuple[str, float]]:
    """A workshop server: (its address, seconds until its page answered). soon: see `SOON`."""
    port = serving.free_port()
    url = f"http://127.0.0.1:{port}/"
    program = ["-c", SOON] if soon else ["-m", "explorer.cli"]
    command = [sys.executable, *program, "app", *([model] if model else [])]
    command += ["--workshop", "--no-browser", "--port", str(port)]
    given = environment or serving.environment(cache=folder / "cache", threads=1)
    began = time.monotonic()
    with serving.running(command, folder / "log.txt", url, env={**os.environ, **given}):
        yield url, time.monotonic() - began


def health(url: str) -> dict:
    """What the server says of itself."""
    with urllib.request.urlopen(url + "health", timeout=30) as answer:
        return json.loads(answer.read())


async def _warm_up(url: str) -> None:
    """Two visitors: imports, references and caches are there afterwards, and shared."""
    while not health(url)["models"]:
        await asyncio.sleep(0.2)
    for _ in range(2):
        visitor = Visitor(url)
        await visitor.enter()
        await visitor.move(0.5, done=True)
        await visitor.settled()
        await _idle(url)
        await visitor.leave()
    await _nobody(url)


async def _idle(url: str) -> None:
    while health(url)["computing"]:
        await asyncio.sleep(0.2)


async def _nobody(url: str, seconds: float = 60) -> None:
    """Until every session is let go."""
    end = time.monotonic() + seconds
    while health(url)["sessions"] and time.monotonic() < end:
        await asyncio.sleep(0.5)


def _first_paint(url: str) -> list[Row]:
    """Until the browser paints something of the page, and until there is something to drag."""
    with browser_page() as page:
        began = time.monotonic()
        page.goto(url)
        page.locator(".row[data-task] input[type=range]").first.wait_for()
        sliders = time.monotonic() - began
        painted = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
    return [
        Row("first paint in Chromium, server warm", painted / 1e3, "s", "text or pictures"),
        Row("sliders in Chromium, server warm", sliders, "s"),
    ]


async def _dragging(url: str, size: Size) -> list[Row]:
    before = health(url)["memory_mb"]
    people = [Visitor(url) for _ in range(size.people)]
    opened = [await visitor.enter() for visitor in people]
    for i, visitor in enumerate(people):
        visitor.task = visitor.tasks[i % len(visitor.tasks)]
    after_opening = health(url)["memory_mb"]
    chances = [random.Random(i) for i in range(size.people)]
    await asyncio.gather(*(v.drag(size.seconds, c) for v, c in zip(people, chances, strict=True)))
    answered = await asyncio.gather(*(visitor.settled() for visitor in people))
    await asyncio.sleep(1)
    after = health(url)["memory_mb"]
    waits = sorted(wait for visitor in people for wait in visitor.waits)
    lost = sum(
        v.recipe_value() != v.shown or not ok for v, ok in zip(people, answered, strict=True)
    )
    errors = [e for v in people for e in (*v.errors, *v.sentences)]
    for visitor in people:
        await visitor.leave()
    what = f"{size.people} people"
    p95 = waits[round(0.95 * (len(waits) - 1))]
    note = f"{len(waits)} positions in {size.seconds:g} s, {1e3 * waits[-1]:.0f} ms at most"
    return [
        Row(f"{what}: page opened, one after the other", statistics.median(opened), "s", "median"),
        Row(f"{what}: preview, median", 1e3 * statistics.median(waits), "ms", note),
        Row(f"{what}: preview, 95th percentile", 1e3 * p95, "ms"),
        Row(f"{what}: errors", len(errors), "", "; ".join(sorted({*errors})[:3])),
        Row(f"{what}: recipes lost", lost, "", "chart and address show the slider's last value"),
        Row(f"{what}: told of the queue", sum(bool(v.queued) for v in people), "people"),
        Row(
            f"{what}: memory a session",
            (after - before) / size.people,
            "MiB",
            f"{before} MiB warm, {after_opening} with all pages open, {after} after dragging",
        ),
    ]


async def _coming_and_going(url: str, size: Size) -> list[Row]:
    await _nobody(url)
    before = health(url)["memory_mb"]
    most = before
    for first in range(0, size.pages, AT_ONCE):
        people = [Visitor(url) for _ in range(min(AT_ONCE, size.pages - first))]
        for visitor in people:
            await visitor.enter()
        most = max(most, health(url)["memory_mb"])
        for visitor in people:
            await visitor.leave()
        while health(url)["sessions"] > 3 * AT_ONCE:
            await asyncio.sleep(0.5)
    await _nobody(url)
    await asyncio.sleep(1)
    facts = health(url)
    if facts["sessions"]:
        raise RuntimeError(f"{facts['sessions']} sessions were never let go")
    after = facts["memory_mb"]
    note = f"{before} MiB before, {most} at most, {after} after all were closed"
    return [
        Row(f"{size.pages} pages opened and closed: memory", 100 * (after / before - 1), "%", note)
    ]


if __name__ == "__main__":
    main(measure)
