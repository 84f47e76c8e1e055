"""The picker in headless Chromium: found, pulled from a local hub, cancelled, continued, opened."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import serving
import torch
from playwright.sync_api import expect
from seeing import status, wait_until_complete

sys.path.insert(0, str(Path(__file__).parents[1]))
from local_hub import LocalHub

expect.set_options(timeout=60_000)  # a busy machine takes its time
CATALOGUE = """
format: 1
models:
  hub-tiny:
    title: The tiny model, on a hub
    family: ViT
    repository: owner/tiny
    base: model.json
    licence: CC0-1.0
    caveats: [Good for nothing.]
"""


@pytest.fixture
def hub(tiny_folder):
    """A hub with the tiny model, and with it a file that takes some seconds."""
    files = {
        path.relative_to(tiny_folder).as_posix(): path.read_bytes()
        for path in sorted(tiny_folder.rglob("*"))
        if path.is_file()
    }
    with LocalHub() as server:
        server.put("owner/tiny", {"tasks/more.npz": bytes(12_000_000)} | files)
        yield server


@pytest.fixture
def app(hub, tiny_folder, tmp_path, page):
    """The app served where downloading is allowed, measured to the end."""
    (tmp_path / "catalogue.yml").write_text(CATALOGUE)
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "EXPLORER_CATALOGUE": str(tmp_path / "catalogue.yml"),
        "EXPLORER_PULL": "1",
        "EXPLORER_UPLOAD": "1",
        "HF_HUB_OFFLINE": "0",  # this hub is of this machine
    }
    env = serving.environment(tiny_folder.parent, tmp_path / "cache") | own
    with serving.served(tmp_path, "tiny", env) as served:
        page.goto(served.url)
        wait_until_complete(page)
        yield page


def test_a_set_is_found_pulled_cancelled_continued_and_opened(app, hub):
    app.get_by_role("button", name="find a model…").click()
    rows = app.locator("li.model")
    expect(rows.filter(has_text="tall-masks-vit-l-14")).to_be_visible()
    app.get_by_role("searchbox", name="find a model").fill("hub-tiny cc0")
    expect(rows).to_have_count(1)
    rows.locator(".head").click()
    expect(rows).to_contain_text("mind: Good for nothing.")

    hub.slow = 0.1
    app.get_by_role("button", name="pull hub-tiny").click()
    bar = app.locator(".picker [role=progressbar]")
    expect(bar).to_be_visible()
    expect(bar).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]"))
    app.get_by_role("button", name="cancel", exact=True).click()
    told = app.locator(".picker [role=status]")
    expect(told).to_contain_text("pulling again continues")
    expect(bar).to_be_hidden()

    hub.slow = 0.0
    app.get_by_role("button", name="pull hub-tiny").click()
    expect(told).to_contain_text("hub-tiny: complete")
    assert any(request.range for request in hub.asked("GET", "more.npz"))  # it did continue
    app.get_by_role("button", name="open hub-tiny").click()
    expect(app.get_by_role("combobox").first).to_contain_text("hub-tiny")
    wait_until_complete(app)
    assert status(app) == "all 48–70 test images a task"


def test_the_list_is_filtered_and_a_file_that_is_handed_in_becomes_a_task(
    app, tiny_model, tmp_path
):
    app.get_by_role("button", name="find a model…").click()
    rows = app.locator("li.model")
    expect(rows.filter(has_text="tall-masks-vit-l-14")).to_be_visible()
    family = app.get_by_role("combobox", name="family", exact=True)
    family.select_option("ViT-L/14")
    expect(rows.filter(has_text="tall-masks-vit-l-14")).to_be_visible()
    expect(rows.filter(has_text="tall-masks-vit-b-32")).to_have_count(0)

    # By the keyboard alone: only what is here. None of this family is; the list says what to do.
    app.get_by_role("checkbox", name="here already").focus()
    app.keyboard.press("Space")
    expect(rows).to_have_count(0)
    relax = app.locator(".picker .none button")
    expect(relax.filter(has_text="without family ViT-L/14")).to_be_visible()
    app.get_by_role("button", name=re.compile("^without here already: [1-9]")).focus()
    app.keyboard.press("Enter")
    expect(app.get_by_role("checkbox", name="here already")).not_to_be_checked()
    expect(rows.filter(has_text="tall-masks-vit-l-14")).to_be_visible()
    family.select_option("")

    task = tiny_model.tasks[0]
    path = tmp_path / f"{task}-mine.pt"
    tuned = {key: 1.01 * tensor for key, tensor in tiny_model.base.items()}
    # What is not the tower's makes the file several parts long.
    torch.save({"state_dict": tuned, "optimizer": {"state": torch.zeros(700_000)}}, path)
    app.get_by_label("checkpoint file").set_input_files(path)
    expect(app.get_by_role("combobox").first).to_contain_text(f"tiny+{task}-mine")
    wait_until_complete(app)
    slider = app.get_by_role("slider", name=re.compile(f"from {task}-mine.pt$"))
    expect(slider).to_be_visible()


def test_heads_are_switched_to_probes_and_a_reload_keeps_them(app):
    heads = app.get_by_role("group", name="heads")
    probes = heads.get_by_role("button", name="linear probes")
    expect(probes).to_have_attribute("aria-pressed", "false")
    probes.click()
    app.wait_for_url("**view.heads=probes**", timeout=60_000)
    wait_until_complete(app)
    expect(app.get_by_role("button", name="linear probe", exact=True)).to_be_visible()  # a preset
    app.reload()
    wait_until_complete(app)
    expect(probes).to_have_attribute("aria-pressed", "true")
    heads.get_by_role("button", name="zero-shot").click()
    app.wait_for_url(re.compile(r"^(?!.*view\.heads)"), timeout=60_000)
    wait_until_complete(app)
    expect(probes).to_have_attribute("aria-pressed", "false")
