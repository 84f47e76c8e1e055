"""Recipes everybody wants first. Pure functions: a recipe in, a recipe out."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.errors import RecipeError
from explorer.recipe import Recipe

USUAL_COEFFICIENT = 0.5
"""For analogies and forgetting when the model card gives no best shared coefficient."""


def zero_shot(recipe: Recipe) -> Recipe:
    """The model nobody edited."""
    return recipe.replace(coefficients={})


def single(recipe: Recipe, task: str) -> Recipe:
    """The model fine-tuned on one task: its vector at 1, no other."""
    return recipe.replace(coefficients={task: 1.0})


def addition(recipe: Recipe, tasks: Sequence[str], coefficient: float) -> Recipe:
    """All task vectors at one shared coefficient."""
    return recipe.replace(coefficients=dict.fromkeys(tasks, round(coefficient, 2)))


def forget(recipe: Recipe, task: str, coefficient: float = USUAL_COEFFICIENT) -> Recipe:
    """Negation: subtract coefficient times one task vector, from the base alone."""
    return recipe.replace(coefficients={task: -round(coefficient, 2)})


def analogy(
    recipe: Recipe, a: str, b: str, c: str, coefficient: float = USUAL_COEFFICIENT
) -> Recipe:
    """A + B - C, scaled by coefficient (Ilharco et al. 2023, section 5). The three must differ."""
    if len({a, b, c}) < 3:
        raise RecipeError(f"An analogy needs three different tasks, not {a}, {b} and {c}.")
    x = round(coefficient, 2)
    return recipe.replace(coefficients={a: x, b: x, c: -x})
