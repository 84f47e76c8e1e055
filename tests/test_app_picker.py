"""Claims about the picker without a browser: what it lists, and what it does for whom."""

from __future__ import annotations

import asyncio

import pytest

from explorer.app.picker.picker import Picker
from explorer.app.picker.rows import may_pull


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch, tiny_folder):
    """The tiny model beside the embedded ones, an empty cache of the hub, no user's catalogue."""
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("EXPLORER_CATALOGUE", str(tmp_path / "catalogue.yml"))
    monkeypatch.setenv("EXPLORER_OFFLINE", "1")


def after(*messages: dict) -> tuple[Picker, list[str]]:
    """A picker that got these messages, and the names it asked to open."""
    opened: list[str] = []

    async def talk() -> Picker:
        picker = Picker(opened.append)
        for message in messages:
            picker._on_message(message)
            while picker._tasks:
                await asyncio.gather(*picker._tasks)
        picker.close()
        return picker

    return asyncio.run(talk()), opened


def test_it_lists_what_is_here_and_what_is_on_a_hub():
    picker, _ = after({"kind": "show", "shown": True})
    rows = {row["name"]: row for row in picker.list.rows}
    assert rows["tiny"]["opens"]
    assert rows["tiny"]["local"] == "yes"
    assert rows["tall-masks-vit-l-14"]["size"] > 10_000
    assert not rows["tall-masks-vit-l-14"]["opens"]
    assert "diffusion" not in {row["kind"] for row in rows.values()}


def test_only_a_listed_model_that_is_here_is_opened():
    show = {"kind": "show", "shown": True}
    names = ["tiny", "/etc", "tall-masks-vit-b-32"]
    assert after(show, *({"kind": "open", "name": name} for name in names))[1] == ["tiny"]


def test_a_repository_is_found_by_its_address():
    show = {"kind": "show", "shown": True}
    picker, _ = after(show, {"kind": "find", "name": "hub:owner/name"}, show)
    assert [row["local"] for row in picker.list.rows if row["name"] == "hub:owner/name"] == ["no"]
    picker, _ = after(show, {"kind": "find", "name": "hub:../.."})
    assert "no repository of a hub" in picker.list.status


def test_a_served_app_downloads_only_where_that_was_allowed(monkeypatch):
    pull = {"kind": "pull", "name": "fusion-bench-vit-b-32"}
    monkeypatch.delenv("EXPLORER_PULL", raising=False)
    assert not may_pull()
    assert after(pull)[0].list.status == ""
    monkeypatch.setenv("EXPLORER_PULL", "1")
    assert "EXPLORER_OFFLINE is set" in after(pull)[0].list.status
