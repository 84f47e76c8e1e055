"""A published set as a Model: base tower, task vectors, and heads where the set has them."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import psutil
import torch
from torch import Tensor

from explorer.checkpoints.families import check_activation
from explorer.checkpoints.published import Published
from explorer.checkpoints.pulled import Located, locate
from explorer.checkpoints.reading import Checkpoint, open_checkpoint, read_checkpoint, read_head
from explorer.checkpoints.zoo import ModelFolder
from explorer.compute.resident import ResidentWeights
from explorer.editing.task_vector import TaskVector
from explorer.errors import (
    CheckpointError,
    HubError,
    ImageError,
    ModelError,
    UnknownNameError,
    VocabularyError,
)
from explorer.models.heads import ZeroShotHead
from explorer.models.model import Model
from explorer.models.towers import build_tower, check_tower
from explorer.tasks.benchmark.frozen import BenchmarkTask, Names, benchmark_task
from explorer.tasks.cached import CachedTask
from explorer.tasks.finding import embedded_by_name
from explorer.tasks.image_cache import ImageCache
from explorer.tasks.task import Task

# Normalisation of pixels: that of OpenAI's CLIP, which open_clip's keep, and ImageNet's.
_CLIP_PIXELS = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
_IMAGENET_PIXELS = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class PublishedModel(Model):
    """A base with the task vectors of a published set, each read from its file when asked for.

        m = ex.open_model("fusion-bench-vit-b-32")
        m.task_vector("mnist").cosine(m.task_vector("svhn"))
        m.missing                               # what a set without images cannot do

    Heads come from the set's files. Images are those that ``ex.open_task`` prepared for the
    benchmark's tasks; without them accuracies and maps are refused with a sentence.
    """

    def __init__(
        self,
        entry: Published,
        device: str = "auto",
        tasks: Sequence[str] | None = None,
        activation: str | None = None,
    ) -> None:
        self.entry = entry
        self._located = locate(entry)
        self._base_file = _base_file(entry, self._located)
        chosen = _present(entry, self._located, tasks)
        architecture = architecture_of(entry, self._base_file, activation)
        super().__init__(_folder(entry, self._base_file.path.parent, architecture, chosen), device)
        self.missing = self._what_is_missing()

    # --- weights -----------------------------------------------------------------------------

    def task_vector(self, name: str, space: str = "weights") -> TaskVector:
        """Fine-tuned minus base, float32 on the CPU; read from its file each time.

        Raises UnknownNameError, and CheckpointError for another tower or activation.
        """
        if name not in self.tasks:
            raise UnknownNameError("task vector", name, self.tasks)
        if space == "tangent":
            raise CheckpointError(
                f"{self.name} has no task vectors of tangent fine-tuning; use space='weights'."
            )
        path = self._located.fine_tuned[name]
        tuned = read_checkpoint(path, base=self.base, architecture=self.architecture)
        return TaskVector.between(self.base, tuned)

    def resident(self, space: str = "weights") -> ResidentWeights:
        """As for every model; refused where the memory would not hold all vectors."""
        parameters = sum(tensor.numel() for tensor in self.base.values())
        needed = 4 * parameters * (len(self.tasks) + 1)
        free = psutil.virtual_memory().available
        if space not in self._resident and needed > free:
            raise ModelError(
                f"The base and {len(self.tasks)} task vectors of {self.name} take "
                f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free. Open fewer "
                f"tasks: ex.open_model({self.name!r}, tasks=[...])."
            )
        return super().resident(space)

    def _read_base(self) -> dict[str, Tensor]:
        file = self._base_file
        file.check()
        tower = build_tower(self.architecture)
        check_tower(dict(file), tower, file.name)
        return {key: file[key].float() for key in tower.state_dict()}

    # --- heads -------------------------------------------------------------------------------

    def head(
        self,
        name: str,
        class_names: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
    ) -> ZeroShotHead:
        """The zero-shot head in the set's file, read once. Raises ModelError where it has none."""
        task = self.task(name)
        if class_names is not None or templates is not None:
            self._no_text()
        if name not in self._located.heads:
            raise ModelError(
                f"{self.name} has no head for {name!r} on this machine; pull it where the set has "
                "one, or read your own with ex.read_head."
            )
        key = (task.class_names, (name, *task.templates))
        with self._lock:
            if key not in self._heads:
                weight = _zero_shot_weight(self._located.heads[name], self.embed_dim)
                head = ZeroShotHead(weight.to(self.device), task.class_names, task.templates)
                self._heads[key] = head
            return self._heads[key]

    def heads_made_of(self) -> list[bytes]:
        """The set's files of heads."""
        return [path.read_bytes() for _, path in sorted(self._located.heads.items())]

    def _text_side(self) -> NoReturn:
        self._no_text()

    def _no_text(self) -> NoReturn:
        raise VocabularyError(
            f"{self.name} has no text tower here, so that no prompt can be encoded; its heads come "
            "from files (m.head(task) without prompts)."
        )

    # --- tasks -------------------------------------------------------------------------------

    def _task(self, name: str) -> Task:
        """The benchmark's task of this name, whose images ``ex.open_task`` prepares; or an embedded
        one, at this tower's size; or no images.

        A head with another number of classes than the benchmark's is of another task of that name.
        """
        size = self.card["image_size"]
        head = self._located.heads.get(name)
        classes = len(_zero_shot_weight(head, self.embed_dim)) if head is not None else None
        found = _benchmark_task(name)
        if found is not None:
            names, templates = found.prompts(cast(Names, self.entry.names))
            if classes in (None, len(names)):
                return CachedTask(
                    name=name,
                    title=found.title,
                    class_names=names,
                    templates=templates,
                    path=self._located.fine_tuned[name].with_suffix(".npz"),
                    image_size=size,
                    source=self.entry.source,
                    licence=self.entry.licence,
                    cached_as=found.name,
                )
        embedded = embedded_by_name(name, size)
        if embedded is not None and classes in (None, len(embedded.class_names)):
            return embedded
        return _TaskWithoutImages(
            name=name,
            title=name,
            class_names=tuple(f"class {i + 1}" for i in range(classes or 0)),
            templates=(),
            path=self._located.fine_tuned[name].with_suffix(".npz"),
            image_size=size,
            source=self.entry.source,
            licence=self.entry.licence,
        )

    def _what_is_missing(self) -> str:
        if not self.tasks:
            return (
                f"{self.name} is a base tower alone: its weights can be read, compared and "
                "exported, but there is no task to edit or to measure."
            )
        without = {
            "images": [task for task in self.tasks if not self._has_images(task)],
            "heads": [task for task in self.tasks if task not in self._located.heads],
        }
        lacking = [what for what, tasks in without.items() if tasks]
        if not lacking:
            return ""
        tasks = sorted({task for each in without.values() for task in each}, key=self.tasks.index)
        shown = ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
        remedy = (
            f" Prepare the images with ex.open_task({tasks[0]!r})." if without["images"] else ""
        )
        return (
            f"The {' and '.join(lacking)} of {self.name}'s tasks {shown} are not here: task "
            "vectors, geometry, merging and export work, and accuracies and maps of these tasks do "
            f"not.{remedy}"
        )

    def _has_images(self, name: str) -> bool:
        task = self._tasks[name]
        if not isinstance(task, CachedTask):
            return not isinstance(task, _TaskWithoutImages)
        return ImageCache().latest(task.cached_as, "test", task.image_size) is not None

    def __repr__(self) -> str:
        return f"<Model {self.name!r} on {self.device}: {', '.join(self.tasks) or 'no task'}>"

    def _repr_html_(self) -> str:
        caveats = "".join(f"<li>{escape(text)}</li>" for text in self.entry.caveats)
        return f"{super()._repr_html_()}<p>{escape(self.missing)}</p><ul>{caveats}</ul>"


class _TaskWithoutImages(Task):
    """A task that is only known by its weights."""

    def _load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        raise ImageError(
            f"The images of {self.name!r} are not here, so that nothing can be measured on them. "
            "Its task vector can be looked at, merged and exported; for accuracies open an "
            "embedded model, or one with images."
        )


def architecture_of(
    entry: Published, base: Checkpoint, activation: str | None = None
) -> dict[str, Any]:
    """The architecture of a set's tower: the catalogue's, or told by the base's file.

    Raises ModelError when names or shapes tell no tower, or nothing tells its activation;
    CheckpointError when the file tells another activation than the catalogue or the caller.
    """
    if entry.architecture is not None:
        check_activation(base.activation, activation or entry.activation, base.name)
        return dict(entry.architecture)
    family = base.family
    if family is None:
        raise ModelError(
            f"{base.name} is a tower of no family that can be told by its names; read it with "
            "ex.read_checkpoint, and subtract it from a base of the same names."
        )
    found = dict(family.architecture)
    if family.kind != "clip":
        return {"embed_dim": found.get("dims", (0,))[-1], **found}
    if "embed_dim" not in found:
        raise ModelError(
            f"{base.name} has no projection, as Hugging Face's CLIPVisionModel has none; give the "
            "whole CLIP as the base of the set."
        )
    told = activation or entry.activation
    check_activation(base.activation, told, base.name)
    if base.activation is None and told is None:
        raise ModelError(
            f"Nothing tells whether {base.name} was trained with QuickGELU (OpenAI's weights) or "
            "GELU, and with the wrong one its features are wrong. Say it: "
            "ex.open_model(..., activation='quick_gelu') or 'gelu', or in the catalogue."
        )
    return found | {"quick_gelu": (base.activation or told) == "quick_gelu"}


def _base_file(entry: Published, located: Located) -> Checkpoint:
    if located.base is not None:
        return open_checkpoint(located.base)
    if entry.folder is not None:
        raise CheckpointError(
            f"{entry.folder} has no file {' or '.join(entry.base.files)}, which {entry.name!r} "
            "starts from; copy it there, or correct the catalogue."
        )
    size = f" ({entry.size / 1e9:.1f} GB with all tasks)" if entry.size else ""
    raise HubError(
        f"{entry.name} is not on this machine{size}: pull it first, with "
        f"`explorer zoo pull {_address(entry)}` or ex.pull({_address(entry)!r})."
    )


def _present(entry: Published, located: Located, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks to open: those chosen, all of which must be here, or those that are here."""
    chosen = entry.choose(tasks)
    here = tuple(task for task in chosen if task in located.fine_tuned)
    absent = [task for task in chosen if task not in here]
    if tasks is not None and absent:
        raise HubError(
            f"The task {absent[0]!r} of {entry.name} is not on this machine: pull it, with "
            f"`explorer zoo pull {_address(entry)} --tasks {' '.join(absent)}`."
        )
    return here


def _address(entry: Published) -> str:
    return entry.name if entry.revision == "main" else f"{entry.name}@{entry.revision}"


def _folder(
    entry: Published, path: Path, architecture: Mapping[str, Any], tasks: Sequence[str]
) -> ModelFolder:
    """What a model folder's description would say."""
    mean, std = _IMAGENET_PIXELS if "timm" in architecture else _CLIP_PIXELS
    vision = architecture.get("vision_cfg", architecture)
    size = vision.get("image_size", vision.get("img_size", 224))
    card = {
        "name": entry.name,
        "title": entry.title,
        "family": entry.name,
        "architecture": architecture,
        "mean": mean,
        "std": std,
        "image_size": size,
        "tasks": list(tasks),
        "task_info": {},
    }
    return ModelFolder(path, card)


def _benchmark_task(name: str) -> BenchmarkTask | None:
    try:
        return benchmark_task(name)
    except UnknownNameError:
        return None


def _zero_shot_weight(path: Path, width: int) -> Tensor:
    """(classes, width) of a published head. Raises CheckpointError for one of another kind."""
    weight, bias = read_head(path)
    if bias is not None and bool(bias.any()):
        raise CheckpointError(
            f"{path.name} is a head with a bias, and no zero-shot head; read it with ex.read_head."
        )
    if weight.shape[1] != width:
        raise CheckpointError(
            f"{path.name} is a head for features of {weight.shape[1]}, and this tower's have "
            f"{width}: it belongs to another tower."
        )
    with torch.inference_mode(False):
        return weight.clone()
