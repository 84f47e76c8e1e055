"""The user's own catalogue, written: entries are added and removed, other lines' data kept."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.checkpoints.catalogue_file import FORMAT, entry_of, raw_entries, user_file
from explorer.checkpoints.folders import HUB_WEIGHTS, set_of_path
from explorer.checkpoints.published import Published
from explorer.checkpoints.zoo import MODEL_FILE, model_folders
from explorer.errors import CatalogueError

_HEADING = "# Written by `explorer zoo add` and `explorer zoo remove`; comments are not kept.\n"


def add_entry(name: str, entry: Mapping[str, Any]) -> tuple[Path, Published]:
    """Add an entry to the user's catalogue; returns the file and the entry as it will be read.

    An entry with a folder and without ``base`` is told by the folder's files: as
    ``folders.set_of_path`` does. Raises CatalogueError, and CheckpointError when nothing in the
    folder says the base.
    """
    path = user_file()
    models = raw_entries(path) if path.is_file() else {}
    if name in models or name in model_folders():
        raise CatalogueError(
            f"There is a model {name!r} already; choose another name, or `explorer zoo remove "
            f"{name}` first."
        )
    complete = _complete(dict(entry))
    added = entry_of(name, complete, path)
    _write(path, models | {name: complete})
    return path, added


def remove_entry(name: str) -> Path:
    """Take an entry out of the user's catalogue; returns the file. Raises CatalogueError."""
    path = user_file()
    models = raw_entries(path) if path.is_file() else {}
    if name not in models:
        raise CatalogueError(f"{path} has no entry {name!r}; only your own can be removed.")
    _write(path, {key: value for key, value in models.items() if key != name})
    return path


def is_users(name: str) -> bool:
    """Whether the user's catalogue has an entry of this name."""
    return user_file().is_file() and name in raw_entries(user_file())


def _complete(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with what its place tells: the files of a folder, a hub's usual names."""
    if "base" in entry:
        return entry
    if "repository" in entry:
        return entry | {"base": [MODEL_FILE, *HUB_WEIGHTS]}
    folder = Path(str(entry.get("folder", "")))
    if (folder / MODEL_FILE).is_file():
        return entry | {"base": MODEL_FILE}
    found = set_of_path(folder)
    entry["base"] = found.base.files[0]
    for key, part in (
        ("fine_tuned", found.fine_tuned),
        ("heads", found.heads),
        ("tangent", found.tangent),
    ):
        if part is not None:
            entry[key] = dict(part.by_task or {})
    if found.tasks:
        entry["tasks"] = list(found.tasks)
    return entry


def _write(path: Path, models: Mapping[str, Any]) -> None:
    """Replace the file at once, so that a reader never sees half of it."""
    import yaml

    text = yaml.safe_dump({"format": FORMAT, "models": dict(models)}, sort_keys=False)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(_HEADING + text, encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise CatalogueError(
            f"{path} cannot be written ({error.strerror}); set EXPLORER_CATALOGUE to a file that "
            "can."
        ) from None
