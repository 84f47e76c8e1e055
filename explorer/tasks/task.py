"""Task: labelled images of one embedded task, read when they are first looked at."""

import lzma
import threading
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from explorer.errors import ImageError, UnknownNameError

# What np.load meets a damaged or foreign file with (an array of objects: ValueError).
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    TypeError,
    AttributeError,
    NotImplementedError,
    MemoryError,
)
Split = Literal["test", "val"]
SPLITS: tuple[str, ...] = ("test", "val")


@dataclass(frozen=True)
class Task:
    """A classification task: uint8 images (n, height, width, 3), labels, class names, templates.

    ``templates`` are prompts with ``{}`` where the class name goes. ``control`` marks a task that
    no vector was made for. The validation split serves every choice; the test split, the figures.
    A file with images of ``stored_size`` pixels is read at ``image_size``: resized when they are
    asked for, by what CLIP's own preprocessing does (bicubic). ``limit`` is how many images of a
    split there are to be at most.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    path: Path = field(repr=False)
    image_size: int = field(repr=False, default=32)
    control: bool = False
    source: str = ""
    licence: str = ""
    stored_size: int | None = field(repr=False, default=None)
    limit: int | None = field(repr=False, default=None)
    _splits: dict[str, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _lock: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def images(
        self, n: int | None = None, split: Split = "test"
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """The first ``n`` images (all when None): (uint8 NHWC, int64 labels, class names).

        The arrays are read-only views. Raises ImageError for a damaged file or a bad ``n``.
        """
        images, labels = self._read(split)
        n = check_count(n, len(labels), self.name)
        return resized(images[:n], self.image_size), labels[:n], list(self.class_names)

    def n_images(self, split: Split = "test") -> int:
        """How many images the split holds."""
        return len(self._read(split)[1])

    def order(self, split: Split, seed: int | None) -> np.ndarray:
        """Places of the split's images in the order of a seed, int64 (n,); None is as stored.

        The first n are a random subset of n, and that of fewer images is a part of it.
        """
        n = self.n_images(split)
        if seed is None:
            return np.arange(n)
        return np.random.default_rng([zlib.crc32(self.name.encode()), seed]).permutation(n)

    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            if split not in self._splits:
                images, labels = self._load(split)
                self._splits[split] = images[: self.limit], labels[: self.limit]
            return self._splits[split]

    def _load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        size = self.stored_size or self.image_size
        return read_images(self.path, split, len(self.class_names), (size, size, 3))


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Square uint8 images (n, s, s, 3) at another size, (n, size, size, 3); read-only.

    Bicubic by Pillow, as in the preprocessing of Radford et al. 2021. The images themselves where
    they have the size already.
    """
    if images.shape[1:3] == (size, size):
        return images
    from PIL import Image

    larger = np.empty((len(images), size, size, 3), np.uint8)
    for row, image in zip(larger, images, strict=True):
        row[:] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    larger.flags.writeable = False
    return larger


def check_count(n: int | None, available: int, task: str) -> int:
    """``n`` clipped to what is available; ImageError unless it is a positive whole number."""
    if n is None:
        return available
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ImageError(f"The number of images of {task!r} must be 1 or more, not {n!r}.")
    return min(int(n), available)


def check_seed(seed: object) -> int:
    """``seed`` as an int; ImageError unless it is a whole number of 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ImageError(f"The seed must be a whole number of 0 or more, not {seed!r}.")
    return int(seed)


def read_images(
    path: Path, split: str, n_classes: int, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split of a task's npz file, checked. Raises ImageError."""
    images = _array(path, f"{split}_images")
    labels = _array(path, f"{split}_labels")
    where = f"{split}_images of {path.name}"
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
        raise ImageError(
            f"{where} are no images: expected uint8 (n, {shape[0]}, {shape[1]}, 3), "
            f"found {images.dtype} {images.shape}."
        )
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ImageError(
            f"{split}_labels of {path.name} must be one whole number an image "
            f"({len(images)}), found {labels.dtype} {labels.shape}."
        )
    if len(images) == 0:
        raise ImageError(f"{where} hold no image.")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ImageError(
            f"{split}_labels of {path.name} go from {labels.min()} to {labels.max()}, "
            f"but the task has {n_classes} classes."
        )
    labels = labels.astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False  # shared between sessions
    return images, labels


def _array(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as data:
            return data[key]
    except FileNotFoundError:
        raise ImageError(f"There is no file {path} with the images.") from None
    except KeyError:
        raise ImageError(f"{path.name} has no {key!r}; it is not the images of a task.") from None
    except _DAMAGED as error:
        raise ImageError(
            f"{path.name} is not a readable file of images ({error}). Copy it again."
        ) from None
