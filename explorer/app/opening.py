"""Opening a model in the background: which one is asked for, which is open, and what went wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from explorer.app import links
from explorer.app.probing import has_probes, is_closed
from explorer.app.shared_models import (
    ADDED,
    already_open,
    already_probed,
    open_probed,
    open_shared,
    part_that_opens,
)
from explorer.app.strangers import discreet
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.models.model import Model

DEFAULT_MODEL = "glyphs"
GONE = (
    "What was added to {model} from a file as {tasks} is not here any more (the app was started "
    "anew, or the file is gone or has changed): add it again with “find a model…”, then open the "
    "link once more."
)
OFFER = "Linear probes, which are fitted here in seconds, can be its heads."

_log = logging.getLogger(__name__)


def model_names() -> list[str]:
    """Names the model picker offers, the default first."""
    from explorer.checkpoints.zoo import model_folders

    names = [*model_folders()]
    return sorted(names, key=lambda name: (name != DEFAULT_MODEL, name))


class Opening:
    """The open model and the one on its way. The open one stays until the next one is there.

    fallback: name of the model that opens if `wanted` cannot. ``rewrite(change)`` is called with
    what is to be done to the link that was opened (text -> text) where not all of it can be shown.
    ``outdated(*parts)`` is called with the parts of the screen that no longer show what there is:
    "lens" for another model, "notices" for `text`, `sentences`, `offered` or `busy`.
    probes: whether linear probes are wanted as heads, not the model's own.
    """

    def __init__(
        self,
        wanted: str,
        fallback: str,
        outdated: Callable[..., None],
        rewrite: Callable[[Callable[[str], str]], None],
        probes: bool = False,
    ):
        self.wanted, self.probes = wanted, probes
        self.model: Model | None = None
        self.text = "opening the model…"
        self.sentences: list[str] = []
        """What went wrong since the person last did something."""
        self.offered = ""
        """A model that did not open for want of heads, which linear probes would be."""
        self.tasks: set[asyncio.Task[None]] = set()
        """Openings under way."""
        self._fallback, self._outdated, self._rewrite = fallback, outdated, rewrite

    @property
    def name(self) -> str:
        """The open model's name, or nothing."""
        return "" if self.model is None else self.model.name

    @property
    def busy(self) -> bool:
        """Whether the model asked for is on its way."""
        return not self._is_open() and bool(self.tasks)

    def _is_open(self) -> bool:
        """Whether the model asked for is open, with the heads asked for."""
        model = self.model
        if model is None:
            return False
        probes = self.probes if is_closed(model) else has_probes(model)
        return self._wants(model.name, probes)

    def _wants(self, name: str, probes: bool) -> bool:
        return (name, probes) == (self.wanted, self.probes)

    def start(self) -> bool:
        """Open the model asked for. True if this process has it open, and it is there at once."""
        model = already_probed(self.wanted) if self.probes else already_open(self.wanted)
        self.model = model if model is not None and not model.missing else None
        if self.model is None:
            self.open(self.wanted)
        return self.model is not None

    def open(self, name: str, probes: bool | None = None) -> None:
        """Open a model by name or path, unless it is open; probes: None for the heads as before."""
        self.wanted = name
        self.probes = self.probes if probes is None else probes
        if self._is_open():
            return
        self.offered = ""
        try:
            task = asyncio.get_running_loop().create_task(self._open(name, self.probes))
        except RuntimeError:  # no event loop yet: the display that has one calls `start`
            return
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An opening is over, well or not, and the screen may say so."""
        self.tasks.discard(task)
        self._outdated("notices")

    async def _open(self, name: str, probes: bool) -> None:
        self._say(f"opening {name}…")
        await asyncio.sleep(0.05)  # the page goes out before the imports begin
        try:
            model = await self._found(name, probes)
        except ExplorerError as error:
            await self._open_part(name, probes, str(error))
            return
        except Exception as error:  # a model folder can be broken in ways nobody thought of
            _log.exception("could not open %s", name)
            sentence = f"{name} could not be opened: {type(error).__name__}: {error}."
            self._failed(name, probes, sentence)
            return
        if model is None or not self._wants(name, probes):
            return
        if not model.missing:
            self.model = model
            self._outdated("lens", "notices")
        elif model.missing_but_heads():
            python = f"Open it in Python: ex.open_model({name!r})."
            self._failed(name, probes, f"{model.missing} {python}")
        else:
            offered = name if name != self.name else ""  # which is open with them
            self._failed(name, probes, f"{model.missing} {OFFER}", offered)

    async def _open_part(self, name: str, probes: bool, sentence: str) -> None:
        """The model without the added tasks that are gone; if that is none, say what is wrong."""
        try:
            part = await asyncio.to_thread(part_that_opens, name)
        except ExplorerError as error:
            part, sentence = "", str(error)
        if not part or not self._wants(name, probes):
            self._failed(name, probes, sentence)
            return
        gone = name.removeprefix(part + ADDED).split(ADDED)
        self.sentences = [*self.sentences, GONE.format(tasks=", ".join(gone), model=part)]
        self._rewrite(lambda query: links.without_tasks(query, part, gone))
        self.open(part)
        self._outdated("lens", "notices")

    async def _found(self, name: str, probes: bool) -> Model | None:
        """The model with the heads asked for; None if others are wanted before they are fitted."""
        if not probes:
            return await asyncio.to_thread(open_shared, name)
        return await open_probed(name, self._say, lambda: self._wants(name, probes))

    def _say(self, text: str) -> None:
        self.text = text
        self._outdated("notices")

    def _failed(self, failed: str, probes: bool, sentence: str, offered: str = "") -> None:
        """Say why; go back to the open model, or to the one this app began with.

        What was chosen in the meantime stays chosen: another model may be on its way.
        """
        self.sentences = [*self.sentences, discreet(sentence)]
        if not self._wants(failed, probes):
            self.offered = offered
            self._outdated("notices")
            return
        self.text = "no model is open"
        if self.model is not None:
            self.wanted, self.probes = self.model.name, has_probes(self.model)
        elif probes or failed != self._fallback:
            same = failed == self._fallback
            self._rewrite(lambda query: links.with_heads(query, None) if same else "")
            self.open(self._fallback, probes=False)
        self.offered = offered
        self._outdated("lens", "notices")
