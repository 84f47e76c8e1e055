"""base + sum_t w_t rows_t in one pass over memory, on all cores."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from explorer.compute.lanes import threads_of_torch

# Operands below this many entries are in a cache: handing them to other threads costs more.
_WORTH_IT = 2**22
# Entries of a piece at most: small enough that a core which is held up by other work leaves its
# share to the others, large enough that handing it over costs nothing.
_PIECE = 2**20
# Pieces begin on a cache line.
_ALIGNMENT = 32

# A contiguous part of the vectors, and the weight of every row there.
Part = tuple[slice, Tensor]


def weighted_sum_into(out: Tensor, base: Tensor, rows: Tensor, parts: Sequence[Part]) -> None:
    """out[part] = base[part] + weights @ rows[:, part] for every part.

    ``out`` and ``base`` are (n,), ``rows`` (t, n) and contiguous, weights (t,). BLAS does a product
    of this shape on one core, which cannot read as fast as the memory gives: large operands on a
    CPU are cut into pieces for all cores (8 x 88 M entries on two busy cores: 0.30 s instead of
    0.52), each taken by the core that is free. This is as fast as the memory: operands in half
    precision, huge pages and other products of the same blocks were measured and are no faster.
    """
    threads = torch.get_num_threads()
    if out.device.type != "cpu" or rows.numel() < _WORTH_IT or threads < 2:
        for part, weights in parts:
            _add(out, base, rows, part, weights)
        return
    pieces = [(piece, weights) for part, weights in parts for piece in _cut(part, threads)]
    begun = [_pool(threads).submit(_add, out, base, rows, *piece) for piece in pieces]
    for future in begun:
        future.result()


def _add(out: Tensor, base: Tensor, rows: Tensor, part: slice, weights: Tensor) -> None:
    with torch.inference_mode():  # a thread's own switch; buffers made in this mode need it
        torch.addmv(base[part], rows[:, part].T, weights, out=out[part])


def _cut(part: slice, n: int) -> list[slice]:
    """Slices one after the other that are the part: n, or more so that none exceeds _PIECE."""
    size = min(_PIECE, -(-(part.stop - part.start) // n))
    step = max(_ALIGNMENT, -(-size // _ALIGNMENT) * _ALIGNMENT)
    return [slice(i, min(i + step, part.stop)) for i in range(part.start, part.stop, step)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return threads_of_torch(threads)
