"""Headless visitors of a served app: real websockets, Bokeh's protocol, no browser.

A visitor opens a page, drags one slider and looks at the chart's data as they come: a position
counts as answered when the chart carries it, or a later one of the same visitor.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

LARGEST = 50_000_000
IN_FLIGHT = 2
READY = {"type": "event", "name": "document_ready", "values": {"type": "map"}}


@dataclass
class Visitor:
    """One person with one page. `waits` are seconds from a position sent to its picture."""

    url: str
    query: str = ""
    waits: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    queued: set[str] = field(default_factory=set)
    """What the page said of the queue."""
    address: str = ""
    """The query part that the page puts into the address bar: the recipe on screen."""
    task: str = ""
    shown: float | None = None
    """The slider's value that the chart on screen belongs to."""

    def __post_init__(self) -> None:
        self._sending = asyncio.Lock()

    async def enter(self) -> float:
        """Open the page and connect; seconds until the whole page is there."""
        began = time.monotonic()
        page = await AsyncHTTPClient().fetch(self.url + self.query, request_timeout=120)
        found = re.search(r'"token":"([^"]+)"', html.unescape(page.body.decode()))
        if found is None:
            raise RuntimeError(f"{self.url} is no page of the app")
        origin = self.url.rstrip("/")
        request = HTTPRequest(origin.replace("http", "ws", 1) + "/ws", headers={"Origin": origin})
        self._socket: WebSocketClientConnection = await websocket_connect(
            request, subprotocols=["bokeh", found[1]], max_message_size=LARGEST
        )
        self._number, self._pending, self._leaving = 0, [], False
        self._sent, self._heard, self._queued = 0, 0, None
        await self._read()  # the server's greeting
        await self._send("PULL-DOC-REQ", {})
        while (message := await self._read())[0] != "PULL-DOC-REPLY":
            pass
        self._look_at(message[1]["doc"])
        took = time.monotonic() - began
        await self._event(READY)
        self._listening = asyncio.get_running_loop().create_task(self._listen())
        return took

    def _look_at(self, document: Any) -> None:
        """Find the slider's component, the chart's source and the status line."""
        objects = [o for o in _walk(document) if o.get("type") == "object"]
        esm = [o for o in objects if o["name"] == "panel.models.esm.ReactiveESM"]
        named: dict[str, Any] = {o["attributes"]["class_name"]: o for o in esm}
        if "Mixer" not in named:
            raise RuntimeError("the page has no sliders; is the model open?")
        mixer = named["Mixer"]
        self._mixer = mixer["id"]
        self._toolbar = named["Toolbar"]["attributes"]["data"]["id"]
        rows = dict(mixer["attributes"]["data"]["attributes"])["tasks"]
        self.tasks = [dict(row["entries"])["name"] for row in rows]
        self.task = self.task or self.tasks[0]

    async def move(self, value: float, done: bool = False) -> None:
        """Put the slider to a value. As in the browser (`mixer.js`), of a drag the newest position
        waits while `IN_FLIGHT` of them are unanswered, and the last one does not wait."""
        self._pending.append((value, time.monotonic()))
        if not done and self._sent - self._heard >= IN_FLIGHT:
            self._queued = value
        else:
            self._queued = None
            await self._put(value, done)

    async def _put(self, value: float, done: bool) -> None:
        data = {"kind": "set", "task": self.task, "value": value, "done": done}
        self._sent += 1
        entries = [
            ["model", {"id": self._mixer}],
            [
                "data",
                {"type": "map", "entries": [*{**data, "view": "v", "seq": self._sent}.items()]},
            ],
        ]
        await self._event(
            {"type": "event", "name": "data_event", "values": {"type": "map", "entries": entries}}
        )

    async def drag(self, seconds: float, chance: random.Random, a_second: float = 5.0) -> None:
        """Strokes of about 1.5 s with pauses of about 3 s to look, as people do."""
        end = time.monotonic() + seconds
        await asyncio.sleep(chance.uniform(0, 3))
        while time.monotonic() < end and not self.errors:
            value = round(chance.uniform(-0.5, 1.5), 2)
            for step in range(8):
                await self.move(round(value + 0.01 * step, 4), done=step == 7)
                await asyncio.sleep(1 / a_second)
            await asyncio.sleep(chance.uniform(2, 4))

    async def settled(self, seconds: float = 60) -> bool:
        """Whether, within so long, nothing that was sent is unanswered."""
        end = time.monotonic() + seconds
        while self._pending and time.monotonic() < end and not self.errors:
            await asyncio.sleep(0.05)
        return not self._pending

    def recipe_value(self) -> float | None:
        """The slider's value in the page's address."""
        found = parse_qs(self.address).get(self.task)
        return float(found[0]) if found else None

    async def leave(self) -> None:
        """Close the page."""
        self._leaving = True
        self._socket.close()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening

    async def _listen(self) -> None:
        try:
            while True:
                kind, content = await self._read()
                if kind == "ERROR":
                    self.errors.append(str(content.get("text")))
                for event in content.get("events", ()):
                    self._follow(event)
                if self._queued is not None and self._sent - self._heard < IN_FLIGHT:
                    value, self._queued = self._queued, None
                    await self._put(value, done=False)
        except WebSocketClosedError:
            if not self._leaving:
                self.errors.append("the connection was lost")

    def _follow(self, event: dict[str, Any]) -> None:
        if event["kind"] == "ColumnDataChanged":
            columns = dict(event["data"]["entries"])
            if "coefficient" in columns and "digits" in columns:
                self._seen(columns["coefficient"][columns["name"].index(self.task)])
        elif event["kind"] == "ModelChanged" and event["attr"] == "query":
            if event["model"]["id"] == self._toolbar:
                self.address = event["new"]
        elif event["kind"] == "ModelChanged" and event["attr"] == "heard":
            self._heard = dict(event["new"]["entries"]).get("v", self._heard)
        elif event["kind"] == "ModelChanged" and event["attr"] == "sentences":
            self.sentences += event["new"]
        elif event["kind"] == "ModelChanged" and event["attr"] == "queue" and event["new"]:
            self.queued.add(event["new"])

    def _seen(self, value: float) -> None:
        self.shown = value
        for i in reversed(range(len(self._pending))):
            if abs(self._pending[i][0] - value) < 1e-9:
                now = time.monotonic()
                self.waits += [now - sent for _, sent in self._pending[: i + 1]]
                del self._pending[: i + 1]
                return

    async def _event(self, event: dict[str, Any]) -> None:
        told = {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": event}
        await self._send("PATCH-DOC", {"events": [told]})

    async def _send(self, kind: str, content: dict[str, Any]) -> None:
        self._number += 1
        header = {"msgid": str(self._number), "msgtype": kind}
        async with self._sending:  # a busy server has one wait between the parts of a message
            for part in (header, {}, content):
                await self._socket.write_message(json.dumps(part))

    async def _read(self) -> tuple[str, dict[str, Any]]:
        header, _, content = [json.loads(await self._part()) for _ in range(3)]
        for _ in range(2 * header.get("num_buffers", 0)):
            await self._part()
        return header["msgtype"], content

    async def _part(self) -> str | bytes:
        part = await self._socket.read_message()
        if part is None:
            raise WebSocketClosedError
        return part


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a document's JSON."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)
