"""The catalogue's rows as the picker shows them: plain values for the browser."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.app import notebook, strangers
from explorer.checkpoints.hub import NO

HUB = "hub:"
MAY_PULL = "EXPLORER_PULL"
MAY_UPLOAD = "EXPLORER_UPLOAD"
_SHOWN = ("name", "title", "family", "kind", "tasks", "where", "licence", "local", "caveats")


def may_pull() -> bool:
    """Whether this app may download to the machine it runs on.

    EXPLORER_PULL decides (`explorer app` sets it where only this machine can reach the app);
    without it a notebook may, and a served app, which anybody might open, may not.
    """
    given = os.environ.get(MAY_PULL, "").lower()
    return given not in NO if given else notebook.in_kernel()


def may_upload() -> bool:
    """Whether checkpoints may be handed in through the browser: where EXPLORER_UPLOAD says so."""
    return os.environ.get(MAY_UPLOAD, "").lower() not in NO


def may_name_paths() -> bool:
    """Whether a path of this machine may be opened: not on a server for strangers."""
    return not strangers.are_here()


def catalogue_rows(addresses: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every model for the lenses of this app: embedded, local, on a hub, and by these addresses."""
    from explorer.checkpoints.catalogue import catalog

    table = catalog().reset_index()
    known = [_row(entry) for entry in table.to_dict("records") if entry["kind"] != "diffusion"]
    return [*known, *[address_row(address) for address in addresses]]


def path_row(path: str) -> dict[str, Any]:
    """A row for a folder or a file of checkpoints: a model, or towers to add to the open model.

    Raises CheckpointError for a path with neither.
    """
    from explorer.checkpoints.finding import resolve
    from explorer.checkpoints.folders import towers_of_path
    from explorer.checkpoints.zoo import ModelFolder
    from explorer.errors import CheckpointError

    place = Path(path).expanduser()
    row: dict[str, Any] = {"name": path, "kind": "local", "where": str(place), "local": "yes"}
    try:
        found = resolve(place) if place.is_dir() else None
    except CheckpointError:  # no base among them
        found = None
    if isinstance(found, ModelFolder):
        return _row(row | {"title": found.title, "tasks": ", ".join(found.tasks)})
    if found is not None and found.tasks:
        row |= {"title": "checkpoints with their base", "tasks": ", ".join(found.tasks)}
        return _row(row)
    towers = towers_of_path(place)
    many = f"{len(towers)} checkpoints" if len(towers) > 1 else "a checkpoint"
    row |= {"title": f"{many} without a base", "tasks": ", ".join(towers)}
    return _row(row) | {"opens": False, "adds": True}


def address_row(address: str) -> dict[str, Any]:
    """A row for a repository that is in no catalogue, by its address "hub:owner/name".

    Raises CatalogueError for an address that is none, CheckpointError for a damaged copy.
    """
    from explorer.checkpoints.finding import find_published
    from explorer.checkpoints.pulled import locate

    entry = find_published(address)
    here = locate(entry).base is not None
    row = {"name": address, "title": f"{entry.title}, by its address", "kind": "hub"}
    return _row(row | {"local": "yes" if here else "no", "licence": entry.licence})


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {key: str(entry.get(key, "")) for key in _SHOWN}
    size = entry.get("size")
    megabytes = float(size) if isinstance(size, int | float) and not math.isnan(size) else None
    problem = str(entry.get("problem", ""))
    opens = _opens(row, problem)
    folder = row["where"] if Path(row["where"]).is_absolute() else ""
    said = {key: strangers.discreet(row[key], folder) for key in ("where", "caveats", "title")}
    problem = strangers.discreet(problem, folder)
    return (
        row
        | said
        | {
            "size": megabytes,
            "problem": problem,
            "opens": opens,
            "adds": False,
            "by_path": False,
        }
    )


def _opens(row: dict[str, Any], problem: str) -> bool:
    """Whether there is something to look at: a model folder, or a set of which a task is here.

    What a set lacks besides (images, heads) is said when it is opened.
    """
    from explorer.checkpoints.finding import resolve
    from explorer.checkpoints.pulled import locate
    from explorer.checkpoints.zoo import ModelFolder
    from explorer.errors import ExplorerError

    if row["local"] == "no" or problem:
        return False
    try:
        found = resolve(row["name"])
        return isinstance(found, ModelFolder) or bool(locate(found).fine_tuned)
    except ExplorerError:
        return False
