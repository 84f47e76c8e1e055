"""The lens as an ipywidget: compose it with other widgets, observe and set its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from explorer.app.widget import as_trait_errors, shown

if TYPE_CHECKING:
    from explorer.app.tree.lens import HierarchyLens


class HierarchyWidget(ipywidgets.VBox):
    """A hierarchy lens with traits.

        widget = lens.to_ipywidget()
        widget.observe(lambda change: print(change["new"]), "value")
        widget.value = 0.73

    `value` (the level of noise), `datum` and `noise` (seeds of the string and of what is drawn)
    can be observed and set. A value that makes no sense raises `traitlets.TraitError` with a
    sentence, and nothing changes.
    """

    value = traitlets.Float()
    datum = traitlets.Int()
    noise = traitlets.Int()

    def __init__(self, lens: HierarchyLens, **traits: Any):
        self.lens = lens
        super().__init__([shown(lens.embedded())], **traits)
        lens.state.param.watch(lambda *_: self._follow(), ["setting"])
        self._follow()

    def _follow(self) -> None:
        """Lens -> traits."""
        now = self.lens.state.setting
        with self.hold_trait_notifications():
            self.value, self.datum, self.noise = now.level, now.datum, now.noise

    @traitlets.validate("value")
    def _check_value(self, proposal: dict[str, Any]) -> float:
        with as_trait_errors():
            self.lens.state.set_level(proposal["value"])
        return self.lens.state.setting.level

    @traitlets.validate("datum", "noise")
    def _check_seed(self, proposal: dict[str, Any]) -> int:
        with as_trait_errors():
            self.lens.state.set_seed(proposal["trait"].name, proposal["value"])
        return proposal["value"]
