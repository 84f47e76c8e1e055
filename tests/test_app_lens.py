"""The arithmetic lens on the tiny model, without a browser: messages in, state and files out."""

import asyncio
import io
import json
import threading

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import explorer as ex
from explorer.app import measuring, saving
from explorer.app.arithmetic import ArithmeticLens
from explorer.app.prompts import PromptEditor
from explorer.app.shell import Shell
from explorer.app.state import Prompts
from explorer.compute import turns
from explorer.recipe import Recipe


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


def slider(lens: ArithmeticLens, task: str | None, value: object, done: bool = True) -> None:
    """What the browser sends when a slider moves."""
    lens.drawing.mixer._handle_msg({"kind": "set", "task": task, "value": value, "done": done})


def test_the_picture_equals_accuracy_computed_in_one_go(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model)
        lens.display()
        slider(lens, "digits", 0.5)
        await lens.settled()
        expected = ex.accuracy(tiny_model, lens.recipe, tiny_model.all_tasks)
        xr.testing.assert_equal(lens.result["edited"], expected["edited"])
        assert lens.result.attrs["complete"]
        assert lens.drawing.notices.text == "all 48–70 test images a task"
        assert not lens.drawing.notices.busy
        lens.close()

    run(main())


@pytest.mark.parametrize(("crowded", "first"), [(False, 16), (True, measuring.FEW)])
def test_a_first_picture_is_of_fewer_images_in_a_crowd(tiny_model, monkeypatch, crowded, first):
    monkeypatch.setattr(turns, "crowded", lambda: crowded)
    counts = []

    async def main():
        lens = ArithmeticLens(tiny_model)
        shown = lens._measured
        monkeypatch.setattr(
            lens.measuring, "_show", lambda p: (counts.append(p.result.attrs["n"]), shown(p))
        )
        slider(lens, "digits", 0.5)
        await lens.settled()
        assert lens.result.attrs["complete"], "and the last one of all, as ever"
        lens.close()

    run(main())
    assert counts[0] == first


def test_chart_gallery_and_status_belong_to_the_recipe_on_screen(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model)
        display = lens.display()
        for i in range(1, 21):
            slider(lens, "digits", i / 20, done=False)
            await asyncio.sleep(0.005)
        assert lens.is_stale(lens.picture) if lens.picture else lens.busy
        await lens.settled()
        edited = lens.result["edited"].sel(task="digits").item()
        assert lens.picture.recipe == Recipe(base="tiny", coefficients={"digits": 1.0})
        assert display.chart.source.data["edited"][0] == edited
        shown = [tile[0] for tile in lens.drawing.gallery.tiles]
        assert shown == lens.result["predicted"].sel(task="digits").values[:48].tolist()
        lens.state.undo()
        assert lens.recipe == Recipe(base="tiny")
        lens.close()

    run(main())


def test_flips_are_counted_against_the_picture_before_the_gesture(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model)
        lens.display()
        await lens.settled()
        before = lens.result["predicted"].sel(task="digits").values
        slider(lens, "digits", 0.7, done=False)
        slider(lens, "digits", -1.0, done=False)
        slider(lens, "digits", 2.0)
        await lens.settled()
        after = lens.result["predicted"].sel(task="digits").values
        n = int((before != after).sum())
        assert ["note", f"{n} just flipped"] in lens.drawing.gallery.counts
        lens.close()

    run(main())


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"kind": "set", "task": "digits", "value": 7}, "between -1 and 2"),
        ({"kind": "set", "task": "digits", "value": "much"}, "between -1 and 2"),
        ({"kind": "set", "task": "digitz", "value": 0.1}, "'digits'"),
        ({"kind": "solo", "task": "<b>x</b>"}, "no task '<b>x</b>'"),
    ],
)
def test_a_message_that_makes_no_sense_is_a_sentence_and_the_sliders_are_corrected(
    tiny_model, message, says
):
    lens = ArithmeticLens(tiny_model)
    lens.drawing.mixer._handle_msg({**message, "view": "v", "seq": 5})
    assert says in lens.drawing.notices.sentences[0]
    assert lens.recipe == Recipe(base="tiny")
    assert lens.drawing.mixer.heard == {"v": 5}


@pytest.mark.parametrize("message", [None, 3, {}, {"kind": []}, {"kind": "page", "step": "x"}])
def test_messages_of_the_wrong_shape_do_no_harm(tiny_model, message):
    lens = ArithmeticLens(tiny_model)
    for component in (lens.drawing.mixer, lens.drawing.gallery, lens.drawing.toolbar):
        component._handle_msg(message)
    assert lens.recipe == Recipe(base="tiny")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a recipe in JSON"),
        ("[1, 2]", "is a JSON object"),
        ('{"base": "tiny", "coefficients": {"digits": "x"}}', "must be a number"),
        ('{"base": "tiny", "coefficients": {"digits": 9}}', "between -1 and 2"),
        ('{"base": "tiny", "coefficients": {"nobody": 1}}', "no task 'nobody'"),
        ('{"base": "elsewhere"}', "'elsewhere'"),
        ('{"base": "tiny", "wrong": 1}', "no field"),
        ("\x00\x01", "not a recipe in JSON"),
        (None, "larger than 1 MB"),
    ],
)
def test_a_bad_recipe_file_is_a_sentence_and_the_recipe_stays(tiny_model, text, says):
    lens = ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"digits": 0.5}))
    lens.drawing.toolbar._handle_msg({"kind": "load", "name": "bad.json", "text": text})
    assert says in lens.drawing.notices.sentences[0]
    assert lens.recipe.active == {"digits": 0.5}


def test_a_saved_recipe_loads_again_as_one_undo_step(tiny_model):
    lens = ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"digits": 0.5}))
    text = lens.file("json").decode()
    slider(lens, None, 0.0)
    lens.drawing.toolbar._handle_msg({"kind": "load", "name": "r.json", "text": text})
    assert lens.recipe.active == {"digits": 0.5}
    lens.drawing.toolbar._handle_msg({"kind": "undo"})
    assert lens.recipe.active == {}


def test_every_preset_is_one_undo_step(tiny_model):
    lens = ArithmeticLens(tiny_model)
    send = lens.drawing.presets._handle_msg
    made = {
        ("addition",): dict.fromkeys(tiny_model.tasks, tiny_model.best_shared_coefficient()),
        ("single", "letters"): {"letters": 1.0},
        ("forget", "hearts"): {"hearts": -0.5},
        ("zero_shot",): {},
    }
    for (name, *task), expected in made.items():
        send({"kind": "preset", "name": name, **({"task": task[0]} if task else {})})
        assert lens.recipe.active == expected
    send({"kind": "preset", "name": "analogy", "a": "digits", "b": "letters", "c": "hearts"})
    assert lens.recipe.active["hearts"] == -lens.recipe.active["digits"]
    lens.state.undo()
    assert lens.recipe.active == {}
    assert lens.state.focus == "hearts"


def test_edited_prompts_change_the_head_and_unknown_words_are_a_sentence(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model)
        lens.display()
        await lens.settled()
        own = lens.own_words("digits")
        reversed_words = Prompts(own.class_names[::-1], own.templates)
        lens.change_prompts("digits", reversed_words)
        await lens.settled()
        assert lens.state.prompts == {"digits": reversed_words}
        head = tiny_model.head("digits", list(reversed_words.class_names), list(own.templates))
        expected = ex.accuracy(tiny_model, lens.recipe, ["digits"], heads={"digits": head})
        assert lens.result["zero_shot"].sel(task="digits") == expected["zero_shot"].item()
        for words, says in [
            (Prompts(("xylophone", *own.class_names[1:]), own.templates), "xylophone"),
            (Prompts(own.class_names[:-1], own.templates), "5 classes"),
            (Prompts(own.class_names, ("no place for the name",)), "{}"),
            (Prompts(own.class_names, ()), "at least one"),
        ]:
            lens.change_prompts("digits", words)
            await lens.settled()
            assert says in lens.sentences[-1]
            assert lens.state.prompts == {"digits": reversed_words}
        lens.close()

    run(main())


def test_the_prompt_editor_shows_the_focused_tasks_words(tiny_model):
    lens = ArithmeticLens(tiny_model)
    editor: PromptEditor = lens.drawing.prompts
    lens.state.look_at("hearts")
    assert editor.class_names == "heart\nstar\ncloud"
    assert lens.state.prompts == {}


def test_a_search_streams_and_ends_with_addition_at_the_best_coefficient(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model)
        display = lens.display()
        lens.search()
        assert lens.searching
        await lens._search.settled()
        display.search_chart.arrived()  # as the browser says when it has the chart
        best = lens.searched.attrs["best_coefficient"]
        assert lens.recipe.coefficient("digits") == round(best, 2)
        assert lens.drawing.presets.best == best
        assert len(display.curve.data["coefficient"]) == 21
        lens.close()

    run(main())


@pytest.fixture(scope="module")
def measured(tiny_model) -> ArithmeticLens:
    """A lens that has measured all images."""
    lens = ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"digits": 0.5}))
    lens.display()
    run(lens.settled())
    return lens


def test_the_figure_carries_its_recipe_and_is_a_png_or_an_svg(measured):
    png = Image.open(io.BytesIO(measured.file("png")))
    assert json.loads(png.info["Description"])["coefficients"] == {"digits": 0.5}
    assert png.width > 1000
    svg = measured.file("svg").decode()
    assert svg.lstrip().startswith("<?xml")
    assert "digits" in svg


def test_csv_and_netcdf_hold_what_was_measured(measured, tmp_path):
    lines = measured.file("csv").decode().splitlines()
    assert json.loads(lines[0].removeprefix("# "))["base"] == "tiny"
    assert lines[1].startswith("task,coefficient,zero_shot,fine_tuned,edited,normalized,n")
    assert lines[2].startswith("digits,0.5,")
    path = tmp_path / "result.nc"
    path.write_bytes(measured.file("nc"))
    with xr.open_dataset(path, engine="h5netcdf") as loaded:
        np.testing.assert_array_equal(loaded["predicted"], measured.result["predicted"])


def test_a_file_of_a_kind_there_is_not_is_an_error_and_so_is_saving_before_measuring(tiny_model):
    lens = ArithmeticLens(tiny_model)
    with pytest.raises(ex.UnknownNameError, match="'pdf'"):
        lens.file("pdf")
    with pytest.raises(ex.ExplorerError, match="in a moment"):
        lens.file("csv")
    assert saving.file_name("../etc/<x>", "png") == "etc--x-task-arithmetic.png"


def test_copied_python_gives_the_same_recipe(tiny_model):
    lens = ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"digits": 0.5}))
    line = next(x for x in lens.drawing.toolbar.python.splitlines() if x.startswith("recipe"))
    assert eval(line.removeprefix("recipe = "), {"ex": ex}) == lens.recipe


def test_the_link_in_the_toolbar_restores_the_lens(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"digits": 0.5}))
        lens.state.look_at("letters")
        lens.state.set_chart("normalized")
        names = tuple(lens.own_words("letters").class_names[::-1])
        lens.state.set_prompts("letters", Prompts(names, ("the letter {}.",)))
        there = ArithmeticLens(tiny_model, query=lens.drawing.toolbar.query)
        await there.settled()
        for name in ("recipe", "focus", "chart", "prompts"):
            assert getattr(there.state, name) == getattr(lens.state, name)
        assert there.sentences == []
        assert not there.state.history.can_undo

    run(main())


def test_a_link_with_unknown_words_is_a_sentence_and_the_model_keeps_its_own(tiny_model):
    async def main():
        query = "base=tiny&view.classes.hearts=zebra|star|cloud&view.templates.hearts=a {}"
        lens = ArithmeticLens(tiny_model, query=query)
        await lens.settled()
        assert "zebra" in lens.sentences[0]
        assert lens.state.prompts == {}

    run(main())


def test_a_recipe_that_does_not_fit_the_model_is_refused_in_python(tiny_model):
    with pytest.raises(ex.UnknownNameError):
        ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"nobody": 1.0}))


def test_the_ipywidget_follows_the_lens_and_the_lens_the_ipywidget(tiny_model):
    import traitlets

    lens = ArithmeticLens(tiny_model)
    seen = []
    widget = lens.to_ipywidget()
    widget.observe(lambda change: seen.append(change["new"]), "value")
    slider(lens, "digits", 0.4)
    assert seen == [{"digits": 0.4}]
    widget.value = {"letters": 0.2}
    assert lens.recipe.active == {"letters": 0.2}
    assert json.loads(widget.recipe)["coefficients"] == {"letters": 0.2}
    widget.focus = "hearts"
    assert lens.state.focus == "hearts"
    for trait, value in [("value", {"nobody": 1.0}), ("value", {"digits": 9.0}), ("recipe", "{")]:
        with pytest.raises(traitlets.TraitError):
            setattr(widget, trait, value)
    assert widget.value == {"letters": 0.2}


@pytest.fixture
def models(tiny_folder, monkeypatch):
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))


def test_the_app_opens_the_model_asked_for_and_restores_its_link(models):
    async def main():
        shell = Shell("tiny", "base=tiny&digits=0.4")
        shell.embedded()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        assert shell.lens.recipe.active == {"digits": 0.4}
        assert shell.side.objects
        shell.close()

    run(main())


def test_an_unknown_model_in_the_link_is_a_sentence_and_the_default_opens(models):
    async def main():
        shell = Shell("tiny", "base=tinny&digits=0.4")
        shell.embedded()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        assert shell.lens.model.name == "tiny"
        assert "'tinny'" in shell.lens.sentences[0]
        assert "'tiny'" in shell.lens.sentences[0]
        shell.close()

    run(main())


def test_ex_app_is_callable_and_a_module():
    import explorer.app

    assert callable(ex.app)
    assert explorer.app.ArithmeticLens is ex.ArithmeticLens


def test_a_model_that_fails_to_open_does_not_undo_a_choice_made_meanwhile(models, monkeypatch):
    entered, go_on = threading.Event(), threading.Event()

    def open_slowly(name):
        if name == "broken":
            entered.set()
            go_on.wait(20)
            raise ex.ExplorerError("broken is broken.")
        return ex.open_model(name)

    monkeypatch.setattr("explorer.app.opening.open_shared", open_slowly)
    monkeypatch.setattr("explorer.app.opening.already_open", lambda name: None)

    async def main():
        shell = Shell("tiny")
        shell.open("broken")
        while not entered.is_set():
            await asyncio.sleep(0.005)
        shell.open("tiny")
        go_on.set()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        shell.embedded()
        assert shell.lens.model.name == "tiny"
        assert shell.lens.sentences == ["broken is broken."]
        shell.close()

    run(main())
