"""What the tabs say beside their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from explorer.app.disentanglement.picture import time_left
from explorer.app.schedule.jobs import Found
from explorer.app.schedule.spec import ForgettingSpec

BEFORE = {
    "forgetting": "What does the target task gain, and what do all others lose? The button tries "
    "LiNeS with α = 1, 0.9, … 0 and β = 1 − α on validation images; each schedule you try is a "
    "point as well.",
    "search": "The paper's rule for merged tasks: α from the lengths of the vectors, β from "
    "validation images. The button measures the whole plane around it.",
    "compare": "Every merging method, without LiNeS and with it, each chosen on validation images "
    "and measured once on test images. The button fills a table; this takes a while. AdaMerging, "
    "the upper reference, learns from those test images, without their labels.",
}
OTHER = "The picture is of another recipe or other images than those on screen; start it again. "


def left(progress: float, seconds: float | None) -> str:
    """ "12 %, about 40 s left"."""
    return f"{progress:.0%}{time_left(seconds)}"


def says(tab: str, found: Found | None, spec: Any, titles: Mapping[str, str], single: bool) -> str:
    """What a tab's computation found, or what it is for. spec: of what belongs on screen."""
    if tab == "forgetting" and not single:
        name = titles[spec.task]
        return (
            f"Forgetting is of one task vector alone; the recipe on screen is another. A click "
            f"on a point, or the preset “one task”, edits {name} alone."
        )
    if found is None or (tab == "forgetting" and found.spec != spec):
        return BEFORE[tab]
    said = {"forgetting": forgetting, "search": search, "compare": compare}[tab]
    return ("" if found.spec == spec else OTHER) + said(found, titles)


def forgetting(found: Found, titles: Mapping[str, str]) -> str:
    """The paper's choice, and what it keeps."""
    result = found.result
    best = result.sel(schedule=result.attrs["best"])
    spec: ForgettingSpec = found.spec
    return (
        f"By the paper's rule (largest 2 × target + others): α = {float(best['alpha']):g}, which "
        f"keeps {float(best['target']):.1%} of {titles[spec.task]} fine-tuned and "
        f"{float(best['control']):.1%} of the other tasks' zero-shot accuracy. "
        f"{_images(result)}."
    )


def search(found: Found, titles: Mapping[str, str]) -> str:
    """The paper's choice, the best cell, and the best of one coefficient without LiNeS."""
    result, attrs = found.result, found.result.attrs
    value = result["mean_normalized"]
    paper = float(value.sel(alpha=attrs["paper_alpha"], beta=attrs["paper_beta"]))
    best = float(value.sel(alpha=attrs["best_alpha"], beta=attrs["best_beta"]))
    text = (
        f"Paper's choice α = {attrs['paper_alpha']:.3g}, β = {attrs['paper_beta']:g}: "
        f"{paper:.1%} normalized. Best cell α = {attrs['best_alpha']:.3g}, "
        f"β = {attrs['best_beta']:g}: {best:.1%}. "
    )
    if np.isfinite(attrs["constant_best"]):
        alone = float(result["constant_normalized"].sel(coefficient=attrs["constant_best"]))
        text += f"Without LiNeS the best factor is {attrs['constant_best']:g}: {alone:.1%}. "
    return f"{text}{_images(result)}."


def compare(found: Found, titles: Mapping[str, str]) -> str:
    """How far the table is."""
    if found.complete:
        return "A click on a row opens its recipe; a click on a head sorts."
    return "Each row is chosen on validation images before it is measured."


def _images(result: Any) -> str:
    n = result["n"].values
    extent = f"{n.min():,}" if n.min() == n.max() else f"{n.min():,}–{n.max():,}"
    return f"{extent} validation images a task"
