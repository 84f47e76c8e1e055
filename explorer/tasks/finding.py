"""Where the images of a model's task are: in its folder, in the package, or prepared before."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from explorer.errors import ImageError, UnknownNameError
from explorer.tasks.benchmark.frozen import benchmark_task
from explorer.tasks.benchmark.labels import check_order
from explorer.tasks.cached import CachedTask
from explorer.tasks.embedded import embedded_task, embedded_tasks, task_of_card
from explorer.tasks.task import Task


def task_images(
    folder: Path,
    name: str,
    info: Mapping[str, Any],
    size: int,
    control: bool = False,
    images: str | None = None,
) -> Task:
    """The task of a model's card, with its images at ``size`` pixels.

    The folder's own ``tasks/NAME.npz`` comes first, or those of the embedded model ``images`` where
    the card names one; then an embedded task with the same class names, resized; then the
    benchmark's task of that name as ``ex.open_task`` prepared it. Nothing is read yet. Raises
    ImageError for class names in another order than the benchmark's, UnknownNameError for images
    that the package does not have.
    """
    task = task_of_card(name, dict(info), folder / "tasks" / f"{name}.npz", size, control)
    if images is not None:
        return _shared(task, embedded_task(f"{images}/{name}"))
    if task.path.is_file():
        return task
    for embedded in (embedded_task(e) for e in embedded_tasks() if e.endswith(f"/{name}")):
        if embedded.class_names == task.class_names:
            return _shared(task, embedded)
    return _benchmark(task) or task


def _shared(task: Task, embedded: Task) -> Task:
    if embedded.class_names != task.class_names:
        raise ImageError(
            f"The classes of {task.name!r} are not those of the images that it shares with an "
            "embedded model; copy the model again, or open it with the version it came with."
        )
    return replace(task, path=embedded.path, stored_size=embedded.stored_size)


def embedded_by_name(name: str, size: int) -> Task | None:
    """The embedded task of this name with its images at ``size`` pixels, if there is one."""
    found = [embedded for embedded in embedded_tasks() if embedded.endswith(f"/{name}")]
    return embedded_task(found[0], size) if found else None


def _benchmark(task: Task) -> CachedTask | None:
    try:
        frozen = benchmark_task(task.name)
    except UnknownNameError:
        return None
    check_order(task.class_names, frozen, f"The task {task.name!r} of the model")
    return CachedTask(
        name=task.name,
        title=task.title,
        class_names=task.class_names,
        templates=task.templates,
        path=task.path,
        image_size=task.image_size,
        control=task.control,
        source=task.source,
        licence=task.licence,
        cached_as=frozen.name,
    )
