"""Preprocessed images on disk: uint8 at a tower's resolution, written once, read by memory mapping.

A set is a folder ``NAME-SPLIT-SIZEpx-DIGEST`` with ``images.npy`` and ``labels.npy``. Both grow:
numpy leaves room in the header for a longer first axis, and it is rewritten after the images it
counts, so that a set is whole after every batch, whatever interrupts the next one.
"""

import json
import math
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.compute.store import cap_in_mb, default_folder
from explorer.errors import ImageError

DEFAULT_CAP_MB = 8_192
_NAME = re.compile(r"(?P<task>[a-z0-9_]+)-(?P<split>[a-z]+)-(?P<size>\d+)px-[0-9a-f]{16}")
_IMAGES, _LABELS, _ABOUT, _LOCK = "images.npy", "labels.npy", "about.json", "writing.sqlite"


class ImageCache:
    """All sets of a folder, kept below a size; the sets used longest ago are dropped first.

    By default ``images`` in the user's cache folder or EXPLORER_CACHE, and 8,192 MB or
    EXPLORER_IMAGES_MB.
    """

    def __init__(self, folder: Path | None = None, cap_mb: float | None = None) -> None:
        self.folder = default_folder() / "images" if folder is None else folder
        given = cap_in_mb("EXPLORER_IMAGES_MB", DEFAULT_CAP_MB) if cap_mb is None else cap_mb
        self.cap = round(given * 1e6)

    def set(self, task: str, split: str, size: int, digest: str) -> "ImageSet":
        """The set of a task's split at a size in pixels, from the source with this digest."""
        return ImageSet(self.folder / f"{task}-{split}-{size}px-{digest[:16]}", size)

    def latest(self, task: str, split: str, size: int) -> "ImageSet | None":
        """The set of a task's split at a size that was used last, from whichever source."""
        prefix = f"{task}-{split}-{size}px-"
        found = [s for s in self.sets() if s.path.name.startswith(prefix) and s.count > 0]
        return max(found, key=lambda s: s.used, default=None)

    def sets(self) -> list["ImageSet"]:
        """Every set, also one that was only begun."""
        if not self.folder.is_dir():
            return []
        named = [(path, _NAME.fullmatch(path.name)) for path in sorted(self.folder.iterdir())]
        return [ImageSet(path, int(name["size"])) for path, name in named if name]

    def make_room(self, needed: int, keep: "ImageSet") -> None:
        """Drop other sets, the longest unused first, until ``keep`` may take ``needed`` bytes.

        Raises ImageError when it cannot: nothing is dropped then.
        """
        if needed > self.cap:
            raise ImageError(
                f"{keep.path.name} takes {needed / 1e6:,.0f} MB and the cache of images holds at "
                f"most {self.cap / 1e6:,.0f} MB. Ask for fewer images with n=, or raise "
                "EXPLORER_IMAGES_MB."
            )
        others = [s for s in self.sets() if s.path != keep.path]
        total = needed + sum(s.bytes for s in others)
        for old in sorted(others, key=lambda s: s.used):
            if total <= self.cap:
                break
            total -= old.bytes
            old.delete()


@dataclass(frozen=True)
class ImageSet:
    """One growing set: ``images.npy`` uint8 (count, size, size, 3), ``labels.npy`` int64."""

    path: Path
    size: int

    @property
    def count(self) -> int:
        """How many images are there; 0 when there is no set. Raises ImageError."""
        if not (self.path / _IMAGES).is_file():
            return 0
        return _count(self.path / _IMAGES)

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())

    @property
    def used(self) -> float:
        """When it was last asked for, in seconds since the epoch."""
        return (self.path / _ABOUT).stat().st_mtime if (self.path / _ABOUT).is_file() else 0.0

    def open(self) -> tuple[np.ndarray, np.ndarray]:
        """The images, memory-mapped and read-only, and their labels. Raises ImageError."""
        images, labels = _mapped(self.path / _IMAGES), _mapped(self.path / _LABELS)
        if images.dtype != np.uint8 or images.shape[1:] != (self.size, self.size, 3):
            raise _damaged(self.path, f"images are {images.dtype} {images.shape}")
        if len(labels) < len(images) or labels.dtype != np.int64 or labels.ndim != 1:
            raise _damaged(self.path, f"{len(labels)} labels for {len(images)} images")
        self._touch()
        return images, np.array(labels[: len(images)])

    def about(self) -> Mapping[str, Any]:
        """What the set is made of: task, split, size, seed, source, total. Raises ImageError."""
        try:
            return json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from None

    @contextmanager
    def writing(self, about: Mapping[str, Any]) -> Iterator["_Writer"]:
        """Append images; one process at a time. Raises ImageError when another is at it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The lock of an open transaction goes with its process, killed or not.
            lock = sqlite3.connect(self.path / _LOCK, timeout=0, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise ImageError(
                f"The cache of images {self.path.parent} cannot be written ({error}). Set "
                "EXPLORER_CACHE to a folder that can."
            ) from None
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                raise ImageError(
                    f"{self.path.name} is being written by another program; wait until it is done."
                ) from None
            (self.path / _ABOUT).write_text(json.dumps(dict(about), indent=1), encoding="utf-8")
            yield _Writer(self)
        finally:
            lock.close()

    def delete(self) -> None:
        """Remove it from disk. Raises ImageError."""
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise ImageError(f"{self.path} cannot be deleted ({error}); delete it.") from None

    def _touch(self) -> None:
        about = self.path / _ABOUT
        if about.is_file() and os.access(about, os.W_OK):
            os.utime(about)


class _Writer:
    """Appends batches to a set."""

    def __init__(self, images: ImageSet) -> None:
        self._set = images

    def append(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Add uint8 (n, size, size, 3) and int64 (n,). Raises ImageError for a full disk."""
        count = self._set.count
        try:
            _append(self._set.path / _LABELS, count, labels.astype(np.int64))
            _append(self._set.path / _IMAGES, count, images)
        except OSError as error:
            raise ImageError(
                f"Images cannot be written to {self._set.path} ({error}). Free room, or set "
                "EXPLORER_CACHE to another folder."
            ) from None


def _append(path: Path, count: int, rows: np.ndarray) -> None:
    """Put rows behind the first ``count`` of a npy file, then count them in its header."""
    new = not path.is_file()
    with path.open("w+b" if new else "r+b") as file:
        if new:
            _header(file, rows, 0)
        file.seek(0)
        start = _after_header(file)
        file.truncate(start + count * rows[:1].nbytes)  # the rest of a batch that broke off
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(rows).data)
        file.flush()
        file.seek(0)
        _header(file, rows, count + len(rows))


def _header(file: Any, rows: np.ndarray, count: int) -> None:
    described = np.lib.format.header_data_from_array_1_0(rows) | {"shape": (count, *rows.shape[1:])}
    np.lib.format.write_array_header_1_0(file, described)


def _after_header(file: Any) -> int:
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()


def _count(path: Path) -> int:
    """The length of the first axis that a npy file's header says, which its bytes must bear out."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if path.stat().st_size < file.tell() + math.prod(shape) * dtype.itemsize:
                raise ValueError("it is shorter than its header says")
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise _damaged(path.parent, str(error)) from None
    return shape[0] if shape else 0


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise _damaged(path.parent, str(error)) from None


def _damaged(path: Path, why: str) -> ImageError:
    return ImageError(f"The prepared images {path} are damaged ({why}). Delete the folder.")
