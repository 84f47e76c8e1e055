"""How many bytes a session holds for itself, without what it shares with others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import param

SHARED = (
    "explorer.models",
    "explorer.checkpoints",
    "explorer.compute.engine",
    "explorer.compute.resident",
)
"""Modules whose objects are of a model, not of a session: its weights, and the merged ones."""
OWN = ("explorer.", "xarray.", "pandas.")
"""Modules whose objects are looked into; others count as nothing."""
MOST_OBJECTS = 50_000
"""Objects looked at: a guard against a structure without an end, far above any lens."""


def held_bytes(root: Any) -> int:
    """Bytes of all arrays, tensors, texts and files that can be reached from root.

    Everything is counted once. Models, and what they share, do not count; nor do Python's own
    objects, which are small beside what they hold.
    """
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting and len(seen) < MOST_OBJECTS:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        size = _size(thing)
        if size is None:
            waiting.extend(_parts(thing))
        else:
            total += size
    return total


def _size(thing: Any) -> int | None:
    """Bytes of a thing that holds nothing else; None for one that must be looked into."""
    if isinstance(thing, bytes | bytearray | str):
        return len(thing)
    if thing is None or isinstance(thing, bool | int | float | complex | type):
        return 0
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        return int(thing.nbytes)
    if type(thing).__module__.partition(".")[0] == "torch":
        return int(getattr(thing, "nbytes", 0))
    return None


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, Mapping):
        return thing.values()
    if isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        return thing
    if isinstance(thing, np.ndarray):
        return thing.ravel().tolist()
    module = type(thing).__module__ + "."
    if not module.startswith(OWN) or module.startswith(tuple(f"{m}." for m in SHARED)):
        return ()
    if module.startswith("xarray."):
        return _arrays(thing)
    parts = [*getattr(thing, "__dict__", {}).values()]
    slots = getattr(type(thing), "__slots__", ())
    parts += [getattr(thing, name, None) for name in ([slots] if isinstance(slots, str) else slots)]
    if isinstance(thing, param.Parameterized):
        parts += thing.param.values().values()
    return parts


def _arrays(thing: Any) -> Iterable[Any]:
    """The arrays of a dataset or array in memory; nothing is loaded for this."""
    variables = getattr(thing, "variables", None)
    if variables is None:
        variables = {"": getattr(thing, "variable", None), **dict(getattr(thing, "coords", {}))}
    return [getattr(v, "_data", None) for v in variables.values()]
