"""A served app and a real JupyterLab, both on the tiny model, seen through headless Chromium."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    """The machine's own Chromium; where there is none, CI fails and people's tests are skipped."""
    path = serving.find_browser()
    if path is None:
        message = "no Chromium on this machine; install chromium to run the browser tests"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return {**browser_type_launch_args, "executable_path": path, "args": serving.ARGUMENTS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict) -> dict:
    return {
        **browser_context_args,
        "viewport": {"width": 1280, "height": 720},
        "permissions": ["clipboard-read", "clipboard-write"],
    }


@pytest.fixture
def forgiven() -> tuple[str, ...]:
    """Errors that the surroundings log also where nothing of ours is on the page."""
    return ()


@pytest.fixture
def page(page, forgiven) -> Iterator:
    """A page that must ask nobody outside for anything and must log no error."""
    page.set_default_timeout(40_000)
    page.add_init_script(serving.NO_TOUR)
    troubles: list[str] = []
    outside: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda m: troubles.append(m.text) if _is_error(m) else None)
    page.on("request", lambda r: outside.append(r.url) if _is_outside(r.url) else None)
    yield page
    assert outside == []
    assert [trouble for trouble in troubles if trouble not in forgiven] == []


def _is_error(message) -> bool:
    # A folder without a favicon or a settings file is no error of ours.
    return message.type == "error" and "404" not in message.text


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:"))


@pytest.fixture(scope="session")
def served(tiny_folder: Path, tmp_path_factory) -> Iterator[serving.Served]:
    """The app served on the tiny model."""
    folder = tmp_path_factory.mktemp("served")
    env = serving.environment(tiny_folder.parent, folder / "cache")
    with serving.served(folder, "tiny", env) as app:
        yield app


@pytest.fixture
def counting(tiny_folder: Path, tmp_path) -> Iterator[serving.Served]:
    """The same, in a process that prints how many documents it holds."""
    port = serving.free_port()
    app = serving.Served(f"http://127.0.0.1:{port}/", tmp_path / "log.txt")
    command = [sys.executable, str(Path(__file__).parent / "counting_server.py"), str(port)]
    env = serving.environment(tiny_folder.parent, tmp_path / "cache")
    with serving.running(command, app.log, app.url, env=env):
        yield app


@pytest.fixture(scope="session")
def lab(tiny_folder: Path, tmp_path_factory) -> Iterator[serving.Lab]:
    """A JupyterLab of its own, which finds the tiny model."""
    folder = tmp_path_factory.mktemp("lab")
    env = serving.environment(tiny_folder.parent, folder / "cache")
    with serving.lab(folder, env) as running:
        yield running


@pytest.fixture
def until() -> Callable:
    """Wait until a condition holds, and say what was seen last if it never does."""

    def wait(condition: Callable[[], object], what: str, seconds: float = 40.0) -> object:
        deadline = time.monotonic() + seconds
        seen = None
        while time.monotonic() < deadline:
            seen = condition()
            if seen:
                return seen
            time.sleep(0.1)
        raise AssertionError(f"never happened: {what}; seen last: {seen!r}")

    return wait
