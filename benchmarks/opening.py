"""Opening: `import explorer`, `explorer --help`, and the embedded model, each in a new process."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import Row, main, median_row, seconds

OPENING = """
import time
start = time.perf_counter()
import torch, torchvision, open_clip
libraries = time.perf_counter()
import explorer as ex
m = ex.open_model("glyphs", device="cpu")
opened = time.perf_counter()
ex.accuracy(m, ex.Recipe(base="glyphs"), n=16)
print(libraries - start, opened - libraries, time.perf_counter() - opened)
"""


def measure(quick: bool = False) -> list[Row]:
    """Time what a person waits for before the first slider moves."""
    runs = 1 if quick else 5

    def process(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    python = seconds(lambda: process("-c", "pass"), runs)
    package = seconds(lambda: process("-c", "import explorer"), runs)
    usage = seconds(lambda: process("-m", "explorer.cli", "--help"), runs)
    libraries, opened, first = (sorted(times) for times in zip(*_openings(runs), strict=True))
    return [
        median_row("start of Python alone", python),
        median_row("import explorer", package, note="with the start of Python"),
        median_row("explorer --help", usage, note="with the start of Python"),
        median_row("import torch, torchvision, open_clip", libraries, "s", "new process"),
        median_row("open_model('glyphs')", opened, "s", "libraries imported"),
        median_row("first accuracy, 16 images a task", first, "s", "includes heads from text"),
    ]


def _openings(runs: int) -> list[tuple[float, ...]]:
    timed = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", OPENING], check=True, stdout=subprocess.PIPE, text=True
        )
        timed.append(tuple(float(word) for word in done.stdout.split()))
        time.sleep(0.1)
    return timed


if __name__ == "__main__":
    main(measure)
