"""A source's own class names matched with the frozen ones: by name, never by place."""

import re
from collections.abc import Sequence

import numpy as np

from explorer.errors import ImageError, nearest_names
from explorer.tasks.benchmark.frozen import BenchmarkTask

_BETWEEN = re.compile(r"[\s_\-/]+")


def class_map(found: Sequence[str], task: BenchmarkTask, where: str) -> np.ndarray:
    """For each class of a source, in its order, its place in the frozen order: int64 (classes,).

    Case, spaces, ``_``, ``-`` and ``/`` do not count. Raises ImageError naming the first class
    that the task does not have, that is there twice, or that is missing.
    """
    places = _places(task)
    mapped: dict[int, str] = {}
    for name in found:
        place = places.get(_plain(name))
        if place is None:
            near = nearest_names(name, task.class_names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ImageError(
                f"{where} has the class {name!r}, which is none of {task.name!r}{hint}"
            )
        if place in mapped:
            raise ImageError(
                f"{where} has the class {task.class_names[place]!r} twice: as {mapped[place]!r} "
                f"and as {name!r}. Keep one."
            )
        mapped[place] = name
    missing = [name for i, name in enumerate(task.class_names) if i not in mapped]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ImageError(
            f"{where} lacks the class {missing[0]!r}{more} of {task.name!r}, which has "
            f"{len(task.class_names)} classes; add what is missing."
        )
    return np.fromiter(mapped, np.int64, len(mapped))


def check_order(found: Sequence[str], task: BenchmarkTask, where: str) -> None:
    """Raise ImageError naming the first class that stands elsewhere than in the frozen order."""
    order = class_map(found, task, where)
    for place, frozen in enumerate(order):
        if place != frozen:
            raise ImageError(
                f"{where} has the class {found[place]!r} at place {place}, and {task.name!r} has "
                f"it at {frozen}: labels would mean other classes. Use the frozen order."
            )


def is_class(name: str, task: BenchmarkTask) -> bool:
    """Whether a name is one of the task's classes, in any accepted spelling."""
    return _plain(name) in _places(task)


def _places(task: BenchmarkTask) -> dict[str, int]:
    """Every accepted spelling of a class -> its place; the frozen names win over the others."""
    places: dict[str, int] = {}
    for names in (task.class_names, task.fusion_bench_class_names, task.labels, task.words):
        for place, name in enumerate(names):
            places.setdefault(_plain(name), place)
    return places


def _plain(name: str) -> str:
    return _BETWEEN.sub(" ", name.strip().casefold()).strip()
