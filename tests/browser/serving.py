"""Start what a browser looks at: the served app, and a real JupyterLab with nobody's settings.

Plain functions, so that `benchmarks/slider_latency.py` measures exactly what the tests drive.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_TOUR = "try { localStorage.setItem('explorer-tour', 'seen') } catch { /* no page yet */ }"
"""In a page before its own scripts: this browser has had the tour."""
TOKEN = "t0k"
START = 120  # seconds a server may take on a busy machine
NOTIFICATIONS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
PRIVATE = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)


def find_browser() -> str | None:
    """The machine's own Chromium; nothing is downloaded."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(
    models: Path | None = None, cache: Path | None = None, threads: int = 1
) -> dict[str, str]:
    """The processes' environment.

    models is a folder of model folders beside the embedded ones, cache where results are kept
    instead of this machine's own folder (whose old results make a computation end at once).
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    own = {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    given = {"EXPLORER_MODELS": models, "EXPLORER_CACHE": cache}
    return {**os.environ, **own, **{name: str(path) for name, path in given.items() if path}}


@contextmanager
def running(command: Sequence[str], log: Path, url: str, **settings) -> Iterator[None]:
    """A process that answers at url; it is ended afterwards."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **settings)
        try:
            _wait_for(url, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"{url} did not answer; its log ends:\n{log.read_text()[-3000:]}")


@dataclass(frozen=True)
class Served:
    """The address of the served app, and what it printed."""

    url: str
    log: Path


@contextmanager
def served(folder: Path, model: str, env: dict[str, str]) -> Iterator[Served]:
    """The app served on a model of the catalogue; its log goes to folder."""
    port = free_port()
    code = f"from explorer.app import serve; serve(port={port}, show=False, model={model!r})"
    app = Served(f"http://127.0.0.1:{port}/", folder / "served.txt")
    with running([sys.executable, "-c", code], app.log, app.url, env=env):
        yield app


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab or Notebook 7; `open(page, cells)` runs a notebook of these cells."""

    url: str
    folder: Path
    place: str
    """Where under url a notebook is opened, before its name."""

    def open(self, page, cells: list[str]) -> None:
        """Open a notebook of these cells and run all of them."""
        (self.folder / "test.ipynb").write_text(json.dumps(_notebook(cells)))
        self.open_file(page, "test.ipynb")

    def open_file(self, page, name: str) -> None:
        """Open a notebook of the folder and run all its cells."""
        self._forget_sessions()
        page.goto(f"{self.url}/{self.place}/{name}?reset&token={TOKEN}")
        self._wait_for_kernel()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def restart_kernel(self) -> None:
        """Restart the open notebook's kernel, as its menu does."""
        (session,) = json.loads(self._request("/api/sessions"))
        self._request(f"/api/kernels/{session['kernel']['id']}/restart", "POST")

    def _request(self, path: str, method: str = "GET") -> bytes:
        headers = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def _forget_sessions(self) -> None:
        for session in json.loads(self._request("/api/sessions")):
            self._request(f"/api/sessions/{session['id']}", "DELETE")

    def _wait_for_kernel(self) -> None:
        """Without a connected, idle kernel "Run All" asks which kernel to use."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            kernels = [s["kernel"] for s in json.loads(self._request("/api/sessions"))]
            if any(k["connections"] >= 1 and k["execution_state"] == "idle" for k in kernels):
                return
            time.sleep(0.3)
        raise RuntimeError("the notebook's kernel did not start")


def _notebook(cells: list[str]) -> dict:
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "cells": [{**empty, "id": f"cell{i}", "source": cell} for i, cell in enumerate(cells)],
    }


PLACES = {"jupyterlab": "lab/tree", "notebook": "notebooks"}
"""Where each interface opens a notebook, by the module that starts it."""


@contextmanager
def lab(folder: Path, env: dict[str, str], interface: str = "jupyterlab") -> Iterator[Lab]:
    """A JupyterLab or Notebook 7 of its own: private settings, no news, notebooks in folder."""
    private = {name: str(folder / name.lower()) for name in PRIVATE}
    settings = Path(private["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NOTIFICATIONS))
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    port = free_port()
    command = [
        *(sys.executable, "-m", interface, "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"),
        f"--ServerApp.root_dir={notebooks}",
    ]
    url = f"http://127.0.0.1:{port}"
    env = {**env, **private, "JUPYTER_PREFER_ENV_PATH": "1"}
    with running(command, folder / "lab.txt", f"{url}/api", env=env, cwd=notebooks):
        yield Lab(url, notebooks, PLACES[interface])
