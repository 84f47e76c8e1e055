"""The tasks that come with the package, at any tower's resolution, without a network."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from explorer.checkpoints.zoo import embedded_root, read_folder
from explorer.errors import UnknownNameError
from explorer.tasks.task import Task


def embedded_task(name: str, size: int | None = None, limit: int | None = None) -> Task:
    """A task of an embedded model by "MODEL/TASK", its images at ``size`` pixels.

    Raises UnknownNameError with the nearest names.
    """
    found = _embedded()
    if name not in found:
        raise UnknownNameError("embedded task", name, found)
    return replace(found[name], image_size=size or found[name].image_size, limit=limit)


def embedded_tasks() -> list[str]:
    """The names "MODEL/TASK" of every embedded task, the control tasks too."""
    return list(_embedded())


@cache
def _embedded() -> dict[str, Task]:
    tasks = {}
    for path in sorted(embedded_root().glob("*/model.json")):
        folder = read_folder(path.parent)
        if folder.images is not None:  # they are another's
            continue
        size = folder.card["architecture"]["vision_cfg"]["image_size"]
        for name, info in folder.card["task_info"].items():
            control = name == folder.control
            task = task_of_card(name, info, folder.path / "tasks" / f"{name}.npz", size, control)
            tasks[f"{folder.name}/{name}"] = replace(task, stored_size=size)
    return tasks


def task_of_card(name: str, info: dict[str, Any], path: Path, size: int, control: bool) -> Task:
    """The task that a model's card describes, with its images in a npz file."""
    return Task(
        name=name,
        title=info.get("title", name),
        class_names=tuple(info["class_names"]),
        templates=tuple(info["templates"]),
        path=path,
        image_size=size,
        control=control,
        source=info.get("source", ""),
        licence=info.get("licence", ""),
    )
