"""Tensors that still lie in their file: known by shape and dtype, read when they are asked for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from explorer.errors import CheckpointError

# The largest tensor of the largest published CLIP (its token table) is a tenth of this.
LARGEST_TENSOR = 2 << 30
_MOST_DIMENSIONS = 16
_LARGEST_EXPANDED = 1 << 24
# What all tensors of a file may take together: each byte several times (tied weights, a module
# under two names), and besides what small tensors are expanded to (a number for many positions).
_MOST_TIMES = 4
_MOST_EXPANDED = 1 << 28


@dataclass(eq=False)
class Storage:
    """A run of bytes that tensors share: in a file at ``offset``, or held in ``data``.

    Old torch files list their storages after the tensors: ``offset`` is None until it is known.
    """

    path: Path
    offset: int | None
    n_bytes: int
    dtype: torch.dtype = torch.uint8
    data: bytes | None = field(default=None, repr=False)

    def read(self, start: int, n_bytes: int) -> bytearray:
        """``n_bytes`` bytes from byte ``start``. Raises CheckpointError for a truncated file.

        Plain reads, and no mapping: of a mapped file that somebody truncates, the next access ends
        the process.
        """
        if self.data is not None:
            held = bytearray(self.data[start : start + n_bytes])
            if len(held) < n_bytes:
                raise damaged(self.path, "it ends within a tensor")
            return held
        if self.offset is None:
            raise damaged(self.path, "a tensor's storage is missing")
        try:
            found = bytearray(n_bytes)
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start)
                view, filled = memoryview(found), 0
                while filled < n_bytes and (count := file.readinto(view[filled:])):
                    filled += count
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}.") from None
        except MemoryError:
            raise CheckpointError(
                f"{self.path.name} has a tensor of {n_bytes / 1e9:.1f} GB, more than there is "
                "memory; stop other programs, or use a smaller checkpoint."
            ) from None
        if filled < n_bytes:
            raise damaged(self.path, "it ends within a tensor")
        return found


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor of a file: ``shape``, ``dtype`` and where its elements lie in its storage."""

    storage: Storage
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int = 0

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def meta(self) -> Tensor:
        """A tensor of this shape and dtype without elements."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def read(self) -> Tensor:
        """The elements, contiguous on the CPU, in the file's dtype. Raises CheckpointError."""
        if not self.numel:
            return torch.empty(self.shape, dtype=self.dtype)
        span = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        size = self.dtype.itemsize
        flat = torch.frombuffer(self.storage.read(self.start * size, span * size), dtype=self.dtype)
        return flat.as_strided(self.shape, self.stride).contiguous()


def stored_tensor(
    storage: Storage,
    dtype: torch.dtype,
    shape: tuple[object, ...],
    stride: tuple[object, ...] | None = None,
    start: object = 0,
) -> StoredTensor:
    """A tensor over a storage, checked: whole numbers, inside the storage, of a sane size.

    Without ``stride`` it is contiguous. Raises CheckpointError.
    """
    sizes, steps = _counts(shape), _counts(stride if stride is not None else _contiguous(shape))
    first = _counts((start,))
    name = storage.path
    if sizes is None or steps is None or first is None or len(sizes) != len(steps):
        raise damaged(name, "a tensor's shape is no list of sizes")
    numel = math.prod(sizes)
    if numel * dtype.itemsize > LARGEST_TENSOR:
        raise CheckpointError(
            f"{name.name} claims a tensor of shape {sizes}, {numel * dtype.itemsize / 1e9:.3g} GB: "
            "no image tower has such a tensor. Download or copy the file again."
        )
    held = storage.n_bytes // dtype.itemsize
    span = 1 + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if numel and first[0] + span > held:
        raise damaged(name, f"a tensor of shape {sizes} lies outside its storage")
    if numel > max(held, _LARGEST_EXPANDED):
        raise damaged(name, f"a tensor of shape {sizes} repeats a storage of {held} elements")
    return StoredTensor(storage, dtype, sizes, steps, first[0])


def check_total(tensors: Iterable[StoredTensor], path: Path) -> None:
    """Raise CheckpointError when tensors together are much more than the files that hold them.

    Otherwise a file of a few kilobytes could ask for terabytes: tensors that repeat one element, or
    that all view the same stretch.
    """
    counted = list(tensors)
    held = sum(file.stat().st_size for file in {tensor.storage.path for tensor in counted})
    total = sum(tensor.n_bytes for tensor in counted)
    if total > _MOST_TIMES * held + _MOST_EXPANDED:
        raise CheckpointError(
            f"{path.name} of {held / 1e6:,.1f} MB claims tensors of {total / 1e9:,.1f} GB, by "
            "repeating the same bytes, which no checkpoint needs. Save the model's state_dict() as "
            "safetensors."
        )


def damaged(path: Path, reason: str) -> CheckpointError:
    """The error for a file that is not whole."""
    return CheckpointError(
        f"{path.name} is truncated or damaged ({reason}). Download or copy it again."
    )


def _counts(values: object) -> tuple[int, ...] | None:
    if not isinstance(values, tuple | list) or len(values) > _MOST_DIMENSIONS:
        return None
    whole = all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 48 for v in values)
    return tuple(values) if whole else None


def _contiguous(shape: object) -> tuple[int, ...]:
    sizes = _counts(shape) or ()
    return tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))
