"""The lens as an ipywidget: compose it with other widgets, observe and set its values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ipywidgets
import panel as pn
import traitlets

from explorer.app import notebook
from explorer.errors import ExplorerError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.app.arithmetic import ArithmeticLens


class ArithmeticWidget(ipywidgets.VBox):
    """An arithmetic lens with traits.

        widget = lens.to_ipywidget()
        widget.observe(lambda change: print(change["new"]), "value")
        widget.value = {"mnist": 0.4}

    `value` (task -> coefficient, zeros left out), `recipe` (JSON) and `focus` (task) can be
    observed and set. A value that makes no sense raises `traitlets.TraitError` with a sentence,
    and nothing changes.
    """

    value = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Float())
    recipe = traitlets.Unicode()
    focus = traitlets.Unicode()

    def __init__(self, lens: ArithmeticLens, **traits: Any):
        self.lens = lens
        super().__init__([shown(lens.embedded())], **traits)
        lens.state.param.watch(lambda *_: self._follow(), ["recipe", "focus"])
        self._follow()

    def _follow(self) -> None:
        """Lens -> traits."""
        recipe = self.lens.recipe
        with self.hold_trait_notifications():
            self.value, self.recipe = dict(recipe.active), recipe.to_json()
            self.focus = self.lens.state.focus

    @traitlets.validate("value")
    def _check_value(self, proposal: dict[str, Any]) -> dict[str, float]:
        value = {task: float(x) for task, x in proposal["value"].items()}
        recipe = self.lens.recipe
        if value != dict(recipe.active):
            with as_trait_errors():
                self.lens.recipe = recipe.replace(coefficients=value)
        return dict(self.lens.recipe.active)

    @traitlets.validate("recipe")
    def _check_recipe(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] != self.lens.recipe.to_json():
            with as_trait_errors():
                self.lens.recipe = Recipe.from_json(proposal["value"])
        return self.lens.recipe.to_json()

    @traitlets.validate("focus")
    def _check_focus(self, proposal: dict[str, Any]) -> str:
        with as_trait_errors():
            self.lens.state.look_at(proposal["value"])
        return proposal["value"]


@contextmanager
def as_trait_errors() -> Iterator[None]:
    """What does not fit a lens, as the error that a trait which refuses a value raises."""
    try:
        yield
    except ExplorerError as error:
        raise traitlets.TraitError(str(error)) from None


def shown(view: pn.viewable.Viewable) -> ipywidgets.Output:
    """A panel view inside an ipywidget, on the same route to the browser as in a cell of its own.

    Not `pn.ipywidget`: that route asks a content network for style sheets, and jupyter_bokeh 4.1
    drops the messages of custom components.
    """
    output = ipywidgets.Output()
    if notebook.in_kernel():
        output.append_display_data(view)
    return output
