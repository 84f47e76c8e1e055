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
from explorer.app.serve import known_names
from explorer.app.shared_models import SHELF
from explorer.app.shell import Shell
from explorer.app.strangers import discreet
from explorer.app.workshop import room_for
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


def test_the_code_of_a_model_with_added_tasks_makes_the_same_model(model, towers, own_cache):
    first = model.tasks[0]
    more = with_tasks(model, {first: str(towers / f"{first}.pt")})
    code = more.to_python().replace(f"ex.open_model({model.name!r})", "model")
    again = eval(code, {"ex": ex, "model": model})
    assert (again.name, again.tasks) == (more.name, more.tasks)
    assert torch.equal(
        again.task_vector(f"{first}-2")["proj"], more.task_vector(f"{first}-2")["proj"]
    )
    handed_in = own_cache / "uploads" / "1-a" / f"{first}.pt"
    handed_in.parent.mkdir(parents=True)
    shutil.copy(towers / f"{first}.pt", handed_in)
    assert str(own_cache) not in with_tasks(model, {first: handed_in}).to_python()


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


# --- links to added tasks --------------------------------------------------------------------


@pytest.fixture
def own_shelf():
    """Nothing open from another test; `again()` is what a restart of the server does."""

    def again() -> None:
        for books in (SHELF._kept, SHELF._alive, SHELF._probed):
            books.clear()

    again()
    return again


def shown(link: str, look) -> None:
    """Open the app by this link and look(shell) at it."""

    async def main() -> None:
        shell = Shell("tiny", link)
        shell.embedded()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        look(shell)
        shell.close()

    asyncio.run(asyncio.wait_for(main(), 60))


LINK = (
    "base=tiny%2Bdigits-2%2Bletters-long&digits=0.3&digits-2=0.4&schedule=lines:0.1,0.9"
    "&view.focus=digits-2&view.chart=normalized&view.off=hearts:0.2,letters-long:0.5"
)


def test_a_link_to_tasks_added_by_their_path_finds_their_files_after_a_restart(own_shelf, towers):
    tiny = SHELF.open("tiny")
    find, add = ({"kind": kind, "name": str(towers)} for kind in ("find", "add"))
    _, opened = with_model(tiny, find, add)
    assert opened == ["tiny+digits-2+letters-long"]
    vector = SHELF.open(opened[0]).task_vector("digits-2")
    del tiny
    own_shelf()

    def look(shell: Shell) -> None:
        assert shell.model_name == opened[0]
        assert shell.lens.recipe.active == {"digits": 0.3, "digits-2": 0.4}
        assert shell.lens.state.focus == "digits-2"
        assert shell.lens.sentences == []
        again = shell.lens.model.task_vector("digits-2")
        assert all(torch.equal(again[key], vector[key]) for key in vector)

    shown(LINK, look)


@pytest.mark.parametrize("why", ["never added", "changed", "gone", "strangers"])
def test_a_link_to_added_tasks_that_are_gone_says_so_and_keeps_the_rest(
    own_shelf, towers, monkeypatch, why
):
    if why != "never added":
        find, add = ({"kind": kind, "name": str(towers)} for kind in ("find", "add"))
        with_model(SHELF.open("tiny"), find, add)
        own_shelf()
    if why == "changed":
        torch.save(tuned(ex.open_model("tiny"), 5), towers / "digits.pt")
    elif why == "gone":
        (towers / "digits.pt").unlink()
    elif why == "strangers":
        monkeypatch.setattr(SHELF, "offered", frozenset({"tiny"}))

    def look(shell: Shell) -> None:
        assert shell.model_name == "tiny"
        assert shell.lens.recipe.active == {"digits": 0.3}
        assert shell.lens.recipe.schedule == ex.lines(0.1, 0.9)
        assert shell.lens.state.chart == "normalized"
        assert shell.lens.state.off == {"hearts": 0.2}
        (sentence,) = shell.lens.sentences
        assert "added to tiny from a file as digits-2, letters-long" in sentence
        assert "add it again" in sentence
        assert str(towers) not in sentence

    shown(LINK, look)


def test_a_map_of_a_task_that_is_gone_is_another_map_and_nothing_more(own_shelf):
    link = "base=tiny%2Bdigits-2&view.lens=disentanglement&view.pair=letters,digits-2&view.seed=3"

    def look(shell: Shell) -> None:
        assert "digits-2" not in shell.lens.state.pair
        assert shell.lens.state.seed == 3
        assert len(shell.lens.sentences) == 1

    shown(f"{link}&view.pin1=digits,digits-2:weights:-1,1:5:40:0", look)


def test_a_link_to_a_model_that_never_was_is_no_matter_of_added_tasks(own_shelf):
    def look(shell: Shell) -> None:
        assert shell.model_name == "tiny"
        assert "There is no model 'nobody+digits'" in shell.lens.sentences[0]

    shown("base=nobody%2Bdigits&digits=0.3", look)


def test_what_is_remembered_is_for_its_owner_and_a_damaged_file_of_it_does_no_harm(
    own_shelf, towers, own_cache
):
    find, add = ({"kind": kind, "name": str(towers)} for kind in ("find", "add"))
    with_model(SHELF.open("tiny"), find, add)
    (file,) = own_cache.glob("added.json")
    assert file.stat().st_mode & 0o777 == 0o600
    own_shelf()
    for text in ("{", "[]", '{"tiny+digits-2+letters-long": {"before": "tiny", "files": [1]}}'):
        file.write_text(text)
        with pytest.raises(ex.UnknownNameError):
            SHELF.open("tiny+digits-2+letters-long")


# --- strangers -------------------------------------------------------------------------------


@pytest.mark.parametrize("served", ["to strangers", "in a room", "on loopback"])
def test_strangers_see_no_folder_of_this_machine(served, tmp_path, monkeypatch, tiny_folder):
    (tmp_path / "mine").mkdir()
    (tmp_path / "catalogue.yml").write_text(
        f"format: 1\nmodels:\n  of-mine:\n    title: Mine\n    folder: {tmp_path / 'mine'}\n"
        f"    base: base.pt\n    caveats: [Copied from {tmp_path}/elsewhere.]\n"
    )
    broken = tmp_path / "models" / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / "model.json").write_text("{")
    monkeypatch.setenv(
        "EXPLORER_MODELS", os.pathsep.join([str(tiny_folder.parent), str(broken.parent)])
    )

    def rows() -> dict[str, dict]:
        picker, _ = after({"kind": "show", "shown": True})
        return {row["name"]: row for row in picker.list.rows}

    if served == "in a room":
        with room_for():
            found = rows()
    else:
        monkeypatch.setattr(SHELF, "offered", known_names() if served == "to strangers" else None)
        found = rows()
    assert found["tiny"]["opens"]
    if served == "on loopback":
        assert found["tiny"]["where"] == str(tiny_folder)
        assert str(tmp_path / "mine") in found["of-mine"]["problem"]
        return
    assert found["tiny"]["where"] == "tiny"
    assert found["glyphs"]["where"] == "glyphs"
    assert found["of-mine"]["where"] == "mine"
    assert found["of-mine"]["problem"].startswith("mine has no base.pt")
    assert found["of-mine"]["caveats"] == "Copied from elsewhere."
    assert (
        "not valid JSON" in found["broken"]["problem"] or "model.json" in found["broken"]["problem"]
    )
    for row in found.values():
        for value in row.values():
            assert str(tmp_path) not in str(value)
            assert str(tiny_folder.parent) not in str(value)
    hub = found["fusion-bench-vit-b-32"]["where"]
    assert hub.startswith("tanganke/")


def test_a_sentence_for_strangers_has_names_in_place_of_paths(monkeypatch):
    said = (
        "There is no file '/srv/some/where/a.pt'; see https://example.org/a/b, hub:owner/name, "
        "and/or."
    )
    assert discreet(said) == said
    monkeypatch.setattr(SHELF, "offered", frozenset({"tiny"}))
    assert discreet(said) == said.replace("/srv/some/where/", "")
    assert discreet(r"no C:\Users\me\a.pt here") == r"no a.pt here" or os.name != "nt"
    assert discreet("in /srv/my models/x: none", "/srv/my models/x") == "in x: none"


@pytest.mark.parametrize("stranger", [True, False])
def test_a_model_that_does_not_open_names_no_folder_to_strangers(
    own_shelf, tmp_path, monkeypatch, stranger
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "catalogue.yml").write_text(
        f"format: 1\nmodels:\n  of-mine:\n    title: Mine\n    folder: {tmp_path / 'mine'}\n"
        "    base: base.pt\n"
    )
    monkeypatch.setattr(SHELF, "offered", frozenset({"tiny", "of-mine"}) if stranger else None)

    def look(shell: Shell) -> None:
        (sentence,) = shell.lens.sentences
        assert "mine has no file base.pt" in sentence
        assert (str(tmp_path) in sentence) is not stranger

    shown("base=of-mine", look)
