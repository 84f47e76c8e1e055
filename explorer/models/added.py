"""A model with further tasks: checkpoints of its tower, measured on tasks whose images are here."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.reading import read_checkpoint
from explorer.compute.images import ImageStore
from explorer.compute.references import LinearFeatures, References
from explorer.compute.store import default_folder
from explorer.editing.task_vector import TaskVector
from explorer.errors import CheckpointError, ModelError, UnknownNameError
from explorer.models.model import Model
from explorer.models.probes import ProbedModel
from explorer.tasks.finding import embedded_by_name
from explorer.tasks.task import Task

if TYPE_CHECKING:
    from explorer.models.heads import LinearHead


def with_tasks(model: Model, files: Mapping[str, str | Path]) -> Model:
    """A model with these checkpoints (name -> file) as further tasks; ``model`` stays as it is.

        mine = ex.with_tasks(m, {"mnist-long": "mnist-long.pt"})

    Each is compared with the model's base and measured on the images and with the head of the task
    that its name begins with, one of the model's own or an embedded one. Raises CheckpointError for
    a file that is damaged or of another tower, ModelError for a name that begins with no task.
    """
    if isinstance(model, ProbedModel):  # the added tasks have probes of their own
        return model.with_model(with_tasks(model.unprobed, files))
    tasks: dict[str, Task] = {}
    alike: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for given, path in {name: Path(file).expanduser() for name, file in files.items()}.items():
        read_checkpoint(path, base=model.base, architecture=model.architecture)
        plain = re.sub(r"[^\w.-]+", "-", given, flags=re.ASCII).strip("-.")[:60] or "task"
        task, own = _measured_on(model, plain, path)
        name = _free(plain, {*model.all_tasks, *tasks})
        paths[name] = path
        tasks[name] = replace(task, name=name, title=f"{task.title}, from {path.name}")
        if own is not None:
            alike[name] = own
    return _extended(model, tasks, alike, paths)


def _extended(
    model: Model, tasks: Mapping[str, Task], alike: Mapping[str, str], paths: Mapping[str, Path]
) -> Model:
    kind = type(model)
    if not isinstance(model, _WithTasks):
        kind = type(f"{kind.__name__}WithTasks", (_WithTasks, kind), {})
    made: Any = object.__new__(kind)
    made.__dict__.update(model.__dict__)
    made._extend(model, tasks, alike, paths)
    return made


class _WithTasks(Model):
    """What differs; it stands before the class of the model that is extended."""

    _added: Mapping[str, Path]
    _alike: Mapping[str, str]
    _before: Model

    def _extend(
        self,
        before: Model,
        tasks: Mapping[str, Task],
        alike: Mapping[str, str],
        paths: Mapping[str, Path],
    ) -> None:
        self._before, self._added, self._alike = before, dict(paths), dict(alike)
        self.name = f"{before.name}+{'+'.join(paths)}"
        self.title = f"{before.title}, with {', '.join(paths)}"
        self.tasks = [*before.tasks, *paths]
        # The coefficient that the card gives is best for the sum of its own vectors.
        self.card = {k: v for k, v in before.card.items() if k != "best_shared_coefficient"}
        self._tasks = {name: {**before._tasks, **tasks}[name] for name in self.all_tasks}
        mean, std = self.card["mean"], self.card["std"]
        self.image_store = ImageStore(self._pixels, mean, std, self.device, self._order)
        self.references, self.linear_features = References(self), LinearFeatures(self)
        self._heads, self._resident, self._engines = {}, {}, {}
        self._lock = RLock()

    def task_vector(self, name: str, space: str = "weights") -> TaskVector:
        """As for every model; an added one from its checkpoint."""
        if name not in self._added:
            if name not in self.tasks:
                raise UnknownNameError("task vector", name, self.tasks)
            return self._before.task_vector(name, space)
        path = self._added[name]
        tuned = read_checkpoint(path, base=self.base, architecture=self.architecture)
        if space == "tangent" and not tuned.linearised:
            raise CheckpointError(
                f"{path.name} is no tangent fine-tuning (it has no numbered parameters "
                "'params.0', ...); look at it in space='weights' or 'posthoc'."
            )
        return TaskVector.between(self.base, tuned)

    def to_python(self) -> str:
        """The expression that makes this model. A file that was handed in through a browser is
        called by its name: it lies elsewhere where the expression is used."""
        handed_in = default_folder() / "uploads"
        files = {
            task: path.name if handed_in in path.parents else str(path)
            for task, path in self._added.items()
        }
        return f"ex.with_tasks({self._before.to_python()}, {files!r})"

    def head(self, name: str, *prompts: Any, **named: Any) -> "LinearHead":
        """As for every model; an added task has the head of the task that it is measured on."""
        known = self._alike.get(name, name)
        if known in self._added:
            return super().head(known, *prompts, **named)
        return self._before.head(known, *prompts, **named)


def _measured_on(model: Model, name: str, path: Path) -> tuple[Task, str | None]:
    """(the task whose images a checkpoint is measured on, its name among the model's own)."""
    own = {task.lower(): task for task in model.all_tasks}
    size = model.task(model.all_tasks[0]).image_size if own else model.card.get("image_size", 224)
    word = name.lower()
    while word:
        if word in own:
            return model.task(own[word]), own[word]
        embedded = embedded_by_name(word, size)
        if embedded is not None:
            return embedded, None
        word = re.sub(r"[^._-]*$", "", word).rstrip("._-")
    known = ", ".join(model.all_tasks[:6]) or "mnist"
    first = model.all_tasks[0] if own else "mnist"
    raise ModelError(
        f"{path.name} is named after no task whose images are here ({known}): rename it so that it "
        f"begins with one, as in {first}-mine{path.suffix}, and add it again."
    )


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of name-2, name-3, ... that is free."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
