"""What the browser asks of the schedule lens, done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.app import actions
from explorer.app.listening import Message

if TYPE_CHECKING:
    from explorer.app.schedule.lens import ScheduleLens


class Actions(actions.Actions):
    """Messages of the curve, its kinds, the merging method and the tabs; sliders, toolbar and
    recipe files as in the task-arithmetic lens."""

    _lens: ScheduleLens

    def curve(self, message: Message) -> None:
        """A handle was dragged or moved by a key; a point was added or removed."""
        state, done = self._lens.state, bool(message.get("done", True))
        self._do(
            message,
            {
                "values": lambda: state.set_values([*message["values"]], done),
                "add": lambda: state.add_point(message["depth"], message["value"]),
                "remove": lambda: state.remove_point(message["index"]),
            },
        )

    def lines(self, message: Message) -> None:
        """Exact alpha and beta."""
        state, done = self._lens.state, bool(message.get("done", True))

        def move(value: Any) -> None:
            alpha, beta = state.alpha_and_beta
            moved = {"alpha": (value, beta), "beta": (alpha, value)}
            state.set_lines(*moved[message["task"]], done)

        self._do(message, {"set": lambda: move(message.get("value")), "reset": lambda: move(0.0)})

    def kinds(self, message: Message) -> None:
        """Another kind of schedule, what is outside, another order, a preset."""
        lens, name = self._lens, str(message.get("name"))
        self._do(
            message,
            {
                "kind": lambda: lens.state.set_kind(name),
                "outside": lambda: lens.state.set_outside(name),
                "order": lambda: lens.state.set_order(message.get("value")),
                "preset": lambda: lens.preset(name),
            },
        )

    def methods(self, message: Message) -> None:
        """Another merging method, or one of its options."""
        state, done = self._lens.state, bool(message.get("done", True))
        self._do(
            message,
            {
                "method": lambda: state.set_method(str(message["name"])),
                "option": lambda: state.set_option(
                    str(message["name"]), message.get("value"), done
                ),
            },
        )

    def job(self, tab: str, message: Message) -> None:
        """A tab's computation is started or stopped, or one of its settings changed."""
        lens, value = self._lens, message.get("value")
        fields = {
            "n": lens.state.set_n,
            "seed": lens.state.set_seed,
            "task": lens.state.look_at,
            "adamerging": lens.state.set_adamerging,
        }
        self._do(
            message,
            {
                "start": lambda: lens.compute(tab),
                "stop": lens.jobs.stop,
                "field": lambda: fields[message["name"]](value),  # checked there
            },
        )

    def board(self, message: Message) -> None:
        """A row of the table was clicked, or the table is to be saved."""
        lens = self._lens
        self._do(
            message,
            {
                "open": lambda: lens.open_row(int(message["row"])),
                "save": lambda: lens.save(str(message.get("what"))),
            },
        )
