"""A folder of checkpoints, or one file, as a set: which file is the base, which are tasks."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from explorer.checkpoints.published import Part, Published
from explorer.errors import CheckpointError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl")
# What published code calls the tower that the tasks started from, and one that was fine-tuned.
_BASES = ("zeroshot", "nonlinear_zeroshot", "base", "pretrained", "linear_zeroshot")
_TANGENT = "linear_finetuned"
_FINE_TUNED = (
    "finetuned",
    "nonlinear_finetuned",
    "fine_tuned",
    "model",
    "pytorch_model",
    _TANGENT,  # where there is no other
)
HUB_WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)


def set_of_path(path: Path) -> Published:
    """A file, or a folder of files, as a set. Raises CheckpointError when nothing says the base.

    The base is called zeroshot, base or pretrained, or has the name that hubs give to a model's
    weights. Each other file is a task of its name, and so is each folder with a fine-tuned file;
    ``linear_finetuned`` beside one is the same task's tangent fine-tuning.
    """
    path = path.expanduser()
    if path.is_file():
        return _set(path.parent, path.name, {}, {}, path.name)
    if not path.is_dir():
        raise CheckpointError(f"There is no model folder or file {path}.")
    top = _weights(path)
    below = {folder.name: _weights(folder) for folder in sorted(path.iterdir()) if folder.is_dir()}
    base = _base(top, below)
    if base is None:
        raise CheckpointError(
            f"{path} has no model.json, and no weights that can be told to be a base: call that "
            f"file zeroshot, base or pretrained ({', '.join(SUFFIXES[:3])}, ...)."
        )
    heads = {_task(name.removeprefix("head_")): name for name in top if name.startswith("head_")}
    tasks = {} if base in HUB_WEIGHTS else _loose(top, base)
    tangent = {}
    for folder, names in below.items():
        found = _fine_tuned(names)
        if found is not None:
            tasks[_task(folder)] = f"{folder}/{found}"
        linear = next((n for n in names if _stem(n) == _TANGENT and n != found), None)
        if linear is not None:
            tangent[_task(folder)] = f"{folder}/{linear}"
    return _set(path, base, tasks, heads, path.name, tangent)


def towers_of_path(path: Path) -> dict[str, Path]:
    """Name -> file of every tower of a file or a folder, for one that has no base of its own.

    Raises CheckpointError for a path without files of weights.
    """
    path = path.expanduser()
    if path.is_file() and path.name.endswith(SUFFIXES):
        return {_task(path.name): path}
    found: dict[str, Path] = {}
    if path.is_dir():
        found = {task: path / name for task, name in _loose(_weights(path)).items()}
        for folder in sorted(path.iterdir()):
            name = _fine_tuned(_weights(folder)) if folder.is_dir() else None
            if name is not None:
                found[_task(folder.name)] = folder / name
    if not found:
        raise CheckpointError(
            f"There is no file of weights ({', '.join(SUFFIXES[:3])}, ...) at {path}; give a "
            "checkpoint or a folder of them."
        )
    return found


def _loose(names: Sequence[str], base: str | None = None) -> dict[str, str]:
    """Task -> file of those that lie directly in a folder, but for the base and the heads."""
    return {_task(n): n for n in names if n != base and not n.startswith("head_")}


def _fine_tuned(names: Sequence[str]) -> str | None:
    return next((n for stem in _FINE_TUNED for n in names if _stem(n) == stem), None)


def _base(top: Sequence[str], below: dict[str, list[str]]) -> str | None:
    for stem in _BASES:
        for name in top:
            if _stem(name) == stem:
                return name
    for stem in _BASES:
        for folder, names in below.items():
            for name in names:
                if _stem(name) == stem:
                    return f"{folder}/{name}"
    hub = next((name for name in HUB_WEIGHTS if name in top), None)
    return hub or (top[0] if len(top) == 1 else None)


def _set(
    folder: Path,
    base: str,
    tasks: dict[str, str],
    heads: dict[str, str],
    title: str,
    tangent: dict[str, str] | None = None,
) -> Published:
    return Published(
        name=str(folder / base if title == base else folder),
        title=title,
        family="",
        base=Part(None, (glob.escape(base),)),
        fine_tuned=Part(None, by_task=tasks) if tasks else None,
        heads=Part(None, by_task=heads) if heads else None,
        tangent=Part(None, by_task=tangent) if tangent else None,
        tasks=tuple(tasks),
        folder=folder,
        origin="local",
    )


def _weights(folder: Path) -> list[str]:
    """Names of the files of weights directly in a folder, of shards only their index."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [
        name
        for name in names
        if name == HUB_WEIGHTS[0]
        or (name.endswith(SUFFIXES) and not re.search(r"-\d{5}-of-\d{5}\.", name))
    ]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _task(name: str) -> str:
    """A file's or folder's name as a task: published sets add Val to a task's name."""
    stem = _stem(name) if name.endswith(SUFFIXES) else name
    return stem.removesuffix("Val") or stem
