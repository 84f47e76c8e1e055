"""What the browser asks of the hierarchy lens, done to it."""

from __future__ import annotations

from explorer.app.listening import Actions as Changes
from explorer.app.listening import Listening, Message


class Actions(Listening):
    """Messages of the tree's slider, and of what it is a tree of."""

    truth = ("setting",)

    def tree(self, message: Message) -> None:
        """The level of noise was moved, or plays."""
        state, done = self._lens.state, bool(message.get("done", True))
        self._do(message, {"set": lambda: state.set_level(message.get("value"), done)})

    def learning(self, message: Message) -> None:
        """An experiment on learning: its axis, how many examples, measure, stop."""
        lens, name = self._lens, str(message.get("name"))
        state, desk = lens.state, lens.desk
        self._do(
            message,
            {
                "scaled": lambda: state.rescale(
                    [x for x in (*state.setting.scaled, name) if x != name or message["on"]]
                ),
                "examples": lambda: state.choose_examples({name: message.get("value")}),
                "measure": lambda: desk.measure(name, state.examples(name)),
                "stop": desk.stop,
            },
        )
        lens.drawing.outdated("learning", "notices")

    def _status(self, message: Message) -> Changes:
        return {**super()._status(message), "action": self._lens.act}

    def grammar(self, message: Message) -> None:
        """Another grammar, process, string or noise; how much is measured; controls."""
        state, value = self._lens.state, message.get("value")
        what, name = str(message.get("what")), str(message.get("name"))
        self._do(
            message,
            {
                "sizes": lambda: state.set_sizes(*(message[key] for key in ("v", "m", "s", "L"))),
                "process": lambda: state.set_process(name),
                "renew": lambda: state.renew(what),
                "seed": lambda: state.set_seed(what, value),
                "count": lambda: state.set_counts(**{_count(what): value}),
                "control": lambda: state.show_control(name, bool(message["on"])),
            },
        )


def _count(what: str) -> str:
    if what not in ("data", "samples"):
        raise KeyError(what)
    return what
