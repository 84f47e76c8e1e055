"""What the benchmarks in a browser share: a page in headless Chromium, driven as the tests do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

import seeing
import serving

__all__ = ["browser_page", "seeing", "serving"]


@contextmanager
def browser_page() -> Iterator:
    """A page of a laptop's size that waits two minutes for whatever it waits for."""
    from playwright.sync_api import sync_playwright

    path = serving.find_browser()
    if path is None:
        raise SystemExit("No Chromium on this machine; install chromium to measure in a browser.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=serving.ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        page.add_init_script(serving.NO_TOUR)
        yield page
        browser.close()
