"""Accuracy of an edited model beside its zero-shot and fine-tuned references."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explorer.compute.engine import ImageRange, OnBatch
from explorer.compute.run import Run
from explorer.errors import ModelError, UnknownNameError
from explorer.measures.provenance import provenance
from explorer.models.heads import LinearHead
from explorer.recipe import Recipe
from explorer.tasks.task import Split, check_count

if TYPE_CHECKING:
    import xarray as xr

    from explorer.compute.engine import Engine
    from explorer.models.model import Model

# Images a task of each partial result; the last stage takes all of them.
STAGES: tuple[int | None, ...] = (16, 64, 200, None)


def accuracy(
    m: "Model",
    recipe: Recipe,
    tasks: Sequence[str] | None = None,
    n: int | None = None,
    split: Split = "test",
    heads: Mapping[str, LinearHead] | None = None,
    precision: str = "auto",
) -> "xr.Dataset":
    """Top-1 accuracy (0 to 1) of a recipe on each task's first ``n`` images (all when None).

        ex.accuracy(m, ex.Recipe(coefficients={"mnist": 0.4})).to_dataframe()

    Variables over ``task``: edited, zero_shot, fine_tuned (theta_0 + tau_task in the same space;
    nan for a control task), normalized = edited / fine_tuned (Ilharco et al. 2023) and n; over
    (task, image) what ``accuracy_run`` describes. ``heads`` replaces the zero-shot heads of
    some tasks. Numbers are float32 unless precision="bfloat16".
    Raises UnknownNameError for a task that the model does not have.
    """
    run = accuracy_run(m, recipe, tasks, (n,), split, heads=heads, precision=precision)
    return run.result(show_progress=False)


def accuracy_run(
    m: "Model",
    recipe: Recipe,
    tasks: Sequence[str] | None = None,
    stages: Sequence[int | None] | None = None,
    split: Split = "test",
    engine: "Engine | None" = None,
    heads: Mapping[str, LinearHead] | None = None,
    precision: str | None = None,
) -> "Run[xr.Dataset]":
    """Accuracy as a Run: few images a task first, then more, each partial a whole Dataset.

    ``stages`` are the numbers of images a task (None for all; default 16, 64, 200, all). Stages
    before the last are in the engine's preview format (bfloat16 where that is faster); the last
    is float32, so that it equals ``accuracy``. Beyond the variables of ``accuracy``, over (task,
    image): label, predicted, zero_shot_predicted (-1 where a task has fewer images) and
    confidence, the edited model's probability of its prediction. ``attrs["complete"]`` is 1 when
    every image of the split was used.
    """
    names = list(m.tasks if tasks is None else [tasks] if isinstance(tasks, str) else tasks)
    if not names:
        raise UnknownNameError("task", "", m.all_tasks)
    work = _Work.checked(m, recipe, names, split, heads, engine or m.engine(precision or "auto"))
    plan = _plan(work, stages, precision)
    return Run(lambda run: _partials(run, work, plan), title=f"accuracy of {m.name}")


@dataclass(frozen=True)
class _Stage:
    """How many images of each task, in which number format."""

    counts: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Work:
    """What is measured, checked once before anything is computed."""

    model: "Model"
    recipe: Recipe
    tasks: list[str]
    split: Split
    heads: list[LinearHead]
    labels: list[np.ndarray]
    engine: "Engine"

    @classmethod
    def checked(
        cls,
        m: "Model",
        recipe: Recipe,
        tasks: list[str],
        split: Split,
        heads: Mapping[str, LinearHead] | None,
        engine: "Engine",
    ) -> "_Work":
        for task in recipe.active:
            if task not in m.tasks:
                raise UnknownNameError("task vector", task, m.tasks)
        given = dict(heads or {})
        for task in given:
            m.task(task)
        labels = [m.images(task, None, split)[1] for task in tasks]
        chosen = [given.get(task) or m.head(task) for task in tasks]
        for task, head in zip(tasks, chosen, strict=True):
            if len(head.weight) != len(m.task(task).class_names):
                raise ModelError(
                    f"The head given for {task!r} has {len(head.weight)} classes, "
                    f"but the task has {len(m.task(task).class_names)}."
                )
        return cls(m, recipe, tasks, split, chosen, labels, engine)

    def range(self, i: int, stop: int, start: int = 0) -> ImageRange:
        return ImageRange(self.tasks[i], self.split, start, stop)


def _plan(work: _Work, stages: Sequence[int | None] | None, precision: str | None) -> list[_Stage]:
    """Stages with the images that exist, duplicates dropped."""
    wanted = STAGES if stages is None else tuple(stages)
    counts = [
        tuple(check_count(n, len(y), t) for t, y in zip(work.tasks, work.labels, strict=True))
        for n in wanted
    ]
    counts = sorted(set(counts), key=sum)
    fast = work.engine.fast_dtype
    forced = precision or work.engine.precision
    last = fast if forced == "bfloat16" else torch.float32
    return [_Stage(c, fast) for c in counts[:-1]] + [_Stage(counts[-1], last)]


def _partials(run: Run, work: _Work, plan: list[_Stage]) -> Iterator["xr.Dataset"]:
    total = sum(sum(stage.counts) for stage in plan)
    done = 0

    def begin(n_images: int) -> None:
        run.checkpoint(done / total)

    rows: dict[torch.dtype, list[list[Tensor]]] = {}
    for stage in plan:
        edited = rows.setdefault(stage.dtype, [[] for _ in work.tasks])
        have = [sum(map(len, parts)) for parts in edited]
        ranges = [
            work.range(i, stop, start)
            for i, (start, stop) in enumerate(zip(have, stage.counts, strict=True))
        ]
        new = _edited_features(work, ranges, stage.dtype, begin)
        for parts, features in zip(edited, new, strict=True):
            parts.append(features)
        dataset = _dataset(work, stage, [torch.cat(parts) for parts in edited], begin)
        done += sum(stage.counts)
        run.checkpoint(done / total)
        yield dataset


def _edited_features(
    work: _Work, ranges: list[ImageRange], dtype: torch.dtype, begin: OnBatch
) -> list[Tensor]:
    if work.recipe.active:
        return work.engine.features(work.recipe, ranges, dtype, begin)
    # No edit is the zero-shot model itself: computed again in other batches, bfloat16's rounding
    # would show labels that flip.
    references = work.model.references
    return [references.zero_shot(r, dtype, begin)[r.start :] for r in ranges]


def _dataset(work: _Work, stage: _Stage, edited: list[Tensor], begin: OnBatch) -> "xr.Dataset":
    m, counts = work.model, stage.counts
    shape = (len(work.tasks), max(counts))
    images = {name: np.full(shape, -1, np.int16) for name in _IMAGE_INTEGERS}
    confidences = np.full(shape, np.nan, np.float32)
    figures = {name: np.full(shape[0], np.nan) for name in _FIGURES}
    for i, (task, head, n) in enumerate(zip(work.tasks, work.heads, counts, strict=True)):
        label = work.labels[i][:n]
        predicted, confidence = head.predict(edited[i])
        zero = _classes(head, m.references.zero_shot(work.range(i, n), stage.dtype, begin))
        images["label"][i, :n] = label
        images["predicted"][i, :n] = predicted.cpu().numpy()
        images["zero_shot_predicted"][i, :n] = zero
        confidences[i, :n] = confidence.cpu().numpy()
        figures["edited"][i] = np.mean(images["predicted"][i, :n] == label)
        figures["zero_shot"][i] = np.mean(zero == label)
        if task in m.tasks:
            tuned = m.references.fine_tuned(work.recipe.space, work.range(i, n), stage.dtype, begin)
            figures["fine_tuned"][i] = np.mean(_classes(head, tuned) == label)
    return _labelled(work, stage, figures, images, confidences)


_FIGURES = ("edited", "zero_shot", "fine_tuned")
_IMAGE_INTEGERS = ("label", "predicted", "zero_shot_predicted")
_LONG_NAMES = {
    "edited": "accuracy of the edited model",
    "zero_shot": "accuracy of the base model",
    "fine_tuned": "accuracy of the model fine-tuned on the task",
    "normalized": "edited accuracy relative to the fine-tuned one",
}


def _labelled(
    work: _Work,
    stage: _Stage,
    figures: dict[str, np.ndarray],
    images: dict[str, np.ndarray],
    confidences: np.ndarray,
) -> "xr.Dataset":
    import xarray as xr

    with np.errstate(divide="ignore", invalid="ignore"):
        figures["normalized"] = np.where(
            figures["fine_tuned"] > 0, figures["edited"] / figures["fine_tuned"], np.nan
        )
    variables: dict[str, Any] = {
        name: ("task", values, {"units": "1", "long_name": _LONG_NAMES[name]})
        for name, values in figures.items()
    }
    variables["n"] = ("task", np.array(stage.counts), {"long_name": "images of the task used"})
    per_image = ("task", "image")
    for name, values in images.items():
        variables[name] = (per_image, values, {"long_name": f"{name} (class number, -1 for none)"})
    variables["confidence"] = (
        per_image,
        confidences,
        {"units": "1", "long_name": "probability of the predicted class"},
    )
    available = [len(labels) for labels in work.labels]
    attrs = provenance(
        work.model,
        work.recipe,
        split=work.split,
        n=int(min(stage.counts)),
        n_images=int(sum(stage.counts)),
        seed="images in stored order",
        precision=str(stage.dtype).removeprefix("torch."),
        complete=list(stage.counts) == available,
    )
    return xr.Dataset(variables, coords={"task": work.tasks}, attrs=attrs)


def _classes(head: LinearHead, features: Tensor) -> np.ndarray:
    return head.logits(features).argmax(-1).cpu().numpy()
