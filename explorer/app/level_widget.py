"""What the ipywidgets of the two lenses of noise share: the level, and following the lens."""

from __future__ import annotations

from typing import Any

import ipywidgets
import traitlets

from explorer.app.widget import as_trait_errors, shown


class LevelWidget(ipywidgets.VBox):
    """A lens whose state is one `setting` with a `level` of noise, which is the trait `value`.

    A kind of lens adds traits of its own and says in `_follow` how the setting fills them.
    """

    value = traitlets.Float()

    def __init__(self, lens: Any, **traits: Any):
        self.lens = lens
        super().__init__([shown(lens.embedded())], **traits)
        lens.state.param.watch(lambda *_: self._follow(), ["setting"])
        self._follow()

    def _follow(self) -> None:
        """Lens -> traits."""
        raise NotImplementedError

    @traitlets.validate("value")
    def _check_value(self, proposal: dict[str, Any]) -> float:
        with as_trait_errors():
            self.lens.state.set_level(proposal["value"])
        return self.lens.state.setting.level
