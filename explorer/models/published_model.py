"""A published set as a Model: base tower, task vectors, and heads where the set has them."""

import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from torch import Tensor

from explorer.checkpoints.families import check_activation
from explorer.checkpoints.pixels import Pixels, pixels_of
from explorer.checkpoints.published import Published
from explorer.checkpoints.pulled import Located, locate
from explorer.checkpoints.reading import Checkpoint, open_checkpoint, read_checkpoint, read_head
from explorer.checkpoints.recognised import recognised
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
from explorer.models.heads import LinearHead, ZeroShotHead
from explorer.models.model import Model
from explorer.models.tokens import N_TOKENS, Vocabulary
from explorer.models.towers import TextTower, build_tower, check_tower
from explorer.models.whole_clips import no_text, text_tower_of, whole_clips
from explorer.tasks.benchmark.frozen import BenchmarkTask, Names, benchmark_task
from explorer.tasks.cached import CachedTask
from explorer.tasks.finding import embedded_by_name
from explorer.tasks.image_cache import ImageCache
from explorer.tasks.task import Task


class PublishedModel(Model):
    """A base with the task vectors of a published set, each read from its file when asked for.

        m = ex.open_model("fusion-bench-vit-b-32")
        m.task_vector("mnist").cosine(m.task_vector("svhn"))
        m.missing                               # what a set without images cannot do

    Heads come from the set's files, or are made of prompts where the base is a whole CLIP or
    open_clip's weights of it have been pulled. Images are those that ``ex.open_task`` prepared for
    the benchmark's tasks; without them accuracies and maps are refused with a sentence.
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
        self._texts: tuple[Path, ...] | None = None
        pixels, remark = (entry.pixels, "") if entry.pixels else pixels_of(self._base_file)
        super().__init__(_folder(entry, self._base_file, architecture, chosen, pixels), device)
        self.missing = self._what_is_missing()
        known = recognised(self._base_file) if entry.architecture is None else None
        taken = known.remark(self._base_file.name) if known is not None else ""
        self.remarks = tuple(filter(None, (*entry.caveats, taken, remark)))

    # --- weights -----------------------------------------------------------------------------

    def task_vector(self, name: str, space: str = "weights") -> TaskVector:
        """Fine-tuned minus base, float32 on the CPU; read from its file each time.

        Raises UnknownNameError, and CheckpointError for another tower or activation.
        """
        if name not in self.tasks:
            raise UnknownNameError("task vector", name, self.tasks)
        path = self._located.fine_tuned[name]
        if space == "tangent":
            path = self._located.tangent.get(name, path)
        tuned = read_checkpoint(path, base=self.base, architecture=self.architecture)
        if space == "tangent":
            self._check_tangent(tuned, name)
        return TaskVector.between(self.base, tuned)

    def _check_tangent(self, tuned: Checkpoint, task: str) -> None:
        """Raise CheckpointError for a tower that was not fine-tuned around this base's tangent."""
        if not tuned.linearised:
            raise CheckpointError(
                f"The tower of {task!r} in {self.name} ({tuned.name}) is no tangent fine-tuning "
                "(it has no numbered parameters 'params.0', ...); use space='weights' or "
                "'posthoc', or put its linear_finetuned.pt beside it."
            )
        around = open_checkpoint(tuned.path, part="params0")
        if not around.linearised:  # it does not keep what it was linearised around
            return
        for key, tensor in self.base.items():
            # As exact as half precision, in which either may be stored.
            same = around.shapes.get(key) == tensor.shape
            if not same or not torch.allclose(around[key], tensor, rtol=1e-2, atol=1e-4):
                raise CheckpointError(
                    f"{tuned.name} of {task!r} was linearised around other weights than "
                    f"{self._base_file.name} ({key!r} differs): its tangent vector is of another "
                    "base. Give the base that it was fine-tuned from."
                )

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
    ) -> LinearHead:
        """The zero-shot head in the set's file, read once, or one made of prompts.

        Prompts are those given, or, for a set without files of heads, the benchmark's. Raises
        ModelError for a task without head and prompts, VocabularyError without a text tower.
        """
        task = self.task(name)
        if class_names is not None or templates is not None:
            return super().head(name, class_names, templates)
        if name not in self._located.heads:
            if task.templates:
                return super().head(name)
            raise ModelError(
                f"{self.name} has no head for {name!r} on this machine, and no class names to make "
                "one of; pull it where the set has one, read your own with ex.read_head, or fit "
                "one with ex.with_probes."
            )
        key = (task.class_names, (name, *task.templates))
        with self._lock:
            if key not in self._heads:
                weight = _zero_shot_weight(self._located.heads[name], self.embed_dim)
                head = ZeroShotHead(weight.to(self.device), task.class_names, task.templates)
                self._heads[key] = head
            return self._heads[key]

    def heads_made_of(self, tasks: Sequence[str]) -> list[bytes]:
        """The set's heads, by their numbers: what a file holds besides is none of them."""
        heads = (self.head(task).weight for task in tasks if task in self._located.heads)
        found = [weight.cpu().numpy().tobytes() for weight in heads]
        if any(task not in self._located.heads for task in tasks) and self._text_file():
            digest = hashlib.blake2b()  # of the text tower: its copy would take a quarter gigabyte
            for tensor in self._text_side()[0].state_dict().values():
                digest.update(tensor.cpu().reshape(-1).numpy())
            found.append(digest.digest())
        return found

    def _text_side(self) -> tuple[TextTower, Vocabulary]:
        with self._lock, torch.inference_mode(False):
            if self._text is None:
                path = self._text_file()
                if path is None:
                    raise VocabularyError(no_text(self.name, self._base_file, self.architecture))
                tower = text_tower_of(path, self.architecture, self.device)
                self._text = tower, Vocabulary(range(N_TOKENS), tower.context_length)
            return self._text

    def _text_file(self) -> Path | None:
        """A whole CLIP's file whose image tower is the base: the base's own, or open_clip's."""
        with self._lock:
            if self._texts is None:
                self._texts = tuple(whole_clips(self._base_file, self.base, self.architecture))
            return self._texts[0] if self._texts else None

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

    def missing_but_heads(self) -> str:
        """What is missing of a model whose heads come from elsewhere."""
        return self._what_is_missing(heads=False)

    def _what_is_missing(self, heads: bool = True) -> str:
        if not self.tasks:
            return (
                f"{self.name} is a base tower alone: its weights can be read, compared and "
                "exported, but there is no task to edit or to measure."
            )
        without = {
            "images": [task for task in self.tasks if not self._has_images(task)],
            "heads": [task for task in self.tasks if heads and not self._has_head(task)],
        }
        lacking = [what for what, tasks in without.items() if tasks]
        if not lacking:
            return ""
        tasks = sorted({task for each in without.values() for task in each}, key=self.tasks.index)
        shown = ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
        remedy = (
            f" Prepare the images with ex.open_task({tasks[0]!r})." if without["images"] else ""
        )
        if without["heads"]:
            remedy += " Heads are fitted with ex.with_probes(m), on images of the validation split."
        return (
            f"The {' and '.join(lacking)} of {self.name}'s tasks {shown} are not here: task "
            "vectors, geometry, merging and export work, and accuracies and maps of these tasks do "
            f"not.{remedy}"
        )

    def _has_head(self, name: str) -> bool:
        if name in self._located.heads:
            return True
        return bool(self._tasks[name].templates) and self._text_file() is not None

    def _has_images(self, name: str) -> bool:
        task = self._tasks[name]
        if not isinstance(task, CachedTask):
            return not isinstance(task, _TaskWithoutImages)
        return ImageCache().latest(task.cached_as, "test", task.image_size) is not None

    def __repr__(self) -> str:
        return f"<Model {self.name!r} on {self.device}: {', '.join(self.tasks) or 'no task'}>"

    def _repr_html_(self) -> str:
        caveats = "".join(f"<li>{escape(text)}</li>" for text in self.remarks)
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
    known = recognised(base)
    if known is not None:
        found["vision_cfg"] = {**found["vision_cfg"], "head_width": known.head_width}
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
    entry: Published,
    base: Checkpoint,
    architecture: Mapping[str, Any],
    tasks: Sequence[str],
    pixels: Pixels,
) -> ModelFolder:
    """What a model folder's description would say."""
    mean, std = pixels
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
    return ModelFolder(base.path.parent, card)


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
