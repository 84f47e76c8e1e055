"""Where a benchmark task's images come from: torchvision's files, class folders, parquet files (as
the hub's copies are, ``tanganke/*``), or the package.

Nothing is downloaded unless it is asked for; what is downloaded is checked.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.checkpoints.hub import check_online
from explorer.errors import HubError, ImageError
from explorer.tasks.benchmark.frozen import BenchmarkTask
from explorer.tasks.benchmark.hub_copies import CARD, HUB, hub_copy
from explorer.tasks.benchmark.labels import class_map, is_class
from explorer.tasks.benchmark.parquet import ParquetImages, names_in_card, split_files
from explorer.tasks.embedded import embedded_task, embedded_tasks
from explorer.tasks.task import Split

if TYPE_CHECKING:
    from PIL.Image import Image

# The published validation split: a tenth of the training images, at most 5,000, drawn with seed 0
# (tall_masks, src/datasets/registry.py).
VAL_FRACTION, VAL_LARGEST, VAL_SEED = 0.1, 5_000, 0

EMBEDDED = "embedded:"


@dataclass(frozen=True)
class LabelledImages:
    """A split's images in the order they are stored in, decoded one at a time.

    ``read(i)`` is a PIL image and its label in the frozen order; ``fingerprint`` is another one
    when the files are others. ``what`` names them in sentences.
    """

    what: str
    n: int
    read: Callable[[int], tuple["Image", int]]
    fingerprint: str


def open_source(
    task: BenchmarkTask,
    split: Split,
    folder: Path,
    download: bool = False,
    arriving: Callable[[], object] = lambda: None,
) -> LabelledImages:
    """The images of a split below ``folder``: as torchvision keeps them, in parquet files, or one
    folder a class.

    "embedded:glyphs" are those that come with the package in the model glyphs, of this very task,
    and "hub:owner/name" are a hub's; ``arriving()`` is called for every piece that is downloaded of
    those. Raises ImageError naming what is missing or the class that does not fit, HubError for
    what a hub does not give and for a download that fails.
    """
    if str(folder).startswith(EMBEDDED):
        return _from_embedded(task, split, str(folder).removeprefix(EMBEDDED))
    if str(folder).startswith(HUB):
        return _from_hub(task, split, folder.as_posix(), download, arriving)
    reader = task.torchvision
    if reader and (download or any(folder.glob(reader["files"]))):
        return _from_torchvision(task, reader, split, folder, download)
    for base in (folder / task.name, folder):
        if files := _parquet_files(split, base):
            return _from_parquet(task, split, files, str(base), _card(base), _hash(files, split))
    classes = _class_folders(task, split, folder)
    if classes is not None:
        return _from_class_folders(task, classes)
    raise ImageError(_nothing_there(task, split, folder, download) + _few_embedded(task))


def _nothing_there(task: BenchmarkTask, split: Split, folder: Path, download: bool) -> str:
    start = f"There are no {split} images of {task.name!r} in {folder}: give folder= with one "
    start += f"folder a class ({task.labels[0]!r}, ...)"
    reader = task.torchvision
    if reader is None:
        also = ", which torchvision does not have as published" if download else ""
        return f"{start}{also}."
    if not reader["download"]:
        return f"{start}, or with torchvision's {reader['files']}."
    return f"{start}, or with torchvision's {reader['files']}, or download=True."


def _few_embedded(task: BenchmarkTask) -> str:
    """A sentence on the embedded images of the same task, where there are some."""
    found = [name for name in embedded_tasks() if name.endswith(f"/{task.name}")]
    if not found:
        return ""
    return f" Without a network, folder={EMBEDDED + found[0].partition('/')[0]!r} has a few."


# --- torchvision -----------------------------------------------------------------------------


def _from_torchvision(
    task: BenchmarkTask, reader: Mapping[str, Any], split: Split, folder: Path, download: bool
) -> LabelledImages:
    dataset = _dataset(task, reader, split, folder, download)
    what = f"torchvision's {reader['class']} in {folder}"
    places = _places(task, reader, dataset, what)
    chosen = validation_part(len(dataset)) if split == "val" else np.arange(len(dataset))

    def read(i: int) -> tuple["Image", int]:
        try:
            image, label = dataset[int(chosen[i])]
        except Exception as error:  # Pillow and the parsers raise whatever they meet
            raise ImageError(
                f"Image {i} of {what} cannot be read ({_reason(error)}); copy it again."
            ) from None
        return image, _placed(label, places, what)

    settings = f"{reader['class']} {split} {len(dataset)}"
    return LabelledImages(what, len(chosen), read, _hash(folder.glob(reader["files"]), settings))


def _dataset(
    task: BenchmarkTask, reader: Mapping[str, Any], split: Split, folder: Path, download: bool
) -> Any:
    """torchvision's dataset. Raises ImageError for its files, HubError for its download."""
    import torchvision.datasets

    arguments = dict(reader["test"] if split == "test" else reader["train"])
    fetching = download and not any(folder.glob(reader["files"]))
    if fetching:
        _check_download(task, reader, folder)
        arguments["download"] = True
    try:
        return getattr(torchvision.datasets, reader["class"])(folder, **arguments)
    except Exception as error:  # torchvision raises whatever its parsers meet
        if fetching:
            raise HubError(
                f"The images of {task.name!r} could not be downloaded ({_reason(error)}). Try "
                f"again with a network, or put torchvision's {reader['files']} into {folder}."
            ) from None
        raise ImageError(
            f"{folder} has files of {task.name!r} that torchvision does not read "
            f"({_reason(error)}). Delete {reader['files']} there and download or copy them again."
        ) from None


def _check_download(task: BenchmarkTask, reader: Mapping[str, Any], folder: Path) -> None:
    if not reader["download"]:
        raise HubError(
            f"torchvision cannot download {task.name!r}: get its {reader['files']} elsewhere and "
            f"put them into {folder}."
        )
    try:
        check_online(f"The dataset of {task.name!r}")
    except HubError:
        raise HubError(
            f"The images of {task.name!r} are not on this machine, and EXPLORER_OFFLINE or "
            "HF_HUB_OFFLINE is set, so that nothing is downloaded. Unset it, or put torchvision's "
            f"{reader['files']} into {folder}."
        ) from None
    folder.mkdir(parents=True, exist_ok=True)


def _places(
    task: BenchmarkTask, reader: Mapping[str, Any], dataset: Any, what: str
) -> dict[int, int]:
    """torchvision's label -> the place in the frozen order, by the names that the dataset gives.

    A dataset that gives no names has its official numbers, which are the frozen order.
    """
    names = getattr(dataset, "classes", None)
    if not names:
        return {i: i for i in range(len(task.class_names))}
    used = [i for i, name in enumerate(names) if name not in reader["unused"]]
    frozen = class_map([names[i] for i in used], task, what)
    return {i: int(place) for i, place in zip(used, frozen, strict=True)}


def _placed(label: object, places: Mapping[int, int], what: str) -> int:
    if label is None or int(label) not in places:  # type: ignore[call-overload]
        raise ImageError(
            f"{what} has the label {label} for an image, and the task has {len(places)} classes. "
            "Use the files that have the labels of this split."
        )
    return places[int(label)]  # type: ignore[call-overload]


def validation_part(n_train: int) -> np.ndarray:
    """Places of the published validation split among ``n_train`` training images, int64."""
    import torch
    from torch.utils.data import random_split

    n = min(int(n_train * VAL_FRACTION), VAL_LARGEST)
    if n < 1:
        raise ImageError(
            f"A validation split is a tenth of the training images, and there are {n_train}. Use "
            "more images, or the test split."
        )
    generator = torch.Generator().manual_seed(VAL_SEED)
    whole: Any = range(n_train)
    return np.array(random_split(whole, [n_train - n, n], generator=generator)[1].indices)


# --- a folder of class folders ---------------------------------------------------------------


def _class_folders(task: BenchmarkTask, split: Split, folder: Path) -> Path | None:
    """The folder whose folders are classes: FOLDER/SPLIT, or for the test split FOLDER itself."""
    for base in (folder / task.name, folder):
        inner = base / split
        if inner.is_dir():
            return inner
        if (
            split == "test"
            and base.is_dir()
            and any(is_class(f.name, task) for f in base.iterdir())
        ):
            return base
    return None


def _from_class_folders(task: BenchmarkTask, folder: Path) -> LabelledImages:
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import default_loader

    try:
        dataset = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise ImageError(
            f"{folder} is no folder of images a class ({_reason(error)}); add them."
        ) from None
    places = class_map(dataset.classes, task, str(folder))

    def read(i: int) -> tuple["Image", int]:
        path, label = dataset.samples[i]
        try:
            return default_loader(path), int(places[label])
        except Exception as error:  # Pillow raises whatever its decoders meet
            raise ImageError(
                f"{path} is no readable image ({_reason(error)}); replace it."
            ) from None

    files = (Path(path) for path, _ in dataset.samples)
    return LabelledImages(str(folder), len(dataset), read, _hash(files, str(len(dataset))))


# --- parquet files ---------------------------------------------------------------------------


def _from_hub(
    task: BenchmarkTask, split: Split, address: str, download: bool, arriving: Callable[[], object]
) -> LabelledImages:
    def choose(names: Iterable[str]) -> list[str]:
        found = _chosen(names, split)
        if not found:
            raise ImageError(
                f"{address} has no parquet files of {split} images (test-00000-of-00001.parquet or "
                "the like); name another repository, or give a folder."
            )
        return found

    copy = hub_copy(address, choose, download, arriving)
    made = _hash([], f"{address} {copy.commit} {split}")
    return _from_parquet(task, split, copy.files, address, copy.card, made)


def _from_parquet(
    task: BenchmarkTask,
    split: Split,
    files: Sequence[Path],
    what: str,
    card: str,
    fingerprint: str,
) -> LabelledImages:
    """A split's own files, or the training images', of which the validation split is a part."""
    images = ParquetImages(files, what)
    names = images.names or names_in_card(card)
    if names is None:
        raise ImageError(
            f"{what} does not say which class a label's number means, neither in its files nor in "
            "its README.md. Save the images as one folder a class and give it as folder=."
        )
    places = {i: int(place) for i, place in enumerate(class_map(names, task, what))}
    part = split == "val" and not split_files([path.as_posix() for path in files], "val")
    chosen = validation_part(images.n) if part else np.arange(images.n)

    def read(i: int) -> tuple["Image", int]:
        image, label = images.read(int(chosen[i]))
        return image, _placed(label, places, what)

    return LabelledImages(what, len(chosen), read, fingerprint)


def _parquet_files(split: Split, folder: Path) -> list[Path]:
    """A split's files in a folder or in one below it."""
    found = [path for pattern in ("*.parquet", "*/*.parquet") for path in folder.glob(pattern)]
    names = [path.relative_to(folder).as_posix() for path in found]
    return [folder / name for name in _chosen(names, split)]


def _chosen(names: Iterable[str], split: Split) -> list[str]:
    """A split's files; for the validation split, where there are none, the training images'."""
    known = [*names]
    return split_files(known, split) or (split_files(known, "train") if split == "val" else [])


def _card(folder: Path) -> str:
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


# --- the package -----------------------------------------------------------------------------


def _from_embedded(task: BenchmarkTask, split: Split, model: str) -> LabelledImages:
    from PIL import Image

    embedded = embedded_task(f"{model}/{task.name}")
    what = f"the embedded task {model}/{task.name}"
    places = class_map(embedded.class_names, task, what)
    images, labels, _ = embedded.images(split=split)

    def read(i: int) -> tuple["Image.Image", int]:
        return Image.fromarray(images[i]), int(places[labels[i]])

    return LabelledImages(what, len(images), read, _hash([embedded.path], what))


def _hash(files: Iterable[Path], settings: str) -> str:
    """SHA-256 over names, sizes and times of files: another when a file is another."""
    digest = hashlib.sha256(settings.encode())
    for file in sorted(files):
        state = file.stat()
        digest.update(
            f"\n{file.parent.name}/{file.name} {state.st_size} {state.st_mtime_ns}".encode()
        )
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__
