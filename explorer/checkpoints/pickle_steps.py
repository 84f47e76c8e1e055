"""The steps of the pickle machine: what each byte of the program does, for every protocol."""

import codecs
from collections.abc import Callable

from explorer.checkpoints.pickle_machine import Machine
from explorer.checkpoints.records import Name

_LONGEST_NUMBER = 1 << 12  # bytes


def _bytes_escaped(raw: bytes) -> bytes:
    if len(raw) < 2 or raw[0] != raw[-1] or raw[:1] not in (b"'", b'"'):
        raise ValueError("a text without quotes")
    return codecs.escape_decode(raw[1:-1])[0]


def _int_line(machine: Machine) -> None:
    raw = machine.source.line()
    if raw in (b"00", b"01"):
        machine.push(raw == b"01")
    else:
        machine.push(int(raw.rstrip(b"L")))


def _long(machine: Machine, form: str) -> None:
    length = machine.number(form)
    if not 0 <= length <= _LONGEST_NUMBER:
        raise ValueError(f"a number of {length} bytes")
    machine.push(int.from_bytes(machine.source.read(length), "little", signed=True))


def _tuple_of(n: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        items = tuple(machine.stack[len(machine.stack) - n :]) if n else ()
        if len(items) < n:
            raise IndexError("the stack is empty")
        del machine.stack[len(machine.stack) - n :]
        machine.push(items)

    return step


def _dict_from_mark(machine: Machine) -> None:
    items = machine.items_from_mark()
    machine.push({})
    machine.set_items(items)


def _put_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _append_one(machine: Machine) -> None:
    value = machine.stack.pop()
    machine.append([value])


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.items_from_mark()


def _pop_mark(machine: Machine) -> None:
    machine.items_from_mark()


def _pass(machine: Machine, n: int) -> None:
    machine.source.read(n)


def _reduce(machine: Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, arguments)


def _new_object(machine: Machine, keywords: bool = False) -> None:
    if keywords:
        machine.stack.pop()
    arguments, cls = machine.stack.pop(), machine.stack.pop()
    machine.call(cls, arguments)


def _object(machine: Machine) -> None:
    cls, *arguments = machine.items_from_mark()
    machine.call(cls, tuple(arguments))


def _instance(machine: Machine) -> None:
    module, name = machine.source.line().decode(), machine.source.line().decode()
    arguments = tuple(machine.items_from_mark())
    machine.call(Name(module, name), arguments)


def _name_from_stack(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.find(module, name)


def _frozen(machine: Machine) -> None:
    machine.push(machine.items_from_mark())


def _store(key: Callable[[Machine], int]) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.memo[key(machine)] = machine.stack[-1]

    return step


def _recall(key: Callable[[Machine], int]) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.memo[key(machine)])


def _latin(machine: Machine, form: str) -> None:
    raw = machine.counted(form)  # text of Python 2
    machine.spend(made=len(raw))
    machine.push(raw.decode("latin1"))


def _unicode_line(machine: Machine) -> None:
    raw = machine.source.line()
    machine.spend(made=len(raw))
    machine.push(raw.decode("raw-unicode-escape"))


STEPS: dict[int, Callable[[Machine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": lambda m: _pass(m, 1),  # the protocol's number
        "\x95": lambda m: _pass(m, 8),  # a frame's length: reads are bounded anyhow
        "(": Machine.mark,
        "0": _pop,
        "1": _pop_mark,
        "2": lambda m: m.push(m.stack[-1]),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": _int_line,
        "L": _int_line,
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("<B")),
        "M": lambda m: m.push(m.number("<H")),
        "\x8a": lambda m: _long(m, "<B"),
        "\x8b": lambda m: _long(m, "<i"),
        "F": lambda m: m.push(float(m.source.line())),
        "G": lambda m: m.push(m.number(">d")),
        "S": lambda m: m.push(_bytes_escaped(m.source.line()).decode("latin1")),
        "T": lambda m: _latin(m, "<i"),
        "U": lambda m: _latin(m, "<B"),
        "V": _unicode_line,
        "X": lambda m: m.push(m.text(m.counted("<I"))),
        "\x8c": lambda m: m.push(m.text(m.counted("<B"))),
        "\x8d": lambda m: m.push(m.text(m.counted("<Q"))),
        "B": lambda m: m.blob("<I"),
        "C": lambda m: m.blob("<B"),
        "\x8e": lambda m: m.blob("<Q"),
        "\x96": lambda m: m.blob("<Q"),
        ")": _tuple_of(0),
        "\x85": _tuple_of(1),
        "\x86": _tuple_of(2),
        "\x87": _tuple_of(3),
        "t": lambda m: m.push(tuple(m.items_from_mark())),
        "]": lambda m: m.push([]),
        "l": lambda m: m.push(m.items_from_mark()),
        "a": _append_one,
        "e": lambda m: m.append(m.items_from_mark()),
        "}": lambda m: m.push({}),
        "d": _dict_from_mark,
        "s": _put_item,
        "u": lambda m: m.set_items(m.items_from_mark()),
        "\x8f": lambda m: m.push([]),  # a set: its elements, never hashed
        "\x90": lambda m: m.append(m.items_from_mark()),
        "\x91": _frozen,
        "p": _store(lambda m: int(m.source.line())),
        "q": _store(lambda m: m.number("<B")),
        "r": _store(lambda m: m.number("<I")),
        "\x94": _store(lambda m: len(m.memo)),
        "g": _recall(lambda m: int(m.source.line())),
        "h": _recall(lambda m: m.number("<B")),
        "j": _recall(lambda m: m.number("<I")),
        "c": lambda m: m.find(m.source.line().decode(), m.source.line().decode()),
        "\x93": _name_from_stack,
        "R": _reduce,
        "\x81": _new_object,
        "\x92": lambda m: _new_object(m, keywords=True),
        "o": _object,
        "i": _instance,
        "b": Machine.build,
        "P": lambda m: m.persist(m.source.line().decode("latin1")),
        "Q": lambda m: m.persist(m.stack.pop()),
        "\x82": lambda m: m.extension("<B"),
        "\x83": lambda m: m.extension("<H"),
        "\x84": lambda m: m.extension("<i"),
    }.items()
}
