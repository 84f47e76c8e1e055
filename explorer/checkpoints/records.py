"""What a pickle names and makes, inert: names that nobody imports, instances of no class, bytes."""

import sys
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path

from explorer.errors import CheckpointError


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:100]


class Record:
    """An instance of any class, inert: the class's name, its arguments, state and contents."""

    __slots__ = ("arguments", "entries", "items", "name", "state")

    def __init__(self, name: Name, arguments: object = ()) -> None:
        self.name, self.arguments = name, arguments
        self.state: object = None
        self.items: list[object] = []
        self.entries: dict[object, object] = {}

    def __repr__(self) -> str:
        return f"<record of a {self.name}>"


@dataclass(frozen=True, eq=False)
class Blob:
    """Bytes of a pickle: at ``offset`` of its file, or in ``data`` where they were decoded."""

    offset: int
    length: int
    data: bytes | None = field(default=None, repr=False)


_LARGEST_NUMBER_SHOWN = 1 << 64


def described(value: object) -> str:
    """A value of a pickle in at most 80 characters: its type and size. Never descends into it.

    The text of a tuple that holds a tuple twice, sixty deep, would have 2 ** 60 parts, and that of
    a number of more than 4,300 digits raises ValueError.
    """
    kind = type(value).__name__
    if isinstance(value, Name):
        text = str(value)
    elif isinstance(value, str):
        text = f"the text {value[:40]!r}"
    elif isinstance(value, int):
        small = abs(value) < _LARGEST_NUMBER_SHOWN
        text = f"the number {value}" if small else f"a number of {value.bit_length():,} bits"
    elif isinstance(value, Sized):
        text = f"a {kind} of {len(value):,}"
    else:
        text = f"a {kind}"
    return text[:80]


def key_of(value: object) -> str:
    """The text of a key by which a file names a storage or an object. Raises ValueError."""
    if isinstance(value, str) and len(value) <= 200:
        return value
    if isinstance(value, int) and abs(value) < _LARGEST_NUMBER_SHOWN:
        return str(value)
    raise ValueError(f"{described(value)} is no key")


def refusal(path: Path, does: str) -> CheckpointError:
    """The error for a pickle that no checkpoint needs to be."""
    return CheckpointError(
        f"{path.name} {does} when it is unpickled, which no checkpoint needs. Nothing was run. "
        "Never open it with pickle or torch.load; get the weights from a source you trust, best "
        "as safetensors of the model's state_dict()."
    )


# What the names of torch's own files and of data that training scripts keep stand for when called
# is in `rebuilding.py`; this decides about all others.
_HARMLESS = {
    "argparse": {"Namespace"},
    "collections": {"deque", "Counter", "UserDict", "UserList"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"},
    "types": {"SimpleNamespace"},
    "uuid": {"UUID"},
}
_HARMLESS["pathlib._local"] = _HARMLESS["pathlib"]
_STANDARD = {*sys.stdlib_module_names, "__builtin__", "copy_reg", "exceptions"} - {"__main__"}


def runs_code(name: Name) -> bool:
    """Whether calling a name would be more than making an object of a model's or settings' class.

    The standard library has nothing to call but a few plain types; elsewhere a call of a function
    (a small first letter) is one of code, and a class is taken as an inert record.
    """
    if name.name in _HARMLESS.get(name.module, ()):
        return False
    last = name.name.rpartition(".")[2].lstrip("_")
    return name.module.partition(".")[0] in _STANDARD or not last[:1].isupper()
