"""The bytes of a pickle, and what reading them may cost."""

import io
from pathlib import Path
from typing import BinaryIO

from explorer.checkpoints.records import Blob
from explorer.checkpoints.stored import damaged
from explorer.errors import CheckpointError

# A checkpoint with its optimiser's state takes some ten thousand steps.
MOST_STEPS = 2_000_000
LONGEST_TEXT = 1 << 30
_MOST_BYTES_MADE = 1 << 28  # besides three times what the file holds


class Budget:
    """What reading one file may cost: steps of its pickles, and bytes made of text."""

    def __init__(self, path: Path) -> None:
        self.path, self.steps, self.made = path, 0, 0
        self.most_made = _MOST_BYTES_MADE + 3 * path.stat().st_size

    def spend(self, steps: int = 1, made: int = 0) -> None:
        """Count steps taken and bytes made. Raises CheckpointError beyond what is sane."""
        self.steps += steps
        self.made += made
        if self.steps > MOST_STEPS or self.made > self.most_made:
            raise CheckpointError(
                f"{self.path.name} holds pickles of more than {MOST_STEPS:,} steps or "
                f"{self.most_made >> 20} MB of text: no checkpoint needs them. Save the model's "
                "state_dict() alone, as safetensors, and open that."
            )


class Source:
    """The bytes of a file from ``start`` to ``end``; reads beyond raise CheckpointError."""

    def __init__(
        self, path: Path, file: BinaryIO, start: int, end: int, budget: Budget | None = None
    ) -> None:
        self.path, self.file, self.position, self.end = path, file, start, end
        self.budget = budget or Budget(path)
        file.seek(start)

    def read(self, n: int) -> bytes:
        if n < 0 or n > self.end - self.position:
            raise damaged(self.path, "a pickle ends early")
        found = self.file.read(n)
        if len(found) < n:
            raise damaged(self.path, "a pickle ends early")
        self.position += n
        return found

    def line(self) -> bytes:
        found = self.file.readline(min(LONGEST_TEXT, self.end - self.position))
        self.position += len(found)
        if not found.endswith(b"\n"):
            raise damaged(self.path, "a pickle has a line without an end")
        return found[:-1]

    def skip(self, n: int) -> int:
        """Pass over ``n`` bytes; returns where they begin."""
        if n < 0 or n > self.end - self.position:
            raise damaged(self.path, "a pickle ends early")
        begin = self.position
        self.position += n
        self.file.seek(self.position)
        return begin

    def bytes_of(self, blob: Blob) -> bytes:
        """The content of a blob (the reading position stays)."""
        if blob.data is not None:
            return blob.data
        self.file.seek(blob.offset)
        found = self.file.read(blob.length)
        self.file.seek(self.position)
        return found


def memory_source(outer: Source, data: bytes) -> Source:
    """A source over bytes that a pickle had encoded, so that they are no stretch of its file."""
    return Source(outer.path, io.BytesIO(data), 0, len(data), outer.budget)
