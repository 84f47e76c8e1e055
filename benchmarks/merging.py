"""Merging methods: time and peak memory of each at ViT-B/32 size, beside reading the operands.

`python -m benchmarks.merging --tasks 20` takes 20 task vectors instead of 8,
`--methods tsv_m,wudi` these methods alone, and `--blocks 1` one block of the tower instead of two
for those that take minutes on a CPU; what was left out is said with every number.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import torch

import explorer as ex
from benchmarks import Row, machine, main, median_row, seconds, table
from benchmarks.merge import dictionary_merge
from explorer.compute.resident import EditedWeights, ResidentWeights
from explorer.editing.methods import find_method, merging_methods

VIT_B_32 = {"width": 768, "layers": 12, "patch": 32, "tokens": 50, "dim": 512}
SMALL = {"width": 128, "layers": 3, "patch": 16, "tokens": 50, "dim": 64}
TINY = {"width": 32, "layers": 1, "patch": 4, "tokens": 5, "dim": 8}
# WUDI takes 300 steps; three tell what a step costs.
OPTIONS: dict[str, dict[str, object]] = {"tall_masks": {"task": "task 0"}, "wudi": {"steps": 3}}
# Minutes of singular values on a CPU: there BLOCKS of the twelve blocks are measured.
BLOCKS = 2
SLOW = ("iso_c", "iso_cts", "tsv_m", "wudi", "larv")


def shapes(size: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an open_clip image tower of a size."""
    w = size["width"]
    named: dict[str, tuple[int, ...]] = {
        "class_embedding": (w,),
        "positional_embedding": (size["tokens"], w),
        "proj": (w, size["dim"]),
        "conv1.weight": (w, 3, size["patch"], size["patch"]),
        **{f"{norm}.{part}": (w,) for norm in ("ln_pre", "ln_post") for part in ("weight", "bias")},
    }
    for i in range(size["layers"]):
        block = f"transformer.resblocks.{i}"
        named |= {
            f"{block}.{norm}.{part}": (w,)
            for norm in ("ln_1", "ln_2")
            for part in ("weight", "bias")
        }
        for name, rows, columns in (
            ("attn.in_proj_", 3 * w, w),
            ("attn.out_proj.", w, w),
            ("mlp.c_fc.", 4 * w, w),
            ("mlp.c_proj.", w, 4 * w),
        ):
            named |= {f"{block}.{name}weight": (rows, columns), f"{block}.{name}bias": (rows,)}
    return named


class Generated(Mapping[str, ex.TaskVector]):
    """Random task vectors of a tower of a size, each made when it is asked for."""

    def __init__(self, size: dict[str, int], device: torch.device, tasks: int) -> None:
        self._shapes, self._device = shapes(size), device
        self._tasks = [f"task {i}" for i in range(tasks)]

    def __getitem__(self, task: str) -> ex.TaskVector:
        generator = torch.Generator(self._device).manual_seed(self._tasks.index(task))

        def tensor(shape: tuple[int, ...]) -> torch.Tensor:
            empty = torch.empty(shape, device=self._device)
            return empty.normal_(0.0, 1e-3, generator=generator)

        return ex.TaskVector({key: tensor(shape) for key, shape in self._shapes.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def operands_of(size: dict[str, int], device: torch.device, tasks: int) -> ResidentWeights:
    """A base and that many task vectors, held once."""
    return ResidentWeights(base_of(size, device), Generated(size, device, tasks), device)


def base_of(size: dict[str, int], device: torch.device) -> ex.TaskVector:
    """Random weights of a tower of a size."""
    return Generated(size, device, 100)["task 99"]


def measure(
    quick: bool = False,
    tasks: int = 8,
    linear: bool = False,
    methods: Sequence[str] = (),
    blocks: int = BLOCKS,
) -> list[Row]:
    """Time and peak memory of every method; `quick` takes a smaller tower, `linear` leaves out
    all but the linear merge, `methods` takes these and no linear merge, and of slow ones `blocks`
    of the tower's blocks are measured on a CPU."""
    for name in methods:
        find_method(name)
    size = SMALL if quick else VIT_B_32
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    rows = []
    for device in devices:
        partly = device.type == "cpu" and not quick
        if methods and partly and set(methods) <= set(SLOW):
            rows += slow_rows(methods, size, tasks, blocks)
            continue
        resident = operands_of(size, device, tasks)
        vectors = {task: ex.TaskVector(resident.vector(task)) for task in resident.tasks}
        if not methods:
            rows += linear_rows(resident, vectors, 5 if quick else 7)
        short = vectors
        if partly:
            left_out = [f"resblocks.{i}." for i in range(blocks, size["layers"])]
            short = {
                task: ex.TaskVector(
                    {k: x for k, x in vector.items() if not any(b in k for b in left_out)}
                )
                for task, vector in vectors.items()
            }
        base = resident.layout.views(resident.theta0)
        for name in () if linear else methods or merging_methods():
            slow = partly and name in SLOW
            part = _part(blocks, size) if slow else ""
            rows += method_rows(name, base, short if slow else vectors, device, part)
            print(table(rows[-2:]), file=sys.stderr, flush=True)
    return rows


def slow_rows(methods: Sequence[str], size: dict[str, int], tasks: int, blocks: int) -> list[Row]:
    """Slow methods on the CPU, with no more operands in memory than they are measured on."""
    device, part = torch.device("cpu"), size | {"layers": blocks}
    vectors, base, rows = dict(Generated(part, device, tasks)), base_of(part, device), []
    for name in methods:
        rows += method_rows(name, base, vectors, device, _part(blocks, size))
        print(table(rows[-2:]), file=sys.stderr, flush=True)
    return rows


def _part(blocks: int, size: dict[str, int]) -> str:
    return f"embeddings and {blocks} of {size['layers']} blocks"


def linear_rows(
    resident: ResidentWeights, vectors: dict[str, ex.TaskVector], repeats: int
) -> list[Row]:
    """One linear merge: dictionary loops, flat buffers, a plain read and a copy of the operands."""
    device, n_blocks = resident.device, resident.layout.n_blocks
    base = resident.layout.views(resident.theta0)
    coefficients = {task: 0.1 + 0.01 * i for i, task in enumerate(vectors)}
    edited = EditedWeights(resident)
    operands, target = resident.tau, torch.empty_like(resident.theta0)
    copied = torch.empty_like(operands)
    note = f"{_note(vectors, device)}; {machine()}"

    def row(what: str, work: Callable[[], object]) -> Row:
        times = seconds(lambda: _synchronised(work, device), repeats)
        return median_row(f"{what}, {device.type}", times, note=note)

    schedule = ex.lines(0.1, 0.9)
    drawn = ex.per_layer([0.1 * i for i in range(n_blocks)], outside=0.1)

    # Timed side by side, so that other work on the machine meets all of them alike.
    loops = {
        "dictionaries added up, as published code does": lambda: published_merge(
            base, vectors, coefficients
        ),
        "a dictionary loop": lambda: dictionary_merge(base, vectors, coefficients),
        "a dictionary loop in place": lambda: tightest_merge(base, vectors, coefficients),
        "flat buffers": lambda: edited.merge(coefficients),
        "reading the operands once (sum)": lambda: torch.sum(operands, 0, out=target),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(repeats + 1):
        for name, work in loops.items():
            took = seconds(lambda work=work: _synchronised(work, device), 1, warm_up=0)
            times[name] += took if turn else []  # the first turn warms up
    fused = sorted(times["flat buffers"])[repeats // 2]
    compared = [median_row(f"linear merge, {n}", sorted(t), note=note) for n, t in times.items()]
    return [
        *compared,
        *(
            Row(f"flat buffers against {name}", sorted(t)[repeats // 2] / fused, "times", note)
            for name, t in times.items()
            if name != "flat buffers"
        ),
        row("linear merge under LiNeS", lambda: edited.merge(coefficients, schedule)),
        row("linear merge under a drawn schedule", lambda: edited.merge(coefficients, drawn)),
        row("copying the operands once", lambda: copied.copy_(operands)),
    ]


def published_merge(
    base: Mapping[str, torch.Tensor],
    vectors: Mapping[str, Mapping[str, torch.Tensor]],
    coefficients: Mapping[str, float],
) -> dict[str, torch.Tensor]:
    """theta_0 + sum_t c_t tau_t in the steps of the public task-vector code: each vector scaled
    to a new dictionary, dictionaries added up two by two to new ones, the sum added to the base."""
    total: dict[str, torch.Tensor] = {}
    for task, c in coefficients.items():
        scaled = {key: c * tau for key, tau in vectors[task].items()}
        total = {key: total[key] + scaled[key] for key in scaled} if total else scaled
    return {key: tensor + total[key] for key, tensor in base.items()}


def tightest_merge(
    base: Mapping[str, torch.Tensor],
    vectors: Mapping[str, Mapping[str, torch.Tensor]],
    coefficients: Mapping[str, float],
) -> dict[str, torch.Tensor]:
    """The same without one temporary tensor: as fast as a loop over names can be."""
    merged = {key: tensor.clone() for key, tensor in base.items()}
    for key, total in merged.items():
        for task, c in coefficients.items():
            total.add_(vectors[task][key], alpha=c)
    return merged


def _synchronised(work: Callable[[], object], device: torch.device) -> None:
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()


def method_rows(
    name: str,
    base: Mapping[str, torch.Tensor],
    vectors: dict[str, ex.TaskVector],
    device: torch.device,
    part: str = "",
) -> list[Row]:
    """Seconds of one call of a method, and what it holds beside the operands, in operands.
    `part` says what of the tower the vectors are, if not all."""
    method = find_method(name)
    options = OPTIONS.get(name, {})
    vectors = dict(list(vectors.items())[: 2 if name == "slerp" else None])
    coefficients = dict.fromkeys(vectors, 0.3)
    # The first call loads libraries, whose memory is not the method's.
    tiny = dict(Generated(TINY, device, len(vectors)))
    method(tiny, coefficients, base_of(TINY, device), **options)
    before = _restart_peak(device)
    start = time.perf_counter()
    method(vectors, coefficients, base, **options)
    if device.type == "cuda":
        torch.cuda.synchronize()
    took = time.perf_counter() - start
    held = (_peak(device) - before) / sum(
        x.numel() * x.element_size() for vector in vectors.values() for x in vector.values()
    )
    said = [_note(vectors, device), machine(), *([f"{options}"] if options else [])]
    note = "; ".join([*said, *([part] if part else [])])
    what = f"{name}, {device.type}"
    return [
        Row(what, took, "s", note),
        Row(f"{what}: peak with the operands", 1 + held, "x operands", note),
    ]


def _restart_peak(device: torch.device) -> int:
    """Forget the peak so far; bytes held now."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what freed tensors left must not be used again
        Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def _peak(device: torch.device) -> int:
    """The most bytes held since the restart (on systems without /proc: since the beginning)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _note(vectors: dict[str, ex.TaskVector], device: torch.device) -> str:
    n = sum(x.numel() for x in next(iter(vectors.values())).values())
    cuda = device.type == "cuda"
    where = torch.cuda.get_device_name() if cuda else f"threads: {torch.get_num_threads()}"
    return f"{len(vectors)} x {n / 1e6:.1f} M parameters, {where}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--tasks", type=int, default=8, help="number of task vectors (8, 20)")
    parser.add_argument("--linear", action="store_true", help="leave out the other methods")
    parser.add_argument("--methods", default="", help="these methods alone, with commas between")
    parser.add_argument(
        "--blocks", type=int, default=BLOCKS, help=f"of slow methods on a CPU ({BLOCKS})"
    )
    known, sys.argv[1:] = parser.parse_known_args()

    def measured(quick: bool) -> list[Row]:
        """Time and peak memory of every merging method at ViT-B/32 size."""
        names = [name for name in known.methods.split(",") if name]
        return measure(quick, known.tasks, known.linear, names, known.blocks)

    main(measured)
