"""A comparison of merging methods as a table of text: Markdown, LaTeX, CSV or HTML."""

import html
import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explorer.errors import UnknownNameError
from explorer.measures.bootstrap import bootstrap_difference
from explorer.recipe import DEFAULT_METHOD

if TYPE_CHECKING:
    import xarray as xr

Format = Literal["markdown", "latex", "csv", "html"]
FORMATS: tuple[str, ...] = ("markdown", "latex", "csv", "html")


def comparison_table(
    result: "xr.Dataset",
    format: Format = "markdown",
    baseline: str = DEFAULT_METHOD,
    resamples: int = 2000,
    seed: int = 0,
) -> str:
    """A comparison as a table of text: Markdown, LaTeX (booktabs), CSV or HTML.

    One row a row: accuracy on each task, the means, and the difference of mean accuracy from
    ``baseline`` with its 95 % interval (``bootstrap_difference``). "better" or "worse" is written
    only where that interval leaves out 0. The numbers of images and the seed are there in every
    format: in the caption of LaTeX, under Markdown and HTML, and in CSV, which has the full
    precision, as columns (split, seed, validation_images, n and n of each task). CSV also has
    what was chosen (alpha, and chosen: the factor, or beta with LiNeS), every row's recipe and,
    of a row with LiNeS, the difference from the same method without (lines_difference, lines_low,
    lines_high). Raises UnknownNameError for a format or a row that is not there.
    """
    if format not in FORMATS:
        raise UnknownNameError("format of a table", format, FORMATS)
    rows = [str(row) for row in result["row"].values]
    if baseline not in rows:
        raise UnknownNameError("row", baseline, rows)
    import pandas as pd

    against = {
        row: bootstrap_difference(result, row, baseline, resamples, seed)
        for row in rows
        if row != baseline
    }
    table = pd.DataFrame({"method": rows})
    digits = None if format == "csv" else 3
    for task in result["task"].values:
        table[str(task)] = _numbers(result["accuracy"].sel(task=task).values, digits)
    table["mean"] = _numbers(result["mean_accuracy"].values, digits)
    table["normalized"] = _numbers(result["mean_normalized"].values, digits)
    if format == "csv":
        for column in ("difference", "low", "high"):
            table[column] = [against[row][column] if row in against else 0.0 for row in rows]
    else:
        table[f"against {baseline}"] = [_interval(against.get(row)) for row in rows]
    table["verdict"] = [_verdict(against.get(row)) for row in rows]
    if format == "csv":
        for column in _CHOSEN:
            table[column] = result[column].values
        for name, value in _extent(result).items():
            table[name] = value
    return _written(table, format, _caption(result, baseline))


def _extent(result: "xr.Dataset") -> dict[str, Any]:
    """What stands behind the numbers, the same for every row."""
    n = result["n"]
    return {
        "split": result.attrs["split"],
        "seed": result.attrs["seed"],
        "validation_images": sum(json.loads(result.attrs["n_validation"]).values()),
        "n": int(n.sum()),
        **{f"n {task}": int(n.sel(task=task)) for task in n["task"].values},
    }


# What a row's recipe is and how it came about; cells without a number stay empty.
_CHOSEN = ("alpha", "chosen", "lines_difference", "lines_low", "lines_high", "recipe")
_VERDICTS = {"a": "better", "b": "worse", "undecided": "undecided"}


def _verdict(found: dict[str, Any] | None) -> str:
    return "baseline" if found is None else _VERDICTS[found["better"]]


def _interval(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def _numbers(values: np.ndarray, digits: int | None) -> list[Any]:
    return list(values) if digits is None else [f"{x:.{digits}f}" for x in values]


def _caption(result: "xr.Dataset", baseline: str) -> str:
    attrs, counts = result.attrs, result["n"].values
    tested = f"{counts.sum():,} {attrs['split']} images ({counts.min()} to {counts.max()} a task)"
    chosen = sum(json.loads(attrs["n_validation"]).values())
    text = (
        f"{attrs['family']}: {tested}, coefficients chosen on {chosen:,} validation images, "
        f"seed {attrs['seed']}; intervals: 95 %, paired bootstrap over images, against {baseline}."
    )
    if learned := attrs.get("adamerging"):
        text += f" AdaMerging is an upper reference: {learned}."
    return text


def _written(table: Any, format: str, caption: str) -> str:
    if format == "csv":
        return table.to_csv(index=False)
    if format == "latex":
        # pandas escapes the cells alone: an unescaped "%" would end the caption's line.
        return table.to_latex(index=False, escape=True, caption=caption.translate(_LATEX))
    if format == "html":
        return f"{table.to_html(index=False, border=0)}\n<p>{html.escape(caption)}</p>\n"
    # pandas' own Markdown needs a package that is not among the locked requirements.
    lines = [list(table.columns), ["---", *["---:"] * (len(table.columns) - 1)], *table.values]
    text = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
    return f"{text}\n\n{caption}\n"


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")
