"""The disentanglement lens without a browser: pure parts, links, messages in, pictures out."""

import asyncio
import io
import json

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import explorer as ex
from explorer.app import links as app_links
from explorer.app.disentanglement import links
from explorer.app.disentanglement.charts import Carried, Eigenfunctions, PairMatrix
from explorer.app.disentanglement.computing import Computing, effort
from explorer.app.disentanglement.differing import count_sentence, differing
from explorer.app.disentanglement.layers import (
    colour_limits,
    columns,
    layer_values,
    measured,
    upsampled,
)
from explorer.app.disentanglement.lens import DisentanglementLens
from explorer.app.disentanglement.picture import Picture
from explorer.app.disentanglement.spec import KernelSpec, MapSpec, PairsSpec, methods
from explorer.app.disentanglement.state import MapState
from explorer.app.disentanglement.work import Work
from explorer.app.lenses import hand_over
from explorer.app.shell import Shell
from explorer.recipe import Recipe

QUICK = "base=tiny&view.lens=disentanglement&view.points=9&view.n=20&view.maps=weights"


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


@pytest.fixture
def state() -> MapState:
    return MapState(("digits", "letters", "hearts"), "tiny")


@pytest.fixture(scope="module")
def result(tiny_model) -> xr.Dataset:
    """A complete 5 x 5 map of two tasks."""
    return ex.disentanglement(
        tiny_model, ("digits", "letters"), [-2, -1, 0, 1, 2], n=48, store=False
    ).result()


@pytest.fixture(scope="module")
def lens(tiny_model, tmp_path_factory) -> DisentanglementLens:
    """A lens that has computed one map to the end."""
    made = DisentanglementLens(tiny_model, query=QUICK)
    made.display()
    run(made.settled())
    return made


# Pure parts


def test_a_coarse_map_is_upsampled_by_the_nearest_cell():
    coarse = np.array([[1.0, 2.0], [3.0, 4.0]])
    ends, fine = np.array([0.0, 1.0]), np.array([0.0, 0.25, 0.75, 1.0])
    full = upsampled(coarse, (ends, ends), fine)
    assert full.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert upsampled(np.stack([coarse, coarse]), (ends, ends), fine).shape == (2, 4, 4)


def test_upsampling_a_map_onto_its_own_grid_changes_nothing(result):
    axes = (result["alpha1"].values, result["alpha2"].values)
    error = result["error"].values
    np.testing.assert_array_equal(upsampled(error, axes, axes[0]), error)


def test_only_cells_that_are_computed_are_not_veiled(result):
    partly = result.copy()
    partly["measured"] = partly["measured"] * 0
    partly["measured"][1, 3] = 1
    fine = np.linspace(-2, 2, 9)
    done = measured(partly, fine)
    assert done.sum() == 1
    assert done[2, 6]
    veil = columns(partly, fine, "error")["veil"][0]
    assert veil.shape == (9, 9)
    assert veil[6, 2] == 0, "drawn with the second coefficient upwards"
    assert veil.sum() == 80


def test_hover_columns_hold_the_cells_own_numbers(result):
    drawn = columns(result, result["alpha1"].values, "error")
    i, j = 1, 4
    cell = result.isel(alpha1=i, alpha2=j)
    assert drawn["alpha1"][0][j, i] == cell["alpha1"]
    assert drawn["alpha2"][0][j, i] == cell["alpha2"]
    for t in (0, 1):
        assert drawn[f"error{t + 1}"][0][j, i] == pytest.approx(float(cell["error"][t]))
        assert drawn[f"accuracy{t + 1}"][0][j, i] == pytest.approx(float(cell["accuracy"][t]))
        deviation = float(cell["standard_error"][t])
        assert drawn[f"deviation{t + 1}"][0][j, i] == pytest.approx(deviation)
    assert drawn["sum"][0] == pytest.approx(2 * drawn["mean"][0])


def test_layers_are_means_and_sums_of_the_terms(result):
    error, accuracy = result["error"].values, result["accuracy"].values
    np.testing.assert_allclose(layer_values(result, "error"), (error[0] + error[1]) / 2)
    np.testing.assert_allclose(layer_values(result, "error", "sum"), error[0] + error[1])
    np.testing.assert_array_equal(layer_values(result, "error2", "sum"), error[1])
    np.testing.assert_allclose(layer_values(result, "accuracy"), accuracy.mean(0))
    tuned = result["fine_tuned"].values
    expected = (accuracy[0] / tuned[0] + accuracy[1] / tuned[1]) / 2
    np.testing.assert_allclose(layer_values(result, "normalized"), expected)


def test_all_maps_share_the_ends_of_the_colour_bar():
    maps = [np.array([[0.2, 0.3]]), np.array([[0.1, 0.25]])]
    assert colour_limits(maps, "error", "mean", fitted=False) == (0, 1)
    assert colour_limits(maps, "error", "sum", fitted=False) == (0, 2)
    assert colour_limits(maps, "error1", "sum", fitted=False) == (0, 1)
    assert colour_limits(maps, "error", "mean", fitted=True) == (0.1, 0.3)
    low, high = colour_limits([np.zeros((2, 2))], "error", "mean", fitted=True)
    assert low < high


@pytest.mark.parametrize("task", [0, 1])
def test_the_images_that_differ_are_those_the_error_counts(tiny_model, result, task):
    found = differing(result, task, (-2.0, 2.0))
    cell = result.sel(alpha1=-2, alpha2=2).isel(task=task)
    assert len(found.places) == round(float(cell["error"]) * found.n) > 0
    assert (found.single != found.joint).all()
    labels = tiny_model.images(found.task)[1]
    np.testing.assert_array_equal(found.true, labels[found.places])
    text = count_sentence(found, "Digits")
    assert text.startswith(f"{len(found.places)} of {found.n} images of Digits differ at (-2, 2)")


def test_no_image_is_said_to_differ_at_a_cell_that_is_not_computed(result):
    partly = result.copy()
    partly["measured"] = partly["measured"] * 0
    for cell in ((-2.0, 2.0), (0.5, 0.5)):
        found = differing(partly if cell[0] == -2 else result, 0, cell)
        assert not found.known
        assert not len(found.places)
        assert "not computed yet" in count_sentence(found, "Digits")


# The state and its links


def test_the_python_of_a_map_makes_the_same_map(tiny_model):
    spec = MapSpec(("digits", "letters"), "lines", (-1, 1), 9, 10, 3, (0.2, 0.8))
    names = {"ex": ex, "np": np, "m": tiny_model}
    again = eval(spec.to_python(), names).result()
    direct = ex.disentanglement(
        tiny_model, spec.pair, spec.alphas.tolist(), n=10, schedule=ex.lines(0.2, 0.8), seed=3
    ).result()
    xr.testing.assert_equal(again["predicted"], direct["predicted"])
    np.testing.assert_array_equal(again["alpha1"], spec.alphas)


def test_a_link_restores_the_state(state):
    state.set_pair("hearts", "digits")
    state.set_extent(-1, 1)
    state.set_points(41)
    state.set_n(64)
    state.set_seed(7)
    state.set_maps(["posthoc", "lines"])
    state.set_lines(0.1, 0.9)
    state.set_layer("accuracy2")
    state.set_terms("sum")
    state.move((0.25, -0.5))
    state.fitted = True
    there = MapState(("digits", "letters", "hearts"), "tiny")
    assert links.apply(app_links.read(links.to_query(state)), there) == []
    assert there.specs == state.specs
    assert there.point == (0.25, -0.5)
    for name in ("layer", "terms", "fitted", "maps", "lines"):
        assert getattr(there, name) == getattr(state, name)


def test_a_task_whose_name_holds_a_comma_survives_a_link():
    names = ("a,b", "c&d=e%", "f")
    state, there = MapState(names, "tiny"), MapState(names, "tiny")
    state.set_pair("c&d=e%", "a,b")
    assert links.apply(app_links.read(links.to_query(state)), there) == []
    assert there.pair == ("c&d=e%", "a,b")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("view.pair=digits", "two are needed"),
        ("view.pair=digits,nobody", "no task 'nobody'"),
        ("view.pair=digits,digits", "two different tasks"),
        ("view.point=5,0", "between -3 and 3"),
        ("view.point=nan,0", "between -3 and 3"),
        ("view.point=a,b", "no numbers"),
        ("view.range=1,-1", "lower to a higher"),
        ("view.range=-1e9,3", "between -10 and 10"),
        ("view.points=10", "9, 21, 41"),
        ("view.points=many", "no whole number"),
        ("view.n=0", "from 1 to"),
        ("view.seed=-1", "from 0 to"),
        ("view.maps=weights,weights", "at most once"),
        ("view.maps=sideways", "no kind of map 'sideways'"),
        ("view.layer=colour", "no layer 'colour'"),
        ("view.terms=product", "'product'"),
        ("view.lines=0.5,7", "between 0 and 1"),
        ("view.zoom=3", "does not know"),
        ("base=other", "'other'"),
    ],
)
def test_what_makes_no_sense_in_a_link_is_a_sentence_and_changes_nothing(state, query, says):
    before = (state.specs, state.point, state.layer)
    wrong = links.apply(app_links.read(query), state)
    assert len(wrong) == 1
    assert says in wrong[0]
    assert (state.specs, state.point, state.layer) == before


def test_a_drag_of_the_point_is_one_undo_step(state):
    for x in (0.1, 0.2, 0.3):
        state.move((x, 0), done=False)
    state.move((0.4, 0))
    state.set_coefficient("letters", 1.0)
    state.undo()
    assert state.point == (0.4, 0)
    state.undo()
    assert state.point == (0.6, 0.6)
    state.redo()
    assert state.point == (0.4, 0)


def test_choosing_the_other_axis_task_swaps_the_axes_and_the_point(state):
    state.move((0.1, 0.2))
    state.set_axis(0, "letters")
    assert (state.pair, state.point) == (("letters", "digits"), (0.2, 0.1))
    state.set_axis(1, "hearts")
    assert (state.pair, state.point) == (("letters", "hearts"), (0.2, 0.1))


def test_a_narrower_range_takes_the_point_inside(state):
    state.move((2.5, -2.5))
    state.set_extent(0, 1)
    assert state.point == (1, 0)


# Kinds of map


def test_every_method_of_two_tasks_is_a_kind_of_map():
    offered = methods()
    assert {"ties", "dare", "weight_averaging", "iso_c"} <= {*offered}
    assert not {"task_arithmetic", "slerp", "tall_masks"} & {*offered}
    assert all(offered.values()), "each says what it does"


def test_every_method_offered_merges_single_vectors_too(tiny_model):
    for name in methods():
        if name == "wudi":  # 300 steps a cell
            continue
        found = ex.disentanglement(tiny_model, ("digits", "letters"), [0, 1], n=8, method=name)
        assert found.result().attrs["complete"], name


def test_one_merging_method_is_mapped_at_a_time_beside_the_sums(state):
    state.show_method("ties")
    assert (state.maps, state.method) == (("weights", "tangent", "ties"), "ties")
    state.show("lines", True)
    assert state.maps == ("weights", "tangent", "lines", "ties")
    state.show("dare", True)
    assert state.method == "dare"
    with pytest.raises(ex.RecipeError, match="not dare and ties; pin"):
        state.set_maps(["dare", "ties"])
    with pytest.raises(ex.UnknownNameError, match=r"'tiez'.*'ties'"):
        state.show_method("tiez")
    state.show_method("")
    assert (state.maps, state.method) == (("weights", "tangent", "lines"), "")
    state.set_maps(["ties"])
    with pytest.raises(ex.RecipeError, match="At least one"):
        state.show_method("")


def test_a_map_of_a_merging_method_says_so_in_its_title_its_code_and_its_link(state, tiny_model):
    state.set_points(9)
    state.set_n(10)
    state.show_method("weight_averaging")
    spec = state.specs[-1]
    assert (spec.title, spec.space, spec.method) == (
        "weight averaging",
        "weights",
        "weight_averaging",
    )
    again = eval(spec.to_python(), {"ex": ex, "np": np, "m": tiny_model}).result()
    assert again.attrs["method"] == "weight_averaging"
    state.pin(spec)
    there = MapState(("digits", "letters", "hearts"), "tiny")
    assert links.apply(app_links.read(links.to_query(state)), there) == []
    assert (there.specs, there.pins) == (state.specs, (spec,))


def test_the_lens_maps_a_merging_method_by_the_same_function(tiny_model):
    pair = ("digits", "letters")
    expected = ex.disentanglement(
        tiny_model, pair, np.linspace(-3, 3, 9), n=20, method="ties"
    ).result()

    async def main():
        lens = DisentanglementLens(tiny_model, query=QUICK)
        lens.display()
        lens.drawing.plane._handle_msg({"kind": "method", "name": "ties"})
        await lens.settled()
        xr.testing.assert_equal(lens.results["ties"], expected)
        assert lens.drawing.plane.method == "ties"
        (display,) = lens.drawing.displays
        titles = [place.map.figure.title.text for place in display.board._places[:2]]
        assert titles == ["Standard", "ties"]
        assert [place.view.visible for place in display.board._places[:3]] == [True, True, False]
        lens.drawing.plane._handle_msg({"kind": "method", "name": ""})
        assert lens.drawing.plane.method == ""
        assert lens.state.maps == ("weights",)
        lens.close()

    run(main())


# The lens


def test_a_finished_lens_shows_what_disentanglement_computes(lens, tiny_model):
    expected = ex.disentanglement(
        tiny_model, ("digits", "letters"), np.linspace(-3, 3, 9), n=20
    ).result()
    xr.testing.assert_equal(lens.results["weights"]["error"], expected["error"])
    assert lens.complete
    assert lens.drawing.notices.text == "every cell is computed"
    (display,) = lens.drawing.displays
    drawn = display.board._places[0].map.source.data["value"][0]
    np.testing.assert_allclose(drawn.T, expected["error"].mean("task"), atol=1e-6)


def test_the_caption_holds_the_summary(lens):
    summary = ex.disentanglement_summary(lens.results["weights"])
    (display,) = lens.drawing.displays
    numbers = display.board._places[0].caption.numbers
    assert [row[1] for row in numbers[:3]] == [
        f"{100 * float(error):.1f} %" for error in summary["mean_error"]
    ]


def test_messages_of_every_component_change_the_state_or_do_no_harm(tiny_model):
    lens = DisentanglementLens(tiny_model)
    drawing, state = lens.drawing, lens.state
    drawing.mixer._handle_msg(
        {"kind": "set", "task": "digits", "value": 0.3, "view": "v", "seq": 4}
    )
    assert state.point == (0.3, 0.6)
    assert drawing.mixer.heard == {"v": 4}
    drawing.plane._handle_msg({"kind": "axis", "axis": 0, "task": "hearts"})
    assert state.pair == ("hearts", "letters")
    drawing.plane._handle_msg({"kind": "map", "name": "lines", "on": True})
    assert state.maps == ("weights", "tangent", "lines")
    drawing.lines._handle_msg({"kind": "set", "task": "beta", "value": 0.5})
    assert state.lines == (0.2, 0.5)
    drawing.scale._handle_msg({"kind": "layer", "layer": "accuracy"})
    assert state.layer == drawing.scale.layer == "accuracy"
    before = (state.specs, state.point, state.layer)
    for component in (drawing.mixer, drawing.plane, drawing.scale, drawing.difference):
        for message in (None, {}, {"kind": "set"}, {"kind": "axis", "axis": 5, "task": "digits"}):
            component._handle_msg(message)
    drawing.plane._handle_msg({"kind": "n", "value": None})
    assert "whole number" in lens.sentences[-1]
    assert (state.specs, state.point, state.layer) == before


def test_stopping_keeps_what_is_there_and_going_on_finishes_it(tiny_model):
    async def main():
        lens = DisentanglementLens(tiny_model, query=f"{QUICK}&view.seed=99")
        lens.display()
        while not lens.pictures:
            await asyncio.sleep(0.01)
        lens.stop()
        await lens.settled()
        assert not lens.complete
        assert lens.drawing.notices.action == "go on"
        assert 0 < lens.computing.progress < 1
        said = lens.drawing.notices.text
        assert said.startswith(f"stopped at {lens.computing.progress:.0%}; veiled cells")
        lens.go_on()
        await lens.settled()
        assert lens.complete
        lens.close()

    run(main())


def test_the_first_pictures_of_all_maps_come_before_any_map_is_finished(tiny_model, monkeypatch):
    async def main():
        lens = DisentanglementLens(tiny_model, query="base=tiny&view.points=9&view.seed=5")
        order = []
        mapped = lens._mapped
        monkeypatch.setattr(
            lens,
            "_mapped",
            lambda picture: (
                order.append((picture.spec.kind, picture.result.attrs["complete"])),
                mapped(picture),
            ),
        )
        lens.display()
        await lens.settled()
        first_complete = order.index(("weights", 1))
        assert ("tangent", 0) in order[:first_complete]
        assert lens.complete
        lens.close()

    run(main())


def test_a_map_that_fails_is_said_and_the_others_go_on_and_it_can_be_tried_again(
    tiny_model, monkeypatch
):
    compute, refused = ex.disentanglement, []

    def first_refused(model, pair, *args, space, **more):
        if space == "weights" and not refused:
            refused.append(space)
            raise ex.ModelError("The weights went for a walk.")
        return compute(model, pair, *args, space=space, **more)

    monkeypatch.setattr("explorer.measures.disentanglement.disentanglement", first_refused)

    async def main():
        lens = DisentanglementLens(tiny_model)
        lens.state.set_points(9)
        lens.state.set_n(20)
        await lens.settled()
        assert lens.sentences == ["The weights went for a walk."]
        assert lens.results["tangent"].attrs["complete"]
        assert "weights" not in lens.results
        lens.go_on()
        await lens.settled()
        assert lens.results["weights"].attrs["complete"]
        lens.close()

    run(main())


def test_a_pinned_map_is_kept_as_it_is(tiny_model):
    async def main():
        lens = DisentanglementLens(tiny_model, query=QUICK)
        lens.display()
        await lens.settled()
        slot = lens.slots()[0]
        lens.pin(slot)
        lens.state.set_pair("hearts", "letters")
        await lens.settled()
        assert [s.pinned for s in lens.slots()] == [False, True]
        assert lens.slots()[1].picture is slot.picture
        lens.unpin(lens.slots()[1])
        assert len(lens.slots()) == 1
        lens.close()

    run(main())


def test_a_link_restores_pinned_maps_and_they_are_computed_again(tiny_model):
    pins = (
        MapSpec(("hearts", "digits"), "tangent", (-1.0, 1.0), 9, 12, 4),
        MapSpec(("digits", "letters"), "lines", (0.0, 1.0), 9, 10, 0, (0.25, 0.5)),
    )
    there = MapState(tiny_model.tasks, "tiny")
    links.apply(app_links.read(QUICK), there)
    for pin in pins:
        there.pin(pin)
    query = links.to_query(there)
    assert "view.pin2=digits,letters:lines:0,1:9:10:0:0.25,0.5" in query

    async def main():
        lens = DisentanglementLens(tiny_model, query=query)
        assert lens.sentences == []
        assert lens.state.pins == pins
        assert [slot.picture for slot in lens.slots()] == [None] * 3
        lens.display()
        await lens.settled()
        assert lens.complete
        tangent, lines = (picture.result for picture in lens.pins)
        assert list(tangent["task"].values) == ["hearts", "digits"]
        assert (tangent.attrs["space"], tangent.attrs["seed"]) == ("tangent", 4)
        assert lines.attrs["schedule"] == "lines:0.25,0.5"
        assert lines["n"].values.tolist() == [10, 10]
        assert lens.drawing.toolbar.query == query
        lens.unpin(lens.slots()[1])
        assert [slot.spec for slot in lens.slots()[1:]] == [pins[1]]
        assert "view.pin1=digits,letters:lines" in links.to_query(lens.state)
        lens.close()

    run(main())


@pytest.mark.parametrize(
    ("pin", "sentence"),
    [
        ("digits,letters:weights", "6 parts"),
        ("digits,nobody:weights:-3,3:9:20:0", "no task 'nobody'"),
        ("digits,letters:flat:-3,3:9:20:0", "kind of map 'flat'"),
        ("digits,letters:weights:3,-3:9:20:0", "from a lower to a higher"),
        ("digits,letters:weights:-3,3:10:20:0", "9, 21, 41"),
        ("digits,letters:weights:-3,3:9:many:0", "no whole number"),
        ("digits,letters:lines:-3,3:9:20:0:7,0", "LiNeS's alpha"),
    ],
)
def test_a_pinned_map_that_makes_no_sense_is_a_sentence(state, pin, sentence):
    (wrong,) = links.apply(app_links.read(f"{QUICK}&view.pin1={pin}"), state)
    assert sentence in wrong
    assert state.pins == ()


def test_a_pinned_map_that_is_not_finished_is_computed_to_its_end(tiny_model):
    async def main():
        lens = DisentanglementLens(tiny_model, query=f"{QUICK}&view.seed=77")
        lens.display()
        while not lens.pictures:
            await asyncio.sleep(0.01)
        lens.pin(lens.slots()[0])
        lens.state.set_pair("hearts", "letters")
        await lens.settled()
        (pinned,) = lens.pins
        assert pinned.spec.pair == ("digits", "letters")
        assert pinned.result.attrs["complete"]
        for k in range(2):
            lens.state.set_seed(k)
            await lens.settled()
            if k == 0:
                lens.pin(lens.slots()[0])
        with pytest.raises(ex.RecipeError, match="2 maps are pinned already"):
            lens.pin(lens.slots()[0])
        assert len(lens.pins) == 2
        lens.close()

    run(main())


def test_a_netcdf_file_holds_every_map_on_screen_pinned_ones_too(tiny_model, tmp_path):
    async def main():
        query = f"{QUICK},tangent&view.pin1=hearts,digits:weights:-1,1:9:10:0"
        lens = DisentanglementLens(tiny_model, query=query)
        lens.display()
        await lens.settled()
        (tmp_path / "maps.nc").write_bytes(lens.file("nc"))
        names = {line.split(":")[0] for line in lens.file("csv").decode().splitlines()[:3]}
        assert names == {"# Standard", "# Tangent", "# Standard (pinned 1)"}
        assert "'Standard (pinned 1)': ex.disentanglement(m, ('hearts'" in lens.to_python()
        with xr.open_datatree(tmp_path / "maps.nc", engine="h5netcdf") as tree:
            assert set(tree.children) == {"weights", "tangent", "weights_pinned1"}
            assert tree.attrs["maps"] == "weights, tangent, weights_pinned1"
            for name in ("weights", "tangent"):
                xr.testing.assert_equal(tree[name].to_dataset(), lens.results[name])
            xr.testing.assert_equal(tree["weights_pinned1"].to_dataset(), lens.pins[0].result)
            assert "('hearts', 'digits')" in tree["weights_pinned1"].attrs["python"]
        lens.close()

    run(main())


def test_progress_is_of_what_is_computed_and_a_quick_map_is_little_of_it(tiny_model, few_pairs):
    async def main():
        lens = DisentanglementLens(tiny_model, query=f"{QUICK},tangent&view.seed=41")
        reached = {}
        computed = lens.computing._show
        lens.computing._show = lambda picture: (
            computed(picture),
            reached.setdefault(
                (getattr(picture.spec, "kind", ""), bool(picture.result.attrs["complete"])),
                lens.computing.progress,
            ),
        )
        lens.display()
        await lens.settled()
        assert lens.complete
        quick = effort(lens.state.spec("tangent"), 3)
        share = quick / (quick + effort(lens.state.spec("weights"), 3))
        assert 0 < share < 0.3
        assert share <= reached["tangent", True] < 0.5, "one of two maps, and the quick one"
        reached.clear()
        lens.open_tab("pairs")
        assert lens.computing.progress < 0.1, "the maps that are there already are no part of it"
        assert lens.drawing._status().startswith("computing all pairs: ")
        lens.close()

    run(main())


@pytest.fixture
def few_pairs(monkeypatch):
    """All pairs in a second or so."""
    monkeypatch.setattr("explorer.app.disentanglement.computing.PAIRS_IMAGES", 10)


def test_all_pairs_fill_in_behind_the_maps_while_no_tab_asks_for_them(tiny_model, few_pairs):
    expected = ex.disentanglement_pairs(tiny_model, n=10).result()

    async def main():
        lens = DisentanglementLens(tiny_model, query=QUICK)
        pictures, texts = [], []
        computed = lens.computing._show
        lens.computing._show = lambda picture: (
            pictures.append((type(picture.spec).__name__, bool(picture.result.attrs["complete"]))),
            computed(picture),
            texts.append(lens.drawing._status()),
        )
        lens.display()
        await lens.settled()
        assert lens.complete
        assert not any(complete for kind, complete in pictures if kind == "PairsSpec")
        await lens.computing.runner.settled()
        first = [kind for kind, _ in pictures].index("PairsSpec")
        assert pictures[first - 1] == ("MapSpec", True), "the maps come first"
        assert any("every cell is computed; all pairs fill in behind: " in t for t in texts)
        xr.testing.assert_equal(lens.pairs.result, expected)
        assert not lens.busy
        assert lens.drawing.notices.text == "every cell is computed"
        lens.close()

    run(main())


def test_what_a_person_asks_for_goes_before_all_pairs_which_lose_nothing(tiny_model, few_pairs):
    async def main():
        lens = DisentanglementLens(tiny_model, query=QUICK)
        lens.display()
        while lens.pairs is None or lens.pairs.result.attrs["pairs_done"] < 1:
            await asyncio.sleep(0.005)
        work = lens.computing._works[lens.pairs_spec]
        lens.state.set_pair("hearts", "letters")
        done = lens.pairs.result.attrs["pairs_done"]
        await lens.settled()
        assert lens.complete
        assert list(lens.results["weights"]["task"].values) == ["hearts", "letters"]
        assert done <= lens.pairs.result.attrs["pairs_done"] < 3
        assert lens.computing._works[lens.pairs_spec] is work, "it was left and goes on"
        await lens.computing.runner.settled()
        assert lens.pairs.result.attrs["complete"]
        lens.close()

    run(main())


def test_a_large_network_measures_all_pairs_only_while_their_tab_is_open(
    tiny_model, few_pairs, monkeypatch
):
    monkeypatch.setattr("explorer.app.disentanglement.computing.LIGHT", 1000)

    async def main():
        lens = DisentanglementLens(tiny_model, query=QUICK)
        lens.display()
        await lens.computing.runner.settled()
        assert lens.complete
        assert lens.pairs is None
        lens.open_tab("pairs")
        await lens.settled()
        assert lens.pairs.result.attrs["complete"]
        lens.close()

    run(main())


def test_all_pairs_by_lines_follow_its_numbers_and_by_a_method_are_its_maps(tiny_model, few_pairs):
    async def main():
        lens = DisentanglementLens(tiny_model, query=f"{QUICK}&view.pairs=lines&view.lines=0.2,0.5")
        lens.display()
        lens.open_tab("pairs")
        await lens.settled()
        assert lens.pairs.result.attrs["schedule"] == "lines:0.2,0.5"
        assert lens.drawing.lines.visible
        lens.state.set_lines(0.3, 0.4)
        await lens.settled()
        assert lens.pairs.result.attrs["schedule"] == "lines:0.3,0.4"
        assert "view.lines=0.3,0.4" in links.to_query(lens.state)
        lens.drawing.pairs_kinds._handle_msg({"kind": "choose", "name": "ties"})
        await lens.settled()
        assert (lens.pairs.result.attrs["method"], lens.pairs.result.attrs["schedule"]) == (
            "ties",
            "",
        )
        lens.close()

    run(main())


def test_the_matrix_and_the_kernel_say_how_many_images_and_which_seed(tiny_model, few_pairs):
    pairs = ex.disentanglement_pairs(tiny_model, n=60, seed=4, alphas=[-1, 0, 1]).result()
    matrix = PairMatrix({"digits": "Digits", "letters": "Letters", "hearts": "Hearts"})
    matrix.show(pairs, "Tangent")
    assert matrix.figure.title.text.endswith(": Tangent")
    assert matrix.subtitle.text == (
        "3 of 3 pairs · 3 × 3 cells each, −1 to 1, the row's task to the right · 48–60 images a "
        "task · seed 4"
    )
    kernel = ex.kernel_localisation(tiny_model, ("digits", "hearts"), n=3, rank=4, seed=5).result()
    for chart in (Eigenfunctions(), Carried()):
        chart.show(kernel, ("Digits", "Hearts"))
        assert chart.subtitle.text == "the 4 largest · 3 images a task · seed 5"
        assert [item.label.value for item in chart._items] == ["Digits", "Hearts"]
        chart.show(None, ("Digits", "Hearts"))
        assert chart.subtitle.text == ""
        assert not chart.source.data["rank"]


def test_every_pair_is_drawn_as_the_map_that_a_click_opens(tiny_model, few_pairs):
    points = [-1, 0, 1, 2]
    pairs = ex.disentanglement_pairs(tiny_model, n=30, alphas=points).result()
    matrix = PairMatrix({"digits": "Digits", "letters": "Letters", "hearts": "Hearts"})
    matrix.show(pairs, "Standard")
    data = matrix.source.data
    for i, drawn in enumerate(data["map"]):
        place = (data["left"][i] + 0.5, data["bottom"][i] + 0.5)
        pair = matrix.pair_at(*place)
        if pair is None:
            assert np.isnan(drawn).all(), "the diagonal stays empty"
            assert data["digits"][i] == ""
            continue
        assert (data["y"][i].lower(), data["x"][i].lower()) == pair
        opened = ex.disentanglement(tiny_model, pair, points, n=30).result()
        shown = columns(opened, np.array(points, float), "error")["value"][0]
        np.testing.assert_array_equal(drawn, shown)
        assert data["digits"][i] == f"{100 * float(opened['error'].mean()):.0f}"


def test_what_each_eigenfunction_carries_of_a_task_vector_is_drawn(tiny_model):
    kernel = ex.kernel_localisation(tiny_model, ("digits", "hearts"), n=3, rank=4).result()
    chart = Carried()
    chart.show(kernel, ("Digits", "Hearts"))
    carried = kernel["carried"].values
    for name, expected in zip(chart.names, carried, strict=True):
        np.testing.assert_array_equal(chart.source.data[name], expected)
    assert chart.figure.y_range.end > carried.max() > 0
    together = f"{carried[0].sum():.0%} for Digits, {carried[1].sum():.0%} for Hearts"
    assert chart.figure.title.text.endswith(together)


def test_a_kernel_of_another_seed_is_not_drawn(tiny_model):
    lens = DisentanglementLens(tiny_model)
    display = lens.display()
    display.turn_to("kernel")
    result = ex.kernel_localisation(tiny_model, lens.state.pair, n=3, rank=4).result()
    lens.kernel = Picture(KernelSpec(lens.state.pair, 1), result)
    for chart in (display._kernel, display._carried):
        chart.arrived()
    assert not len(display.eigenfunctions.source.data["rank"])
    lens.state.set_seed(1)
    display.show_kernel(lens.kernel)
    assert len(display.eigenfunctions.source.data["rank"]) == 4
    assert len(display.carried.source.data["rank"]) == 4
    lens.close()


def test_a_late_picture_never_takes_the_place_of_the_right_one(tiny_model):
    lens = DisentanglementLens(tiny_model)
    lens.open_tab("pairs")
    pairs = xr.Dataset(attrs={"pairs_done": 1})
    right = Picture(PairsSpec(0, "weights"), pairs), Picture(lens.kernel_spec, pairs)
    for picture in right:
        lens._computed(picture)
    other = (lens.state.pair[1], lens.state.pair[0])
    for late in (PairsSpec(3), PairsSpec(0, "tangent"), KernelSpec(other, 0)):
        lens._computed(Picture(late, pairs))
    assert (lens.pairs, lens.kernel) == right
    newer = Picture(lens.pairs_spec, xr.Dataset(attrs={"pairs_done": 2}))
    lens._computed(newer)
    assert lens.pairs is newer
    lens.close()


def test_the_results_used_longest_ago_are_forgotten_first(tiny_model, monkeypatch):
    monkeypatch.setattr("explorer.app.disentanglement.computing.REMEMBERED", 2)
    shown = []
    computing = Computing(tiny_model, shown.append, shown.append, lambda busy: None)

    def finish(spec):
        work = Work(spec, lambda: None)
        work.latest, work.finished = Picture(spec, xr.Dataset()), True
        computing._moved(work, 1.0)

    first, second, third = (PairsSpec(seed) for seed in range(3))
    finish(first)
    finish(second)
    computing.want([first])  # used again
    finish(third)
    shown.clear()
    computing.want([first, third])
    assert [picture.spec for picture in shown] == [first, third]
    assert second not in computing._results
    computing.close()


@pytest.mark.parametrize("space", ["weights", "posthoc"])
def test_all_pairs_are_measured_in_the_space_that_is_chosen(tiny_model, monkeypatch, space):
    monkeypatch.setattr("explorer.app.disentanglement.computing.PAIRS_IMAGES", 10)
    expected = ex.disentanglement_pairs(tiny_model, n=10, space=space).result()

    async def main():
        lens = DisentanglementLens(tiny_model, query=f"{QUICK}&view.pairs={space}")
        lens.display()
        lens.open_tab("pairs")
        await lens.settled()
        assert lens.pairs.spec == lens.pairs_spec
        xr.testing.assert_equal(lens.pairs.result, expected)
        other = "tangent" if space == "weights" else "weights"
        lens.drawing.pairs_kinds._handle_msg({"kind": "choose", "name": other})
        assert lens.state.pairs_kind == other
        await lens.settled()
        assert lens.pairs.spec.kind == other
        assert lens.pairs.result.attrs["space"] == other
        assert f"view.pairs={other}" in links.to_query(lens.state) or other == "weights"
        lens.drawing.pairs_kinds._handle_msg({"kind": "choose", "name": "flat"})
        assert "'flat'" in lens.sentences[-1]
        assert lens.state.pairs_kind == other
        lens.close()

    run(main())


def test_files_hold_the_maps_and_how_they_are_made(lens, tmp_path):
    png = Image.open(io.BytesIO(lens.file("png")))
    assert "ex.disentanglement(m, ('digits', 'letters')" in png.info["Description"]
    assert lens.file("svg").lstrip().startswith(b"<?xml")
    lines = lens.file("csv").decode().splitlines()
    assert lines[0].startswith("# Standard: ex.disentanglement(")
    assert len(lines) == 2 + 2 * 81
    path = tmp_path / "map.nc"
    path.write_bytes(lens.file("nc"))
    with xr.open_dataset(path, group="weights", engine="h5netcdf") as loaded:
        np.testing.assert_array_equal(loaded["predicted"], lens.results["weights"]["predicted"])
    with pytest.raises(ex.UnknownNameError, match="'pdf'"):
        lens.file("pdf")


def test_the_ipywidget_follows_the_lens_and_the_lens_the_ipywidget(tiny_model):
    import traitlets

    lens = DisentanglementLens(tiny_model)
    widget = lens.to_ipywidget()
    lens.state.move((0.1, 0.2))
    assert widget.value == {"digits": 0.1, "letters": 0.2}
    widget.value = {"hearts": 0.5, "digits": -1.0}
    assert (lens.state.pair, lens.state.point) == (("hearts", "digits"), (0.5, -1.0))
    widget.layer = "accuracy"
    assert lens.state.layer == "accuracy"
    for value in ({"hearts": 9.0, "digits": 0.0}, {"hearts": 0.5}, {"nobody": 0.5, "digits": 0.1}):
        with pytest.raises(traitlets.TraitError):
            widget.value = value


# The app


def test_the_app_opens_the_lens_of_its_link_and_keeps_both(tiny_folder, monkeypatch):
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))

    async def main():
        shell = Shell("tiny", f"{QUICK}&view.point=0.5,0.2")
        shell.embedded()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        maps = shell.lens
        assert isinstance(maps, DisentanglementLens)
        assert maps.state.point == (0.5, 0.2)
        shell.choose("arithmetic")
        assert shell.lens.recipe.active == {"digits": 0.5, "letters": 0.2}
        assert [view.visible for view in shell.side] == [False, True]
        shell.choose("disentanglement")
        assert shell.lens is maps
        assert [view.visible for view in shell.side] == [True, False]
        shell.close()

    run(main())


def test_lenses_hand_over_only_a_recipe_that_was_changed(tiny_model):
    arithmetic = ex.ArithmeticLens(tiny_model, Recipe(base="tiny", coefficients={"digits": 1.5}))
    maps = DisentanglementLens(tiny_model)
    hand_over(arithmetic, maps, None)
    assert maps.state.point == (1.5, 0.0)
    maps.state.move((-2.5, 0.5))
    hand_over(maps, arithmetic, None)
    assert arithmetic.recipe.active == {"digits": -1.0, "letters": 0.5}
    hand_over(arithmetic, maps, arithmetic.recipe)
    assert maps.state.point == (-2.5, 0.5)
    assert json.loads(maps.recipe.to_json())["base"] == "tiny"
