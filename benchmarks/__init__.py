"""Measurements of speed and size: `make bench`, or one of them with `python -m benchmarks.merge`.

A benchmark is a module here with a function `measure(quick) -> list[Row]`. Each runs in a process
of its own, so that imports and memory of one do not colour another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import explorer  # noqa: F401  before torch, whose idle threads it tells how to wait


@dataclass(frozen=True)
class Row:
    """One measured value: `what` was measured, its `value` in `unit`, and how (`note`)."""

    what: str
    value: float
    unit: str
    note: str = ""


def seconds(work: Callable[[], object], repeats: int, warm_up: int = 1) -> list[float]:
    """Seconds on the clock of `repeats` calls, sorted, after `warm_up` calls that do not count."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)


def median_row(what: str, times: list[float], unit: str = "ms", note: str = "") -> Row:
    """The median of `times` (seconds) as a row, the range in its note."""
    scale = {"s": 1.0, "ms": 1e3}[unit]
    spread = f"{times[0] * scale:.3g} to {times[-1] * scale:.3g}, {len(times)} runs"
    value = statistics.median(times) * scale
    return Row(what, value, unit, f"{note}; {spread}" if note else spread)


def machine() -> str:
    """The machine in words: processor count, system and load, since times are read beside them."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load {load:.1f}"


def main(measure: Callable[[bool], list[Row]]) -> None:
    """Run one benchmark from the command line: a table, or JSON for `python -m benchmarks`."""
    parser = argparse.ArgumentParser(description=(measure.__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="rows as JSON on the last line")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(table(rows))


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    from tabulate import tabulate

    cells = [(row.what, f"{row.value:.4g}", row.unit, row.note) for row in rows]
    return tabulate(cells, headers=("what", "median", "unit", "how"), tablefmt="github")
