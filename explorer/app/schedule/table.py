"""A comparison of methods as the rows and columns of the table on screen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import xarray as xr

from explorer.errors import ExplorerError
from explorer.recipe import Recipe


def columns(result: xr.Dataset, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The heads of the table: method, LiNeS, means, each task, seconds."""
    tasks = [
        {"name": f"task {task}", "title": titles[str(task)], "kind": "number"}
        for task in result["task"].values
    ]
    return [
        {"name": "method", "title": "method", "kind": "text"},
        {"name": "lines", "title": "LiNeS", "kind": "text"},
        {
            "name": "normalized",
            "title": "normalized (%)",
            "kind": "mean",
            "explanation": "mean over tasks of accuracy / fine-tuned accuracy",
        },
        {"name": "accuracy", "title": "mean (%)", "kind": "number"},
        *tasks,
        {"name": "seconds", "title": "time (s)", "kind": "seconds"},
    ]


def rows(result: xr.Dataset) -> list[dict[str, Any]]:
    """A row of the table a row of the result. A row with LiNeS is marked against the same method
    without: "better" or "worse" where the paired bootstrap decides, "same" where it does not."""
    labels = [str(label) for label in result["row"].values]
    made = []
    for i, label in enumerate(labels):
        row = result.isel(row=i)
        with_lines, method = bool(row["with_lines"]), str(row["method"].item())
        mark, says = _verdict(row, method)
        values: dict[str, Any] = {
            "method": (method if with_lines else label).replace("_", " "),
            "lines": _lines_text(row) if with_lines else "",
            "normalized": _finite(row["mean_normalized"]),
            "accuracy": _finite(row["mean_accuracy"]),
            "seconds": _finite(row["seconds"]),
        }
        values |= {
            f"task {task}": _finite(row["accuracy"].sel(task=task)) for task in row["task"].values
        }
        made.append({"index": i, "values": values, "mark": mark, "says": says})
    return made


def note(result: xr.Dataset) -> str:
    """How many images and which seed stand behind the numbers, and what the marks mean."""
    n = result["n"].values
    extent = f"{n.min():,}" if n.min() == n.max() else f"{n.min():,}–{n.max():,}"
    searched = [*json.loads(result.attrs["n_validation"]).values()]
    learned = result.attrs.get("adamerging")
    upper = f" AdaMerging is an upper reference: {learned}." if learned else ""
    return (
        f"{extent} {result.attrs['split']} images a task, chosen on up to {max(searched):,} "
        f"validation images, seed {result.attrs['seed']}. LiNeS against the same method without: "
        f"▲ better, ▼ worse, ≈ undecided (paired bootstrap over images, 95 %).{upper}"
    )


def recipe_of(result: xr.Dataset, index: int) -> Recipe:
    """The recipe of a row. Raises ExplorerError for a row that is not one model."""
    text = str(result["recipe"].values[index])
    if not text:
        raise ExplorerError(
            "No recipe makes this row: fine-tuned is one network a task. Choose another row."
        )
    return Recipe.from_json(text)


def open_row(result: xr.Dataset, recipe: Recipe) -> int:
    """The row whose recipe is on screen; -1 if none is."""
    texts = [str(text) for text in result["recipe"].values]
    same = (i for i, text in enumerate(texts) if text and Recipe.from_json(text) == recipe)
    return next(same, -1)


def _verdict(row: xr.Dataset, method: str) -> tuple[str, str]:
    """What the interval that came with the row says; nothing for a row that has none."""
    difference, low, high = (
        100 * float(row[f"lines_{name}"]) for name in ("difference", "low", "high")
    )
    if not math.isfinite(difference):
        return "", ""
    mark = "better" if low > 0 else "worse" if high < 0 else "same"
    return mark, (
        f"against {method} without LiNeS: {difference:+.1f} points of mean accuracy, "
        f"95 % interval [{low:+.1f}, {high:+.1f}]"
    )


def _lines_text(row: xr.Dataset) -> str:
    return f"α {float(row['alpha']):.3g}, β {float(row['chosen']):.2g}"


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
