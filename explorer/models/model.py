"""Model: a base tower with its tasks and task vectors, opened by name or from a folder."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explorer.checkpoints.finding import resolve
from explorer.checkpoints.reading import check_finite, read_checkpoint, read_json, read_safetensors
from explorer.checkpoints.zoo import ModelFolder
from explorer.compute.device import limit_threads, pick_device
from explorer.compute.images import ImageStore
from explorer.compute.references import LinearFeatures, References
from explorer.compute.resident import ResidentWeights, check_vector
from explorer.editing.task_vector import TaskVector
from explorer.errors import CheckpointError, ModelError, RecipeError, UnknownNameError
from explorer.models.heads import LinearHead, zero_shot_head
from explorer.models.tokens import Vocabulary
from explorer.models.towers import (
    TextTower,
    build_text_tower,
    build_tower,
    check_tower,
    load_weights,
)
from explorer.recipe import SPACES
from explorer.tasks.finding import task_images
from explorer.tasks.task import Split, Task

if TYPE_CHECKING:
    from explorer.compute.engine import Engine

_VECTOR_FOLDER = {"weights": "vectors", "posthoc": "vectors", "tangent": "tangent"}


def open_model(
    name_or_path: str | Path = "glyphs",
    device: str = "auto",
    tasks: Sequence[str] | None = None,
    activation: str | None = None,
) -> "Model":
    """Open a model of the catalogue, a folder or file of checkpoints, or what was pulled of a hub.

        m = ex.open_model("glyphs")
        m = ex.open_model("fusion-bench-vit-b-32", tasks=["mnist", "svhn"])   # after ex.pull
        m = ex.open_model("hub:owner/name")                                   # after ex.pull

    ``device`` is "auto" (CUDA where it works), "cpu", "cuda", "cuda:1", ... For published sets and
    loose checkpoints, ``tasks`` chooses among theirs (each kept in memory takes four bytes a
    parameter), and ``activation`` ("quick_gelu" or "gelu") says what no file tells. The
    images of their tasks are those that ``ex.open_task`` prepared; ``missing`` of the model says
    what does not work.

    Raises UnknownNameError with the nearest names, CheckpointError for damaged or foreign files,
    HubError for what has not been pulled, ModelError for a description or device that cannot be
    used.
    """
    found = resolve(name_or_path)
    if not isinstance(found, ModelFolder):
        from explorer.models.published_model import PublishedModel

        return PublishedModel(found, device, tasks, activation)
    if tasks is not None or activation is not None:
        raise ModelError(
            f"{found.name} is a complete model, which opens with all its tasks and its own "
            "activation: leave out 'tasks' and 'activation'."
        )
    if "heads" in found.card:
        from explorer.models.closed import ClosedModel

        return ClosedModel(found, device)
    return Model(found, device)


class Model:
    """A base image tower, its tasks (images, class names, heads) and their task vectors.

    One model serves any number of sessions: base, task vectors, images, heads and reference
    features are shared, and each session adds an ``engine()``. Everything is read when it is
    first needed.
    """

    base_title = "zero-shot"
    """What the base with this model's heads is called on screen."""
    missing: str = ""
    """What cannot be done with this model and why, in a sentence; empty for a complete one."""

    def __init__(self, folder: ModelFolder, device: str = "auto") -> None:
        self.folder = folder
        self.name = folder.name
        self.title = folder.title
        self.family: str = folder.card["family"]
        self.card: Mapping[str, Any] = folder.card
        self.architecture: Mapping[str, Any] = folder.card["architecture"]
        self.device = pick_device(device)
        limit_threads()
        self.tasks = folder.tasks
        self.control = folder.control
        self.base: dict[str, Tensor] = self._read_base()
        self.embed_dim = int(self.architecture["embed_dim"])
        self.image_store = ImageStore(
            self._pixels, self.card["mean"], self.card["std"], self.device, self._order
        )
        self.references = References(self)
        self.linear_features = LinearFeatures(self)
        self._tasks = {name: self._task(name) for name in self.all_tasks}
        self._text: tuple[TextTower, Vocabulary] | None = None
        self._heads: dict[tuple, LinearHead] = {}
        self._resident: dict[str, ResidentWeights] = {}
        self._engines: dict[int, Engine] = {}
        self._lock = threading.RLock()

    # --- tasks -------------------------------------------------------------------------------

    @property
    def all_tasks(self) -> list[str]:
        """The tasks with vectors, then the control task where there is one."""
        return [*self.tasks, *([self.control] if self.control else [])]

    def task(self, name: str) -> Task:
        """A task by name. Raises UnknownNameError with the nearest names."""
        if name not in self._tasks:
            raise UnknownNameError("task", name, self._tasks)
        return self._tasks[name]

    def images(
        self, name: str, n: int | None = None, split: Split = "test"
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """uint8 images (n, height, width, 3), int64 labels (n,), class names; the first n."""
        return self.task(name).images(n, split)

    def n_images(self, name: str, split: Split = "test") -> int:
        """How many images a task's split holds."""
        return self.task(name).n_images(split)

    # --- weights -----------------------------------------------------------------------------

    def task_vector(self, name: str, space: str = "weights") -> TaskVector:
        """The task vector of a task: standard fine-tuning, or tangent for space="tangent".

        Read from disk, checked against the base, float32 on the CPU. Raises UnknownNameError,
        CheckpointError.
        """
        if name not in self.tasks:
            raise UnknownNameError("task vector", name, self.tasks)
        path = self.folder.file(_vector_folder(space), f"{name}.safetensors")
        tensors = dict(read_checkpoint(path))
        check_vector(tensors, self.base, name)
        return TaskVector({key: tensors[key] for key in self.base})

    def resident(self, space: str = "weights") -> ResidentWeights:
        """Base and all task vectors of a space as flat buffers on the device, built once."""
        folder = _vector_folder(space)
        with self._lock, torch.inference_mode(False):
            if folder not in self._resident:
                vectors = _VectorFiles(self, space)
                self._resident[folder] = ResidentWeights(self.base, vectors, self.device)
            return self._resident[folder]

    def engine(self, precision: str = "auto") -> "Engine":
        """A private evaluation engine for one session; costs only its merged buffer."""
        from explorer.compute.engine import Engine

        return Engine(self, precision)

    def shared_engine(self, number: int = 0) -> "Engine":
        """An engine that several sessions use in turns, the same for the same number.

        Each batch is computed with its own recipe, so that they do not disturb each other; what
        they pay is a merge whenever another recipe was last.
        """
        with self._lock:
            if number not in self._engines:
                self._engines[number] = self.engine()
            return self._engines[number]

    def best_shared_coefficient(self, space: str = "weights") -> float | None:
        """The coefficient that the card reports as best for the sum of all vectors, or None."""
        _vector_folder(space)
        value = self.card.get("best_shared_coefficient", {}).get(space)
        return None if value is None else float(value)

    # --- text --------------------------------------------------------------------------------

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Text features (n, embed_dim), float32, not normalised. Raises VocabularyError."""
        tower, vocabulary = self._text_side()
        rows = vocabulary.rows_of([texts] if isinstance(texts, str) else texts)
        with torch.no_grad(), torch.inference_mode(False):
            return tower(rows.to(self.device))

    def head(
        self,
        name: str,
        class_names: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
    ) -> LinearHead:
        """The zero-shot head of a task, with its own prompts or with the given ones; cached.

        ``class_names`` must name as many classes as the task has, in its order. Raises
        VocabularyError for words that the text tower does not know.
        """
        task = self.task(name)
        names = task.class_names if class_names is None else _as_tuple(class_names)
        prompts = task.templates if templates is None else _as_tuple(templates)
        if len(names) != len(task.class_names):
            raise RecipeError(
                f"The task {name!r} has {len(task.class_names)} classes; "
                f"{len(names)} class names were given."
            )
        key = (names, prompts)
        with self._lock:
            if key not in self._heads:
                if len(self._heads) >= 256:  # typed prompts must not grow without bound
                    self._heads.pop(next(iter(self._heads)))
                scale = float(self._text_side()[0].logit_scale)
                self._heads[key] = zero_shot_head(self.encode_text, scale, names, prompts)
            return self._heads[key]

    def heads_made_of(self, tasks: Sequence[str]) -> list[bytes]:
        """What the heads of these tasks depend on: here the text tower's files, for all of them."""
        names = ("text.safetensors", "vocabulary.json")
        return [self.folder.file(name).read_bytes() for name in names]

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that prompts may use."""
        return self._text_side()[1]

    def missing_but_heads(self) -> str:
        """What is ``missing`` of this model when its heads come from elsewhere."""
        return self.missing

    # --- reading -----------------------------------------------------------------------------

    def _read_base(self) -> dict[str, Tensor]:
        path = self.folder.file("base.safetensors")
        tensors = dict(read_checkpoint(path, architecture=self.architecture))
        tower = build_tower(self.architecture)
        check_tower(tensors, tower, f"{self.name}/{path.name}")
        return {key: tensors[key].float() for key in tower.state_dict()}

    def _text_side(self) -> tuple[TextTower, Vocabulary]:
        with self._lock, torch.inference_mode(False):
            if self._text is None:
                path = self.folder.file("text.safetensors")
                tensors = {k: v.float() for k, v in read_safetensors(path).items()}
                check_finite(tensors, f"{self.name}/{path.name}")
                tower = build_text_tower(self.architecture)
                check_tower(tensors, tower, f"{self.name}/{path.name}")
                load_weights(tower, {k: v.to(self.device) for k, v in tensors.items()})
                self._text = (tower, self._read_vocabulary(tower))
            return self._text

    def _read_vocabulary(self, tower: TextTower) -> Vocabulary:
        path = self.folder.file("vocabulary.json")
        data = read_json(path)
        tokens = data.get("tokens") if isinstance(data, dict) else None
        if not isinstance(tokens, list) or len(tokens) != len(tower.token_embedding.weight):
            raise CheckpointError(
                f"{self.name}/{path.name} must list one token for each of the "
                f"{len(tower.token_embedding.weight)} rows of the token table."
            )
        return Vocabulary(tokens, tower.context_length)

    def _task(self, name: str) -> Task:
        size = self.architecture["vision_cfg"].get("image_size", 224)
        return task_images(
            self.folder.path,
            name,
            self.card["task_info"][name],
            size if isinstance(size, int) else size[0],
            control=name == self.control,
            images=self.folder.images,
        )

    def _pixels(self, name: str, split: Split) -> np.ndarray:
        return self.task(name).images(None, split)[0]

    def _order(self, name: str, split: Split, seed: int | None) -> np.ndarray:
        return self.task(name).order(split, seed)

    # --- display -----------------------------------------------------------------------------

    def to_python(self) -> str:
        """The expression that opens this model, for code that computes what is on screen."""
        return f"ex.open_model({self.name!r})"

    def __repr__(self) -> str:
        control = f", control {self.control}" if self.control else ""
        return f"<Model {self.name!r} on {self.device}: {', '.join(self.tasks)}{control}>"

    def _repr_html_(self) -> str:
        n_parameters = sum(tensor.numel() for tensor in self.base.values())
        rows = "".join(
            f"<tr><td>{escape(task.name)}</td><td>{escape(task.title)}</td>"
            f"<td>{len(task.class_names)}</td><td>{'control' if task.control else ''}</td></tr>"
            for task in self._tasks.values()
        )
        return (
            f"<p><b>{escape(self.title)}</b> ({escape(self.name)}), family {escape(self.family)}, "
            f"tower of {n_parameters / 1e6:.2f} M parameters, on {escape(str(self.device))}</p>"
            f"<table><thead><tr><th>task</th><th>title</th><th>classes</th><th></th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


class _VectorFiles(Mapping[str, TaskVector]):
    """A model's task vectors, each read from its file when it is asked for."""

    def __init__(self, model: Model, space: str) -> None:
        self._model, self._space = model, space

    def __getitem__(self, task: str) -> TaskVector:
        return self._model.task_vector(task, self._space)

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.tasks)

    def __len__(self) -> int:
        return len(self._model.tasks)


def _vector_folder(space: str) -> str:
    if space not in _VECTOR_FOLDER:
        raise UnknownNameError("space", space, SPACES)
    return _VECTOR_FOLDER[space]


def _as_tuple(texts: Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)
