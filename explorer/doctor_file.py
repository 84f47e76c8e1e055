"""`explorer doctor FILE`: what a file of weights is, what is odd about it, what to do with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from explorer.checkpoints.families import Family, article
from explorer.checkpoints.layouts import layouts
from explorer.checkpoints.reading import Checkpoint, check_finite, open_checkpoint, read_head
from explorer.doctor import Finding
from explorer.errors import CheckpointError


def file_findings(path: Path) -> Iterator[Finding]:
    """Findings about a file, or a hub's folder, of weights; nothing in it is run."""
    try:
        checkpoint = open_checkpoint(path, dtype=None)
    except CheckpointError as error:
        yield from _no_tower(path, error)
        return
    size = f"{checkpoint.size / 1e6:,.1f} MB"
    yield Finding("file", "ok", f"{checkpoint.path.name}, {checkpoint.kind}, {size}")
    yield from _family(checkpoint.family)
    yield Finding("layout", "ok", layouts().get(checkpoint.layout, checkpoint.layout))
    yield from _types(checkpoint)
    yield from _activation(checkpoint)
    yield from _left_out(checkpoint)
    for note in checkpoint.notes:
        yield Finding("note", "ok", note)
    yield from _values(checkpoint)


def _no_tower(path: Path, error: CheckpointError) -> Iterator[Finding]:
    """A head alone is no tower, and nothing is wrong with it."""
    try:
        weight, bias = read_head(path)
    except CheckpointError:
        reason, _, remedy = str(error).partition(". ")
        yield Finding("file", "fail", reason, remedy)
        return
    classes, width = weight.shape
    found = f"{path.name}, a classification head of {classes} classes on features of {width}"
    if bias is None or not bool(bias.any()):
        found += ", without bias (zero-shot, perhaps)"
    yield Finding("head", "ok", found)


def _family(family: Family | None) -> Iterator[Finding]:
    if family is None:
        yield Finding(
            "family",
            "warn",
            "unknown: its names are those of no layout that can be told",
            "It opens with the names as they are; task vectors need a base with the same names.",
        )
        return
    yield Finding("family", "ok", f"{article(family.title)}: {_settings(family)}")


def _settings(family: Family) -> str:
    settings: Mapping[str, Any] = family.architecture
    vision = settings.get("vision_cfg", settings)
    if family.kind == "convnext":
        return f"blocks {vision['depths']} of widths {vision['dims']}"
    width = vision.get("width", vision.get("embed_dim"))
    sizes = f"{family.n_blocks} blocks of width {width}, images of {family.image_size} pixels"
    if family.kind != "clip":
        return sizes
    features = settings.get("embed_dim")
    return f"{sizes}, " + (f"features of {features}" if features else "no projection")


def _types(checkpoint: Checkpoint) -> Iterator[Finding]:
    sizes: Counter[str] = Counter()
    for key, shape in checkpoint.shapes.items():
        n = 1
        for length in shape:
            n *= length
        sizes[str(checkpoint.dtypes[key]).removeprefix("torch.")] += n
    each = ", ".join(f"{n / 1e6:,.2f} M {dtype}" for dtype, n in sizes.most_common())
    found = f"{len(checkpoint)} of the image tower, {sum(sizes.values()) / 1e6:,.2f} M parameters"
    if len(sizes) == 1:
        yield Finding("tensors", "ok", f"{found}, all {next(iter(sizes))}")
        return
    yield Finding(
        "tensors",
        "warn",
        f"{found} of several types: {each}",
        "All become float32 on reading; half precision was lost before it was saved.",
    )


def _activation(checkpoint: Checkpoint) -> Iterator[Finding]:
    if checkpoint.family is None or checkpoint.family.kind != "clip":
        return
    names = {"quick_gelu": "QuickGELU (OpenAI's weights)", "gelu": "GELU"}
    if checkpoint.activation:
        remedy = ""
        if checkpoint.activation == "quick_gelu":
            remedy = "Use the architecture whose name ends in -quickgelu."
        yield Finding("activation", "ok", names[checkpoint.activation], remedy)
        return
    yield Finding(
        "activation",
        "warn",
        "not told: shapes are the same for QuickGELU and GELU",
        "Weights that come from OpenAI need an architecture ending in -quickgelu; put the model's "
        "config.json or open_clip_config.json beside the file, and it is checked.",
    )


def _left_out(checkpoint: Checkpoint) -> Iterator[Finding]:
    names = checkpoint.left_out
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield Finding("left out", "ok", f"{len(names)} tensors that are not the tower's: {shown}")


def _values(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Every value, one tensor at a time: NaN, infinity, tensors of nothing but zeros."""
    bad, empty = [], []
    for key in checkpoint:
        try:
            tensor = checkpoint[key]
            check_finite({key: tensor}, checkpoint.name)
        except CheckpointError as error:
            bad.append(str(error))
            continue
        if tensor.ndim > 1 and not bool(tensor.float().any()):
            empty.append(key)
    if bad:
        reason, _, remedy = bad[0].partition(": ")
        others = f" (and in {len(bad) - 1} more tensors)" if len(bad) > 1 else ""
        yield Finding("values", "fail", reason + others, remedy)
        return
    if empty:
        yield Finding(
            "values",
            "warn",
            f"all finite, but {empty[0]!r} and {len(empty) - 1} more matrices are zero"
            if len(empty) > 1
            else f"all finite, but {empty[0]!r} is zero",
            "A checkpoint saved before its training, or a task vector rather than weights?",
        )
        return
    yield Finding(
        "values", "ok", f"all finite; open it: ex.read_checkpoint({str(checkpoint.path)!r})"
    )
