"""The catalogue's rows as the picker shows them: plain values for the browser."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from explorer.app import notebook

HUB = "hub:"
MAY_PULL = "EXPLORER_PULL"
_SHOWN = ("name", "title", "family", "kind", "tasks", "where", "licence", "local", "caveats")


def may_pull() -> bool:
    """Whether this app may download to the machine it runs on.

    EXPLORER_PULL decides (`explorer app` sets it where only this machine can reach the app);
    without it a notebook may, and a served app, which anybody might open, may not.
    """
    given = os.environ.get(MAY_PULL, "").lower()
    if given:
        return given not in ("0", "no", "off", "false")
    return notebook.in_kernel()


def catalogue_rows(addresses: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every model for the lenses of this app: embedded, local, on a hub, and by these addresses."""
    from explorer.checkpoints.catalogue import catalog

    table = catalog().reset_index()
    known = [_row(entry) for entry in table.to_dict("records") if entry["kind"] != "diffusion"]
    return [*known, *[address_row(address) for address in addresses]]


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
    return row | {"size": megabytes, "problem": problem, "opens": _opens(row, problem)}


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
