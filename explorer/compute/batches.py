"""Many pictures through a network in parts, which become smaller when memory runs out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from explorer.compute.device import out_of_memory
from explorer.errors import MemoryShortage

Part = TypeVar("Part")


@dataclass
class Batches:
    """How many pictures go through at once; ``doing`` says what happens to them, as a participle.

    batches = Batches(64, "decoded")
    parts = batches.over(len(x), lambda part: decode(x[part]))
    batches.note                       # "" or a sentence for the person who waits
    """

    at_once: int
    doing: str
    note: str = ""

    def over(self, n: int, function: Callable[[slice], Part]) -> list[Part]:
        """``function(slice)`` of 0 to n in order, one result a part.

        A part that does not fit into memory is taken again in halves, and so are those after it.
        Raises MemoryShortage when a single picture does not fit, and any other error as it is.
        """
        found: list[Part] = []
        start = 0
        while start < n:
            part = slice(start, min(start + self.at_once, n))
            try:
                found.append(function(part))
            except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError among them
                self._smaller(error, part.stop - part.start)
                continue
            start = part.stop
        return found

    def _smaller(self, error: Exception, size: int) -> None:
        if not out_of_memory(error):
            raise error
        if size == 1:
            raise MemoryShortage(
                f"Even a single picture that is {self.doing} does not fit into memory. Close other "
                "programs, or use a smaller model or device='cpu'."
            ) from None
        self.at_once = size // 2
        self.note = (
            f"Memory ran out: {self.at_once} pictures are {self.doing} at once instead of more."
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def with_note(before: object, *more: str) -> dict[str, str]:
    """``{"note": ...}`` of all sentences there are, for the attrs of a result; {} of none."""
    sentences = [str(sentence) for sentence in (before, *more) if sentence]
    return {"note": " ".join(dict.fromkeys(sentences))} if sentences else {}
