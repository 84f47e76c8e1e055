"""Checkpoint: an image tower in a file, by canonical names, each tensor read when asked for."""

from collections.abc import Callable, Iterator, Mapping
from html import escape

import torch
from torch import Tensor

from explorer.checkpoints.archives import Contents
from explorer.checkpoints.families import Family, family_of
from explorer.checkpoints.layouts import Entry
from explorer.checkpoints.stored import StoredTensor
from explorer.errors import CheckpointError


class Checkpoint(Mapping[str, Tensor]):
    """An image tower in a file: canonical names -> tensors on the CPU, each read when asked for.

        tuned = ex.read_checkpoint("finetuned.pt")
        tuned["proj"].shape, tuned.family, tuned.layout

    Nothing is kept: asking twice reads twice, and ``dict(tuned)`` holds all of it. A tensor with
    NaN or infinity raises CheckpointError.

    Attributes: ``path``, ``kind`` (of file), ``layout``, ``family`` (None when unknown),
    ``activation`` ("quick_gelu", "gelu", or None where nothing tells), ``left_out`` (names that
    are not the tower's), ``linearised`` (by tangent fine-tuning), ``notes``, ``size`` (bytes),
    ``metadata``.
    """

    def __init__(
        self,
        contents: Contents,
        stored: Mapping[str, StoredTensor],
        entries: Mapping[str, Entry],
        layout: str,
        dtype: torch.dtype | None = torch.float32,
    ) -> None:
        self.path, self.kind, self.size = contents.path, contents.kind, contents.size
        self.metadata = contents.metadata
        self.layout, self.dtype = layout, dtype
        self.activation: str | None = None
        self.notes: list[str] = []
        self.left_out: list[str] = []
        self.linearised = False
        self._stored, self._entries = stored, dict(entries)
        self._filled: dict[str, Tensor] = {}
        self._checked = False
        self._meta = {key: self._made(entry, StoredTensor.meta) for key, entry in entries.items()}

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def family(self) -> Family | None:
        """Which tower this is, told by its names and shapes."""
        return family_of(self.shapes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor; reads none."""
        filled = {key: tuple(tensor.shape) for key, tensor in self._filled.items()}
        return {key: tuple(tensor.shape) for key, tensor in self._meta.items()} | filled

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """The type of every tensor in the file."""
        return {key: tensor.dtype for key, tensor in self._meta.items()}

    def __getitem__(self, key: str) -> Tensor:
        if key in self._filled:
            return self._filled[key]
        tensor = self._made(self._entries[key], StoredTensor.read)
        if not self._checked:
            check_finite({key: tensor}, self.name)
        if self.dtype is None:
            return tensor.contiguous()
        dtype = torch.float64 if tensor.dtype == torch.float64 else self.dtype
        return tensor.to(dtype).contiguous()

    def __iter__(self) -> Iterator[str]:
        yield from self._entries
        yield from self._filled

    def __len__(self) -> int:
        return len(self._entries) + len(self._filled)

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Take tensors that the file lacks from elsewhere (a frozen projection from the base)."""
        self._filled |= {key: tensor for key, tensor in tensors.items() if key not in self}

    def check(self) -> None:
        """Read every tensor once and keep none. Raises CheckpointError naming a bad one."""
        for key in self._entries:
            tensor = self._made(self._entries[key], StoredTensor.read)
            check_finite({key: tensor}, self.name)
        self._checked = True

    def _made(self, entry: Entry, of: Callable[[StoredTensor], Tensor]) -> Tensor:
        try:
            return entry.of([of(self._stored[source]) for source in entry.sources])
        except (RuntimeError, IndexError) as error:
            raise CheckpointError(
                f"{self.name} has tensors of the wrong shapes at {entry.sources[0]!r} "
                f"({str(error)[:80]}). Download or copy it again."
            ) from None

    def __repr__(self) -> str:
        what = self.family or "unknown tower"
        return f"<Checkpoint {self.name!r}: {what}, {len(self)} tensors, layout {self.layout}>"

    def _repr_html_(self) -> str:
        n = sum(tensor.numel() for tensor in self._meta.values())
        what = escape(str(self.family or "unknown tower"))
        return (
            f"<p><b>{escape(self.name)}</b>: {what}, {len(self)} tensors, {n / 1e6:.2f} M "
            f"parameters, {escape(self.layout)}, {escape(self.kind)}, {self.size / 1e6:.1f} MB</p>"
        )


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise CheckpointError naming the first tensor with NaN or infinity."""
    for key, tensor in tensors.items():
        if tensor.dtype.itemsize == 1:  # eight-bit floats: no kernel tells
            tensor = tensor.float()
        if not bool(torch.isfinite(tensor).all()):
            what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite values"
            raise CheckpointError(
                f"{name} has {what} in {key!r}: its training diverged or the file is damaged. "
                "Use another checkpoint."
            )
