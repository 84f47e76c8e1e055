"""A small workshop that is quick to give places back, seen from a page in headless Chromium."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import serving
from seeing import set_number, wait_until_complete

IDLE = 6
PLACES = 2
QUICK = f"""
import sys
from explorer.app import visit, workshop
from explorer.cli import main
visit.IDLE_AFTER, workshop.TIDY_EVERY, workshop.MOST_SESSIONS = {IDLE}, 0.5, {PLACES}
workshop.room_for.__wrapped__.__defaults__ = ("", {PLACES})
sys.exit(main())
"""


@pytest.fixture(scope="module")
def hasty(tiny_folder: Path, tmp_path_factory) -> Iterator[str]:
    """A room of two places whose pages may idle for six seconds: its address."""
    folder, port = tmp_path_factory.mktemp("hasty"), serving.free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", QUICK, "app", "tiny", "--workshop", "--no-browser"]
    env = serving.environment(tiny_folder.parent, folder / "cache")
    with serving.running([*command, "--port", str(port)], folder / "log.txt", url, env=env):
        yield url


def sessions(url: str) -> int:
    with urllib.request.urlopen(url + "health", timeout=20) as answer:
        return json.loads(answer.read())["sessions"]


def test_a_page_nobody_uses_gives_its_place_back_and_leads_back_to_the_recipe(page, until, hasty):
    page.goto(hasty)
    wait_until_complete(page)
    set_number(page, "Digits", "0.7")
    until(lambda: "digits=0.7" in page.evaluate("location.href"), "the address follows")
    page.get_by_role("heading", name="Your place was given back").wait_for()
    assert "/away?" in page.url
    until(lambda: sessions(hasty) == 0, "the session is freed")
    page.get_by_role("link", name="Go on where you were").click()
    wait_until_complete(page)
    number = page.get_by_role("spinbutton", name="Digits, exact value", exact=True)
    assert number.input_value() == "0.70"


def test_pages_asked_for_by_no_browser_do_not_fill_the_room(page, until, hasty):
    page.goto("about:blank")
    for _ in range(PLACES):
        with urllib.request.urlopen(hasty, timeout=20) as answer:
            answer.read()
    assert sessions(hasty) >= PLACES
    time.sleep(4)
    page.goto(hasty)
    wait_until_complete(page)
    set_number(page, "Digits", "0.5")
    until(lambda: "digits=0.5" in page.evaluate("location.href"), "the page works")
