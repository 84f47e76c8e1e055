"""The stack machine of pickles, with nothing to call: its stack, memo, containers and names."""

import struct
from collections.abc import Callable
from typing import Any

from explorer.checkpoints.pickle_source import LONGEST_TEXT, Source
from explorer.checkpoints.records import Blob, Name, Record, refusal
from explorer.checkpoints.stored import damaged

Persistent = Callable[[object], object]


class Machine:
    """The stack machine. ``spend`` keeps what a file may ask of it within bounds."""

    def __init__(self, source: Source, persistent: Persistent | None) -> None:
        self.source, self.persistent, self.spend = source, persistent, source.budget.spend
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def text(self, raw: bytes) -> str:
        self.spend(made=len(raw))
        return raw.decode("utf-8", "surrogatepass")

    def number(self, form: str) -> int:
        return struct.unpack(form, self.source.read(struct.calcsize(form)))[0]

    def counted(self, form: str) -> bytes:
        length = self.number(form)
        if length > LONGEST_TEXT:
            raise damaged(self.source.path, f"its pickle has a text of {length:,} bytes")
        return self.source.read(length)

    def blob(self, form: str) -> None:
        length = self.number(form)
        self.push(Blob(self.source.skip(length), length))

    def items_from_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    # --- containers --------------------------------------------------------------------------

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise ValueError("a list was expected")

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target = target.entries
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("a dictionary was expected")
        put(target, zip(values[::2], values[1::2], strict=True))

    # --- names, calls, states ----------------------------------------------------------------

    def find(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name was expected")
        self.push(Name(module, name))

    def call(self, function: object, arguments: object) -> None:
        from explorer.checkpoints.rebuilding import call

        self.push(call(self, function, arguments))

    def build(self) -> None:
        from explorer.checkpoints.rebuilding import set_state

        state = self.stack.pop()
        self.stack[-1] = set_state(self, self.stack[-1], state)

    def persist(self, key: object) -> None:
        if self.persistent is None:
            raise refusal(self.source.path, "refers to objects outside itself")
        self.push(self.persistent(key))

    def extension(self, form: str) -> None:
        self.number(form)
        raise refusal(self.source.path, "calls names of copyreg's extension registry")


def put(target: dict[object, object], pairs: Any) -> None:
    """Set items of plain keys. Others are left out: hashing what a file has made is its code's."""
    plain = str | int | float | None
    target.update((key, value) for key, value in pairs if isinstance(key, plain))
