"""The lens as an ipywidget: compose it with other widgets, observe and set its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from explorer.app.level_widget import LevelWidget
from explorer.app.widget import as_trait_errors

if TYPE_CHECKING:
    from explorer.app.diffusion.lens import DiffusionLens


class DiffusionWidget(LevelWidget):
    """A diffusion lens with traits.

        widget = lens.to_ipywidget()
        widget.observe(lambda change: print(change["new"]), "value")
        widget.value = 0.6

    `value` (the level of noise), `picture` (number of a held-out picture) and `seed` can be
    observed and set. A value that makes no sense raises `traitlets.TraitError` with a sentence,
    and nothing changes.
    """

    lens: DiffusionLens
    picture = traitlets.Unicode()
    seed = traitlets.Int()

    def _follow(self) -> None:
        """Lens -> traits."""
        now = self.lens.state.setting
        with self.hold_trait_notifications():
            self.value, self.picture, self.seed = now.level, now.subjects[0].picture, now.seed

    @traitlets.validate("picture")
    def _check_picture(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] != self.lens.state.setting.subjects[0].picture:
            with as_trait_errors():
                self.lens.state.choose_picture(proposal["value"])
        return self.lens.state.setting.subjects[0].picture

    @traitlets.validate("seed")
    def _check_seed(self, proposal: dict[str, Any]) -> int:
        with as_trait_errors():
            self.lens.state.set_seed(proposal["value"])
        return proposal["value"]
