"""Nested data of a checkpoint -> {name: stored tensor}, and what its classes tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from explorer.checkpoints.rebuilding import as_tensor
from explorer.checkpoints.records import Record
from explorer.checkpoints.stored import StoredTensor, check_total, damaged
from explorer.errors import CheckpointError

# Where training programs keep the weights in what they save, preferred first.
NESTED = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "network",
    "net",
    "teacher",
    "student",
    "state_dict_ema",
    "model_ema",
    "ema",
    "params",
)
_DEEPEST = 64
_MOST_VALUES = 1_000_000
_LONGEST_NAME = 500  # of published ones some 80 characters


@dataclass(frozen=True)
class Collected:
    """Tensors by their full names, the classes of the modules that held them, where they lay."""

    tensors: dict[str, StoredTensor]
    classes: dict[str, str]
    place: str = ""


def collect(data: object, path: Path) -> Collected:
    """Find the named tensors of a checkpoint: a state dictionary, one inside others, or a module.

    Raises CheckpointError when there are none.
    """
    place = []
    for _ in range(8):  # training programs nest a few levels at most
        found = _flat(data, path)
        inner = _inner(data)
        if inner is None or _own_tensors(data) > 1:
            break
        key, data = inner
        place.append(key)
    if not found.tensors:
        raise CheckpointError(
            f"{path.name} is a PyTorch file, but it holds no dictionary of named tensors. "
            "Save the model's state_dict()."
        )
    check_total(found.tensors.values(), path)
    return Collected(found.tensors, found.classes, ".".join(place))


def _inner(data: object) -> tuple[str, object] | None:
    if not isinstance(data, dict):
        return None
    for key in NESTED:
        if isinstance(data.get(key), dict | Record):
            return key, data[key]
    return None


def _own_tensors(data: object) -> int:
    return sum(as_tensor(v) is not None for v in data.values()) if isinstance(data, dict) else 0


def _flat(data: object, path: Path) -> Collected:
    """Everything reachable, each container once, by names joined with dots."""
    tensors: dict[str, StoredTensor] = {}
    classes: dict[str, str] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, object, int]] = [("", data, 0)]
    visited = 0
    while waiting:
        name, value, depth = waiting.pop()
        visited += 1
        if visited > _MOST_VALUES or depth > _DEEPEST:
            raise CheckpointError(
                f"{path.name} nests its tensors too deeply or in too many containers. "
                "Save the model's state_dict()."
            )
        tensor = as_tensor(value)
        if tensor is not None:
            if len(name) > _LONGEST_NAME:
                raise damaged(path, f"a tensor's name begins with {name[:60]!r} and does not end")
            if name:
                tensors[name] = tensor
            continue
        if not isinstance(value, dict | Record) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Record):
            classes[name] = str(value.name)
        children = [(_joined(name, k), v, depth + 1) for k, v in _children(value)]
        waiting.extend(reversed(children))
    return Collected(tensors, classes)


def _joined(name: str, key: object) -> str:
    """The name of what a container called ``name`` holds under ``key``.

    Cut where it is longer than any tensor's may be: settings have long keys too, and copies of them
    would fill the memory.
    """
    if isinstance(key, int) and abs(key) >= 1 << 64:  # which `str` may refuse to write
        key = "9" * (_LONGEST_NAME + 1)
    text = key if isinstance(key, str) else str(key)
    return (f"{name}.{text}" if name else text)[: _LONGEST_NAME + 1]


def _children(value: dict | Record) -> Iterator[tuple[object, object]]:
    """The named contents of a dictionary, or of a module: its parameters, buffers and modules."""
    if isinstance(value, dict):
        yield from value.items()
        return
    state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    if not isinstance(state, dict):
        yield from value.entries.items()
        return
    if "_modules" not in state:  # TorchScript keeps all of them as plain attributes
        yield from state.items()
        return
    for kind in ("_parameters", "_buffers", "_modules"):
        content = state.get(kind)
        if isinstance(content, dict):
            yield from content.items()
