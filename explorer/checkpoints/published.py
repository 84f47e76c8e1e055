"""A published set: a base tower, its fine-tuned towers and heads, by where each file lies."""

import fnmatch
import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.errors import CatalogueError, UnknownNameError

TASK = "{task}"
MAIN = "main"


@dataclass(frozen=True)
class Part:
    """Where one file lies: in which repository (None: the folder), by which patterns, best first.

    A pattern may stand below any folder; of several that find files, the first counts. Instead of
    patterns, ``by_task`` may name each task's file.
    """

    repository: str | None
    files: tuple[str, ...] = ()
    by_task: Mapping[str, str] | None = field(default=None, hash=False)

    def of(self, task: str) -> "Part":
        """The part of one task: its own file, or {task} replaced by its name."""
        if self.by_task is not None:
            name = self.by_task.get(task)
            return Part(self.repository, (glob.escape(name),) if name else ())
        repository = self.repository.replace(TASK, task) if self.repository else None
        return Part(repository, tuple(file.replace(TASK, task) for file in self.files))

    def find(self, names: Iterable[str]) -> str | None:
        """The file among ``names`` (with / between folders), or None.

        Raises CatalogueError when a pattern finds several files in one folder depth.
        """
        known = sorted(names, key=lambda name: (name.count("/"), name))
        for pattern in self.files:
            found = [n for n in known if _matches(n, pattern)]
            least = [n for n in found if n.count("/") == found[0].count("/")]
            if len(least) > 1:
                raise CatalogueError(
                    f"The pattern {pattern!r} finds {least[0]!r} and {least[1]!r}; make it find "
                    "one file, by naming its folder."
                )
            if found:
                return found[0]
        return None


@dataclass(frozen=True)
class Wanted:
    """A file of a set: what it is, where it lies, whether the set makes sense without it."""

    what: str
    part: Part
    optional: bool = False


@dataclass(frozen=True)
class Published:
    """An entry of a catalogue: a base with its fine-tuned towers and heads.

    ``source`` is the repository or folder to show; ``size`` is in bytes, estimated where nothing
    is here yet, or None. ``activation`` is "quick_gelu", "gelu" or None where nothing tells;
    ``architecture`` is open_clip's configuration where it is known;
    ``names`` is whose class names the heads have ("tall" or "fusion_bench"); ``tangent`` is where
    the towers of tangent fine-tuning lie; ``pixels`` is mean and standard deviation a colour, where
    they are known.
    """

    name: str
    title: str
    family: str
    base: Part
    fine_tuned: Part | None = None
    heads: Part | None = None
    tangent: Part | None = None
    tasks: tuple[str, ...] = ()
    folder: Path | None = None
    revision: str = MAIN
    activation: str | None = None
    architecture: Mapping[str, Any] | None = field(default=None, compare=False)
    pixels: tuple[list[float], list[float]] | None = field(default=None, compare=False)
    names: str = "tall"
    licence: str = ""
    links: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    base_size: float | None = None
    task_size: float | None = None
    origin: str = field(default="hub", compare=False)

    @property
    def source(self) -> str:
        """The folder, or the repositories."""
        if self.folder is not None:
            return str(self.folder)
        parts = [part for part in (self.fine_tuned, self.base) if part is not None]
        return ", ".join(dict.fromkeys(str(part.repository) for part in parts))

    @property
    def size(self) -> float | None:
        """Bytes of base and tasks together, as estimated; None when nothing says."""
        if self.base_size is None or (self.tasks and self.task_size is None):
            return None
        return self.base_size + len(self.tasks) * (self.task_size or 0.0)

    def choose(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        """These tasks, or all. Raises UnknownNameError with the nearest names."""
        if tasks is None:
            return self.tasks
        for task in tasks:
            if task not in self.tasks:
                raise UnknownNameError(f"task of {self.name!r}", task, self.tasks)
        return tuple(dict.fromkeys(tasks))

    def wanted(self, tasks: Sequence[str] | None = None) -> list["Wanted"]:
        """Every file of the set, or of these tasks with the base."""
        found = [Wanted("the base", self.base)]
        for task in self.choose(tasks):
            if self.fine_tuned is not None:
                found.append(Wanted(f"the tower of {task!r}", self.fine_tuned.of(task)))
            if self.tangent is not None:
                part = self.tangent.of(task)
                found.append(Wanted(f"the tangent tower of {task!r}", part, optional=True))
            if self.heads is not None:
                found.append(Wanted(f"the head of {task!r}", self.heads.of(task), optional=True))
        return found


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*/{pattern}")
