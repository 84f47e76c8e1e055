"""The picker: the catalogue beside the model chooser, with downloads that can be cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app.picker.component import ModelList
from explorer.app.picker.rows import HUB, address_row, catalogue_rows, may_pull
from explorer.app.screen import Screen
from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.checkpoints.pulling import Pulled
    from explorer.compute.run import Run

_log = logging.getLogger(__name__)


class Picker(pn.viewable.Viewer):
    """Search the catalogue, pull what is not here, open what is.

    ``open_model(name)`` is called for a model to look at. Reading the catalogue and downloading
    happen in worker threads; the download ends within a block of data when it is cancelled or the
    session ends.
    """

    def __init__(self, open_model: Callable[[str], None]):
        super().__init__()
        self._open_model = open_model
        self._rows: list[dict[str, Any]] = []
        self._shown = self._loading = False
        self._run: Run[Pulled] | None = None
        self._pulling, self._progress, self._status = "", 0.0, ""
        self._tasks: set[asyncio.Task[None]] = set()
        self.list = ModelList(self._on_message, allowed=may_pull())
        self.screen = Screen({"list": self._draw})

    def __panel__(self) -> pn.viewable.Viewable:
        return self.list

    def close(self) -> None:
        """End of the session: stop downloading, draw nothing any more."""
        self.screen.close()
        if self._run is not None:
            self._run.cancel()

    # What a person does

    def _on_message(self, message: Mapping[str, Any]) -> None:
        kind, name = message["kind"], str(message.get("name", ""))
        if kind == "ready":
            self.screen.ready()
        elif kind == "show":
            self._shown = bool(message.get("shown"))
            if self._shown:
                self._start(self._load())
        elif kind == "find":
            self._start(self._find(name))
        elif kind == "pull":
            self._start(self._pull(name, str(message.get("tasks", ""))))
        elif kind == "cancel" and self._run is not None:
            self._run.cancel()
        elif kind == "open" and any(row["name"] == name and row["opens"] for row in self._rows):
            self._shown = False
            self._open_model(name)
        self.screen.outdated("list")

    def _start(self, work: Any) -> None:
        try:
            task = asyncio.get_running_loop().create_task(work)
        except RuntimeError:  # a script: there is nobody to wait for
            work.close()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Work

    async def _load(self) -> None:
        self._loading = True
        self.screen.outdated("list")
        try:
            addresses = [row["name"] for row in self._rows if row["name"].startswith(HUB)]
            self._rows = await asyncio.to_thread(catalogue_rows, addresses)
        except ExplorerError as error:
            self._status = str(error)
        finally:
            self._loading = False
        self.screen.outdated("list")

    async def _find(self, address: str) -> None:
        """A repository that is in no catalogue, by its address."""
        if any(row["name"] == address for row in self._rows):
            return
        try:
            self._rows = [*self._rows, await asyncio.to_thread(address_row, address)]
        except ExplorerError as error:
            self._status = str(error)
        self.screen.outdated("list")

    async def _pull(self, name: str, tasks: str) -> None:
        if self._run is not None or not self.list.allowed:
            return
        try:
            await self._download(name, tasks)
        except ExplorerError as error:
            self._status = str(error)
        except Exception as error:  # a disk can fail in ways nobody thought of
            _log.exception("could not pull %s", name)
            self._status = f"{name} could not be pulled: {type(error).__name__}: {error}."
        finally:
            self._run, self._pulling, self._progress = None, "", 0.0
        await self._load()

    async def _download(self, name: str, tasks: str) -> None:
        from explorer.checkpoints.pulling import pull

        chosen = tasks.replace(",", " ").split() or None
        run = self._run = await asyncio.to_thread(pull, name, chosen)
        self._pulling, self._status = name, "asking the hub…"
        self.screen.outdated("list")
        while (partial := await asyncio.to_thread(next, run, None)) is not None:
            self._progress, self._status = run.progress, str(partial)
            self.screen.outdated("list")
        if run.cancelled:
            self._status = f"{name}: stopped. What has arrived is kept; pulling again continues."
        elif run.error is not None:
            raise run.error
        else:
            self._status = f"{name}: complete, {self._status}"

    # Drawing

    def _draw(self) -> None:
        self.list.param.update(
            rows=self._rows,
            shown=self._shown,
            loading=self._loading,
            pulling=self._pulling,
            progress=self._progress,
            status=self._status,
        )
