"""Any file of weights -> its data with tensors that are still in the file, told by its content."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from explorer.checkpoints.records import described
from explorer.checkpoints.stored import Storage, StoredTensor, stored_tensor
from explorer.checkpoints.tar_files import read_tar
from explorer.checkpoints.torch_files import read_sequence, read_zip
from explorer.errors import CheckpointError

# An entry takes some 120 bytes: the header of the largest of open_clip's towers (EVA02-E/14 plus,
# 1,230 tensors) has 150 kB. The safetensors library allows 100 MB, which would take a gigabyte of
# Python's objects.
LARGEST_HEADER = 4_000_000
_LARGEST_TEXT_FILE = 1 << 24
_SAFE_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# The names under which hubs keep a model's weights in its folder, best first.
_IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)


@dataclass(frozen=True)
class Contents:
    """What a file holds: nested data, its kind, the file's own metadata, files beside it."""

    path: Path
    kind: str
    data: Any
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_contents(path: str | Path) -> Contents:
    """Read everything of a file but its tensors' elements; a hub's folder stands for its weights.

    Raises CheckpointError naming the file and the remedy.
    """
    path = weights_file(Path(path).expanduser())
    head = _head(path)
    size = path.stat().st_size
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer, not the weights. Fetch them with 'git lfs pull'."
        )
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path.name} is a web page, not a checkpoint: the download went wrong. Fetch it again."
        )
    # Before pickles: a safetensors header's length may well begin with a pickle's first byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        data, metadata = _read_safetensors(path)
        return Contents(path, "safetensors", data, size, metadata)
    if head[:1] == b"{":
        return _read_shards(path)
    if head.startswith(b"PK\x03\x04"):
        return Contents(path, *_swapped(read_zip(path)), size)
    if head[257:262] == b"ustar":
        return Contents(path, *_swapped(read_tar(path)), size)
    if head.startswith(b"\x1f\x8b"):
        raise CheckpointError(f"{path.name} is compressed with gzip; unpack it first.")
    if head[:1] in (b"\x80", b"(", b"c", b"}", b"]"):  # what pickles of any protocol begin with
        return Contents(path, *_swapped(read_sequence(path)), size)
    raise CheckpointError(
        f"{path.name} is neither a safetensors nor a PyTorch file, or it is damaged at the start."
    )


def weights_file(path: Path) -> Path:
    """The path itself, or for a folder as a hub has it the file of weights in it."""
    if path.is_dir():
        for name in _IN_FOLDER:
            if (path / name).is_file():
                return file_within(path, name)
        raise CheckpointError(f"{path} is a folder; give a file, or open it with ex.open_model.")
    return path


def file_within(folder: Path, name: str) -> Path:
    """A file of a folder by its bare name, which must not lead out of the folder.

    Links out of the folder are refused. Raises CheckpointError.
    """
    path = folder / name
    if not name or Path(name).name != name or "\\" in name:
        raise CheckpointError(
            f"{folder.name} refers to the file {name[:60]!r}, which is no plain file name: nothing "
            "outside the folder is read. Copy the files into one folder."
        )
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}; download or copy the folder again.")
    if not stays_within(path, folder):
        raise CheckpointError(
            f"{name} in {folder.name} is a link to a file outside the folder; nothing outside is "
            "read. Replace the link by the file itself."
        )
    return path


def stays_within(path: Path, folder: Path) -> bool:
    """Whether a file of a folder lies in it, links followed.

    The hub's cache keeps its files as links from ``snapshots/<revision>`` into ``blobs`` beside
    it, which count as inside.
    """
    home, target = folder.resolve(), path.resolve()
    blobs = {p.parent / "blobs" for p in (home, *home.parents) if p.name == "snapshots"}
    return target.is_relative_to(home) or target.parent in blobs


def read_json(path: Path) -> object:
    """Data of a JSON file. Raises CheckpointError."""
    try:
        if path.stat().st_size > _LARGEST_TEXT_FILE:
            raise CheckpointError(f"{path.name} is too long to be a description of a model.")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not readable as JSON: {error}.") from None


def _swapped(found: tuple[Any, str]) -> tuple[str, Any]:
    data, kind = found
    return kind, data


def _head(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe or a device would never end
            raise CheckpointError(f"{path} is no file; give a file of weights.")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read: {reason}.") from None
    if not head:
        raise CheckpointError(f"{path.name} is empty. Download or copy it again.")
    return head


# --- safetensors -----------------------------------------------------------------------------


def _read_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Header only. (The library's own reader maps the whole file; see ``Storage.read``.)"""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER or length > size - 8:
            raise _damaged_header(path, f"its header claims {length:,} bytes")
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged_header(path, str(error)[:80]) from None
    metadata = header.pop("__metadata__", {})
    tensors = {
        name: _safe_tensor(path, name, entry, 8 + length, size) for name, entry in header.items()
    }
    if sum(tensor.n_bytes for tensor in tensors.values()) > size - 8 - length:
        raise _damaged_header(path, "its tensors overlap")
    return tensors, metadata if isinstance(metadata, dict) else {}


def _safe_tensor(path: Path, name: str, entry: object, begin: int, size: int) -> StoredTensor:
    if not isinstance(entry, dict):
        raise _damaged_header(path, f"{name[:60]!r} is no tensor")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    dtype = _SAFE_DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise _damaged_header(path, f"{name[:60]!r} has as its type {described(kind)}")
    if not isinstance(offsets, list) or [type(x) for x in offsets] != [int, int]:
        raise _damaged_header(path, f"{name[:60]!r} has no place")
    first, last = offsets
    if not 0 <= first <= last <= size - begin:
        raise _damaged_header(path, f"{name[:60]!r} lies beyond its end")
    storage = Storage(path, begin + first, last - first, dtype)
    tensor = stored_tensor(storage, dtype, shape)  # type: ignore[arg-type]
    if tensor.n_bytes != last - first:
        raise _damaged_header(path, f"{name[:60]!r} has another size than its shape")
    return tensor


def _damaged_header(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a whole safetensors file ({reason}). Download or copy it again."
    )


def _read_shards(path: Path) -> Contents:
    """The tensors of all shards that an index (``*.safetensors.index.json``) lists."""
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError(
            f"{path.name} is JSON, but no index of safetensors shards; give the file of weights."
        )
    shards: dict[str, dict[str, StoredTensor]] = {}
    tensors, size = {}, path.stat().st_size
    for name, shard in places.items():
        if not isinstance(shard, str):
            raise CheckpointError(f"{path.name} does not say which file holds {name[:60]!r}.")
        if shard not in shards:
            file = file_within(path.parent, shard)
            _head(file)
            shards[shard], _ = _read_safetensors(file)
            size += os.path.getsize(file)
        if name not in shards[shard]:
            raise CheckpointError(
                f"{shard} lacks {name[:60]!r}, which {path.name} lists; download the shards again."
            )
        tensors[name] = shards[shard][name]
    return Contents(path, f"safetensors in {len(shards)} shards", tensors, size)
