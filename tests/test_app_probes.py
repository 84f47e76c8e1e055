"""Linear probes in the app: switched on and off, kept in links, fitted once for everybody."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
from safetensors.torch import save_file

import explorer as ex
from explorer.app import links
from explorer.app.opening import OFFER
from explorer.app.picker.picker import Picker
from explorer.app.probing import Fitting, has_probes
from explorer.app.shared_models import SHELF, Shelf
from explorer.app.shell import USE_PROBES, Shell
from explorer.compute import turns
from explorer.models import probes
from explorer.models.added import with_tasks


@pytest.fixture(autouse=True)
def models(tiny_folder, monkeypatch):
    """The tiny model beside the embedded ones, and nothing open from another test."""
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))
    for books in (SHELF._kept, SHELF._alive, SHELF._probed):
        books.clear()


@pytest.fixture
def closed(tiny_model, tmp_path):
    """A folder of towers without text, named after embedded tasks, whose images are here."""
    folder = tmp_path / "closed"
    for task in ("letters", "scripts"):
        (folder / task).mkdir(parents=True)
        tuned = tiny_model.task_vector("letters").apply_to(tiny_model.base)
        save_file(tuned, folder / task / "finetuned.safetensors")
    save_file(dict(tiny_model.base), folder / "zeroshot.safetensors", {"activation": "gelu"})
    return folder


async def opened(shell: Shell) -> None:
    """Wait until what was asked for is open."""
    while shell.opening.tasks:
        await asyncio.gather(*shell.opening.tasks)


def in_shell(work, *arguments: str) -> None:
    """Run ``work(shell)`` on the open app."""

    async def main() -> None:
        shell = Shell(*arguments)
        shell.embedded()
        await opened(shell)
        await work(shell)
        shell.close()

    asyncio.run(asyncio.wait_for(main(), 120))


def choose_probes(shell: Shell, probes: bool) -> None:
    """What the switch sends."""
    shell.heads._handle_msg({"kind": "choose", "name": links.PROBES if probes else ""})


def query(shell: Shell) -> str:
    return shell.lens.drawing.toolbar.query


def test_the_switch_puts_probes_on_and_keeps_the_recipe_and_the_link_says_so():
    async def work(shell: Shell) -> None:
        await shell.lens.settled()
        shell.lens.state.set_coefficient("digits", 0.4)
        choose_probes(shell, True)
        assert shell.heads.chosen == links.PROBES  # at once, while they are fitted
        await opened(shell)
        assert has_probes(shell.lens.model)
        assert shell.lens.recipe.active == {"digits": 0.4}
        assert query(shell).endswith("view.heads=probes")
        assert "m = ex.with_probes(ex.open_model('tiny'))" in shell.lens.to_python()
        await shell.lens.settled()
        expected = ex.accuracy(shell.lens.model, shell.lens.recipe, shell.lens.model.all_tasks)
        assert shell.lens.result["zero_shot"].values == pytest.approx(expected["zero_shot"].values)
        assert shell.lens.result.attrs["heads"] == "linear probe"
        shell.choose("disentanglement")
        assert shell.lens.model.base_title == "linear probe"
        assert "view.heads=probes" in query(shell)
        choose_probes(shell, False)
        await opened(shell)
        assert not has_probes(shell.lens.model)
        assert "heads" not in query(shell)
        assert shell.lens.sentences == []
        shell.choose("arithmetic")
        assert shell.lens.recipe.active == {"digits": 0.4}
        assert shell.lens.sentences == []

    in_shell(work, "tiny")


@pytest.mark.parametrize("lens", ["arithmetic", "disentanglement", "schedule"])
def test_a_link_of_probes_opens_with_them(lens):
    async def work(shell: Shell) -> None:
        assert has_probes(shell.lens.model)
        assert shell.heads.chosen == links.PROBES
        assert shell.lens.sentences == []
        assert "view.heads=probes" in query(shell)

    in_shell(work, "tiny", f"base=tiny&view.lens={lens}&view.heads=probes")


def test_a_lens_without_the_heads_of_its_link_says_so(tiny_model):
    for heads, words in (
        ("probes", "open it with ex.with_probes"),
        ("x", "asks for the heads 'x'"),
    ):
        lens = ex.ArithmeticLens(tiny_model, query=f"base={tiny_model.name}&view.heads={heads}")
        assert len(lens.sentences) == 1
        assert words in lens.sentences[0]
        lens.close()


@pytest.mark.parametrize("link", ["", "base=tiny&view.heads=probes"])
def test_a_model_whose_own_heads_are_probes_has_nothing_to_switch(monkeypatch, link):
    monkeypatch.setattr(ex.Model, "base_title", "linear probe")

    async def work(shell: Shell) -> None:
        assert not has_probes(shell.lens.model)
        assert not shell.heads.visible
        assert shell.lens.sentences == []
        assert not shell.opening.busy
        assert "heads" not in query(shell)

    in_shell(work, "tiny", link)


def test_edited_prompts_are_refused_by_probes_in_a_sentence():
    async def work(shell: Shell) -> None:
        task = shell.lens.model.tasks[0]
        shell.lens.change_prompts(task, shell.lens.words(task))
        await shell.lens.settled()
        assert shell.lens.state.prompts == {}
        assert "are linear probes here" in shell.lens.sentences[0]

    in_shell(work, "tiny", "base=tiny&view.heads=probes")


def test_a_tower_without_text_is_offered_probes_and_opens_with_them(closed):
    async def work(shell: Shell) -> None:
        shell.picker.options = [*shell.picker.options, str(closed)]
        shell.picker.value = str(closed)
        await opened(shell)
        assert shell.model_name == shell.picker.value == "tiny"  # which stays until it is taken
        assert OFFER in shell.notices.sentences[0]
        assert (shell.notices.visible, shell.notices.action) == (True, USE_PROBES)
        shell.notices._handle_msg({"kind": "action", "name": USE_PROBES})
        await opened(shell)
        assert shell.model_name == str(closed)
        assert has_probes(shell.lens.model)
        assert not shell.notices.visible
        choose_probes(shell, False)  # it has none of its own: it stays as it is, and says why
        await opened(shell)
        assert shell.heads.chosen == links.PROBES
        assert OFFER in shell.lens.sentences[0]
        assert not shell.notices.visible

    in_shell(work, "tiny")


def test_probes_are_fitted_once_for_all_sessions_and_forgotten_with_their_model(monkeypatch):
    fitted = []
    fit = probes.linear_probe
    monkeypatch.setattr(
        probes, "linear_probe", lambda m, task, *a: fitted.append(task) or fit(m, task, *a)
    )
    shelf = Shelf()

    async def main():
        said = []
        both = [shelf.fitting("tiny").wait(said.append, lambda: True) for _ in range(2)]
        return await asyncio.gather(*both), said

    (first, second), said = asyncio.run(asyncio.wait_for(main(), 120))
    assert first is second is shelf.probed("tiny")
    assert sorted(fitted) == sorted(first.all_tasks)
    assert said[0] == f"fitting linear probes: {first.tasks[0]}, 1 of {len(first.all_tasks)}…"
    assert shelf.open("tiny") is first.unprobed
    shelf._kept.clear()
    del first, second
    gc.collect()
    assert shelf.names() == []
    assert shelf.probed("tiny") is None


def test_nobody_waiting_ends_the_fitting_and_what_is_there_stays(tiny_model, monkeypatch):
    model = ex.with_probes(tiny_model)
    begun, go_on = threading.Event(), threading.Event()
    fit = probes.linear_probe

    def slowly(*arguments):
        begun.set()
        assert go_on.wait(20)
        return fit(*arguments)

    monkeypatch.setattr(probes, "linear_probe", slowly)
    fitting = Fitting(model)

    async def main():
        assert await fitting.wait(lambda _: None, lambda: not begun.is_set()) is None
        go_on.set()
        while fitting._thread is not None:
            await asyncio.sleep(0.01)
        assert len(fitting.left) == len(model.all_tasks) - 1
        return await fitting.wait(lambda _: None, lambda: True)

    assert asyncio.run(asyncio.wait_for(main(), 60)) is model
    assert fitting.left == []


def test_in_a_room_whoever_waits_for_a_picture_goes_before_the_next_fit(tiny_model, monkeypatch):
    queue, fitting = turns.open_queue(1), Fitting(ex.with_probes(tiny_model))
    begun, seen = threading.Event(), []
    fit = probes.linear_probe

    def announced(*arguments):
        begun.set()
        while queue.state().waiting == 0 and not seen:
            time.sleep(0.005)
        return fit(*arguments)

    def look():
        assert begun.wait(20)
        with turns.turn("somebody", preview=True):
            seen.append(len(fitting.left))

    monkeypatch.setattr(probes, "linear_probe", announced)
    other = threading.Thread(target=look)
    other.start()
    try:
        asyncio.run(asyncio.wait_for(fitting.wait(lambda _: None, lambda: True), 60))
    finally:
        other.join(20)
        turns.close_queue()
    assert seen == [len(tiny_model.all_tasks)]  # before the first of them was through


def test_what_ends_a_fitting_is_a_sentence_and_can_be_tried_again(monkeypatch):
    fit = probes.linear_probe

    def refused(*_):
        raise ex.ImageError("Of the 2 images, none is of the class 'b'.")

    async def work(shell: Shell) -> None:
        monkeypatch.setattr(probes, "linear_probe", refused)
        choose_probes(shell, True)
        await opened(shell)
        assert shell.heads.chosen == ""
        assert "none is of the class" in shell.lens.sentences[0]
        monkeypatch.setattr(probes, "linear_probe", fit)
        choose_probes(shell, True)
        await opened(shell)
        assert has_probes(shell.lens.model)

    in_shell(work, "tiny")


def test_a_link_whose_probes_cannot_be_fitted_keeps_its_recipe(monkeypatch):
    def refused(*_):
        raise ex.ImageError("Of the 2 images, none is of the class 'b'.")

    monkeypatch.setattr(probes, "linear_probe", refused)

    async def work(shell: Shell) -> None:
        assert not has_probes(shell.lens.model)
        assert shell.lens.recipe.active == {"digits": 0.4}
        assert len(shell.lens.sentences) == 1

    in_shell(work, "tiny", "base=tiny&digits=0.4&view.heads=probes")


def test_checkpoints_added_to_a_probed_model_have_probes_too(tiny_model, tmp_path):
    task = tiny_model.tasks[0]
    tuned = tiny_model.task_vector(task).apply_to(tiny_model.base)
    save_file(tuned, tmp_path / f"{task}.safetensors")
    more = with_tasks(ex.with_probes(tiny_model), {task: tmp_path / f"{task}.safetensors"})
    recipe = ex.Recipe(base=more.name, coefficients={f"{task}-2": 1.0})
    found = ex.accuracy(more, recipe, [task, f"{task}-2"])
    assert found.attrs["heads"] == "linear probe"
    assert found["edited"][0] == found["edited"][1] == found["fine_tuned"][0]

    names = []

    async def add() -> None:
        picker = Picker(names.append, lambda: more)
        await picker._add({task: tmp_path / f"{task}.safetensors"})
        picker.close()

    asyncio.run(add())
    assert not has_probes(SHELF.open(names[0]))
    assert SHELF.fitting(names[0]).left == [*SHELF.open(names[0]).all_tasks]


def test_a_room_fits_probes_for_what_it_offers_and_nothing_else():
    shelf = Shelf()
    shelf.offered, shelf.most = frozenset({"tiny"}), 1
    fitting = shelf.fitting("tiny")
    assert shelf.names() == ["tiny"]  # no further model
    assert fitting.model.unprobed is shelf.open("tiny")
    with pytest.raises(ex.UnknownNameError):
        shelf.fitting("glyphs")


def test_with_heads_says_the_heads_once_and_takes_them_away(tiny_model):
    probed = ex.with_probes(tiny_model)
    link = links.with_heads("base=tiny&digits=0.4", probed)
    assert link == "base=tiny&digits=0.4&view.heads=probes"
    assert links.with_heads(link, probed) == link
    assert (
        links.with_heads(link, tiny_model) == links.with_heads(link, None) == "base=tiny&digits=0.4"
    )
