"""The catalogue: which models can be opened, and which one a name or a path means."""

from pathlib import Path
from typing import TYPE_CHECKING

from explorer.checkpoints.zoo import ModelFolder, model_folders, read_folder
from explorer.errors import ExplorerError, HubError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd


def catalog() -> "pd.DataFrame":
    """Table of the models that can be opened, indexed by name.

    Columns: title, kind ("embedded" or "local"), tasks (names, comma-separated), where (folder),
    size (MB), problem (empty, or why it does not open).
    """
    import pandas as pd

    columns = ["title", "kind", "tasks", "where", "size", "problem"]
    rows = [_row(name, kind, path) for name, (kind, path) in model_folders().items()]
    return pd.DataFrame(rows, columns=["name", *columns]).set_index("name")


def resolve(name_or_path: str | Path) -> ModelFolder:
    """The model folder that a catalogue name or a path means.

    Raises UnknownNameError with the nearest names, HubError for "hub:...".
    """
    text = str(name_or_path)
    if text.startswith("hub:"):
        raise HubError(
            f"{text!r} cannot be opened: this version opens model folders only. "
            "Download the folder and give its path."
        )
    folders = model_folders()
    if text in folders:
        return read_folder(folders[text][1])
    looks_like_path = isinstance(name_or_path, Path) or "/" in text or "\\" in text
    if looks_like_path or Path(text).expanduser().is_dir():
        return read_folder(text)
    raise UnknownNameError("model", text, folders)


def _row(name: str, kind: str, path: Path) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "kind": kind, "where": str(path), "problem": ""}
    try:
        folder = read_folder(path)
    except ExplorerError as error:
        return row | {"title": name, "tasks": "", "size": float("nan"), "problem": str(error)}
    return row | {
        "title": folder.title,
        "tasks": ", ".join(folder.tasks),
        "size": round(folder.size / 1e6, 1),
    }
