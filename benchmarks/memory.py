"""Memory: the whole app with the embedded model open, after the first figures were computed."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import Row, main

STAGES = """
import os, psutil
process = psutil.Process()
def resident():
    memory = process.memory_full_info()
    return memory.rss / 2**20, memory.uss / 2**20
import explorer as ex
print("python with explorer imported", *resident(), sep="|")
m = ex.open_model("glyphs", device="cpu")
print("embedded model open", *resident(), sep="|")
app = ex.app()
ex.accuracy(m, ex.Recipe(base="glyphs", coefficients=dict.fromkeys(m.tasks, 0.3)))
print("whole app, all test images measured", *resident(), sep="|")
import torch
print(torch.__version__)
"""


def measure(quick: bool = False) -> list[Row]:
    """Resident memory of one process at three stages (`quick` changes nothing here)."""
    done = subprocess.run(
        [sys.executable, "-c", STAGES], check=True, stdout=subprocess.PIPE, text=True
    )
    *stages, torch_version = done.stdout.strip().splitlines()
    rows = []
    for stage in stages:
        what, resident, unique = stage.split("|")
        note = f"{float(unique):.0f} MiB of it its own; torch {torch_version}"
        rows.append(Row(what, float(resident), "MiB", note))
    return rows


if __name__ == "__main__":
    main(measure)
