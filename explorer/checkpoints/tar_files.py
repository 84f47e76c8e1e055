"""The tar archives that ``torch.save`` wrote before version 0.1.10."""

import io
import struct
import tarfile
from pathlib import Path
from typing import Any

from explorer.checkpoints.pickle_source import Source
from explorer.checkpoints.pickles import read_pickle
from explorer.checkpoints.rebuilding import storage_dtype
from explorer.checkpoints.records import key_of
from explorer.checkpoints.stored import Storage, damaged, stored_tensor
from explorer.checkpoints.torch_files import ODD, Sparing, stretch

_LARGEST_COUNT = 1 << 20


def read_tar(path: Path) -> tuple[Any, str]:
    """(the data, the kind) of a tar archive of torch before 0.1.10. Raises CheckpointError."""
    try:
        with (
            path.open("rb") as file,
            Sparing(io.FileIO(file.fileno(), closefd=False)) as sparing,
            tarfile.open(fileobj=sparing, mode="r:") as archive,
        ):
            members: dict[str, tarfile.TarInfo] = {}
            for member in archive:
                if len(members) > 64:
                    raise ValueError("it has too many members")
                members[member.name] = member
            return _tar_data(path, file, members), "torch tar archive"
    except ODD as error:
        raise damaged(path, str(error)[:80] or type(error).__name__) from None


def _tar_data(path: Path, file: Any, members: dict[str, tarfile.TarInfo]) -> Any:
    size = path.stat().st_size
    objects: dict[str, Any] = {}

    def source_of(name: str) -> Source:
        member = members[name]
        if not member.isreg() or member.offset_data + member.size > size:
            raise ValueError(f"its member {name!r} is no whole file")
        return Source(path, file, member.offset_data, member.offset_data + member.size)

    source = source_of("storages")
    for _ in range(_count(source)):
        key, _location, kind = read_pickle(source)
        dtype = storage_dtype(kind)
        (n,) = struct.unpack("<q", source.read(8))
        n_bytes = n * dtype.itemsize
        objects[key_of(key)] = Storage(path, source.skip(n_bytes), n_bytes, dtype)
    views = read_pickle(source)
    for target, root, *view in views if isinstance(views, list) else []:
        whole, (start, n) = objects[key_of(root)], stretch(view)
        first, n_bytes = start * whole.dtype.itemsize, n * whole.dtype.itemsize
        if first + n_bytes > whole.n_bytes:
            raise ValueError("a storage lies outside another")
        objects[key_of(target)] = Storage(path, whole.offset + first, n_bytes, whole.dtype)
    source = source_of("tensors")
    for _ in range(_count(source)):
        key, storage_key, _kind = read_pickle(source)
        (dimensions,) = struct.unpack("<ixxxx", source.read(8))
        if not 0 <= dimensions <= 16:
            raise ValueError("a tensor has too many dimensions")
        numbers = struct.unpack(f"<{2 * dimensions + 1}q", source.read(16 * dimensions + 8))
        shape, stride = numbers[:dimensions], numbers[dimensions:-1]
        storage = objects[key_of(storage_key)]
        if not isinstance(storage, Storage):
            raise ValueError("a tensor has no storage")
        objects[key_of(key)] = stored_tensor(storage, storage.dtype, shape, stride, numbers[-1])

    def persistent(key: object) -> Any:
        return key[0] if isinstance(key, tuple) and key else objects[key_of(key)]

    return read_pickle(source_of("pickle"), persistent)


def _count(source: Source) -> int:
    n = read_pickle(source)
    if not isinstance(n, int) or not 0 <= n < _LARGEST_COUNT:
        raise ValueError("a number was expected")
    return n
