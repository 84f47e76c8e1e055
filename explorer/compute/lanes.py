"""Lanes: whole batches side by side, one core each, instead of every operation over all cores."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Batch = TypeVar("Batch")
Found = TypeVar("Found")

# More lanes than this would each get a handful of images of a cell.
_MOST = 16


class Lanes:
    """Maps a function over batches; close it, or use it as a context.

    When torch splits an operation over the cores, each waits for the slowest, some hundred times
    a forward. Lanes wait once: with batches of 128 of a small tower 6,000 instead of 4,500 images
    a second on two busy cores. A GPU has one lane, the calling thread.
    """

    def __init__(self, device: torch.device) -> None:
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        self.n = min(threads, _MOST)
        self._pool = threads_of_torch(self.n, threads // self.n) if self.n > 1 else None

    def map(self, function: Callable[[Batch], Found], batches: Sequence[Batch]) -> list[Found]:
        """``function`` of every batch, in order. The first exception is raised; no batch starts
        after it."""
        if self._pool is None or len(batches) < 2:
            return [function(batch) for batch in batches]
        futures = [self._pool.submit(function, batch) for batch in batches]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def close(self) -> None:
        """End the threads; waits for the batches they are at."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def threads_of_torch(n: int, threads: int = 1) -> ThreadPoolExecutor:
    """A pool of ``n``, in each of which torch uses ``threads`` threads."""
    before, started = torch.get_num_threads(), threading.Barrier(n + 1)

    def begin() -> None:
        torch.get_num_threads()  # at its first look, a thread takes the number set last by anyone
        torch.set_num_threads(threads)

    pool = ThreadPoolExecutor(n, "torch", initializer=begin)
    for _ in range(n):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(before)  # what threads to come will take
    return pool
