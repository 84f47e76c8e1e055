"""A workshop's page in headless Chromium: what a dropped connection costs, and a long drag."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import serving
from seeing import set_number, wait_until_complete

CATCH_SOCKETS = """
    window.sockets = []
    window.WebSocket = class extends WebSocket {
        constructor(...given) { super(...given); window.sockets.push(this) }
    }
"""


@pytest.fixture(scope="module")
def workshop(tiny_folder: Path, tmp_path_factory) -> Iterator[str]:
    """The tiny model on a server for many: its address."""
    folder, port = tmp_path_factory.mktemp("workshop"), serving.free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "explorer.cli", "app", "tiny", "--workshop", "--no-browser"]
    env = serving.environment(tiny_folder.parent, folder / "cache")
    with serving.running([*command, "--port", str(port)], folder / "log.txt", url, env=env):
        yield url


def test_a_dropped_connection_comes_back_with_the_recipe_and_goes_on(page, until, workshop):
    page.add_init_script(CATCH_SOCKETS)
    page.goto(workshop)
    wait_until_complete(page)
    set_number(page, "Digits", "0.7")
    until(lambda: "digits=0.7" in page.evaluate("location.href"), "the address follows")
    with page.expect_navigation():
        page.evaluate("window.sockets.forEach((socket) => socket.close())")
    wait_until_complete(page)
    number = page.get_by_role("spinbutton", name="Digits, exact value", exact=True)
    assert number.input_value() == "0.70"
    set_number(page, "Digits", "0.4")
    until(lambda: "digits=0.4" in page.evaluate("location.href"), "and it is alive")
    wait_until_complete(page)


def test_a_long_drag_ends_where_the_hand_ends(page, until, workshop):
    """Positions are held back while the server has two to answer; the last one never is."""
    page.goto(workshop)
    wait_until_complete(page)
    handle = page.locator(".row[data-task=digits] input[type=range]")
    box = handle.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 3, y)
    page.mouse.down()
    for step in range(40):
        page.mouse.move(box["x"] + box["width"] * (1 / 3 + step / 80), y)
    page.mouse.up()
    value = float(handle.input_value())
    assert value > 0.5
    wait_until_complete(page)
    until(lambda: f"digits={value:g}" in page.evaluate("location.href"), "the last one counts")


def test_there_is_no_button_for_files(page, workshop):
    page.goto(workshop)
    wait_until_complete(page)
    assert page.get_by_role("button", name="load recipe").count() == 0
