"""Every benchmark in turn, each in its own process: `python -m benchmarks [--quick] [NAME ...]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import Row, machine, table

FOLDER = Path(__file__).parent
TIME_LIMIT_S = 900


def names() -> list[str]:
    """The benchmarks in this folder, in alphabetical order."""
    return sorted(file.stem for file in FOLDER.glob("[a-z]*.py"))


def main() -> int:
    """Print one table of all rows; return 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names())}")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(names())}")
    print(machine(), flush=True)
    failed = []
    rows: list[Row] = []
    for name in arguments.names or names():
        print(f"{name} ...", file=sys.stderr, flush=True)
        measured = _run(name, arguments.quick)
        if measured is None:
            failed.append(name)
        else:
            rows += measured
    print(table(rows))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, quick: bool) -> list[Row] | None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] * quick)]
    try:
        done = subprocess.run(
            command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        print(f"{name} took longer than {TIME_LIMIT_S} s", file=sys.stderr)
        return None
    if done.returncode:
        return None
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    sys.exit(main())
