"""What the browser asks of the disentanglement lens, done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.app.listening import Listening, Message

if TYPE_CHECKING:
    from explorer.app.disentanglement.board import Slot


class Actions(Listening):
    """Messages of the maps, what is mapped, colours, the point's sliders and the images."""

    truth = ("recipe", "plane")

    def map(self, slot: Slot, kind: str, x: float, y: float) -> None:
        """A drag moves the point; a click takes it to the middle of a cell."""
        state, lens = self._lens.state, self._lens

        def tap() -> None:
            state.move(slot.spec.nearest((x, y)))
            lens.show_images()

        self._do(
            {"kind": kind},
            {
                "panstart": lambda: state.move((x, y), done=False),
                "pan": lambda: state.move((x, y), done=False),
                "panend": lambda: state.move((x, y)),
                "tap": tap,
            },
        )
        if not slot.pinned and slot.spec.kind in state.maps:
            state.look_at(slot.spec.kind)

    def caption(self, slot: Slot, message: Message) -> None:
        """Keep a map for comparison, let it go, or look at its images."""
        lens = self._lens

        def look() -> None:
            lens.state.look_at(slot.spec.kind)
            lens.show_images()

        self._do(
            message,
            {"pin": lambda: lens.unpin(slot) if slot.pinned else lens.pin(slot), "look": look},
        )

    def point(self, message: Message) -> None:
        """The two sliders of the recipe; a click on a name shows that task's images."""
        state, task = self._lens.state, str(message.get("task"))
        done = bool(message.get("done", True))
        self._do(
            message,
            {
                "set": lambda: state.set_coefficient(task, message.get("value"), done),
                "reset": lambda: state.set_coefficient(task, 0.0),
                "focus": lambda: state.look_at_task(state.pair.index(task)),
            },
        )

    def lines(self, message: Message) -> None:
        """LiNeS's alpha and beta."""
        state = self._lens.state

        def move(value: Any) -> None:
            alpha, beta = state.lines
            moved = {"alpha": (value, beta), "beta": (alpha, value)}
            state.set_lines(*moved[message["task"]])

        self._do(message, {"set": lambda: move(message.get("value")), "reset": lambda: move(0.0)})

    def plane(self, message: Message) -> None:
        """Which maps: pair, kinds, merging method, range, resolution, images, seed."""
        state, value = self._lens.state, message.get("value")
        first, second = state.pair
        self._do(
            message,
            {
                "axis": lambda: state.set_axis(int(message["axis"]), str(message["task"])),
                "swap": lambda: state.set_pair(second, first),
                "map": lambda: state.show(str(message["name"]), bool(message["on"])),
                "method": lambda: state.show_method(str(message["name"])),
                "extent": lambda: state.set_extent(message["low"], message["high"]),
                "points": lambda: state.set_points(value),
                "n": lambda: state.set_n(value),
                "seed": lambda: state.set_seed(value),
            },
        )

    def scale(self, message: Message) -> None:
        """The layer and its colours."""
        state = self._lens.state

        def fit() -> None:
            state.fitted = bool(message["on"])

        self._do(
            message,
            {
                "layer": lambda: state.set_layer(str(message["layer"])),
                "terms": lambda: state.set_terms(str(message["terms"])),
                "fitted": fit,
            },
        )

    def pairs(self, message: Message) -> None:
        """The kind of map of all pairs."""
        state = self._lens.state
        self._do(message, {"choose": lambda: state.set_pairs_kind(str(message["name"]))})

    def difference(self, message: Message) -> None:
        """Which task's differing images, which page of them."""
        state, shown = self._lens.state, self._lens.images.page

        def turn() -> None:
            last = shown.pages - 1 if shown else 0
            state.page = min(max(state.page + int(message["step"]), 0), last)

        self._do(message, {"task": lambda: state.look_at_task(message["task"]), "page": turn})
