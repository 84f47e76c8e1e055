"""The lens as an ipywidget: compose it with other widgets, observe and set its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from explorer.app.level_widget import LevelWidget
from explorer.app.widget import as_trait_errors

if TYPE_CHECKING:
    from explorer.app.tree.lens import HierarchyLens


class HierarchyWidget(LevelWidget):
    """A hierarchy lens with traits.

        widget = lens.to_ipywidget()
        widget.observe(lambda change: print(change["new"]), "value")
        widget.value = 0.73

    `value` (the level of noise), `datum` and `noise` (seeds of the string and of what is drawn)
    can be observed and set. A value that makes no sense raises `traitlets.TraitError` with a
    sentence, and nothing changes.
    """

    lens: HierarchyLens
    datum = traitlets.Int()
    noise = traitlets.Int()

    def _follow(self) -> None:
        """Lens -> traits."""
        now = self.lens.state.setting
        with self.hold_trait_notifications():
            self.value, self.datum, self.noise = now.level, now.datum, now.noise

    @traitlets.validate("datum", "noise")
    def _check_seed(self, proposal: dict[str, Any]) -> int:
        with as_trait_errors():
            self.lens.state.set_seed(proposal["trait"].name, proposal["value"])
        return proposal["value"]
