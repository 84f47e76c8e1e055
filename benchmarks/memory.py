"""Memory of one Python process as the embedded model opens, and of a server.

The server's one visitor looks at every lens in a browser, one after the other, each until all that
it shows at first is computed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks import Row, main
from benchmarks._browser import browser_page, seeing, serving

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
ex.accuracy(m, ex.Recipe(base="glyphs", coefficients=dict.fromkeys(m.tasks, 0.3)))
print("all test images measured", *resident(), sep="|")
import torch
print(torch.__version__)
"""
QUICK_WAIT, LONGEST_WAIT = 20, 240  # seconds a lens may compute before memory is read


def measure(quick: bool = False) -> list[Row]:
    """Resident memory at each stage. With `quick` a lens is left after 20 s, complete or not."""
    return [*_one_process(), *_served(QUICK_WAIT if quick else LONGEST_WAIT)]


def _one_process() -> list[Row]:
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


def _served(longest: float) -> list[Row]:
    from explorer.app.lenses import TITLES

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        env = serving.environment(cache=Path(folder) / "cache", threads=2)
        with serving.served(Path(folder), "glyphs", env) as app, browser_page() as page:
            port = app.url.rstrip("/").rpartition(":")[2]
            server = next(
                c for c in psutil.Process().children() if f"port={port}" in str(c.cmdline())
            )
            for lens, title in TITLES.items():
                page.goto(f"{app.url}?view.lens={lens}")
                rest = seeing.comes_to_rest(page, looks=5, longest=longest)
                still = f"still computing after {longest:.0f} s"
                note = "all that it shows at first is computed" if rest else still
                memory = server.memory_full_info()
                note = f"{memory.uss / 2**20:.0f} MiB of it its own; {note}"
                rows.append(Row(f"server, {title} looked at", memory.rss / 2**20, "MiB", note))
    return rows


if __name__ == "__main__":
    main(measure)
