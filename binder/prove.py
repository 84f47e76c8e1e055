"""Prove the Binder set-up without docker: `python binder/prove.py [--keep FOLDER] [NOTEBOOK ...]`.

Builds an environment from this project's own bounds (those of environment.yml; a test holds the two
equal) in a fresh folder, in the versions of requirements.lock, reports its size, and runs the
tutorials with one core, 2 GB of memory and the variables of binder/start, as a Binder session has
them. Where control groups can be written the 2 GB are a hard limit; in any case the most memory
that a tutorial's processes had together is measured.

--torch cpu installs torch without CUDA from PyTorch's own index, as Binder's conda does; where that
cannot be reached, the CUDA build is installed, and its libraries are listed apart in the sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 2 * 2**30
CUDA = re.compile(r"^(nvidia|cuda|triton)")
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
LIMIT_FILES = ("memory.limit_in_bytes", "memory.max")
"""The same limit in control groups of version 1 and 2."""
SLOWEST = 600


@dataclass(frozen=True)
class Ran:
    """One tutorial: exit code, seconds, most megabytes of all its processes, end of its output."""

    code: int
    seconds: float
    peak_mb: float
    said: str


def main() -> int:
    """Build, measure, run; 1 if a tutorial failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all tutorials by default")
    parser.add_argument("--keep", type=Path, help="where to build; kept, and used again")
    parser.add_argument("--torch", default="", help="uv's --torch-backend, for example cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = (given.keep or Path(folder)).resolve()
        build(place, given.torch)
        report_size(place)
        with limited() as (join, kind):
            print(f"\none core, {kind}\n")
            print("| tutorial | seconds | peak MB | result |\n|---|--:|--:|---|")
            notebooks = given.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
            results = [show(path, run(place, path, join)) for path in notebooks]
    return int(any(result.code for result in results))


def build(place: Path, torch: str) -> None:
    """An environment in `place`, unless there is one."""
    if (place / "bin" / "python").exists():
        return
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    if uv is None:
        raise SystemExit("uv is not beside this Python; run this with the Python of make's .venv.")
    began = time.monotonic()
    subprocess.run([uv, "venv", "--quiet", place], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", place / "bin" / "python"]
    backend = ["--torch-backend", torch] if torch else []
    wanted = ["--constraint", ROOT / "requirements.lock", ROOT, "jupyter-panel-proxy>=0.2"]
    subprocess.run([*install, *backend, *wanted], check=True, env=mirrored())
    print(f"built in {time.monotonic() - began:.0f} s")


def mirrored() -> dict[str, str]:
    """Where a person has told only pip of a mirror, uv is told the same, as in the Makefile."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return ({"UV_DEFAULT_INDEX": told} if told else {}) | os.environ


def report_size(place: Path) -> None:
    """Bytes on disk by package, the largest first, CUDA's libraries apart."""
    (packages,) = place.glob("lib/python*/site-packages")
    sizes = {path.name: size_of(path) for path in packages.iterdir()}
    cuda = sum(size for name, size in sizes.items() if CUDA.match(name))
    rest = {name: size for name, size in sizes.items() if not CUDA.match(name)}
    largest = sorted(rest, key=lambda name: -rest[name])[:8]
    print(f"installed: {mb(sum(rest.values()))} MB, and {mb(cuda)} MB of CUDA's libraries")
    print("largest: " + ", ".join(f"{name} {mb(rest[name])}" for name in largest))


def size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def mb(size: float) -> int:
    return round(size / 2**20)


@contextlib.contextmanager
def limited() -> Iterator[tuple[Path | None, str]]:
    """A control group of 2 GB: (its list of processes, or None, and what is limited in words)."""
    for base in GROUPS:
        group = base / f"explorer-binder-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:  # read-only, or no such place: the next kind
            continue
        limit = next((group / name for name in LIMIT_FILES if (group / name).exists()), None)
        try:
            if limit is not None:
                limit.write_text(str(MOST_BYTES))
                yield group / "cgroup.procs", "2 GB of memory at most (a control group)"
                return
        finally:
            group.rmdir()
    yield None, "memory measured, not limited (control groups cannot be written here)"


def run(place: Path, notebook: Path, join: Path | None) -> Ran:
    """Execute a copy of a notebook as Binder would."""
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(shutil.copy(notebook, folder))
        variables = re.findall(r"^export (\w+)=(\S+)$", (ROOT / "binder/start").read_text(), re.M)
        env = {**os.environ, **dict(variables), "EXPLORER_CACHE": str(Path(folder) / "cache")}
        env["PATH"] = f"{place / 'bin'}{os.pathsep}{env['PATH']}"
        program = (
            f"exec taskset -c 0 {shlex.quote(str(place / 'bin' / 'jupyter'))} execute {copied.name}"
        )
        if join is not None:
            program = f"echo $$ > {shlex.quote(str(join))} && {program}"
        began = time.monotonic()
        log = Path(folder) / "log.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["sh", "-c", program], cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT
            )
            peak = watch(process)
        return Ran(process.returncode, time.monotonic() - began, peak, log.read_text()[-2000:])


def watch(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; the most megabytes (proportional set size) of it and its children."""
    most, end = 0.0, time.monotonic() + SLOWEST
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
        with contextlib.suppress(psutil.Error):  # one that ends while it is asked
            root = psutil.Process(process.pid)
            family = [root, *root.children(recursive=True)]
            most = max(most, sum(p.memory_full_info().pss for p in family) / 2**20)
        time.sleep(0.25)
    return most


def show(notebook: Path, ran: Ran) -> Ran:
    """A line of the table."""
    result = "passed" if ran.code == 0 else f"FAILED ({ran.code})"
    print(f"| {notebook.stem} | {ran.seconds:.0f} | {ran.peak_mb:.0f} | {result} |", flush=True)
    if ran.code:
        print(ran.said, file=sys.stderr)
    return ran


if __name__ == "__main__":
    sys.exit(main())
