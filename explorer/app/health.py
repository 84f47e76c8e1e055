"""What a tutor and a monitor ask the server: /health for machines, /room for a person."""

from __future__ import annotations

import hmac
from html import escape
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError, RequestHandler

if TYPE_CHECKING:
    from explorer.app.workshop import Room

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="5"><title>The room</title>
<style>body{{font:16px system-ui;margin:2em auto;max-width:60em;color-scheme:light dark}}
td,th{{text-align:left;padding:.2em 1em .2em 0;font-variant-numeric:tabular-nums}}</style>
<h1>The room</h1><p>{summary}</p>
<table><tr><th>session<th>lens<th>model<th>minutes<th>computing<th>before it{rows}</table></html>"""


class Health(RequestHandler):
    """Numbers as JSON, for anybody: nothing in them is about a person."""

    def initialize(self, room: Room) -> None:
        self.room = room

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write(self.room.health())


class RoomPage(RequestHandler):
    """Who is here and what waits, for whoever has the key that is printed at the start."""

    def initialize(self, room: Room) -> None:
        self.room = room

    def get(self) -> None:
        if not hmac.compare_digest(self.get_argument("key", "").encode(), self.room.key.encode()):
            raise HTTPError(403, reason="The address of this page is printed at the server's start")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")  # the key is in the address
        facts = self.room.health()
        summary = (
            f"{facts['sessions']} of {facts['most_sessions']} people, {facts['memory_mb']} MB, "
            f"{facts['computing']} computing, {facts['waiting']} waiting, "
            f"models: {', '.join(facts['models']) or 'none'}"
        )
        rows = "".join(map(_row, self.room.table()))
        self.write(PAGE.format(summary=escape(summary), rows=rows))


def _row(cells: list[Any]) -> str:
    return "<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in cells)
