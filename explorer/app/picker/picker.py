"""The picker: the catalogue beside the model chooser, with transfers that can be cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import panel as pn

from explorer.app import rules
from explorer.app.picker.component import ModelList
from explorer.app.picker.remembered import remember
from explorer.app.picker.rows import (
    HUB,
    address_row,
    catalogue_rows,
    may_name_paths,
    may_pull,
    may_upload,
    path_row,
)
from explorer.app.picker.uploads import Upload
from explorer.app.probing import without_probes
from explorer.app.screen import Screen
from explorer.app.shared_models import SHELF
from explorer.app.strangers import discreet
from explorer.errors import ExplorerError, ModelError

if TYPE_CHECKING:
    from explorer.checkpoints.pulling import Pulled
    from explorer.compute.run import Run
    from explorer.models.model import Model

_log = logging.getLogger(__name__)


class Picker(pn.viewable.Viewer):
    """Search the catalogue, pull what is not here, open what is, add checkpoints to what is open.

    ``open_model(name)`` is called for a model to look at, ``current()`` for the open one. Reading
    the catalogue and downloading happen in worker threads; the download ends within a block of data
    when it is cancelled or the session ends.
    """

    def __init__(
        self, open_model: Callable[[str], None], current: Callable[[], Model | None] = lambda: None
    ):
        super().__init__()
        self._open_model, self._current = open_model, current
        self._rows: list[dict[str, Any]] = []
        self._shown = self._loading = False
        self._run: Run[Pulled] | None = None
        self._upload: Upload | None = None
        self._pulling, self._progress, self._status = "", 0.0, ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._allowance = rules.allowance()
        self.list = ModelList(
            self._on_message, allowed=may_pull(), paths=may_name_paths(), uploads=may_upload()
        )
        self.screen = Screen({"list": self._draw})

    def __panel__(self) -> pn.viewable.Viewable:
        return self.list

    def close(self) -> None:
        """End of the session: stop downloading, draw nothing any more."""
        self.screen.close()
        if self._run is not None:
            self._run.cancel()
        self._end_upload("")

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
        elif kind == "cancel" and self._upload is not None:
            self._end_upload(f"{self._upload.name}: stopped.")
        elif kind == "cancel" and self._run is not None:
            self._run.cancel()
        elif kind in ("upload", "part"):
            self._hand_in(kind, message)
        elif kind == "add" and any(row["name"] == name and row["adds"] for row in self._rows):
            self._start(self._add_path(name))
        elif kind == "open" and any(row["name"] == name and row["opens"] for row in self._rows):
            self._shown = False
            self._open_model(name)
        self.screen.outdated("list")

    def _hand_in(self, kind: str, message: Mapping[str, Any]) -> None:
        """A file of the browser's, announced and then part by part, each when it is asked for."""
        try:
            if kind == "upload":
                self._allowance.take("upload")
                self._end_upload("")
                self._upload = Upload.begin(message, self._current())
                self._status = "waiting for the file…"
            elif self._upload is not None and self._upload.take(message):
                done, self._upload = self._upload, None
                self._status = f"{done.name}: reading…"
                self._start(self._add({done.task: done.path}, kept=done))
        except ExplorerError as error:
            self._end_upload(discreet(str(error)))

    def _end_upload(self, status: str) -> None:
        if self._upload is not None:
            self._upload.discard()
            self._upload = None
        self._status = status or self._status

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
            paths = [row for row in self._rows if row["kind"] == "local" and row["by_path"]]
            self._rows = [*paths, *await asyncio.to_thread(catalogue_rows, addresses)]
        except ExplorerError as error:
            self._status = discreet(str(error))
        finally:
            self._loading = False
        self.screen.outdated("list")

    async def _find(self, address: str) -> None:
        """A repository that is in no catalogue, by its address; a folder or a file by its path."""
        if any(row["name"] == address for row in self._rows):
            return
        try:
            self._allowance.take("find")
            if address.startswith(HUB) or not self.list.paths:
                found = await asyncio.to_thread(address_row, address)
                self._rows = [*self._rows, found]
            else:
                found = await asyncio.to_thread(path_row, address)
                self._rows = [found | {"by_path": True}, *self._rows]
        except ExplorerError as error:
            self._status = discreet(str(error))
        self.screen.outdated("list")

    async def _add_path(self, path: str) -> None:
        from explorer.checkpoints.folders import towers_of_path

        try:
            files = await asyncio.to_thread(towers_of_path, Path(path))
        except ExplorerError as error:
            self._status = discreet(str(error))
        else:
            await self._add(files)
        self.screen.outdated("list")

    async def _add(self, files: Mapping[str, Path], kept: Upload | None = None) -> None:
        """Open the present model with these checkpoints as further tasks."""
        from explorer.models.added import with_tasks

        model = self._current()
        try:
            if model is None:
                raise ModelError("No model is open to add a task to: open one first.")
            # Probes are fitted where it is opened: it is shared with those who want none.
            before = without_probes(model)
            added = await asyncio.to_thread(with_tasks, before, files)
            SHELF.put(added)
            if kept is None and self.list.paths:
                await asyncio.to_thread(remember, added.name, before.name, files)
        except ExplorerError as error:
            self._status = discreet(str(error))
            if kept is not None:
                kept.discard()
        else:
            if kept is not None:
                kept.keep_for(added)
            new = [task for task in added.tasks if task not in model.tasks]
            self._shown, self._status = False, f"added {', '.join(new)}"
            self._open_model(added.name)
        self.screen.outdated("list")

    async def _pull(self, name: str, tasks: str) -> None:
        if self._run is not None or not self.list.allowed:
            return
        try:
            await self._download(name, tasks)
        except ExplorerError as error:
            self._status = discreet(str(error))
        except Exception as error:  # a disk can fail in ways nobody thought of
            _log.exception("could not pull %s", name)
            self._status = discreet(f"{name} could not be pulled: {type(error).__name__}: {error}.")
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
        upload = self._upload
        if upload is not None:
            self._status = str(upload)
        self.list.param.update(
            rows=self._rows,
            wanted=-1 if upload is None else upload.received,
            shown=self._shown,
            loading=self._loading,
            pulling=self._pulling if upload is None else upload.name,
            progress=self._progress if upload is None else upload.progress,
            status=self._status,
        )
