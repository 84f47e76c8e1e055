"""Files and code a person takes home from the diffusion lens. Figures are drawn with matplotlib,
in `figure`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from explorer.app import saving
from explorer.app.diffusion.figure import figure
from explorer.app.diffusion.measured import Measured
from explorer.app.diffusion.setting import LEVELS, Setting, Subject
from explorer.app.diffusion.tracks import Track
from explorer.errors import UnknownNameError

__all__ = ["FILES", "MIME", "csv", "figure", "file_name", "kind", "netcdf", "python"]

FILES = (
    ["png", "Figure, PNG"],
    ["svg", "Figure, SVG"],
    ["csv", "Numbers of the curves, CSV"],
    ["nc", "The whole run, NetCDF"],
)
MIME = {what: saving.MIME[what] for what, _ in FILES}
COLUMNS = ("susceptibility", "correlation_length", "changed", "block_size", "largest_block")


def kind(what: Any) -> str:
    """what, if it is a kind of file there is. Raises UnknownNameError."""
    if what not in MIME:
        raise UnknownNameError("kind of file", what, MIME)
    return what


def file_name(track: Track | None, what: str) -> str:
    """A name for the browser's download folder."""
    title = track.title.rsplit("/", 1)[-1] if track is not None else "model"
    return saving.file_name(f"noise-{title}", what, "run" if what == "nc" else "denoised")


def python(setting: Setting) -> str:
    """Code that computes what is on screen, number for number."""
    lines = ["import explorer as ex", ""]
    for number, subject in zip(("", "2"), setting.subjects, strict=False):
        lines += _of_subject(setting, subject, number)
    return "\n".join([*lines, ""])


def _of_subject(setting: Setting, subject: Subject, number: str) -> list[str]:
    name = f"result{number}"
    if subject.run:
        reading = [
            "import xarray as xr",
            f'{name} = xr.load_dataset("run.nc", engine="h5netcdf")  # the run that was reopened',
        ]
        return [*reading, *_chunks(setting, name, number)]
    levels = sorted({*LEVELS.tolist(), setting.level})
    if subject.uploaded:
        pictures = '["picture.png"]  # the picture that was uploaded'
        if setting.data > 1:
            pictures = f'["picture.png", *p{number}.examples[:{setting.data - 1}]]'
    elif setting.data == 1:
        pictures = f"[p{number}.examples[{subject.picture}]]"
    else:
        numbers = f"range({subject.picture}, {int(subject.picture) + setting.data})"
        pictures = f"[p{number}.examples[i % len(p{number}.examples)] for i in {numbers}]"
    return [
        f"p{number} = ex.open_diffusion({subject.model!r})",
        f"pictures{number} = {pictures}",
        f"levels = {levels}",
        f"{name} = ex.forward_backward(",
        f"    p{number}, pictures{number}, levels, samples={setting.samples}, "
        f"steps={setting.steps}, seed={setting.seed}, method={setting.method!r}",
        ").result()",
        *_chunks(setting, name, number),
    ]


def _chunks(setting: Setting, name: str, number: str) -> list[str]:
    tiles = f", tiles=p{number}.tiles" if setting.kind == "symbols" else ""
    change = f"ex.change_field({name}, kind={setting.kind!r}{tiles})"
    found = [f"chunks{number} = ex.chunk_statistics({change})"]
    if setting.view == "features":
        task = repr(setting.task) if setting.task else "m.tasks[0]"
        found += [
            'm = ex.open_model("glyphs")',
            f"seen{number} = ex.depth_similarity({name}, m, {task})",
        ]
    return found


def csv(setting: Setting, shown: Sequence[tuple[str, Measured | None]]) -> bytes:
    """One line a level and subject: chi, length, blocks, C by distance, with errors."""
    tables = []
    for title, measured in shown:
        if measured is not None and measured.chunks is not None:
            table = _table(measured)
            table.insert(0, "subject", title)
            tables.append(table)
    comment = "".join(f"# {line}\n" for line in python(setting).splitlines() if line)
    return (comment + pd.concat(tables).to_csv(index=False)).encode("utf-8")


def _table(measured: Measured) -> pd.DataFrame:
    chunks = measured.chunks
    assert chunks is not None  # the caller has looked
    columns: dict[str, Any] = {"change_in": measured.kind, "level": chunks["level"].values}
    for name in (f"{n}{end}" for n in COLUMNS for end in ("", "_error")):
        columns[name] = chunks[name].values
    for end in ("", "_error"):
        values = chunks[f"relative_correlation{end}"]
        for i, distance in enumerate(chunks["distance"].values.tolist()):
            columns[f"correlation{end}_r{distance:.3g}"] = values.isel(distance=i).values
    return pd.DataFrame(columns)


def netcdf(setting: Setting, track: Track) -> bytes:
    """The first subject's finished levels, which the lens opens again without a model."""
    from explorer.diffusion.results import save_result

    facts = {"python": python(setting), "picture": setting.subjects[0].picture}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        return save_result(track.dataset().assign_attrs(facts), path).read_bytes()
