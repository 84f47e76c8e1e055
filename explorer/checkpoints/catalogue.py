"""The catalogue as a table: what can be opened, from where, how large, under which licence."""

from pathlib import Path
from typing import TYPE_CHECKING

from explorer.checkpoints.families import tower_title
from explorer.checkpoints.finding import published_sets
from explorer.checkpoints.published import Published
from explorer.checkpoints.pulled import locate
from explorer.checkpoints.zoo import (
    diffusion_folders,
    folder_size,
    model_folders,
    read_folder,
)
from explorer.errors import CatalogueError, ExplorerError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [
    "title",
    "family",
    "kind",
    "tasks",
    "heads",
    "where",
    "size",
    "licence",
    "local",
    "caveats",
    "problem",
]


def catalog(open_clip: bool = False) -> "pd.DataFrame":
    """Table of the models that can be opened, indexed by name.

    Columns: title, family (of the tower), kind ("embedded", "local", "hub", "open_clip", or
    "diffusion": an embedded one for ``ex.open_diffusion``), tasks (names, comma-separated), where
    (folder or repositories), heads ("zero-shot", "linear probes", "in files", or empty), size (MB;
    estimated for what is not here), licence, local ("yes", "no", or how many tasks are here),
    caveats, problem (empty, or why it does not open).

    Beside what comes with the package and lies in the folders of EXPLORER_MODELS it has the
    published sets of the package's catalogue and the user's. With ``open_clip``, open_clip's own
    list of pretrained models too, which takes its import's seconds.
    """
    import pandas as pd

    rows = [_row(name, kind, path) for name, (kind, path) in model_folders().items()]
    rows += [_diffusion_row(name, path) for name, path in sorted(diffusion_folders().items())]
    taken = {str(row["name"]) for row in rows}
    rows += [_published_row(*item) for item in published_sets().items() if item[0] not in taken]
    if open_clip:
        from explorer.checkpoints.open_clip_list import open_clip_sets

        rows += [_published_row(*item) for item in open_clip_sets().items()]
    empty = dict.fromkeys(_COLUMNS, "")
    table = pd.DataFrame([empty | row for row in rows], columns=["name", *_COLUMNS])
    return table.set_index("name")


def _published_row(name: str, entry: Published | CatalogueError) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "kind": "hub", "local": "no", "size": float("nan")}
    if isinstance(entry, CatalogueError):
        return row | {"title": name, "problem": str(entry)}
    row |= {
        "title": entry.title,
        "family": entry.family,
        "kind": entry.origin,
        "tasks": ", ".join(entry.tasks),
        "where": entry.source,
        "heads": "in files" if entry.heads is not None else "",
        "licence": entry.licence,
        "caveats": " ".join(entry.caveats),
    }
    if entry.size is not None:
        row["size"] = round(entry.size / 1e6, 1)
    try:
        here = locate(entry)
    except ExplorerError as error:
        return row | {"problem": str(error)}
    if here.base is not None:
        n = len(here.fine_tuned)
        whole = n == len(entry.tasks)
        row["local"] = "yes" if whole else f"base and {n} of {len(entry.tasks)} tasks"
        row["size"] = round(here.size / 1e6, 1) if whole else row["size"]
    elif entry.folder is not None:
        row["problem"] = f"{entry.folder} has no {' or '.join(entry.base.files)}"
    return row


def _row(name: str, kind: str, path: Path) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "kind": kind, "where": str(path), "local": "yes"}
    try:
        folder = read_folder(path)
    except ExplorerError as error:
        return row | {"title": name, "tasks": "", "size": float("nan"), "problem": str(error)}
    return row | {
        "title": folder.title,
        "family": tower_title(folder.card["architecture"]),
        "heads": "linear probes" if "heads" in folder.card else "zero-shot",
        "licence": folder.card.get("licence", "see its card"),
        "tasks": ", ".join(folder.tasks),
        "size": round(folder.size / 1e6, 1),
    }


def _diffusion_row(name: str, path: Path) -> dict[str, object]:
    card = path / "CARD.md"
    heading = card.read_text(encoding="utf-8").partition("\n")[0] if card.is_file() else name
    return {
        "name": name,
        "title": heading.removeprefix("# "),
        "kind": "diffusion",
        "local": "yes",
        "tasks": "",
        "where": str(path),
        "size": round(folder_size(path) / 1e6, 1),
        "problem": "" if (path / "unet").is_dir() else "it has no folder unet; copy it again",
    }
