"""Three ways to run a tower many times on batches of one size: eager, CUDA graphs, torch.compile.

Each is a function from a tower to a function of a batch, and follows weights that are changed in
place. A way other than eager serves batches of a size that has come before; the few images whose
prediction is a close call come in sizes of their own, and run eagerly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import Row, seconds
from explorer.measures.plane import Forward, as_it_is

BEFORE = 2  # batches of a size that run eagerly before it is worth capturing or compiling


@dataclass(frozen=True)
class Way:
    """A way to run a tower, and what was measured of it."""

    name: str
    forward: Forward
    seconds_an_image: float
    apart: float
    """Largest difference of a feature from the eager one, in units of the largest feature."""


def graphed(tower: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """CUDA graphs: the kernels of a forward, recorded once and replayed."""
    if not torch.cuda.is_available():
        raise RuntimeError("CUDA graphs need a CUDA device")

    def capture(x: Tensor) -> Callable[[Tensor], Tensor]:
        held = x.clone()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            tower(held)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = tower(held)

        def replay(batch: Tensor) -> Tensor:
            held.copy_(batch)
            graph.replay()
            return found.clone()

        return replay

    return _for_sizes_that_recur(tower, capture)


def compiled(tower: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """torch.compile, one program for each size of batch."""
    program = torch.compile(tower, dynamic=False)
    return _for_sizes_that_recur(tower, lambda _x: program)


WAYS: dict[str, Forward] = {
    "batched eager": as_it_is,
    "CUDA graphs": graphed,
    "torch.compile": compiled,
}


def compare(
    tower: torch.nn.Module,
    change: Callable[[int], object],
    batch: Tensor,
    repeats: int,
    prefix: str,
    close: float,
) -> tuple[list[Row], Way]:
    """Time every way on one batch; the rows, and the fastest that agrees with eager.

    ``change(k)`` puts other weights into the tower, k = 0, 1; a way must follow. Features may be
    ``close`` apart, in units of the largest. A way that cannot run is a row that says why.
    """
    rows: list[Row] = []
    ways: list[Way] = []
    exact: list[Tensor] = []
    for k in range(2):
        change(k)
        exact.append(_run(tower, batch))
    for name, forward in WAYS.items():
        try:
            way = _measured(name, forward, tower, change, batch, repeats, exact)
        except Exception as error:  # of a compiler or a driver: any, and the others go on
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            rows.append(Row(f"{prefix}{name}", float("nan"), "", f"not run: {reason[:120]}"))
            continue
        note = f"batch of {len(batch)}, largest difference of a feature {way.apart:.1g}"
        if way.apart <= close:
            ways.append(way)
        else:
            note += f": over {close:g}, not to be chosen"
        rows.append(Row(f"{prefix}{name}", 1 / way.seconds_an_image, "images/s", note))
    chosen = min(ways, key=lambda way: way.seconds_an_image)
    rate = 1 / chosen.seconds_an_image
    rows.append(Row(f"{prefix}chosen", rate, "images/s", chosen.name))
    return rows, chosen


def _measured(
    name: str,
    forward: Forward,
    tower: torch.nn.Module,
    change: Callable[[int], object],
    batch: Tensor,
    repeats: int,
    exact: list[Tensor],
) -> Way:
    run = forward(tower)
    apart = 0.0
    for _ in range(BEFORE):
        _run(run, batch)
    for k, features in enumerate(exact):
        change(k)
        away = (_run(run, batch).float() - features.float()).abs().max()
        apart = max(apart, float(away / features.float().abs().max()))
    times = seconds(lambda: _run(run, batch), repeats)
    return Way(name, forward, times[len(times) // 2] / len(batch), apart)


def _run(run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Features, computed to the end: a GPU answers before it is done."""
    with torch.inference_mode():
        found = run(batch)
    if batch.is_cuda:
        torch.cuda.synchronize()
    return found


def _for_sizes_that_recur(
    tower: torch.nn.Module, make: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> Callable[[Tensor], Tensor]:
    seen: Counter[torch.Size] = Counter()
    made: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    def run(x: Tensor) -> Tensor:
        if x.shape not in made:
            seen[x.shape] += 1
            if seen[x.shape] <= BEFORE:
                return tower(x)
            made[x.shape] = make(x)
        return made[x.shape](x)

    return run
