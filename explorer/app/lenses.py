"""The lenses of the app: their names, how each is made, and the recipe they hand to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from explorer.app import links
from explorer.app.arithmetic import ArithmeticLens
from explorer.app.disentanglement.lens import DisentanglementLens
from explorer.app.disentanglement.links import LENS as DISENTANGLEMENT
from explorer.app.tree.lens import HierarchyLens
from explorer.app.tree.links import LENS as HIERARCHY
from explorer.recipe import COEFFICIENT_RANGE, Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model

ARITHMETIC = "arithmetic"
TITLES = {
    ARITHMETIC: "Task arithmetic",
    DISENTANGLEMENT: "Weight disentanglement",
    HIERARCHY: "Random hierarchy model",
}
WITHOUT_MODEL = {HIERARCHY}
"""Lenses that look at no network: they need no model to be open, and have no recipe."""


class Lens(Protocol):
    """What the app needs of a lens."""

    drawing: Any

    @property
    def model(self) -> Model | None:
        """The model looked at; None of a lens that needs none."""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe on screen; None of a lens that needs no model."""

    def display(self) -> Any:
        """A new display, with `sidebar()` and `main(on_page)`."""

    def complain(self, sentence: str) -> None:
        """Put a sentence on screen."""

    def close(self) -> None:
        """Stop computing and let go of threads."""


def make(name: str, model: Model | None, query: str = "") -> Lens:
    """A lens by name. query: a link's query part, for the lens that the link is of."""
    if name == HIERARCHY:
        return HierarchyLens(query=query)
    assert model is not None  # only a lens `WITHOUT_MODEL` is made without one
    if name == DISENTANGLEMENT:
        return DisentanglementLens(model, query=query)
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
    elif isinstance(after, ArithmeticLens):
        moved = {t: _inside(x, *COEFFICIENT_RANGE) for t, x in recipe.coefficients.items()}
        after.recipe = after.recipe.replace(coefficients={**after.recipe.coefficients, **moved})


def _inside(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
