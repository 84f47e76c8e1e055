"""The schedule lens without a browser: pure parts, links, messages in, pictures out."""

import asyncio
import io
import json

import numpy as np
import pytest
import traitlets
import xarray as xr
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image

import explorer as ex
from explorer.app import links as app_links
from explorer.app.arithmetic import ArithmeticLens
from explorer.app.lenses import hand_over
from explorer.app.schedule import curve, links, table, tradeoff
from explorer.app.schedule.display import plane_title
from explorer.app.schedule.figure import _norms
from explorer.app.schedule.forgetting_chart import ForgettingChart
from explorer.app.schedule.jobs import Found, Tried, front
from explorer.app.schedule.lens import ScheduleLens
from explorer.app.schedule.packing import option_fields, packed
from explorer.app.schedule.plane_chart import edges
from explorer.app.schedule.state import ScheduleState
from explorer.editing.methods import merging_methods
from explorer.editing.schedule import FACTOR_RANGE
from explorer.measures import bootstrap
from explorer.measures.lines_search import beta_grid, factor_grid
from explorer.recipe import Recipe

SCHEDULES = [
    ex.lines(0.2, 0.7),
    ex.lines(0.2, 0.7, outside="depth"),
    ex.inverse_lines(0.3, -0.2),
    ex.shuffled_lines(0.1, 0.9, 3),
    ex.constant(0.4),
    ex.piecewise([(0, 0.1), (0.3, 0.9), (1, 0.5)], outside="depth"),
    ex.per_layer([0.1, 0.5, 0.2, 0.9, 1.1], outside=0.3),
    ex.per_layer([0.1, 0.5, 0.2, 0.9, 1.1], outside=0.3, layout="depth"),
]


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


@pytest.fixture
def state() -> ScheduleState:
    return ScheduleState(("digits", "letters", "hearts"), "tiny", 3, "shapes")


@pytest.fixture(scope="module")
def lens(tiny_model) -> ScheduleLens:
    """A lens that has measured its recipe and every tab, on few images."""
    few = ex.compare(tiny_model, ["task_arithmetic", "ties"], n=12).result()
    made = ScheduleLens(tiny_model, query="base=tiny&digits=1.0&schedule=lines:0.1,0.9&view.n=12")
    made.display()

    async def work() -> None:
        await made.settled()
        for tab in ("forgetting", "search"):
            made.compute(tab)
            await made.settled()

    run(work())
    made.jobs.found["compare"] = Found(made.spec("compare"), few, 1.0)  # of two methods, not all
    made.drawing.outdated("compare")
    for late in made.drawing.displays[0]._late.values():
        late.arrived()  # as if a browser had them
    return made


# The curve


@pytest.mark.parametrize("schedule", [None, *SCHEDULES], ids=repr)
def test_the_basis_times_the_handles_is_the_schedule(schedule):
    handles = curve.handles(schedule, 5)
    values = [handle.value for handle in handles]
    drawn = np.array(curve.basis(schedule, 5)) @ values if values else np.ones(7)
    depths = [(None, False), *((i, False) for i in range(5)), (None, True)]
    one = ex.constant(1.0) if schedule is None else schedule
    expected = [one.scale(layer, 5, after=after) for layer, after in depths]
    np.testing.assert_allclose(drawn, expected, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_handles_put_where_they_are_change_nothing(schedule):
    values = [handle.value for handle in curve.handles(schedule, 5)]
    again = curve.with_values(schedule, values)
    np.testing.assert_allclose(curve.factors(again, 5), curve.factors(schedule, 5))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_every_handle_lies_on_the_curve_at_its_own_block(schedule):
    if schedule.kind == "piecewise":
        pytest.skip("its points lie between blocks")
    factors = curve.factors(schedule, 5)
    for handle in curve.handles(schedule, 5):
        assert handle.value == pytest.approx(factors[int(handle.place) + 1])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_drawn_by_layer_a_schedule_stays_what_it_is(schedule):
    drawn = curve.reshaped(schedule, "per_layer", 5)
    before, after = (np.array(curve.factors(s, 5)) for s in (schedule, drawn))
    np.testing.assert_allclose(after, before, atol=1e-4)  # ln_post and proj, the last, included


def test_lines_upside_down_and_back_keeps_alpha_and_beta(state):
    state.set_lines(0.25, 0.5)
    for kind in ("inverse_lines", "shuffled_lines", "lines"):
        state.set_kind(kind)
        assert state.alpha_and_beta == (0.25, 0.5)
    assert state.recipe.schedule == ex.lines(0.25, 0.5)


def test_what_a_search_may_choose_lies_within_reach_of_the_curve_and_its_fields(state):
    low, high = FACTOR_RANGE
    for method in merging_methods():
        for x in (*factor_grid(method), *beta_grid(method)):
            assert low <= x <= high
    state.set_schedule(ex.lines(0.2, 3.0))  # of iso_c's grid of beta
    state.set_values([0.25, 3.2])
    assert state.recipe.schedule == ex.lines(0.25, 2.95)
    state.set_lines(0.3, 2.95)
    state.set_schedule(ex.constant(3.0))
    state.set_values([2.9])
    assert state.recipe.schedule == ex.constant(2.9)


def test_a_factor_out_of_reach_stands_in_no_other_handles_way(state):
    state.set_schedule(ex.per_layer([7.5, 0.2, -4.0], outside=1.0))
    state.set_values([7.5, 0.3, -4.0, 1.0])
    state.set_values([6.0, 0.3, -4.0, 1.0])
    with pytest.raises(ex.RecipeError, match="between -4 and 6, not 6"):
        state.set_values([6.5, 0.3, -4.0, 1.0])
    assert packed(state.recipe, 3, {}, None)["range"] == FACTOR_RANGE


def test_the_fields_of_alpha_and_beta_reach_as_far_as_the_curve(tiny_model):
    lens = ScheduleLens(tiny_model, Recipe("tiny", {"digits": 1.0}, ex.lines(0.1, 0.9)))
    display = lens.display()
    assert (lens.drawing.lines.low, lens.drawing.lines.high) == FACTOR_RANGE
    lens.state.set_schedule(ex.lines(0.5, 4.0))
    lens.drawing.screen.draw_now()
    assert (lens.drawing.lines.low, lens.drawing.lines.high) == (-1.0, 5.0)
    assert display is not None
    lens.close()


def test_points_are_added_and_removed(state):
    state.set_schedule(ex.piecewise([(0, 0.1), (1, 0.9)]))
    state.add_point(0.5, 0.3)
    assert state.recipe.schedule == ex.piecewise([(0, 0.1), (0.5, 0.3), (1, 0.9)])
    with pytest.raises(ex.RecipeError, match=r"point at depth 0\.5"):
        state.add_point(0.505, 0.4)
    state.remove_point(0)
    state.remove_point(1)
    with pytest.raises(ex.RecipeError, match="at least one"):
        state.remove_point(0)


# The state and its links


def test_a_drag_of_a_handle_is_one_undo_step(state):
    for value in (0.2, 0.3, 0.4):
        state.set_values([value, 1.0], done=False)
    state.set_values([0.5, 1.0])
    state.set_method("ties")
    state.undo()
    assert state.recipe.schedule == ex.lines(0.5, 0.5)
    state.undo()
    assert state.recipe.schedule == ex.lines(0.1, 0.9)
    state.redo()
    assert state.recipe.schedule == ex.lines(0.5, 0.5)


def test_an_option_as_it_comes_is_not_written_into_the_recipe(state):
    state.set_method("ties")
    state.set_option("density", 0.5)
    assert state.recipe.options == (("density", 0.5),)
    state.set_option("density", 0.2)
    assert state.recipe.options == ()
    with pytest.raises(ex.RecipeError, match="between 0 and 1"):
        state.set_option("density", 2.0)
    with pytest.raises(ex.RecipeError, match="no such option"):
        state.set_option("colour", 1)


def test_a_method_for_one_task_is_of_a_task_that_takes_part(state):
    state.replace(Recipe("tiny", {"letters": 1.0, "hearts": 0.5}))
    state.set_method("tall_masks")
    assert dict(state.recipe.options)["task"] in state.recipe.active


@pytest.mark.parametrize("schedule", [None, *SCHEDULES[:-2]], ids=repr)
def test_a_link_restores_the_state(state, schedule):
    state.set_schedule(schedule)
    state.set_method("dare")
    state.set_option("drop_rate", 0.25)
    state.set_coefficient("letters", 0.4)
    state.look_at("hearts")
    state.set_chart("normalized")
    state.set_tab("compare")
    state.set_n(33)
    state.set_seed(5)
    state.switch("digits", False)
    there = ScheduleState(state.tasks, "tiny", 3, "shapes")
    assert links.apply(app_links.read(links.to_query(state)), there) == []
    for name in ("recipe", "off", "focus", "chart", "tab", "n", "seed"):
        assert getattr(there, name) == getattr(state, name), name


def test_adamerging_is_part_of_what_compare_computes_if_asked_for(tiny_model):
    lens = ScheduleLens(tiny_model, query="base=tiny&view.n=12&view.adamerging=with")
    assert lens.spec("compare").adamerging
    assert "view.adamerging=with" in links.to_query(lens.state)
    lens.state.set_adamerging("without")
    assert not lens.spec("compare").adamerging
    assert "adamerging" not in links.to_query(lens.state)
    with pytest.raises(ex.UnknownNameError, match="'without'"):
        lens.state.set_adamerging("withot")
    lens.close()


def test_larv_has_its_options_on_screen(tiny_model):
    recipe = Recipe("tiny", {"digits": 1.0, "letters": 1.0}, method="larv")
    fields = {field["name"]: field for field in option_fields(recipe, {})}
    assert list(fields) == ["merger", "gate", "low", "high", "eta", "rho", "gamma", "seed"]
    assert ["iso_c", "iso_c"] in fields["merger"]["choices"]
    assert (fields["low"]["low"], fields["low"]["high"], fields["low"]["value"]) == (0, 2, 0.5)
    lens = ScheduleLens(tiny_model, recipe)
    lens.state.set_option("merger", "ties")
    assert dict(lens.recipe.options) == {"merger": "ties"}
    lens.close()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("base=tiny&digits=1&schedule=per_layer:1,2,outside:1", "2 blocks"),
        ("base=tiny&digits=1&method=magic", "magic"),
        ("base=tiny&digits=1&method=ties&option.density=7", "density"),
        ("base=tiny&digits=1&space=tangent", "tangent"),
        ("base=other&digits=1", "'other'"),
        ("view.tab=moon", "no tab 'moon'"),
        ("view.n=0", "from 1 to"),
        ("view.seed=x", "no whole number"),
        ("view.focus=shapes", "no task vector 'shapes'"),
        ("view.zoom=3", "does not know"),
    ],
)
def test_what_makes_no_sense_in_a_link_is_a_sentence_and_changes_nothing(state, query, says):
    before = (state.recipe, state.focus, state.tab, state.n)
    wrong = links.apply(app_links.read(query), state)
    assert len(wrong) == 1
    assert says in wrong[0]
    assert (state.recipe, state.focus, state.tab, state.n) == before


@pytest.mark.parametrize(
    "values", [[0.1], [0.1, 0.2, 0.3], [float("nan"), 1], [True, 1], ["a", 1], [5, 1], [-2, 1]]
)
def test_handles_nowhere_sensible_are_refused(state, values):
    with pytest.raises(ex.RecipeError):
        state.set_values(values)
    assert state.recipe.schedule == ex.lines(0.1, 0.9)


# Charts and table


def test_the_front_holds_what_no_other_point_dominates():
    points = [Tried(None, t, c) for t, c in ((1.0, 0.5), (0.9, 0.9), (0.8, 0.8), (0.5, 1.0))]
    slow = [
        p
        for p in points
        if not any(
            q.target >= p.target
            and q.control >= p.control
            and (q.target, q.control) != (p.target, p.control)
            for q in points
        )
    ]
    assert {(p.target, p.control) for p in front(points)} == {(p.target, p.control) for p in slow}
    assert front([]) == []


def test_cells_share_their_edges_and_lie_around_their_points():
    points = np.array([0.0, 0.1, 0.3, 0.4])
    borders = edges(points)
    assert len(borders) == 5
    assert (borders[:-1] < points).all()
    assert (points < borders[1:]).all()
    assert edges([0.3]).tolist() == [-0.2, 0.8]


def test_the_screen_shows_what_forgetting_computes(lens, tiny_model):
    expected = ex.forgetting(tiny_model, "digits", n=12).result()
    xr.testing.assert_equal(lens.found("forgetting")["target"], expected["target"])
    points = {p.label: p for p in lens.jobs.points(lens.spec("forgetting"))}
    assert len(points) == 11, "the schedule on screen is one of the eleven"
    best = expected.sel(schedule=expected.attrs["best"])
    assert lens.chosen_schedule() == ex.lines(float(best["alpha"]), float(best["beta"]))
    (display,) = lens.drawing.displays
    display.lens.state.set_tab("forgetting")
    drawn = display.forgetting.ramps.data
    assert sorted(drawn["y"]) == pytest.approx(sorted(expected["target"].values))
    here = display.forgetting.here.data
    alone = expected.isel(schedule=int(np.argmin(abs(expected["alpha"].values - 0.1))))
    assert (here["x"], here["y"]) == ([float(alone["control"])], [float(alone["target"])])


def test_lines_of_equal_trade_off_and_the_path_of_alpha_are_drawn(lens):
    lens.state.set_tab("forgetting")
    (display,) = lens.drawing.displays
    display.show_forgetting()
    chart = display.forgetting
    result = lens.found("forgetting").sortby("alpha")
    assert chart.alphas.data["x"] == pytest.approx(result["control"].values)
    assert chart.alphas.data["y"] == pytest.approx(result["target"].values)
    best = result.sel(schedule=result.attrs["best"])
    for x, y in zip(*(chart.chosen_line.data[name] for name in "xy"), strict=True):
        assert 2 * y + x == pytest.approx(float(best["tradeoff"]))
    labels = [float(text) for text in chart.labels.data["text"]]
    assert 2 <= len(labels) <= tradeoff.MOST_LINES
    for value, xs, ys in zip(labels, chart.equal.data["xs"], chart.equal.data["ys"], strict=True):
        assert [2 * y + x for x, y in zip(xs, ys, strict=True)] == pytest.approx([value, value])
    assert max(labels) < 2 * chart.figure.y_range.end + chart.figure.x_range.end


def test_no_trade_off_is_drawn_before_anything_is_measured():
    chart = ForgettingChart()
    chart.show([], None, None, "nothing")
    assert chart.equal.data["xs"] == chart.chosen_line.data["x"] == chart.alphas.data["x"] == []


def test_a_schedule_that_is_tried_becomes_a_point(tiny_model):
    async def main():
        lens = ScheduleLens(tiny_model, query="base=tiny&digits=1.0&view.n=12")
        lens.display()
        await lens.settled()
        lens.state.set_schedule(ex.inverse_lines(0.1, 0.9))
        await lens.settled()
        points = lens.jobs.points(lens.spec("forgetting"))
        assert [p.schedule for p in points] == [None, ex.inverse_lines(0.1, 0.9)]
        expected = ex.forgetting(
            tiny_model, "digits", {"x": ex.inverse_lines(0.1, 0.9)}, n=12
        ).result()
        assert points[1].target == float(expected["target"][0])
        assert points[1].control == float(expected["control"][0])
        lens.open_schedule(None)
        assert lens.recipe == Recipe("tiny", {"digits": 1.0})
        lens.close()

    run(main())


def test_the_plane_shows_what_the_search_computes_and_a_cell_opens(lens, tiny_model):
    (display,) = lens.drawing.displays
    lens.state.set_tab("search")
    result = lens.found("search")
    cells = display.plane.cells.data
    assert np.nanmax(np.abs(cells["value"] - result["mean_normalized"].values.ravel())) == 0
    alpha, beta = float(result["alpha"][2]), float(result["beta"][4])
    assert display.plane.cell_at(beta, alpha) == (alpha, beta)
    assert display.plane.cell_at(99, 99) is None
    before = lens.recipe
    lens.open_cell(alpha, beta)
    assert lens.recipe.schedule == ex.lines(alpha, beta)
    assert dict(lens.recipe.active) == dict.fromkeys(tiny_model.tasks, 1.0)
    assert lens.place_on_plane() == (alpha, beta)
    lens.preset("merged")
    assert lens.recipe.to_json() == result.attrs["paper_recipe"]
    lens.state.undo()
    lens.state.undo()
    assert lens.recipe == before


def test_the_title_of_the_plane_fits_beside_its_legend():
    short = plane_title("ties", ["Digits", "Letters"])
    assert short == "LiNeS on ties of Digits and Letters: normalized accuracy (%)"
    for method in ex.merging_methods():
        for titles in (["MNIST digits", "UCI digits"], ["Digits"] * 8, ["A task with a long name"]):
            title = plane_title(method, titles)
            assert len(title) <= 64
            assert title.startswith(f"LiNeS on {method.replace('_', ' ')} of ")


def test_the_table_marks_as_better_only_what_the_bootstrap_says_is(lens):
    result = lens.found("compare")
    rows = table.rows(result)
    marks = {"a": "better", "b": "worse", "undecided": "same"}
    for row, label in zip(rows, result["row"].values, strict=True):
        method = str(result["method"].sel(row=label).item())
        if not bool(result["with_lines"].sel(row=label)):
            assert row["mark"] == ""
            continue
        found = ex.bootstrap_difference(result, str(label), method)
        assert row["mark"] == marks[found["better"]]
    assert any(row["mark"] for row in rows)
    assert "seed 0" in lens.drawing.board.note
    assert "12 test images" in lens.drawing.board.note


def test_the_table_is_drawn_without_computing_anything(lens, monkeypatch):
    def computed(*_, **__):
        raise AssertionError("a view computed")

    monkeypatch.setattr(bootstrap, "bootstrap_difference", computed)
    monkeypatch.setattr(bootstrap, "resampled", computed)
    assert any(row["mark"] for row in table.rows(lens.found("compare")))


def test_the_row_of_adamerging_opens_as_a_recipe(tiny_model):
    few = {"adamerging": {"steps": 4, "learning_rate": 0.1}}
    result = ex.compare(tiny_model, ["ties"], n=8, options=few, adamerging=True).result()
    made = ScheduleLens(tiny_model)
    made.jobs.found["compare"] = Found(made.spec("compare"), result, 1.0)
    last = result.sizes["row"] - 1
    made.open_row(last)
    assert made.recipe.method == "layerwise"
    assert table.open_row(result, made.recipe) == last
    run(made.settled())
    fields = {field["name"]: field for field in option_fields(made.recipe, made.titles)}
    assert fields["factors"]["written"]
    assert fields["factors"]["value"].startswith("digits=0.")
    restored = ScheduleLens(tiny_model, query=links.to_query(made.state))
    assert restored.recipe == made.recipe
    made.close()
    restored.close()


def test_a_row_opens_and_the_fine_tuned_one_says_why_not(lens):
    result, before = lens.found("compare"), lens.recipe
    index = [str(r) for r in result["row"].values].index("ties + LiNeS")
    lens.open_row(index)
    assert lens.recipe == Recipe.from_json(str(result["recipe"].values[index]))
    assert table.open_row(result, lens.recipe) == index
    with pytest.raises(ex.ExplorerError, match="one network a task"):
        lens.open_row(1)
    with pytest.raises(ex.RecipeError, match="no such row"):
        lens.open_row(999)
    lens.state.undo()
    assert lens.recipe == before


# The lens


def test_messages_of_every_component_change_the_state_or_do_no_harm(tiny_model):
    lens = ScheduleLens(tiny_model)
    drawing, state = lens.drawing, lens.state
    drawing.curve._handle_msg(
        {"kind": "values", "values": [0.3, 0.8], "done": True, "view": "v", "seq": 2}
    )
    assert state.recipe.schedule == ex.lines(0.3, 0.5)
    assert drawing.curve.heard == {"v": 2}
    drawing.lines._handle_msg({"kind": "set", "task": "beta", "value": 0.2})
    assert state.alpha_and_beta == (0.3, 0.2)
    drawing.kinds._handle_msg({"kind": "outside", "name": "depth"})
    assert state.recipe.schedule == ex.lines(0.3, 0.2, outside="depth")
    drawing.kinds._handle_msg({"kind": "kind", "name": "per_layer"})
    assert state.kind == drawing.kinds.chosen == "per_layer"
    drawing.methods._handle_msg({"kind": "method", "name": "consensus"})
    assert [o["name"] for o in drawing.methods.options] == ["mask_threshold", "tasks_needed"]
    drawing.mixer._handle_msg({"kind": "set", "task": "letters", "value": 0.5})
    drawing.mixer._handle_msg({"kind": "focus", "task": "letters"})
    assert state.focus == "letters"
    before = (state.recipe, state.focus, state.n)
    parts = (drawing.curve, drawing.lines, drawing.kinds, drawing.methods, drawing.board)
    for component in (*parts, *drawing.jobs.values()):
        for message in (None, {}, {"kind": "values"}, {"kind": "set"}, {"kind": "open"}):
            component._handle_msg(message)
    drawing.jobs["search"]._handle_msg({"kind": "field", "name": "n", "value": None})
    assert "whole number" in lens.sentences[-1]
    drawing.curve._handle_msg({"kind": "values", "values": [1, "x"]})
    assert (state.recipe, state.focus, state.n) == before


def test_the_norms_under_the_curve_are_those_of_the_task_vectors(lens, tiny_model):
    lens.state.replace(Recipe("tiny", {"digits": -0.5, "hearts": 1.0}, ex.lines(0.1, 0.9)))
    lines = lens.drawing.curve.curve["lines"]
    assert [line["title"] for line in lines] == ["Digits", "Hearts"]
    tau = tiny_model.task_vector("digits")
    of_tau, of_base = (
        sum(float(t.double().square().sum()) for k, t in x.items() if "resblocks.1." in k) ** 0.5
        for x in (tau, tiny_model.base)
    )
    assert lines[0]["norms"][2] == pytest.approx(0.5 * of_tau / of_base, rel=1e-5)
    lens.state.undo()


def test_in_the_figure_no_line_leads_from_the_blocks_to_what_lies_outside(lens):
    axes, n_layers = MatplotlibFigure().subplots(), lens.state.n_layers
    _norms(axes, lens.recipe, n_layers, lens.titles, lens.geometry)
    assert len(axes.lines) == 6 * len(lens.recipe.active), "blocks, input, output; before and after"
    for line in axes.lines:
        places = line.get_xdata()
        assert (min(places) >= 1 and max(places) <= n_layers) or np.ptp(places) < 1
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [lens.titles[task] for task in lens.recipe.active]


def test_a_computation_stops_and_keeps_what_it_has(tiny_model):
    async def main():
        lens = ScheduleLens(tiny_model, query="base=tiny&view.n=40&view.tab=compare")
        lens.compute("compare")
        while "compare" not in lens.jobs.found:
            await asyncio.sleep(0.01)
        assert lens.drawing.jobs["compare"].busy
        lens.jobs.stop()
        await lens.settled()
        assert not lens.found("compare").attrs["complete"]
        assert not lens.drawing.jobs["compare"].busy
        assert lens.drawing.board.rows
        lens.close()

    run(main())


def test_what_goes_wrong_in_a_tab_is_a_sentence(tiny_model):
    async def main():
        lens = ScheduleLens(tiny_model, query="base=tiny&view.n=12&digits=1.0&letters=1.0")
        lens.state.set_method("tall_masks")
        lens.compute("search")
        await lens.settled()
        assert any("for one task" in sentence for sentence in lens.sentences)
        assert not lens.drawing.jobs["search"].busy
        lens.close()

    run(main())


def test_files_hold_what_is_on_screen(lens, tiny_model, tmp_path):
    lens.state.replace(Recipe("tiny", {"digits": 1.0}, ex.lines(0.1, 0.9)))
    run(lens.settled())
    png = Image.open(io.BytesIO(lens.file("png")))
    assert Recipe.from_json(png.info["Description"]) == lens.recipe
    assert lens.file("svg").lstrip().startswith(b"<?xml")
    assert json.loads(lens.file("json"))["schedule"]["alpha"] == 0.1
    path = tmp_path / "found.nc"
    lens.state.set_tab("forgetting")
    path.write_bytes(lens.file("tab"))
    with xr.open_dataset(path, engine="h5netcdf") as loaded:
        np.testing.assert_array_equal(loaded["target"], lens.found("forgetting")["target"])
    assert "| ties + LiNeS |" in lens.file("table.md").decode().replace("  ", " ")
    assert b"toprule" in lens.file("table.tex")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(lens.file("safetensors"))
    merged = ex.merge(tiny_model.base, {"digits": tiny_model.task_vector("digits")}, lens.recipe)
    written = ex.read_checkpoint(weights)
    assert written.keys() == merged.keys()
    assert all((written[key] == merged[key]).all() for key in merged)
    with pytest.raises(ex.UnknownNameError, match="'pdf'"):
        lens.file("pdf")


def test_the_python_of_the_lens_measures_the_same(lens, tiny_model):
    names = {"ex": ex, "m": tiny_model}
    code = [line for line in lens.to_python().splitlines() if not line.startswith(("import", "m "))]
    exec("\n".join(code[:-1]), names)
    assert names["recipe"] == lens.recipe
    again = eval(code[-1], names)
    np.testing.assert_array_equal(again["edited"], lens.result["edited"])


def test_the_recipe_goes_along_between_lenses(tiny_model):
    schedules, arithmetic = ScheduleLens(tiny_model), ArithmeticLens(tiny_model)
    schedules.recipe = Recipe("tiny", {"letters": 0.5}, ex.lines(0.2, 0.3), "ties")
    hand_over(schedules, arithmetic, None)
    assert arithmetic.recipe == schedules.recipe
    assert "stays as it is" in arithmetic.sentences[-1]
    arithmetic.state.set_coefficient("hearts", 0.4)
    hand_over(arithmetic, schedules, schedules.recipe)
    assert schedules.recipe == arithmetic.recipe
    arithmetic.recipe = Recipe("tiny", {"hearts": 0.4}, space="tangent")
    hand_over(arithmetic, schedules, None)
    assert schedules.recipe.space == "weights"
    assert "tangent" in schedules.sentences[-1]
    schedules.close()
    arithmetic.close()


def test_the_widget_follows_and_leads(tiny_model):
    lens = ScheduleLens(tiny_model)
    widget = lens.to_ipywidget()
    heard = []
    widget.observe(lambda change: heard.append(change["new"]), "schedule")
    lens.state.set_lines(0.3, 0.4)
    assert widget.schedule == heard[-1] == "lines:0.3,0.4"
    widget.schedule = "per_layer:0.1,0.2,0.3,outside:0.5"
    assert lens.recipe.schedule == ex.per_layer([0.1, 0.2, 0.3], outside=0.5)
    widget.value = {"hearts": 0.7}
    assert dict(lens.recipe.active) == {"hearts": 0.7}
    with pytest.raises(traitlets.TraitError, match="blocks"):
        widget.schedule = "per_layer:0.1,0.2,outside:0.5"
    widget.schedule = ""
    assert lens.recipe.schedule is None
    lens.close()
