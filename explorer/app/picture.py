"""From a measured dataset to what is drawn: rows of the chart, tiles of the gallery, sentences.

Pure functions over the datasets of `explorer.measures.accuracy_run`; no panel, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import xarray as xr

Mode = Literal["absolute", "normalized"]
Change = Literal["right", "wrong", "became_right", "became_wrong", "other_wrong"]

CHANGES: tuple[Change, ...] = ("right", "wrong", "became_right", "became_wrong", "other_wrong")


MEAN = "mean"


def row_names(names: Iterable[str], control: str | None) -> list[str]:
    """Names of the chart's rows: tasks, their mean, the control task."""
    tasks = [name for name in names if name != control]
    return [*tasks, MEAN, *([control] if control is not None else [])]


def row_labels(titles: Mapping[str, str], control: str | None) -> list[str]:
    """What is written beside the chart's rows: tasks, their mean, the control task."""
    labels = [title for name, title in titles.items() if name != control] + [MEAN]
    return [*labels, f"{titles[control]} (control)"] if control is not None else labels


@dataclass(frozen=True)
class Rows:
    """The dumbbell chart's numbers: one entry a task, then their mean, then the control task.

    `zero_shot`, `fine_tuned`, `edited` and `chance` are accuracies (0..1), or shares of the
    fine-tuned accuracy if `mode` is "normalized" (of the zero-shot accuracy for the control task,
    which has no task vector and so no fine-tuned model); nan where there is none. `n` is the number
    of images behind each row.
    """

    mode: Mode
    zero_shot: tuple[float, ...]
    fine_tuned: tuple[float, ...]
    edited: tuple[float, ...]
    chance: tuple[float, ...]
    n: tuple[int, ...]
    coefficient: tuple[float, ...]
    """Of the task vector in the recipe measured; nan for the mean and the control task."""


def rows(
    result: xr.Dataset,
    classes: Mapping[str, int],
    mode: Mode = "absolute",
    control: str | None = None,
    coefficients: Mapping[str, float] = MappingProxyType({}),
) -> Rows:
    """Rows in the order of result's tasks, the mean, and the control task if there is one.

    classes: number of classes a task, for chance level. The mean leaves the control task out.
    """
    names = [str(name) for name in result["task"].values]
    is_task = np.array([name != control for name in names])
    ceiling = result["fine_tuned" if mode == "normalized" else "n"].values.astype(float)
    if mode == "normalized":
        ceiling = np.where(is_task, ceiling, result["zero_shot"].values)
    else:
        ceiling = np.ones_like(ceiling)
    scale = np.divide(1.0, ceiling, out=np.full_like(ceiling, np.nan), where=ceiling > 0)

    def ordered(values: np.ndarray) -> tuple[float, ...]:
        scaled = values.astype(float) * scale
        of_tasks = scaled[is_task]
        finite = of_tasks[np.isfinite(of_tasks)]
        mean = float(finite.mean()) if finite.size else float("nan")
        return (*of_tasks.tolist(), mean, *scaled[~is_task].tolist())

    n = result["n"].values.astype(int)
    return Rows(
        mode=mode,
        zero_shot=ordered(result["zero_shot"].values),
        fine_tuned=ordered(result["fine_tuned"].values),
        edited=ordered(result["edited"].values),
        chance=ordered(np.array([1.0 / classes[name] for name in names])),
        n=(*n[is_task].tolist(), int(n[is_task].sum()), *n[~is_task].tolist()),
        coefficient=tuple(
            math.nan if name in (MEAN, control) else coefficients.get(name, 0.0)
            for name in row_names(names, control)
        ),
    )


def changes(
    predicted: np.ndarray, zero_shot: np.ndarray, labels: np.ndarray
) -> list[Change | None]:
    """What the edit did to each image's label, against the zero-shot model.

    All arguments are class numbers of shape (image,), -1 where not computed yet (gives None).
    """

    def change(now: int, before: int, true: int) -> Change | None:
        if now < 0 or before < 0:
            return None
        if now == true:
            return "right" if before == true else "became_right"
        if before == true:
            return "became_wrong"
        return "wrong" if now == before else "other_wrong"

    return [
        change(*row)
        for row in zip(predicted.tolist(), zero_shot.tolist(), labels.tolist(), strict=True)
    ]


def tiles(
    result: xr.Dataset, task: str, images: slice, previous: np.ndarray | None
) -> list[list[float | int | str] | None]:
    """[predicted, confidence, change, was] of each image on the gallery's page, None where unknown.

    previous: class numbers (image,) of the picture before this one, -1 where unknown; `was` is -1
    if there is none.
    """
    part = result.sel(task=task).isel(image=images)
    predicted, label = part["predicted"].values, part["label"].values
    verdicts = changes(predicted, part["zero_shot_predicted"].values, label)
    confidence = np.round(part["confidence"].values.astype(float), 3)
    was = np.full_like(predicted, -1)
    if previous is not None:
        known = previous[images][: len(was)]
        was[: len(known)] = known
    return [
        None if verdict is None else [int(p), float(c), verdict, int(w)]
        for p, c, verdict, w in zip(predicted, confidence, verdicts, was, strict=True)
    ]


def predictions(result: xr.Dataset) -> dict[str, np.ndarray]:
    """Predicted class numbers (image,) of every task, -1 where not computed."""
    return dict(zip(result["task"].values.tolist(), result["predicted"].values, strict=True))


def count_sentences(
    result: xr.Dataset, task: str, previous: np.ndarray | None, base: str = "zero-shot"
) -> list[tuple[str, str]]:
    """What happened to the task's images, over all images measured so far: (kind, sentence)."""
    part = result.sel(task=task)
    predicted = part["predicted"].values
    verdicts = changes(predicted, part["zero_shot_predicted"].values, part["label"].values)
    known = [verdict for verdict in verdicts if verdict is not None]
    said = [
        ("became_right", f"{known.count('became_right'):,} became right"),
        ("became_wrong", f"{known.count('became_wrong'):,} became wrong"),
        ("other_wrong", f"{known.count('other_wrong'):,} wrong in another way"),
        ("note", f"against {base}, of {len(known):,} images"),
    ]
    if previous is not None:
        length = min(len(previous), len(predicted))
        now, before = predicted[:length], previous[:length]
        both = (now >= 0) & (before >= 0)
        just = int((now[both] != before[both]).sum())
        said.append(("note", f"{just:,} just flipped"))
    return said


def resolution(n: Sequence[int], total: Sequence[int], complete: bool) -> str:
    """ "16 of 1,000 images a task…": what stands behind the figures."""
    if not n:
        return "no image measured yet"
    seen, available = _extent(n), _extent(total)
    text = f"{seen} of {available} test images a task"
    return f"all {available} test images a task" if complete else f"{text}…"


def _extent(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
