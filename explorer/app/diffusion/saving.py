"""Files and code a person takes home from the diffusion lens. Figures are drawn with matplotlib,
in `figure`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from explorer.app import saving
from explorer.app.diffusion.figure import figure
from explorer.app.diffusion.measured import Measured, Side
from explorer.app.diffusion.setting import Setting, Spec, Subject
from explorer.app.diffusion.tracks import Track
from explorer.errors import UnknownNameError

__all__ = [
    "FILES",
    "MIME",
    "SECOND",
    "csv",
    "figure",
    "file_name",
    "kind",
    "netcdf",
    "python",
    "side",
    "suffix",
]

FILES = (
    ["png", "Figure of this view, PNG"],
    ["svg", "Figure of this view, SVG"],
    ["csv", "Numbers of curves and features, CSV"],
    ["nc", "The run, NetCDF (without x_t: the seed gives it again)"],
)
SECOND = ["nc2", "The second run, NetCDF"]
"""Offered where two subjects are compared."""
MIME = {what: saving.MIME[what] for what, _ in FILES} | {"nc2": saving.MIME["nc"]}
COLUMNS = ("susceptibility", "correlation_length", "changed", "block_size", "largest_block")


def kind(what: Any) -> str:
    """what, if it is a kind of file there is. Raises UnknownNameError."""
    if what not in MIME:
        raise UnknownNameError("kind of file", what, MIME)
    return what


def suffix(what: str) -> str:
    """How the name of a file of kind what ends."""
    return what.rstrip("2")


def side(what: str) -> int:
    """Which subject a file of kind what is named after: 0, or 1 for the second's own."""
    return int(what.endswith("2"))


def file_name(track: Track | None, what: str) -> str:
    """A name for the browser's download folder."""
    title = track.title.rsplit("/", 1)[-1] if track is not None else "model"
    end = suffix(what)
    stem = f"run{'-2' if side(what) else ''}" if end == "nc" else "denoised"
    return saving.file_name(f"noise-{title}", end, stem)


# Python


def python(setting: Setting, tracks: Sequence[Track | None]) -> str:
    """Code that computes what is on screen, number for number.

    The curves are over the levels in ``tracks``, which grow as the slider visits others.
    """
    lines = ["import explorer as ex", ""]
    subjects = zip(("", "2"), setting.subjects, setting.specs, tracks, strict=False)
    for number, subject, spec, track in subjects:
        lines += (
            _reopening(track, number) if subject.run else _noising(subject, spec, track, number)
        )
        lines += _chunks(setting, spec, number)
        if not subject.run:
            lines += _variants(setting, spec, track, number)
    return "\n".join([*lines, ""])


def _reopening(track: Track | None, number: str) -> list[str]:
    name = f"result{number}"
    lines = [f'{name} = ex.open_result("run{number}.nc")  # the run that was reopened']
    if track is not None and len(track.finished) < len(track.rows):
        lines.append(
            f"{name} = {name}.isel(level={name}.preview.values == 0)  # denoised to the end"
        )
    return lines


def _noising(subject: Subject, spec: Spec, track: Track | None, number: str) -> list[str]:
    if subject.uploaded:
        pictures = '["picture.png"]  # the picture that was uploaded'
        if spec.data > 1:
            pictures = f'["picture.png", *p{number}.examples[:{spec.data - 1}]]'
    elif spec.data == 1:
        pictures = f"[p{number}.examples[{subject.picture}]]"
    else:
        numbers = f"range({subject.picture}, {int(subject.picture) + spec.data})"
        pictures = f"[p{number}.examples[i % len(p{number}.examples)] for i in {numbers}]"
    return [
        f"p{number} = ex.open_diffusion({subject.model!r})",
        f"pictures{number} = {pictures}",
        f"levels{number} = {_levels(spec, track)}",
        f"result{number} = {_call(spec, number, f'pictures{number}, levels{number}')}",
    ]


def _levels(spec: Spec, track: Track | None) -> list[float]:
    """The levels of the curves on screen, or of those that will be there.

    Levels that the slider visited count where they are of as many pictures as the curves.
    """
    points = {*spec.points}
    if track is not None:
        points |= {row.point for row in track.curve_rows if row.pictures >= spec.data}
    return [round(point / spec.steps, 6) for point in sorted(points)]


def _call(spec: Spec, number: str, what: str) -> str:
    how = f"samples={spec.samples}, steps={spec.steps}, seed={spec.seed}, method={spec.method!r}"
    return f"ex.forward_backward(\n    p{number}, {what}, {how}\n).result()"


def _chunks(setting: Setting, spec: Spec, number: str) -> list[str]:
    tiles = f", tiles=p{number}.tiles" if setting.kind == "symbols" else ""
    change = f"ex.change_field(result{number}, kind={setting.kind!r}{tiles})"
    found = [
        f"chunks{number} = ex.chunk_statistics({change})",
        f'here{number} = chunks{number}.sel(level={setting.level}, method="nearest")  # its C(r)',
    ]
    if setting.view == "features":
        task = repr(setting.task) if setting.task else "m.tasks[0]"
        found += [
            'm = ex.open_model("glyphs")',
            f"seen{number} = ex.depth_similarity(result{number}, m, {task})",
        ]
    return found


def _variants(setting: Setting, spec: Spec, track: Track | None, number: str) -> list[str]:
    """The variants that are shown, which at a level between the curves' are of one picture."""
    level = round(spec.point(setting.level) / spec.steps, 6)
    if level in _levels(spec, track):
        return [f'variants{number} = result{number}.sel(level={level}, method="nearest")']
    call = _call(spec, number, f"pictures{number}[:1], [{level}]")
    return [f"variants{number} = {call}  # at the slider's level"]


# Numbers


def csv(sides: Sequence[Side], code: str) -> bytes:
    """One line a level and subject: chi, length, blocks, C by distance, flips and similarity of
    features where a classifier has looked, with errors; `code` in comment lines."""
    tables = []
    for one in sides:
        if one.measured.chunks is not None:
            table = _table(one.measured, one.seen)
            table.insert(0, "subject", one.title)
            tables.append(table)
    comment = "".join(f"# {line}\n" for line in code.splitlines() if line)
    return (comment + pd.concat(tables).to_csv(index=False)).encode("utf-8")


def _table(measured: Measured, seen: xr.Dataset | None) -> pd.DataFrame:
    chunks = measured.chunks
    assert chunks is not None  # the caller has looked
    columns: dict[str, Any] = {"change_in": measured.kind, "level": chunks["level"].values}
    for name in (f"{n}{end}" for n in COLUMNS for end in ("", "_error")):
        columns[name] = chunks[name].values
    for end in ("", "_error"):
        values = chunks[f"relative_correlation{end}"]
        for i, distance in enumerate(chunks["distance"].values.tolist()):
            columns[f"correlation{end}_r{distance:.3g}"] = values.isel(distance=i).values
    if seen is not None:
        columns |= _features(seen.reindex(level=chunks["level"].values))
    return pd.DataFrame(columns)


def _features(seen: xr.Dataset) -> dict[str, np.ndarray]:
    columns = {f"flipped{end}": seen[f"flipped{end}"].values for end in ("", "_error")}
    for i, layer in enumerate(seen["layer"].values.tolist()):
        for end in ("", "_error"):
            name = f"similarity{end}_{layer.replace(' ', '_')}"
            columns[name] = seen[f"similarity{end}"].isel(depth=i).values
    return columns


def netcdf(subject: Subject, one: Side, code: str) -> bytes:
    """A subject's finished levels, which the lens opens again without a model.

    With what a classifier saw of them, where one has looked; without x_t, most of the file, which
    the seed gives again.
    """
    from explorer.diffusion.results import save_result

    result = one.track.dataset()
    if one.seen is not None:
        names = ("flipped", "flipped_error", "similarity", "similarity_error")
        result = result.assign(one.seen[[*names]].reindex(level=result["level"]).data_vars)
    facts = {"python": code, "picture": subject.picture}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        return save_result(result.assign_attrs(facts), path, noised=False).read_bytes()
