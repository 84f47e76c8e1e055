"""One computed map with its summary, and the sentences and numbers that are written around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from explorer.app.disentanglement.layers import at_cell
from explorer.app.disentanglement.spec import MapSpec


@dataclass(frozen=True)
class Picture:
    """A partial or complete result, and what it is a result of."""

    spec: Any
    result: xr.Dataset

    @cached_property
    def summary(self) -> xr.Dataset:
        """Of a map: as by `ex.disentanglement_summary`."""
        from explorer.measures.map_summary import disentanglement_summary

        return disentanglement_summary(self.result)

    @property
    def best(self) -> tuple[float, float]:
        """Coefficients of the best normalized accuracy on the map."""
        return self.summary.attrs["best_alpha1"], self.summary.attrs["best_alpha2"]


def subtitle(result: xr.Dataset, spec: MapSpec, available: Sequence[int]) -> str:
    """ "21 × 21 · 400 of 1,000 images · seed 0": what stands behind a map, images a task."""
    n, total = ([int(k) for k in numbers] for numbers in (result["n"].values, available))
    wanted = [min(spec.n, k) for k in total]
    images = f"{extent(n)} of {extent(total)} images" if n != total else f"all {extent(n)} images"
    if n != wanted:
        images = f"preview: {images}"
    cells = f"{result.sizes['alpha1']} × {result.sizes['alpha2']}"
    return f"{cells} · {images} · seed {spec.seed}"


def caption(
    picture: Picture, point: tuple[float, float], terms: str, titles: tuple[str, str]
) -> list[list[str]]:
    """[label, number, explanation] under a map: over it, in the search region, best, at the point.

    titles: of the two tasks.
    """
    cell, there, known = at_cell(picture.result, point)
    error = there["error"].sum() if terms == "sum" else there["error"].mean()
    spread = (there["standard_error"] ** 2).sum() ** 0.5 * (1.0 if terms == "sum" else 0.5)
    details = [
        f"{title}: error {e:.1%} ± {s:.1%}, accuracy {a:.1%}"
        for title, e, s, a in zip(
            titles, there["error"], there["standard_error"], there["accuracy"], strict=True
        )
    ]
    known = known and np.allclose(cell, picture.spec.nearest(point))
    state = "" if known else "; the cell of the point is not computed yet, this is the nearest"
    here = [
        f"◆ {'' if known else 'near '}({cell[0]:g}, {cell[1]:g})",
        f"{_written(error, terms)} ± {_written(spread, terms)}",
        "; ".join(details) + state,
    ]
    return [*_overall(picture, terms, titles), here]


def _overall(picture: Picture, terms: str, titles: tuple[str, str]) -> list[list[str]]:
    first, second = picture.best
    cells = picture.summary["cells"].values
    labels = ("map", f"[0, 1]² ({cells[1]})", f"★ ({first:g}, {second:g})")
    explanations = (
        f"{terms} error over all {cells[0]} cells",
        f"{terms} error over the {cells[1]} cells with both coefficients in [0, 1]",
        f"{terms} error where the mean normalized accuracy is best "
        f"({picture.summary.attrs['best_normalized']:.1%})",
    )
    rows = []
    for label, text, errors in zip(
        labels, explanations, picture.summary["error"].values, strict=True
    ):
        of_tasks = ", ".join(f"{t} {e:.1%}" for t, e in zip(titles, errors, strict=True))
        joined = errors.sum() if terms == "sum" else errors.mean()
        rows.append([label, _written(joined, terms), f"{text} ({of_tasks})"])
    return rows


def _written(error: float, terms: str) -> str:
    if math.isnan(error):  # no cell there
        return "–"
    return f"{error:.2f}" if terms == "sum" else f"{100 * error:.1f} %"


def time_left(seconds: float | None) -> str:
    """ ", about 40 s left", or nothing while the pace is unknown."""
    if seconds is None:
        return ""
    if seconds >= 90:
        return f", about {seconds / 60:.0f} min left"
    return f", about {max(1, round(seconds)):.0f} s left"


def pair_titles(titles: Mapping[str, str], spec: MapSpec) -> tuple[str, str]:
    """Titles of a map's two tasks."""
    first, second = spec.pair
    return titles[first], titles[second]


def extent(numbers: Sequence[int]) -> str:
    """ "400", or "258–400" where they are not all the same."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
