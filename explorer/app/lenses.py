"""The lenses of the app: their names, how each is made, and the recipe they hand to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.app import links
from explorer.app.arithmetic import ArithmeticLens
from explorer.app.diffusion.lens import DiffusionLens
from explorer.app.diffusion.links import LENS as DIFFUSION
from explorer.app.disentanglement.lens import DisentanglementLens
from explorer.app.disentanglement.links import LENS as DISENTANGLEMENT
from explorer.app.lens import Lens
from explorer.app.recipe_lens import RecipeLens
from explorer.app.schedule.lens import ScheduleLens
from explorer.app.schedule.links import LENS as SCHEDULE
from explorer.app.tree.lens import HierarchyLens
from explorer.app.tree.links import LENS as HIERARCHY
from explorer.errors import ExplorerError
from explorer.recipe import COEFFICIENT_RANGE, Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model

ARITHMETIC = "arithmetic"
TITLES = {
    ARITHMETIC: "Task arithmetic",
    DISENTANGLEMENT: "Weight disentanglement",
    SCHEDULE: "Schedules and merging",
    HIERARCHY: "Random hierarchy model",
    DIFFUSION: "Noise and denoise",
}
WITHOUT_MODEL = {HIERARCHY, DIFFUSION}
"""Lenses that look at no edited network: they need no model to be open, and have no recipe."""
KEPT = (
    "The recipe has a schedule or a merging method from “Schedules and merging”. It stays as it is "
    "while you move the coefficients here."
)


def make(name: str, model: Model | None, query: str = "") -> Lens:
    """A lens by name. query: a link's query part, for the lens that the link is of."""
    if name == HIERARCHY:
        return HierarchyLens(query=query)
    if name == DIFFUSION:
        return DiffusionLens(query=query)
    assert model is not None  # only a lens `WITHOUT_MODEL` is made without one
    if name == DISENTANGLEMENT:
        return DisentanglementLens(model, query=query)
    if name == SCHEDULE:
        return ScheduleLens(model, query=query)
    return ArithmeticLens(model, query=query)


def asked_for(query: str) -> str | None:
    """The lens that a link is of, if it names one there is."""
    name = links.read(query).view.get("lens")
    return name if name in TITLES else None


def hand_over(before: Lens, after: Lens, handed: Recipe | None) -> None:
    """Let the lens looked through next show the recipe of the one looked through before.

    handed: the recipe that the earlier lens was given itself. If it is unchanged, or of zeros
    alone, the next lens keeps what it has.
    """
    recipe = before.recipe
    if recipe is None or recipe == handed or not recipe.active:
        return
    if isinstance(after, DisentanglementLens):
        low, high = after.state.extent
        after.state.move([_inside(recipe.coefficient(t), low, high) for t in after.state.pair])
        return
    moved = {t: _inside(x, *COEFFICIENT_RANGE) for t, x in recipe.coefficients.items()}
    if isinstance(after, ScheduleLens):
        _put(after, recipe.replace(coefficients=moved))
    elif isinstance(after, ArithmeticLens) and isinstance(before, ScheduleLens):
        _put(after, recipe.replace(coefficients=moved))
        if recipe != Recipe(recipe.base, recipe.coefficients):
            after.complain(KEPT)
    elif isinstance(after, ArithmeticLens):
        after.recipe = after.recipe.replace(coefficients={**after.recipe.coefficients, **moved})


def _put(lens: RecipeLens, recipe: Recipe) -> None:
    """Put a recipe on screen, or a sentence about why it does not belong there."""
    try:
        lens.recipe = recipe
    except ExplorerError as error:
        lens.complain(str(error))


def _inside(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
