"""The lens as an ipywidget: compose it with other widgets, observe and set its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from explorer.app.widget import ArithmeticWidget, as_trait_errors
from explorer.editing.schedule import Schedule

if TYPE_CHECKING:
    from explorer.app.schedule.lens import ScheduleLens


class ScheduleWidget(ArithmeticWidget):
    """A schedule lens with traits.

        widget = lens.to_ipywidget()
        widget.observe(lambda change: print(change["new"]), "schedule")
        widget.schedule = "lines:0.1,0.9"

    `value` (task -> coefficient), `recipe` (JSON), `focus` (the target task) and `schedule` (its
    text as in links, empty for none) can be observed and set. A value that makes no sense raises
    `traitlets.TraitError` with a sentence, and nothing changes.
    """

    lens: ScheduleLens

    schedule = traitlets.Unicode()

    def __init__(self, lens: ScheduleLens, **traits: Any):
        super().__init__(lens, **traits)

    def _follow(self) -> None:
        super()._follow()
        self.schedule = _text(self.lens.recipe.schedule)

    @traitlets.validate("schedule")
    def _check_schedule(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] != _text(self.lens.recipe.schedule):
            with as_trait_errors():
                text = proposal["value"]
                self.lens.state.set_schedule(Schedule.from_text(text) if text else None)
        return _text(self.lens.recipe.schedule)


def _text(schedule: Schedule | None) -> str:
    return "" if schedule is None else schedule.to_text()
