"""Opening a set of 20 fine-tuned ViT-L/14: peak memory and time, and those of loading all of it.

The towers are random float16 (608 MB a file). The 20 tasks are one file under 20 names (hard
links), since what is measured is memory and not what the weights are: the system reads that file's
blocks from its cache after the first time, so that the seconds are those of reading from memory.
Loading all at once is measured with one tower and with three, and estimated from these: all 21
would not fit on the machine that this runs on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import Row, main

TASKS, LOADED = 20, 3
LIMIT_GIB = 8.0
"""What opening the set, and reading every vector of it, may take."""

WRITE = """
import sys, torch
from safetensors.torch import save_file
from explorer.models.towers import VisionTower
with torch.device("meta"):
    tower = VisionTower(768, layers=24, width=1024, patch_size=14)
for seed, path in enumerate(sys.argv[1:]):
    generator = torch.Generator().manual_seed(seed)
    save_file({
        key: (0.02 * torch.randn(tensor.shape, generator=generator)).half()
        for key, tensor in tower.state_dict().items()
    }, path)
"""
PEAK = """
import resource, sys, time
def said(began):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(time.monotonic() - began, peak, sep="|", flush=True)
"""
OPEN = """
import explorer as ex
ex.open_model
import explorer.models.published_model
began = time.monotonic(); said(began)
m = ex.open_model(sys.argv[1], device="cpu", activation="quick_gelu")
assert len(m.tasks) == int(sys.argv[2])
said(began)
began = time.monotonic()
norms = [m.task_vector(task).norm for task in m.tasks]
assert min(norms) > 1
said(began)
"""
LOAD = """
import torch
from pathlib import Path
from safetensors.torch import load_file
began = time.monotonic(); said(began)
files = sorted(Path(sys.argv[1]).rglob("*.safetensors"))[: int(sys.argv[2])]
kept = [{key: tensor.{convert} for key, tensor in load_file(file).items()} for file in files]
said(began)
"""


def measure(quick: bool = False) -> list[Row]:
    """Peak resident memory and seconds; with `quick`, of 4 tasks instead of 20."""
    tasks = 4 if quick else TASKS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        _write(folder, tasks)
        size = os.path.getsize(folder / "zeroshot.safetensors")
        note = f"{tasks} tasks and the base, {(tasks + 1) * size / 2**30:.1f} GiB of files"
        _, opened, read = _run(OPEN, folder, tasks)
        rows = [
            Row("set opened, seconds", opened[0], "s", note),
            Row("set opened, peak", opened[1], "MiB", note),
            Row("every task vector read in turn, seconds", read[0], "s", "float32, none kept"),
            Row("every task vector read in turn, peak", read[1], "MiB", _verdict(read[1])),
        ]
        for convert, what in (("clone()", "float16"), ("float()", "float32")):
            program = LOAD.replace("{convert}", convert)
            _, one = _run(program, folder, 1)
            _, some = _run(program, folder, LOADED)
            each = (some[1] - one[1]) / (LOADED - 1)
            total = one[1] + each * tasks
            note = f"estimated: {LOADED} towers took {some[1]:.0f} MiB, one more {each:.0f}"
            rows.append(Row(f"all loaded at once, {what}, peak", total, "MiB", note))
        return rows


def _write(folder: Path, tasks: int) -> None:
    folder.mkdir()
    base, tuned = folder / "zeroshot.safetensors", folder / "task00.safetensors"
    subprocess.run([sys.executable, "-c", WRITE, base, tuned], check=True)
    for i in range(1, tasks):
        os.link(tuned, folder / f"task{i:02}.safetensors")


def _run(program: str, folder: Path, n: int) -> list[tuple[float, float]]:
    """(seconds, peak resident MiB) of each stage, in a process of its own."""
    command = [sys.executable, "-c", PEAK + program, str(folder), str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    stages = [line.split("|") for line in done.stdout.strip().splitlines()]
    return [(float(seconds), float(peak)) for seconds, peak in stages]


def _verdict(peak: float) -> str:
    word = "within" if peak < LIMIT_GIB * 2**10 else "beyond"
    return f"{word} the {LIMIT_GIB:.0f} GiB that it may take"


if __name__ == "__main__":
    main(measure)
