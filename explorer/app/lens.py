"""What every lens is: a view that computes off the event loop and says what went wrong."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app import notebook
from explorer.app.display import empty
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.models.model import Model
    from explorer.recipe import Recipe

SENTENCES_KEPT = 3

_log = logging.getLogger(__name__)


class Lens(pn.viewable.Viewer):
    """Base of the lenses: sentences on screen, background work, files, displays and their end.

    A lens sets `drawing` (its components, with `outdated`, `displays`, `screen`, `toolbar`) and
    says how to `start`, how to make a display and a file, and what to let go of in `close`. One
    that looks at a network has its `model` and the `recipe` on screen.
    """

    __abstract = True

    topic: str
    """Its name among the lenses: its entry in `explorer.app.help`."""
    model: Model | None = None
    busy: bool = False
    """Whether it computes or waits to."""

    def __init__(self) -> None:
        notebook.prepare()
        super().__init__()
        self.drawing: Any = None
        self.sentences: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def recipe(self) -> Recipe | None:
        """The recipe on screen, of a lens that looks at a network."""
        return None

    # Sentences

    def complain(self, sentence: str) -> None:
        """Put a sentence about what went wrong on screen. It is shown as text, never as HTML."""
        kept = [s for s in self.sentences if s != sentence]
        self.sentences = [*kept, sentence][-SENTENCES_KEPT:]
        self.drawing.outdated("notices")

    def dismiss(self, index: int) -> None:
        """Take one sentence off the screen."""
        self.sentences = [s for i, s in enumerate(self.sentences) if i != index]
        self.drawing.outdated("notices")

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, ExplorerError):
            _log.error("the lens met an unexpected error", exc_info=error)
            error = ExplorerError(f"Something went wrong: {type(error).__name__}: {error}.")
        self.complain(str(error))

    # Files

    def file(self, what: str) -> bytes:
        """What is on screen as a file of kind what."""
        raise NotImplementedError

    def _named(self, what: str) -> tuple[str, str]:
        """Name and MIME type of the file of kind what. Raises ExplorerError for an unknown kind."""
        raise NotImplementedError

    def save(self, what: str) -> None:
        """Hand what is on screen to the browser as a file; what as for `file`."""
        self._spawn(self._save(what))

    async def _save(self, what: str) -> None:
        try:
            name, mime = self._named(what)
            data = await asyncio.to_thread(self.file, what)
        except ExplorerError as error:
            self.complain(str(error))
            return
        self.drawing.toolbar.offer(name, mime, base64.b64encode(data).decode("ascii"))

    # Displays and life

    def start(self) -> None:
        """Begin to measure, as soon as there is an event loop. Every display calls this."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop computing; what is on screen stays."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Compute what is missing after a stop."""
        raise NotImplementedError

    def _make_display(self) -> Any:
        raise NotImplementedError

    def display(self) -> Any:
        """A new display of this lens, with figures of its own."""
        made = self._make_display()
        self.drawing.displays.append(made)
        made.draw()
        self.start()
        return made

    def embedded(self) -> pn.viewable.Viewable:
        """The lens for a notebook cell or inside another layout."""
        return self.display().embedded()

    def page(self) -> pn.viewable.Viewable:
        """The lens as a page of its own, for serving; the lens ends with the page's session."""
        page = self.display().page()
        if self.drawing.screen.document is not None:

            def end(_: object) -> None:
                self.close()
                empty(page)

            pn.state.on_session_destroyed(end)
        return page

    def __panel__(self) -> pn.viewable.Viewable:
        return self.embedded()

    def close(self) -> None:
        """Stop computing and let go of threads. Called when a served session ends."""
        self.drawing.screen.close()

    # Work on the event loop

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the event loop, if there is one (a script has none, and no screen)."""
        try:
            task = asyncio.get_running_loop().create_task(work)
        except RuntimeError:
            work.close()
            return
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _settle(self, runner: Any) -> None:
        """Wait until runner and everything spawned is through."""
        self.start()
        while runner.busy or self._tasks:
            await runner.settled()
            await asyncio.gather(*self._tasks, return_exceptions=True)
