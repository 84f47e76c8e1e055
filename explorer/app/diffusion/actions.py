"""What the browser asks of the diffusion lens, done to it."""

from __future__ import annotations

from explorer.app.listening import Actions as Changes
from explorer.app.listening import Listening, Message
from explorer.errors import ImageError


class Actions(Listening):
    """Messages of the pictures with their slider, and of the panel."""

    truth = ("setting",)

    def noising(self, message: Message) -> None:
        """The level moved, or plays; a variant was chosen; the map faded; a file was dropped."""
        state, value = self._lens.state, message.get("value")
        done = bool(message.get("done", True))
        self._do(
            message,
            {
                "set": lambda: self._lens.move(value, done),
                "opacity": lambda: state.set_opacity(value, done),
                "variant": lambda: state.choose_variant(value),
                **self._files(message),
            },
        )

    def panel(self, message: Message) -> None:
        """Another model, picture, sampler, number; a file."""
        state = self._lens.state
        name, side = str(message.get("name", "")), message.get("side", 0)
        self._do(
            message,
            {
                "model": lambda: state.choose_model(name, side),
                "picture": lambda: state.choose_picture(name, side),
                "compare": lambda: state.compare(bool(message["on"])),
                "count": lambda: self._count(str(message.get("what")), message.get("value")),
                "choice": lambda: self._choose(str(message.get("what")), name),
                **self._files(message),
                "camera": lambda: _no_camera(name),
            },
        )

    def _files(self, message: Message) -> Changes:
        """A picture or a saved run that was chosen or dropped."""
        lens, name, side = self._lens, str(message.get("name", "")), message.get("side", 0)
        return {
            "upload": lambda: lens.upload(name, _bytes(message, name), side),
            "reopen": lambda: lens.reopen(name, _bytes(message, name), side),
        }

    def _status(self, message: Message) -> Changes:
        return {**super()._status(message), "action": self._lens.act}

    def _count(self, what: str, value: object) -> None:
        state = self._lens.state
        if what == "seed":
            state.set_seed(value)
        elif what in ("samples", "steps", "data"):
            state.set_counts(**{what: value})

    def _choose(self, what: str, name: str) -> None:
        state = self._lens.state
        steps = {"method": state.set_method, "kind": state.set_kind, "task": state.set_task}
        steps[what](name)


def _bytes(message: Message, name: str) -> bytes:
    """The file of a message. Raises ImageError for one that the browser kept back."""
    import base64
    import binascii

    data = message.get("data")
    if not isinstance(data, str):
        size = message.get("size")
        large = f" ({size / 1e6:.1f} MB)" if isinstance(size, int | float) else ""
        raise ImageError(f"{name[:60]} is too large{large}; choose a smaller file.")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ImageError(f"{name[:60]} did not arrive whole; try it again.") from None


def _no_camera(reason: str) -> None:
    raise ImageError(f"The browser gives no camera ({reason[:40]}); upload a picture instead.")
