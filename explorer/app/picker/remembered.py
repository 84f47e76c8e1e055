"""Which files became tasks of which model, so that a link finds them after a restart.

Written where the server's owner named a path, on their own machine. A link carries no path: only
names, which are looked up here.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.models.model import Model

MOST = 200
"""Models that are remembered, the last made."""

_log = logging.getLogger(__name__)


def remember(added: str, before: str, files: Mapping[str, Path]) -> None:
    """Note that the model ``added`` is the model ``before`` with these checkpoints as tasks."""
    known = {name: entry for name, entry in _read().items() if name != added}
    known[added] = {"before": before, "files": {task: _state(p) for task, p in files.items()}}
    kept = dict([*known.items()][-MOST:])
    home = _home()
    new = home.with_suffix(f".{os.getpid()}")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            json.dump(kept, file, indent=1)
        new.replace(home)
    except OSError as error:  # it works until the next restart
        _log.warning("%s cannot be written (%s): links to %s will not open", home, error, added)


def restored(name: str, open_before: Callable[[str], Model]) -> Model | None:
    """The model of this name made anew, if its files are there and as they were; else None.

    Raises ExplorerError when what it was made of does not open.
    """
    from explorer.models.added import with_tasks

    entry = _read().get(name)
    if entry is None:
        return None
    states = entry["files"]
    files = {task: Path(state["path"]) for task, state in states.items()}
    try:
        if any(_state(path) != states[task] for task, path in files.items()):
            return None
    except OSError:  # a file is gone
        return None
    made = with_tasks(open_before(entry["before"]), files)
    return made if made.name == name else None  # the model before has other tasks now


def _home() -> Path:
    from explorer.compute.store import default_folder

    return default_folder() / "added.json"


def _state(path: Path) -> dict[str, Any]:
    """A file's path, size and time: another when the file is another."""
    path = path.expanduser().resolve()
    state = path.stat()
    return {"path": str(path), "size": state.st_size, "time": state.st_mtime_ns}


def _read() -> dict[str, Any]:
    """Name -> what it was made of; nothing if the file is damaged, which is said in the log."""
    home = _home()
    try:
        data = json.loads(home.read_text(encoding="utf-8")) if home.is_file() else {}
        return {name: entry for name, entry in data.items() if _is_entry(entry)}
    except (OSError, ValueError, AttributeError) as error:
        _log.warning("%s cannot be read (%s): added tasks are not found again", home, error)
        return {}


def _is_entry(entry: Any) -> bool:
    """Whether an entry has the form that ``remember`` writes."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("before"), str)
        and isinstance(entry.get("files"), dict)
        and all(
            isinstance(s, dict) and isinstance(s.get("path"), str) for s in entry["files"].values()
        )
    )
