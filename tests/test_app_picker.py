"""Claims about the picker without a browser: what it lists, and what it does for whom."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import explorer as ex
from explorer.app import rules
from explorer.app.picker.picker import Picker
from explorer.app.picker.rows import may_pull
from explorer.app.shared_models import SHELF
from explorer.models.added import with_tasks


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch, tiny_folder):
    """The tiny model beside the embedded ones, an empty cache of the hub, no user's catalogue."""
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("EXPLORER_CATALOGUE", str(tmp_path / "catalogue.yml"))
    monkeypatch.setenv("EXPLORER_OFFLINE", "1")


def after(*messages: dict) -> tuple[Picker, list[str]]:
    """A picker that got these messages, and the names it asked to open."""
    return with_model(None, *messages)


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


# --- paths and files of one's own ------------------------------------------------------------


def tuned(model: ex.Model, seed: int) -> dict[str, torch.Tensor]:
    """Another tower near the model's base."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
        for key, tensor in model.base.items()
    }


@pytest.fixture
def model(tiny_model) -> ex.Model:
    return tiny_model


@pytest.fixture
def towers(model, tmp_path):
    """A folder of two checkpoints of the open model's tower, without a base."""
    folder = tmp_path / "towers"
    (folder / "other").mkdir(parents=True)
    first, second = model.tasks[:2]
    torch.save(tuned(model, 0), folder / f"{first}.pt")
    save_file(tuned(model, 1), folder / f"{second}-long.safetensors")
    return folder


def with_model(model: ex.Model | None, *messages: dict) -> tuple[Picker, list[str]]:
    """As `after`, where this model is open."""
    opened: list[str] = []

    async def talk() -> Picker:
        picker = Picker(opened.append, lambda: model)
        for message in messages:
            picker._on_message(message)
            while picker._tasks:
                await asyncio.gather(*picker._tasks)
        picker.close()
        return picker

    return asyncio.run(talk()), opened


def test_checkpoints_become_tasks_that_are_measured_and_leave_the_model_alone(model, towers):
    first, second = model.tasks[:2]
    before = [*model.tasks]
    files = {first: towers / f"{first}.pt", f"{second}-long": towers / f"{second}-long.safetensors"}
    more = with_tasks(model, files)
    new = [f"{first}-2", f"{second}-long"]
    assert more.tasks == [*before, *new]
    assert model.tasks == before
    expected = tuned(model, 0)
    vector = more.task_vector(f"{first}-2")
    assert all(torch.equal(vector[key], expected[key] - model.base[key]) for key in vector)
    assert torch.equal(more.head(f"{first}-2").weight, model.head(first).weight)
    assert (more.images(f"{second}-long", 3)[0] == model.images(second, 3)[0]).all()
    measured = ex.accuracy(more, ex.Recipe(base=more.name, coefficients={f"{first}-2": 1.0}))
    assert {*measured["task"].values} >= {*new}
    again = with_tasks(more, {first: files[first]})
    assert again.tasks[-1] == f"{first}-3"
    assert ex.geometry(again)["cosine"].sel(task=f"{first}-2", task2=f"{first}-3") > 0.999


def test_a_checkpoint_without_images_or_of_another_tower_is_no_task(model, towers, tmp_path):
    with pytest.raises(ex.ModelError, match=r"unheard-of\.pt is named after no task"):
        with_tasks(
            model,
            {"unheard-of": (towers / f"{model.tasks[0]}.pt").rename(towers / "unheard-of.pt")},
        )
    torch.save(
        {key: tensor[:1] for key, tensor in model.base.items() if tensor.ndim}, tmp_path / "a.pt"
    )
    with pytest.raises(ex.CheckpointError, match=r"a\.pt"):
        with_tasks(model, {model.tasks[0]: tmp_path / "a.pt"})


def test_a_folder_given_by_path_is_added_to_the_open_model(model, towers):
    find, add = ({"kind": kind, "name": str(towers)} for kind in ("find", "add"))
    picker, opened = with_model(model, find)
    (row,) = picker.list.rows
    assert row["adds"]
    assert not row["opens"]
    assert row["title"] == "2 checkpoints without a base"
    picker, opened = with_model(model, find, add)
    new = [f"{model.tasks[0]}-2", f"{model.tasks[1]}-long"]
    assert opened == [f"{model.name}+{'+'.join(new)}"]
    assert [*SHELF.open(opened[0]).tasks] == [*model.tasks, *new]
    assert picker.list.status == f"added {', '.join(new)}"


def test_a_folder_with_a_base_opens_by_its_path(towers, model):
    torch.save(dict(model.base), towers / "zeroshot.pt")
    find, open_it = ({"kind": kind, "name": str(towers)} for kind in ("find", "open"))
    picker, opened = with_model(None, find, open_it)
    assert opened == [str(towers)]
    assert picker.list.rows[0]["tasks"].split(", ") == sorted(
        [model.tasks[0], f"{model.tasks[1]}-long"]
    )


def test_a_path_of_nothing_is_a_sentence_and_strangers_name_none(tmp_path, monkeypatch, towers):
    find = {"kind": "find", "name": str(tmp_path / "nothing")}
    assert "no file of weights" in with_model(None, find)[0].list.status
    monkeypatch.setattr(SHELF, "offered", frozenset({"tiny"}))
    picker, _ = with_model(None, {"kind": "find", "name": str(towers)})
    assert not picker.list.paths
    assert picker.list.rows == []
    assert "There is no model" in picker.list.status


def test_nothing_is_added_that_is_not_listed_and_nothing_to_no_model(towers):
    add = {"kind": "add", "name": str(towers)}
    assert with_model(None, add)[0].list.status == ""
    picker, opened = with_model(None, {"kind": "find", "name": str(towers)}, add)
    assert "No model is open" in picker.list.status
    assert opened == []


# --- files handed in -------------------------------------------------------------------------


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """The folder that files arrive in, where the server allows it."""
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EXPLORER_UPLOAD", "1")
    return tmp_path / "cache" / "uploads"


def sent(data: bytes, called: str, part: int = 50_000, **announced: object) -> list[dict]:
    """What the browser sends of a file."""
    begin = {"kind": "upload", "name": called, "size": len(data)} | announced
    parts = [
        {"kind": "part", "at": at, "data": base64.b64encode(data[at : at + part]).decode()}
        for at in range(0, len(data), part)
    ]
    return [begin, *parts]


def left(folder) -> list:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_a_file_is_handed_in_only_where_the_server_allows_it(model, towers, uploads, monkeypatch):
    data = (towers / f"{model.tasks[0]}.pt").read_bytes()
    monkeypatch.delenv("EXPLORER_UPLOAD")
    picker, opened = with_model(model, *sent(data, "mnist.pt"))
    assert not picker.list.uploads
    assert "EXPLORER_UPLOAD=1" in picker.list.status
    assert opened == []
    monkeypatch.setenv("EXPLORER_UPLOAD", "1")
    monkeypatch.setattr(rules, "_rules", rules.WORKSHOP)
    assert (
        "cannot be loaded on this server" in with_model(model, *sent(data, "a.pt"))[0].list.status
    )
    assert left(uploads) == []


def test_a_file_that_was_handed_in_becomes_a_task_of_the_open_model(model, towers, uploads):
    first = model.tasks[0]
    data = (towers / f"{first}.pt").read_bytes()
    assert len(sent(data, "")) > 4
    picker, opened = with_model(model, *sent(data, f"{first}.pt"))
    assert opened == [f"{model.name}+{first}-2"]
    assert picker.list.wanted == -1
    more = SHELF.open(opened[0])
    expected = tuned(model, 0)["proj"] - model.base["proj"]
    assert torch.equal(more.task_vector(f"{first}-2")["proj"], expected)
    (kept,) = left(uploads)
    assert kept.stat().st_mode & 0o777 == 0o600
    SHELF._kept.pop(opened[0])
    del more
    gc.collect()
    assert left(uploads) == []  # nobody can open it any more


class Attack:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_a_malicious_file_is_refused_by_the_restricted_reader_and_deleted(
    model, uploads, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Attack())
    picker, opened = with_model(model, *sent(data, f"{model.tasks[0]}.pt"))
    assert "Nothing was run" in picker.list.status
    assert opened == []
    assert left(uploads) == []
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [
        ({"name": "notes.txt"}, "notes.txt is no checkpoint by its name"),
        ({"size": 0}, "is empty"),
        ({"size": "many"}, "is empty"),
        ({"size": True}, "is empty"),
        ({"size": 3_000_000_000}, "has 3,000 MB, and this server takes files of at most 2,000 MB"),
        ({"size": 10}, "changed while it was sent"),
        ({"name": "../../../mnist.pt", "size": 10}, "changed while it was sent"),
    ],
)
def test_what_is_no_checkpoint_or_too_large_is_a_sentence(model, uploads, announced, sentence):
    picker, opened = with_model(model, *sent(bytes(500), "mnist.pt", **announced))
    assert sentence in picker.list.status
    assert opened == []
    assert left(uploads) == []


def test_a_file_called_by_a_path_stays_in_its_folder(model, uploads):
    messages = sent(bytes(500), "../../../etc/mnist.pt", part=100)[:2]
    picker = Picker(lambda _: None, lambda: model)
    for message in messages:
        picker._on_message(message)
    (arrived,) = left(uploads)
    assert arrived.resolve().is_relative_to(uploads.resolve())
    assert arrived.stat().st_size == 100
    assert picker._upload.progress == 0.2
    picker.close()
    assert left(uploads) == []


def test_the_cap_is_the_servers_and_a_full_disk_is_said_beforehand(model, uploads, monkeypatch):
    monkeypatch.setenv("EXPLORER_UPLOAD_MB", "0.0001")
    assert (
        "a larger EXPLORER_UPLOAD_MB" in with_model(model, *sent(bytes(500), "a.pt"))[0].list.status
    )
    monkeypatch.delenv("EXPLORER_UPLOAD_MB")
    free = shutil.disk_usage("/")._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert "no room" in with_model(model, *sent(bytes(500), "a.pt"))[0].list.status


@pytest.mark.parametrize("data", ["***", 5, None, "A" * 3_000_000])
def test_parts_that_are_none_end_it(model, uploads, data):
    begin, *_ = sent(bytes(500), "mnist.pt")
    picker, _ = with_model(model, begin, {"kind": "part", "at": 0, "data": data})
    assert "arrived damaged" in picker.list.status
    assert left(uploads) == []


def test_a_part_twice_or_ahead_is_passed_over(model, uploads):
    begin, first, second, *_ = sent(bytes(500), "mnist.pt", part=100)
    picker = Picker(lambda _: None, lambda: model)
    for message in (begin, second, first, first, second):
        picker._on_message(message)
    assert picker._upload.received == 200
    picker._on_message({"kind": "cancel"})
    assert picker._upload is None
    assert "stopped" in picker.list.status
    assert left(uploads) == []
    picker.close()


def test_what_an_ended_process_left_is_deleted(model, uploads):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        (uploads / f"{pid}-0123").mkdir(parents=True)
        (uploads / f"{pid}-0123" / "mnist.pt").write_bytes(b"a")
    picker = Picker(lambda _: None, lambda: model)
    picker._on_message(sent(bytes(500), "mnist.pt")[0])
    picker.close()
    assert [path.parent.name for path in left(uploads)] == [f"{os.getpid()}-0123"]
