"""Recipes everybody wants first. Pure functions: a recipe in, a recipe out."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.editing.schedule import lines
from explorer.recipe import DEFAULT_METHOD, Recipe

PRESETS = {
    "single": (
        "one task",
        "the target task alone, with LiNeS as the forgetting run chooses it (α = 0.1, β = 0.9 "
        "before there is one)",
    ),
    "merged": (
        "all tasks",
        "all tasks merged, with LiNeS as the paper's rule chooses it; searches first if need be",
    ),
    "soup": (
        "α = β = ½",
        "the target task alone with α = β = 0.5, as for model soups: between the base (WiSE-FT) "
        "and fine-tuned",
    ),
}


def single(recipe: Recipe, task: str, alpha: float, beta: float) -> Recipe:
    """One task vector whole, under LiNeS."""
    return recipe.replace(
        coefficients={task: 1.0},
        schedule=lines(alpha, beta),
        method=DEFAULT_METHOD,
        options=(),
    )


def soup(recipe: Recipe, task: str) -> Recipe:
    """One task vector with alpha = beta = 0.5 (Wang et al. 2024, on WiSE-FT and soups)."""
    return single(recipe, task, 0.5, 0.5)


def merged(recipe: Recipe, tasks: Sequence[str], alpha: float, beta: float) -> Recipe:
    """Tasks merged by the recipe's method at coefficient 1, under LiNeS."""
    return recipe.replace(coefficients=dict.fromkeys(tasks, 1.0), schedule=lines(alpha, beta))
