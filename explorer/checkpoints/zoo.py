"""Model folders: where they are, and their description (model.json) read with checks."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.checkpoints.archives import read_json, stays_within
from explorer.errors import CheckpointError, ModelError

FORMAT = 1
MODEL_FILE = "model.json"
LOCAL_MODELS = "EXPLORER_MODELS"
_REQUIRED: dict[str, type] = {
    "name": str,
    "family": str,
    "architecture": dict,
    "mean": list,
    "std": list,
    "tasks": list,
    "task_info": dict,
}


@dataclass(frozen=True)
class ModelFolder:
    """A folder in the zoo's format: description, weights, task vectors, images and a card."""

    path: Path
    card: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.card["name"]

    @property
    def title(self) -> str:
        return self.card.get("title", self.name)

    @property
    def tasks(self) -> list[str]:
        return list(self.card["tasks"])

    @property
    def control(self) -> str | None:
        return self.card.get("control")

    @property
    def images(self) -> str | None:
        """The embedded model whose images this one shares; None for a folder with its own."""
        return self.card.get("images")

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return folder_size(self.path)

    def file(self, *parts: str) -> Path:
        """A file of the folder. Raises CheckpointError when it is missing."""
        path = self.path.joinpath(*parts)
        if not path.is_file():
            raise CheckpointError(
                f"The model folder {self.path.name} has no {'/'.join(parts)}; copy it again."
            )
        return path

    def verify(self) -> None:
        """Compare every file with its sha256 in model.json. Raises CheckpointError naming one."""
        sums = self.card.get("sha256", {})
        _verify(self.path, self.name, sums, f"'sha256' in {self.path.name}/{MODEL_FILE}")


def embedded_root() -> Path:
    """The folder of the models that come with the package."""
    return Path(__file__).resolve().parent.parent / "zoo"


def model_folders() -> dict[str, tuple[str, Path]]:
    """name -> (kind, folder) of every model at hand, without opening any.

    Kind is "embedded" for the package's own, "local" for folders under the directories listed in
    the environment variable EXPLORER_MODELS.
    """
    roots = [("embedded", embedded_root())]
    listed = os.environ.get(LOCAL_MODELS, "").split(os.pathsep)
    roots += [("local", Path(entry).expanduser()) for entry in listed if entry]
    found: dict[str, tuple[str, Path]] = {}
    for kind, root in roots:
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if (folder / "model.json").is_file():
                found.setdefault(folder.name, (kind, folder))
    return found


def diffusion_folders() -> dict[str, Path]:
    """name -> folder of every diffusion model that comes with the package."""
    return {path.parent.name: path.parent for path in embedded_root().glob("*/model_index.json")}


def verify_diffusion(folder: Path) -> int:
    """Compare every file with its sha256 in sha256.json; how many there are.

    Raises CheckpointError naming a file that is missing or another.
    """
    sums = read_json(folder / "sha256.json")
    return _verify(folder, folder.name, sums, f"{folder.name}/sha256.json")


def _verify(folder: Path, model: str, sums: object, where: str) -> int:
    """Compare files of a folder with their sha256; how many. Raises CheckpointError naming one."""
    if not isinstance(sums, dict):
        raise CheckpointError(f"{where} must be a table of names and sums; copy the model again.")
    for name, expected in sums.items():
        file = folder / str(name)
        if not stays_within(file, folder):
            raise CheckpointError(
                f"{where} names {str(name)[:60]!r}, which leads out of the folder: nothing outside "
                "is read. Copy the model again."
            )
        found = _sha256(file) if file.is_file() else "missing"
        if found != expected:
            raise CheckpointError(
                f"{str(name)[:60]} of the model {model!r} is not the file that was published "
                f"(its sha256 is {found[:12]}, not {str(expected)[:12]}); copy it again."
            )
    return len(sums)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:  # in blocks: a file may be larger than the memory
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(path: Path) -> int:
    """Bytes on disk of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def read_folder(path: str | Path) -> ModelFolder:
    """Read and check a folder's model.json. Raises CheckpointError or ModelError."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise CheckpointError(f"There is no model folder {path}.")
    if not (path / MODEL_FILE).is_file():
        raise CheckpointError(f"{path} is no model folder: it has no {MODEL_FILE}.")
    _check_links(path)
    card = read_json(path / MODEL_FILE)
    if not isinstance(card, dict):
        raise CheckpointError(f"{path.name}/model.json must hold an object.")
    _check_card(card, path)
    return ModelFolder(path, card)


def _check_links(folder: Path) -> None:
    """Raise CheckpointError for a link that leads out of a folder, which nothing needs."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not stays_within(path, folder):
            raise CheckpointError(
                f"{path.relative_to(folder).as_posix()} in the model folder {folder.name} is a "
                "link out of it; nothing outside is read. Replace the link by the file itself."
            )


def _check_card(card: Mapping[str, Any], path: Path) -> None:
    where = f"{path.name}/model.json"
    if card.get("format") != FORMAT:
        raise ModelError(
            f"{where} is in format {card.get('format')!r}; this version reads format {FORMAT}. "
            "Update the package, or pack the model again."
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(card.get(key), kind):
            raise CheckpointError(f"{where} lacks {key!r} ({kind.__name__}).")
    for key in ("mean", "std"):
        if len(card[key]) != 3 or not all(isinstance(x, int | float) for x in card[key]):
            raise CheckpointError(f"{key!r} in {where} must be three numbers, one a colour.")
    names = [*card["tasks"], *([card["control"]] if card.get("control") else [])]
    if len(set(names)) != len(names):
        raise CheckpointError(f"{where} names a task twice.")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:  # a name is never a path
            raise CheckpointError(f"{where} has the task name {name!r}, which is no name.")
        _check_task(card["task_info"].get(name), name, where)
    for key in ("images", "heads"):  # a model of the package, and a file of the folder
        value = card.get(key, key)
        if not isinstance(value, str) or Path(value).name != value:
            raise CheckpointError(f"{where} has as its {key!r} {value!r}, which is no name.")


def _check_task(info: object, name: str, where: str) -> None:
    if not isinstance(info, Mapping):
        raise CheckpointError(f"{where} has no 'task_info' for the task {name!r}.")
    for key in ("class_names", "templates"):
        values = info.get(key)
        if not isinstance(values, list) or not values or not all(map(_is_text, values)):
            raise CheckpointError(f"{key!r} of the task {name!r} in {where} must list texts.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
