"""Files and code a person takes home from the schedule lens."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from explorer.app import saving
from explorer.errors import ExplorerError, UnknownNameError
from explorer.recipe import DEFAULT_METHOD, Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model

FILES = (
    ["png", "Figure, PNG"],
    ["svg", "Figure, SVG"],
    ["csv", "Accuracies, CSV"],
    ["nc", "Accuracies of every image, NetCDF"],
    ["tab", "What the open tab found, NetCDF"],
    ["json", "Recipe, JSON"],
    ["safetensors", "Model, safetensors"],
)
TABLES = {"table.csv": "CSV", "table.md": "Markdown", "table.tex": "LaTeX"}
"""Forms of the comparison of methods."""
MIME = {
    **{what: saving.MIME[what] for what in ("png", "svg", "csv", "nc", "json")},
    "tab": saving.MIME["nc"],
    "safetensors": "application/octet-stream",
    "table.csv": "text/csv",
    "table.md": "text/markdown",
    "table.tex": "application/x-tex",
}
LARGEST_DOWNLOAD = 200 * 2**20
"""Bytes of a model that a page hands to the browser; larger ones are for the command line."""


def kind(what: Any) -> str:
    """what, if it is a kind of file there is. Raises UnknownNameError."""
    if what not in MIME:
        raise UnknownNameError("kind of file", what, MIME)
    return what


def file_name(base: str, what: str, tab: str) -> str:
    """A name for the browser's download folder. tab: the open one."""
    stems = {"tab": f"{tab}.nc", "safetensors": "edited.safetensors", "json": "recipe.json"}
    stem, _, ending = stems.get(what, f"schedule.{what}").rpartition(".")
    name = saving.file_name(base, "nc", stem.replace(".table", "-comparison"))
    return f"{name.removesuffix('nc')}{ending}"


def table(result: xr.Dataset, what: str) -> bytes:
    """A comparison of methods as CSV, Markdown or LaTeX."""
    from explorer.measures.comparison_table import comparison_table

    forms: dict[str, Any] = {"table.csv": "csv", "table.md": "markdown", "table.tex": "latex"}
    rows = [str(row) for row in result["row"].values]
    baseline = DEFAULT_METHOD if DEFAULT_METHOD in rows else rows[0]
    return comparison_table(result, forms[what], baseline).encode("utf-8")


def model_file(model: Model, recipe: Recipe) -> bytes:
    """The edited model as safetensors in open_clip's layout.

    Raises ExplorerError for one that is larger than LARGEST_DOWNLOAD.
    """
    import explorer

    size = sum(tensor.numel() * tensor.element_size() for tensor in model.base.values())
    if size > LARGEST_DOWNLOAD:
        raise ExplorerError(
            f"This model has {size / 2**20:,.0f} MB, more than a page should hand to a browser: "
            "save the recipe as JSON, and on the command line "
            "`explorer merge recipe.json -o model.safetensors`."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        explorer.export(model, recipe, path)
        return path.read_bytes()


def python(model: Model, recipe: Recipe) -> str:
    """Code that builds the recipe on screen and measures the same accuracies."""
    return (
        f"import explorer as ex\n\nm = {model.to_python()}\n"
        f"recipe = {recipe.to_python()}\nex.accuracy(m, recipe, m.all_tasks)\n"
    )
