"""The lens as an ipywidget: compose it with other widgets, observe and set its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from explorer.app.widget import as_trait_errors, shown

if TYPE_CHECKING:
    from explorer.app.disentanglement.lens import DisentanglementLens


class DisentanglementWidget(ipywidgets.VBox):
    """A disentanglement lens with traits.

        widget = lens.to_ipywidget()
        widget.observe(lambda change: print(change["new"]), "value")
        widget.value = {"mnist": 0.6, "letters": 0.3}

    `value` (the point: task -> coefficient, first the task of the horizontal axis) and `layer` can
    be observed and set. A value that makes no sense raises `traitlets.TraitError` with a sentence,
    and nothing changes.
    """

    value = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Float())
    layer = traitlets.Unicode()

    def __init__(self, lens: DisentanglementLens, **traits: Any):
        self.lens = lens
        super().__init__([shown(lens.embedded())], **traits)
        lens.state.param.watch(lambda *_: self._follow(), ["recipe", "layer"])
        self._follow()

    def _follow(self) -> None:
        """Lens -> traits."""
        with self.hold_trait_notifications():
            self.value, self.layer = dict(self.lens.coefficients), self.lens.state.layer

    @traitlets.validate("value")
    def _check_value(self, proposal: dict[str, Any]) -> dict[str, float]:
        value = {task: float(x) for task, x in proposal["value"].items()}
        if value != dict(self.lens.coefficients):
            with as_trait_errors():
                self.lens.go_to(value)
        return dict(self.lens.coefficients)

    @traitlets.validate("layer")
    def _check_layer(self, proposal: dict[str, Any]) -> str:
        with as_trait_errors():
            self.lens.state.set_layer(proposal["value"])
        return proposal["value"]
