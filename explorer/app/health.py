"""What a tutor and a monitor ask the server: /health for machines, /room for a person; and the page
of somebody whose place was given back."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from tornado.web import HTTPError, RequestHandler

from explorer.compute.turns import LEASE, Turns

if TYPE_CHECKING:
    from explorer.app.workshop import Room

LATE = 5.0
"""Seconds that the event loop may be late before that counts as trouble."""
ANSWER = 5.0
"""Seconds within which a worker thread must do nothing at all."""
NO_TURN = 3 * LEASE
"""Seconds without a turn given, while somebody waits for one, that count as trouble."""
LOW_MEMORY_MB = 200
"""Free memory below which the next job may end the server."""
MEMORY_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="5"><title>The room</title>
<style>body{{font:16px system-ui;margin:2em auto;max-width:60em;color-scheme:light dark}}
td,th{{text-align:left;padding:.2em 1em .2em 0;font-variant-numeric:tabular-nums}}</style>
<h1>The room</h1><p>{summary}</p>
<table><tr><th>session<th>lens<th>model<th>minutes<th>idle<th>MB<th>computing<th>before it{rows}
</table></html>"""
AWAY = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Weight explorer</title>
<style>body{{font:20px system-ui;margin:4em auto;max-width:32em;color-scheme:light dark}}</style>
<h1>Your place was given back</h1>
<p>Nothing was done on this page for a long time, so that its place was given to others. What you
set is in the link.</p><p><a href="{address}">Go on where you were</a></p></html>"""


class Pulse:
    """Whether the server lives: its event loop, a worker thread, the queue, and memory."""

    def __init__(self, queue: Turns, clock: Callable[[], float] = time.monotonic):
        self._queue, self._clock = queue, clock
        self._beat = self._moved = clock()
        self._given = 0
        self.late = 0.0
        """Seconds by which the event loop was late when it was last waited for."""

    async def wait(self, seconds: float) -> None:
        """Sleep, and note by how much longer it took and whether the queue moves."""
        began = self._clock()
        await asyncio.sleep(seconds)
        self._beat = self._clock()
        self.late = max(0.0, self._beat - began - seconds)
        state = self._queue.state()
        if state.given != self._given or not state.waiting:
            self._given, self._moved = state.given, self._beat

    def numbers(self) -> dict[str, int]:
        """Megabytes of this process and free, and by how many milliseconds the loop is late."""
        return {
            "memory_mb": round(psutil.Process().memory_info().rss / 2**20),
            "free_mb": round(free_bytes() / 2**20),
            "loop_late_ms": round(1000 * self.late),
        }

    async def troubles(self) -> list[str]:
        """What is wrong, in sentences; nothing if the server does its work."""
        found, now = [], self._clock()
        late = max(self.late, now - self._beat - LATE)
        if late > LATE:
            found.append(f"The event loop was {late:.0f} s late.")
        try:
            await asyncio.wait_for(asyncio.to_thread(int), ANSWER)
        except TimeoutError:
            found.append(f"No worker thread was free within {ANSWER:.0f} s.")
        if now - self._moved > NO_TURN:
            found.append(f"The queue has not moved for {now - self._moved:.0f} s.")
        if (free := free_bytes() / 2**20) < LOW_MEMORY_MB:
            found.append(f"Only {free:.0f} MB of memory are free.")
        return found


def free_bytes() -> int:
    """Memory that this process can still have, within its container's limit if there is one."""
    free = psutil.virtual_memory().available
    for limit, used in MEMORY_FILES:
        try:
            most, now = Path(limit).read_text().strip(), Path(used).read_text().strip()
        except OSError:  # not this kind of container, or none
            continue
        if most.isdecimal() and now.isdecimal():
            free = min(free, max(0, int(most) - int(now)))
    return free


class Health(RequestHandler):
    """Numbers as JSON, for anybody: nothing in them is about a person. Status 503 in trouble."""

    def initialize(self, room: Room) -> None:
        self.room = room

    async def get(self) -> None:
        troubles = await self.room.pulse.troubles()
        self.set_header("Cache-Control", "no-store")
        self.set_status(503 if troubles else 200)
        status = "trouble" if troubles else "ok"
        self.write({"status": status, "troubles": troubles, **self.room.health()})


class RoomPage(RequestHandler):
    """Who is here and what waits, for whoever has the key that is printed at the start."""

    def initialize(self, room: Room) -> None:
        self.room = room

    async def get(self) -> None:
        if not hmac.compare_digest(self.get_argument("key", "").encode(), self.room.key.encode()):
            raise HTTPError(403, reason="The address of this page is printed at the server's start")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")  # the key is in the address
        facts, troubles = self.room.health(), await self.room.pulse.troubles()
        summary = (
            f"{facts['sessions']} of {facts['most_sessions']} people, {facts['memory_mb']} MB, "
            f"{facts['free_mb']} MB free, {facts['computing']} computing, "
            f"{facts['waiting']} waiting, models: {', '.join(facts['models']) or 'none'}"
        )
        rows = "".join(map(_row, self.room.table()))
        self.write(PAGE.format(summary=escape(" ".join([summary, *troubles])), rows=rows))


class Away(RequestHandler):
    """Where a page goes that nobody used for long: it takes no place and leads back."""

    def get(self) -> None:
        query = escape(f"?{self.request.query}" if self.request.query else "")
        self.write(AWAY.format(address=f"./{query}"))


def _row(cells: list[Any]) -> str:
    return "<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in cells)
