"""Open a task by name: images of the benchmark, prepared once and kept, or an embedded task."""

from collections.abc import Iterator
from pathlib import Path

from explorer.compute.run import Run
from explorer.compute.store import default_folder
from explorer.errors import ImageError, UnknownNameError
from explorer.tasks.benchmark.frozen import ALL, BenchmarkTask, Names, benchmark_task, check_names
from explorer.tasks.embedded import embedded_task, embedded_tasks
from explorer.tasks.preparing import Preparation
from explorer.tasks.task import SPLITS, Split, Task, check_count, check_seed

SIZE = 224
"""Pixels of CLIP's towers."""
SMALLEST_SIZE, LARGEST_SIZE = 8, 1024


def open_task(
    name: str,
    n: int | None = None,
    folder: str | Path | None = None,
    split: Split = "test",
    size: int = SIZE,
    seed: int = 0,
    download: bool = False,
    names: Names = "tall",
    show_progress: bool | None = None,
) -> Task:
    """A task of the benchmark with its images, or an embedded one ("glyphs/letters").

        task = ex.open_task("mnist", n=256, download=True)
        images, labels, class_names = task.images()

    ``n`` images are drawn with ``seed`` and nothing else is decoded; asking for more later goes on
    from there. They are kept preprocessed (shorter side resized to ``size``, middle cut out,
    uint8), so that the next opening reads them from disk, and a model of that size whose card
    lists the task finds them. ``folder`` holds torchvision's files or one folder a class (below
    "test" and "val", or the test split itself); by default ``data`` in the cache folder;
    "embedded:glyphs" are the images of "mnist" that come with the package, and
    "hub:tanganke/dtd" those of a hub's data set; it or the folder may hold parquet files, which
    need pyarrow. ``download`` lets torchvision, or the hub that is named, give what is missing. The
    validation split of torchvision's files, and of a hub's without one, is the published one.
    ``names`` is the family whose class names and templates are used, "tall" or "fusion_bench". An
    embedded task has its images already, and takes ``n`` and ``size``.

    Raises UnknownNameError, ImageError (what is missing, or the class that does not fit), HubError
    for a download that fails.
    """
    run = open_task_run(name, n, folder, split, size, seed, download, names)
    return run.result(show_progress)


def open_task_run(
    name: str,
    n: int | None = None,
    folder: str | Path | None = None,
    split: Split = "test",
    size: int = SIZE,
    seed: int = 0,
    download: bool = False,
    names: Names = "tall",
) -> Run[Task]:
    """``open_task`` as a Run: partial results are the task with the images there are so far.

    Cancelled or interrupted, it goes on where it stopped the next time. A name, a size or a count
    that is none raises here, everything else in the run.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    _check_size(size)
    if n is not None:
        check_count(n, 1, name)
    if "/" in name:
        return _at_once(embedded_task(name, size, limit=n))
    where = default_folder() / "data" if folder is None else Path(folder).expanduser()
    check_names(names)
    task, seed = _benchmark_task(name), check_seed(seed)
    preparation = Preparation(task, n, where, split, size, seed, download, names)
    return Run(preparation.steps, f"images of {task.name}")


def _at_once(task: Task) -> Run[Task]:
    def steps(_: Run[Task]) -> Iterator[Task]:
        yield task

    return Run(steps, f"images of {task.name}")


def _benchmark_task(name: str) -> BenchmarkTask:
    try:
        return benchmark_task(name)
    except UnknownNameError:
        raise UnknownNameError("task", name, [*ALL, *embedded_tasks()]) from None


def _check_size(size: object) -> None:
    whole = isinstance(size, int) and not isinstance(size, bool)
    if not whole or not SMALLEST_SIZE <= size <= LARGEST_SIZE:  # type: ignore[operator]
        raise ImageError(
            f"The size must be {SMALLEST_SIZE} to {LARGEST_SIZE} pixels, not {size!r}."
        )
