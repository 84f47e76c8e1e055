"""The kinds of file that ``torch.save`` and ``pickle.dump`` have written over the years.

Zip archives (since torch 1.6), a sequence of pickles followed by the storages (since 0.1.10), and
plain pickles of modules, whose storages are sequences inside. The tar archives before them are in
``tar_files.py``.
"""

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from explorer.checkpoints.pickle_machine import Machine
from explorer.checkpoints.pickle_source import Source, memory_source
from explorer.checkpoints.pickles import read_pickle
from explorer.checkpoints.rebuilding import storage_dtype
from explorer.checkpoints.records import Blob, key_of, refusal
from explorer.checkpoints.stored import Storage, damaged
from explorer.errors import CheckpointError

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a sequence
_LARGEST_PICKLE = 1 << 29
# An entry takes some 65 bytes: the directory of the largest of open_clip's towers (EVA02-E/14 plus,
# 1,230 tensors) has 80 kB, and with an optimiser's state three times as much.
LARGEST_DIRECTORY = 4_000_000
# What reading odd bytes in any order may raise.
ODD = (
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
    struct.error,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
    EOFError,
    OSError,
)


def read_zip(path: Path) -> tuple[Any, str]:
    """(the data of a zip archive of torch's, what kind it is). Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            entries = _entries(file, path)
            return _zip_data(path, file, entries), _zip_kind(entries)
    except ODD as error:
        raise damaged(path, str(error)[:80] or type(error).__name__) from None


def read_sequence(path: Path) -> tuple[Any, str]:
    """(the data, the kind) of a file that begins with a pickle. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            source = Source(path, file, 0, path.stat().st_size)
            return _sequence_or_pickle(source)
    except ODD as error:
        raise damaged(path, str(error)[:80] or type(error).__name__) from None


def read_nested(machine: Machine, content: Blob) -> Any:
    """The storage that a plain pickle holds as bytes, which are a sequence themselves."""
    outer = machine.source
    if content.data is not None:
        source = memory_source(outer, content.data)
    else:
        end = content.offset + content.length
        source = Source(outer.path, outer.file, content.offset, end, outer.budget)
    try:
        return _sequence_or_pickle(source, nested=True)[0]
    finally:
        outer.file.seek(outer.position)


# --- zip -------------------------------------------------------------------------------------


class Sparing(io.BufferedReader):
    """A file of which nobody reads an absurd amount at once (an archive's directory or names)."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # the rest of the file
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > LARGEST_DIRECTORY:
            raise ValueError(f"its directory claims {size:,} bytes")
        return super().read(size)


def _entries(file: Any, path: Path) -> dict[str, zipfile.ZipInfo]:
    file.seek(0)
    with (
        Sparing(io.FileIO(file.fileno(), closefd=False)) as directory,
        zipfile.ZipFile(directory) as archive,
    ):
        return {info.filename: info for info in archive.infolist()}


def _zip_kind(entries: dict[str, zipfile.ZipInfo]) -> str:
    script = any(name.endswith("/constants.pkl") for name in entries)
    return "TorchScript archive" if script else "torch zip archive"


def _zip_data(path: Path, file: Any, entries: dict[str, zipfile.ZipInfo]) -> Any:
    root = next(
        (name[: -len("data.pkl")] for name in entries if name.rpartition("/")[2] == "data.pkl"),
        None,
    )
    if root is None or root.count("/") > 1:
        raise damaged(path, "it is a zip archive, but torch did not write it")
    order = entries.get(f"{root}byteorder")
    if order is not None and order.file_size == 3:  # "big"
        raise CheckpointError(
            f"{path.name} was written on a big-endian machine; save it again as safetensors there."
        )
    storages: dict[str, Storage] = {}

    def persistent(key: object) -> Storage:
        kind, name, n = _storage_id(path, key)
        if name not in storages:
            entry = entries.get(f"{root}data/{name}")
            if entry is None:
                raise damaged(path, f"the storage {name[:20]!r} is missing")
            dtype = storage_dtype(kind)
            offset = _content(path, file, entry)
            if n * dtype.itemsize > entry.file_size:
                raise damaged(path, f"the storage {name[:20]!r} is too short")
            storages[name] = Storage(path, offset, n * dtype.itemsize, dtype)
        found = storages[name]
        dtype = storage_dtype(kind)
        return found if found.dtype == dtype else Storage(path, found.offset, found.n_bytes, dtype)

    info = entries[f"{root}data.pkl"]
    if info.file_size > _LARGEST_PICKLE:
        raise damaged(path, f"its pickle claims {info.file_size:,} bytes")
    begin = _content(path, file, info)
    with path.open("rb") as pickled:
        return read_pickle(Source(path, pickled, begin, begin + info.file_size), persistent)


def _content(path: Path, file: Any, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin; they must lie within the file, as they are."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise CheckpointError(
            f"{path.name} is a zip archive whose {entry.filename[-40:]!r} is compressed or locked "
            f"({entry.compress_size:,} bytes for {entry.file_size:,}), as torch never writes it. "
            "Nothing was unpacked. If it came from a source you trust, unpack it and open the "
            "checkpoint inside, or save it again with torch.save."
        )
    file.seek(entry.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("an entry has no header")
    name, extra = struct.unpack("<HH", header[26:30])
    begin = entry.header_offset + 30 + name + extra
    if begin + entry.file_size > file.seek(0, io.SEEK_END):
        raise zipfile.BadZipFile("an entry lies beyond the end")
    return begin


def _storage_id(path: Path, key: object) -> tuple[object, str, int]:
    """(class, key, number of elements) of a persistent id of torch's."""
    if isinstance(key, tuple) and len(key) >= 5 and key[0] == "storage":
        _, kind, name, _, n = key[:5]
        if isinstance(name, str | int) and isinstance(n, int) and 0 <= n < 1 << 48:
            return kind, key_of(name), n
    raise refusal(path, "refers to an object outside itself that is no storage")


# --- a sequence of pickles -------------------------------------------------------------------


def _sequence_or_pickle(source: Source, nested: bool = False) -> tuple[Any, str]:
    begin = source.position
    persistent = _Storages(source)
    first = read_pickle(source, persistent)
    if first == _MAGIC and type(first) is int:
        version, system = read_pickle(source), read_pickle(source)
        if version != 1001 or not isinstance(system, dict):
            raise damaged(source.path, "it is no sequence of torch's")
        if system.get("little_endian") is False:
            raise CheckpointError(
                f"{source.path.name} was written on a big-endian machine; save it again as "
                "safetensors there."
            )
        data = read_pickle(source, persistent)
        persistent.locate(read_pickle(source))
        return data, "torch file before 1.6"
    if nested:
        raise refusal(source.path, "unpickles further bytes")
    if persistent.by_key:
        raise damaged(source.path, f"its pickle at byte {begin} has no storages")
    return first, "plain pickle"


class _Storages:
    """The storages that a sequence refers to, and, behind its pickles, holds."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.by_key: dict[str, Storage] = {}
        self.views: list[tuple[Storage, Storage, int]] = []

    def __call__(self, key: object) -> object:
        if isinstance(key, tuple) and len(key) == 4 and key[0] == "module":
            return key[1]  # a class with its source text, which nobody reads
        kind, name, n = _storage_id(self.source.path, key)
        dtype = storage_dtype(kind)
        if name not in self.by_key:
            self.by_key[name] = Storage(self.source.path, None, n * dtype.itemsize, dtype)
        storage = self.by_key[name]
        view = key[5] if isinstance(key, tuple) and len(key) > 5 else None
        if view is None:
            return storage
        start, length = stretch(view[1:] if isinstance(view, tuple) else view)
        if start + length > storage.n_bytes // dtype.itemsize:
            raise damaged(self.source.path, "a storage lies outside another")
        part = Storage(self.source.path, None, length * dtype.itemsize, dtype)
        self.views.append((part, storage, start * dtype.itemsize))
        return part

    def locate(self, keys: object) -> None:
        """Find where each storage lies: a count of elements, then the elements, key by key."""
        if not isinstance(keys, list):
            raise damaged(self.source.path, "its list of storages is missing")
        for key in keys:
            storage = self.by_key.get(key_of(key))
            (n,) = struct.unpack("<q", self.source.read(8))
            if storage is None or n * storage.dtype.itemsize != storage.n_bytes:
                raise damaged(self.source.path, "its list of storages does not fit its tensors")
            self._place(storage, self.source.skip(storage.n_bytes))
        for part, storage, start in self.views:
            if storage.offset is not None:
                part.offset = storage.offset + start
                if storage.data is not None:
                    part.data = storage.data[start : start + part.n_bytes]
        if any(storage.offset is None for storage in self.by_key.values()):
            raise damaged(self.source.path, "a tensor's storage is missing")

    def _place(self, storage: Storage, begin: int) -> None:
        storage.offset = begin
        if isinstance(self.source.file, io.BytesIO):
            storage.data = self.source.file.getvalue()[begin : begin + storage.n_bytes]


def stretch(view: object) -> tuple[int, int]:
    """(first element, how many) of a storage that lies in another. Raises ValueError."""
    if isinstance(view, tuple | list) and [type(x) for x in view] == [int, int]:
        start, n = view
        if start >= 0 and n >= 0:
            return start, n
    raise ValueError("a storage has no place in another")
