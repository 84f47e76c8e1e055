"""The hierarchy lens without a browser: pure parts, links, messages in, pictures out."""

import asyncio
import base64
import io

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import explorer as ex
from explorer.app import links as app_links
from explorer.app.learning import curves as learning_curves
from explorer.app.learning.curves import PANELS, Series
from explorer.app.links import read
from explorer.app.tree import links
from explorer.app.tree.charts import level_label
from explorer.app.tree.computing import theory_of
from explorer.app.tree.lens import HierarchyLens
from explorer.app.tree.measured import Measured, Row, correlation_columns, levels_of, passes
from explorer.app.tree.packing import packed
from explorer.app.tree.palette import depth_colours, symbol_colours
from explorer.app.tree.setting import (
    LEVELS,
    MEASURED_LEVELS,
    PRESETS,
    PROCESSES,
    CurveSpec,
    GrammarSpec,
    Setting,
    Sizes,
    TreeSpec,
)
from explorer.app.tree.shape import UNCHANGED, bands, chunk_depths, positions, sentence, starts
from explorer.app.tree.state import TreeState
from explorer.app.tree.trajectory import trajectories

QUICK = "view.lens=hierarchy&view.grammar=6,2,2,3&view.n=6,8&view.level=0.6"
SMALL = Sizes(6, 2, 2, 3)


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


@pytest.fixture(scope="module")
def grammar() -> ex.hierarchy.Grammar:
    return ex.hierarchy.Grammar.random(v=6, m=2, s=2, L=3, seed=0)


@pytest.fixture(scope="module")
def lens() -> HierarchyLens:
    """A lens that has computed everything on screen, both controls as well."""
    made = HierarchyLens(query=f"{QUICK}&view.controls=mixture,field")
    made.display()
    run(made.settled())
    return made


def changed(s: int, L: int, *nodes: tuple[int, int]) -> np.ndarray:
    """All nodes in one line, those at (depth, position) changed."""
    flags = np.zeros(starts(s, L)[-1], bool)
    for depth, position in nodes:
        flags[starts(s, L)[depth] + position] = True
    return flags


# Layout of the tree


@pytest.mark.parametrize(("s", "L"), [(2, 7), (3, 5), (4, 2)])
def test_every_node_stands_over_the_middle_of_its_children_one_row_above_them(s, L):
    x, y = positions(s, L)
    at = starts(s, L)
    assert len(x) == len(y) == at[-1]
    for depth in range(L):
        children = x[at[depth + 1] : at[depth + 2]].reshape(-1, s)
        np.testing.assert_allclose(x[at[depth] : at[depth + 1]], children.mean(1))
    assert (x[0], y[0], y[-1]) == (0.5, 0, 1)
    np.testing.assert_allclose(np.diff(x[at[L] :]), 1 / s**L)


# Chunks


def test_a_chunk_begins_at_the_topmost_changed_node_of_an_unbroken_line():
    begins = chunk_depths(changed(2, 3, (1, 0), (2, 0), (3, 1), (3, 2), (3, 7)), 2, 3)
    at = starts(2, 3)
    assert begins[at[1]] == begins[at[2]] == 1
    leaves = begins[at[3] :].tolist()
    # Leaf 2 hangs from an unchanged node, and so is a chunk of its own within the other's band.
    assert leaves == [UNCHANGED, 1, 3, *[UNCHANGED] * 4, 3]


def test_bands_span_all_leaves_below_the_chunks_node_and_name_those_that_moved():
    begins = chunk_depths(changed(2, 3, (1, 0), (2, 0), (3, 1), (3, 2), (3, 7)), 2, 3)
    found = bands(begins, 2, 3)
    assert [(b.depth, b.first, b.stop, b.moved) for b in found] == [
        (1, 0, 4, (1,)),
        (3, 2, 3, (2,)),
        (3, 7, 8, (7,)),
    ]
    assert sentence(found, 8) == "3 of 8 leaves changed, in 3 chunks; the largest has 1"
    assert sentence(found[:1], 8) == "1 of 8 leaves changed, in 1 chunk"
    assert sentence([], 8) == "none of 8 leaves changed"


def test_a_changed_node_whose_leaves_all_kept_their_symbols_moved_nothing():
    assert bands(chunk_depths(changed(2, 3, (0, 0), (1, 1)), 2, 3), 2, 3) == []


def test_bands_hold_every_changed_leaf_once_and_agree_with_moved_by(grammar):
    (*_, tree) = trajectories(grammar, TreeSpec(GrammarSpec(SMALL), "masking", 3, 3))
    measured = ex.hierarchy.forward_backward(grammar, LEVELS, 1, 2, "masking", seed=3).result()
    before, after = (measured[name].values for name in ("before", "after"))
    leaves = starts(2, 3)[3]
    for i, level in enumerate(LEVELS):
        moved = sorted(leaf for band in tree.bands(level) for leaf in band.moved)
        changes = np.flatnonzero(after[i, 0, 0, leaves:] != before[0, leaves:])
        assert moved == changes.tolist()


# The trajectory


@pytest.mark.parametrize("process", ["epsilon", "masking", "gaussian"])
def test_the_tree_is_the_first_trajectory_of_forward_backward(grammar, process):
    first, last = trajectories(grammar, TreeSpec(GrammarSpec(SMALL), process, 5, 5))
    assert not first.complete
    assert last.complete
    expected = ex.hierarchy.forward_backward(grammar, LEVELS, 1, 2, process, seed=5).result()
    np.testing.assert_array_equal(last.levels, expected["level"])
    np.testing.assert_array_equal(last.before, expected["before"][0])
    np.testing.assert_array_equal(last.after, expected["after"][:, 0, 0])
    np.testing.assert_array_equal(last.noised, expected["noised"][:, 0, 0])
    np.testing.assert_array_equal(first.after, last.after[::10])


def test_marginals_on_hover_are_the_exact_posterior_of_the_old_symbols(grammar):
    (*_, tree) = trajectories(grammar, TreeSpec(GrammarSpec(SMALL)))
    leaves = grammar.sample(1, 0)[-1][0]
    at = tree.nearest(0.6)
    import torch

    likelihood = ex.hierarchy.epsilon_likelihood(torch.from_numpy(leaves), grammar.v, 0.6)
    exact = ex.hierarchy.posterior(grammar, likelihood)
    line = np.concatenate([level.numpy() for level in exact])
    expected = line[np.arange(len(line)), tree.before]
    np.testing.assert_allclose(tree.marginal[at], expected, atol=1e-5)


def test_new_noise_keeps_the_string_and_a_new_datum_changes_it(grammar):
    def tree(datum, noise):
        spec = TreeSpec(GrammarSpec(SMALL), "masking", datum, noise)
        return [*trajectories(grammar, spec)][-1]

    np.testing.assert_array_equal(tree(0, 0).before, tree(0, 1).before)
    assert (tree(0, 0).after != tree(0, 1).after).any()
    assert (tree(0, 0).before != tree(1, 0).before).any()


def test_the_browser_gets_every_symbol_and_every_chunk(grammar):
    (*_, tree) = trajectories(grammar, TreeSpec(GrammarSpec(SMALL), "masking"))
    picture = packed(tree)
    sent = {k: base64.b64decode(picture[k]) for k in ("after", "begins", "marginal", "noised")}
    np.testing.assert_array_equal(np.frombuffer(sent["after"], np.uint8), tree.after.ravel())
    np.testing.assert_array_equal(np.frombuffer(sent["begins"], np.uint8), tree.begins.ravel())
    np.testing.assert_array_equal(np.frombuffer(sent["noised"], np.int16), tree.noised.ravel())
    shares = np.frombuffer(sent["marginal"], np.uint16) / 65535
    np.testing.assert_allclose(shares, tree.marginal.ravel(), atol=1e-5)


# Colours


def test_every_depth_and_every_symbol_of_the_presets_has_a_colour_of_its_own():
    for sizes in PRESETS:
        assert len({*depth_colours(sizes.L)}) == sizes.L + 1
        assert len({*symbol_colours(sizes.v)}) == sizes.v


# Curves


def test_levels_are_visited_coarse_to_fine_each_once():
    spec = CurveSpec(GrammarSpec(SMALL))
    order = levels_of(spec)
    assert sorted(order) == MEASURED_LEVELS.tolist()
    assert {0.0, 1.0} <= {*passes(spec)[0]}
    assert max(levels_of(CurveSpec(GrammarSpec(SMALL), "", control="mixture"))[:20]) == 1.0


def test_correlation_is_drawn_over_the_distance_and_only_where_it_is_positive():
    columns = correlation_columns(np.array([0.5, 0.25, -0.1]), 3)
    assert columns["r"] == [2.0, 8.0]
    assert columns["correlation"][0] == 0.5
    assert np.isnan(columns["correlation"][1])
    assert np.isnan(correlation_columns(np.zeros(3), 2)["correlation"]).all()


def test_columns_hold_what_was_measured_with_ends_of_the_error_bars(grammar):
    spec = CurveSpec(GrammarSpec(SMALL), data=6, samples=8)
    runs = {x: ex.hierarchy.forward_backward(grammar, [x], 6, 8).result() for x in (0.6, 0.4)}
    measured = Measured(spec, {x: Row.of(run) for x, run in runs.items()})
    chi = measured.against_level("susceptibility")
    assert chi["level"] == [0.4, 0.6]
    assert chi["value"][1] == float(runs[0.6]["susceptibility"].item())
    assert chi["upper"][1] - chi["value"][1] == pytest.approx(chi["error"][1])
    marginals = measured.marginals(depth_colours(3))
    assert marginals["depth"] == [0, 1, 2, 3] * 2
    np.testing.assert_array_equal(marginals["marginal"][4:], runs[0.6]["marginal"][0])
    assert measured.nearest(0.58) == 0.6
    assert Measured(spec).against_level("susceptibility")["value"] == []
    assert Measured(spec).nearest(0.5) is None


def test_the_dataset_of_all_levels_is_that_of_one_run(lens):
    levels = lens.measured.levels
    again = ex.hierarchy.forward_backward(lens.grammar, levels, 6, 8, shown=0).result()
    xr.testing.assert_allclose(lens.result.drop_attrs(), again.drop_attrs())
    assert 0.6 in levels, "also where the slider stands"


def test_theory_has_a_threshold_and_a_power_law_through_the_critical_correlation():
    theory = theory_of(CurveSpec(GrammarSpec(Sizes(32, 8, 2, 7))))
    assert theory.threshold == pytest.approx(0.7312, abs=1e-4)
    law, critical = theory.power_law(), theory.by_distance(theory.threshold)
    slope = np.diff(np.log(law["correlation"])) / np.diff(np.log(law["r"]))
    assert slope[0] == pytest.approx(-0.943, abs=1e-3)
    at = np.exp(np.interp(np.log(critical["r"][3]), np.log(law["r"]), np.log(law["correlation"])))
    assert at == pytest.approx(critical["correlation"][3])
    assert theory_of(CurveSpec(GrammarSpec(SMALL), "masking")) is None


def test_without_a_transition_there_is_no_threshold_and_no_power_law():
    theory = theory_of(CurveSpec(GrammarSpec(Sizes(4, 4, 2, 3))))
    assert np.isnan(theory.threshold)
    assert theory.power_law()["r"] == []


# State


def test_presets_and_processes_are_those_there_are():
    assert {*PROCESSES} == {*ex.hierarchy.PROCESSES}
    for sizes in PRESETS:
        TreeState().set_sizes(sizes.v, sizes.m, sizes.s, sizes.L)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((4, 5, 2, 3), "20 distinct tuples"),
        ((8, 2, 2, 0), "L must be a whole number"),
        ((8, 2, 2, 20), "at most 1,024 leaves"),
        ((300, 2, 2, 3), "at most 256 symbols"),
        ((8, 2.5, 2, 3), "m must be a whole number"),
        ((8, None, 2, 3), "m must be a whole number"),
    ],
)
def test_a_grammar_that_cannot_exist_or_be_drawn_is_a_sentence(sizes, says):
    state = TreeState()
    with pytest.raises(ex.GrammarError, match=says):
        state.set_sizes(*sizes)
    assert state.setting == Setting()


@pytest.mark.parametrize("level", [1.2, -0.1, "x", None, True, float("nan")])
def test_a_level_outside_0_to_1_is_refused(level):
    state = TreeState()
    with pytest.raises(ex.GrammarError, match="between 0 and 1"):
        state.set_level(level)


def test_a_drag_is_one_step_of_undo_and_a_new_grammar_another():
    state = TreeState()
    for level in (0.71, 0.75, 0.8):
        state.set_level(level, done=False)
    state.set_level(0.81)
    state.renew("grammar")
    assert (state.setting.level, state.setting.grammar.seed) == (0.81, 1)
    state.undo()
    assert (state.setting.level, state.setting.grammar.seed) == (0.81, 0)
    state.undo()
    assert state.setting == Setting()
    state.redo()
    assert state.setting.level == 0.81


# Links


@pytest.mark.parametrize(
    "setting",
    [
        Setting(),
        Setting(GrammarSpec(Sizes(8, 4, 3, 5), 7), "masking", 0.25, 3, 4, 16, 32, 9, ("field",)),
    ],
)
def test_a_link_restores_everything_on_screen(setting):
    state = TreeState()
    assert links.apply(app_links.read(links.to_query(setting)), state) == []
    assert state.setting == setting


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("view.grammar=4,5,2,3", "distinct tuples"),
        ("view.grammar=8,2,2", "4 whole numbers"),
        ("view.grammar=%3Cscript%3E", "<script>"),
        ("view.level=2", "between 0 and 1"),
        ("view.level=half", "no number"),
        ("view.process=magic", "no process 'magic'"),
        ("view.n=64", "2 whole numbers"),
        ("view.n=4096,4096", "draws a level"),
        ("view.datum=-1", "seed of datum"),
        ("view.controls=placebo", "no control 'placebo'"),
        ("view.colour=red", "does not know"),
    ],
)
def test_a_bad_link_is_a_sentence_and_the_rest_of_it_is_used(query, says):
    state = TreeState()
    wrong = links.apply(app_links.read(f"view.noise=3&{query}"), state)
    assert len(wrong) == 1
    assert says in wrong[0]
    assert state.setting == Setting(noise=3)


def test_the_controls_are_there_unless_a_link_puts_them_away():
    state = TreeState()
    assert state.setting.controls == ("mixture", "field")
    assert "controls" not in links.to_query(state.setting)
    state.set_controls([])
    link = links.to_query(state.setting)
    assert "view.controls=none" in link
    again = TreeState()
    assert links.apply(read(link), again) == []
    assert again.setting == state.setting


def test_the_axis_names_the_noise_of_each_control():
    assert level_label(Setting()) == "belief mixing ε; field: 1 − ᾱ"
    assert level_label(Setting(controls=("mixture",))) == "belief mixing ε"
    assert level_label(Setting(process="masking")) == "t/T; mixture: ε; field: 1 − ᾱ"
    assert level_label(Setting(process="gaussian")) == "noise variance 1 − ᾱ; mixture: ε"


# The lens


def test_a_finished_lens_is_complete_and_says_so(lens):
    assert lens.complete
    assert "41 levels, 6 strings × 8 trajectories a level, seed 0" in lens.drawing.notices.text
    assert {*lens.controls} == {"mixture", "field"}
    assert lens.drawing.tree.picture["levels"] == LEVELS.tolist()
    (display,) = lens.drawing.displays
    assert display.susceptibility.source.data["level"] == lens.measured.levels
    length = lens.result["correlation_length"].values
    np.testing.assert_array_equal(display.length.source.data["value"], length)
    assert display.length.figure.xaxis.axis_label == "belief mixing ε; field: 1 − ᾱ"
    assert len(display.marginals.lines.data["xs"]) == 4


def test_messages_of_every_component_change_the_state_or_do_no_harm():
    lens = HierarchyLens(query=QUICK)
    drawing, state = lens.drawing, lens.state
    drawing.tree._handle_msg({"kind": "set", "value": 0.3, "done": True, "view": "v", "seq": 4})
    assert state.setting.level == drawing.tree.level == 0.3
    assert drawing.tree.heard == {"v": 4}
    drawing.grammar._handle_msg({"kind": "sizes", "v": 8, "m": 2, "s": 2, "L": 6})
    assert drawing.grammar.sizes == [8, 2, 2, 6]
    drawing.grammar._handle_msg({"kind": "process", "name": "masking"})
    assert drawing.tree.name_of_level == "t/T"
    drawing.grammar._handle_msg({"kind": "renew", "what": "datum"})
    drawing.grammar._handle_msg({"kind": "seed", "what": "noise", "value": 5})
    drawing.grammar._handle_msg({"kind": "count", "what": "data", "value": 7})
    drawing.grammar._handle_msg({"kind": "control", "name": "mixture", "on": False})
    setting = state.setting
    assert (setting.datum, setting.noise, setting.data) == (1, 5, 7)
    assert setting.controls == ("field",)
    for component in (drawing.tree, drawing.grammar, drawing.toolbar, drawing.notices):
        for message in (None, {}, {"kind": "set"}, {"kind": "count", "what": "x", "value": 1}):
            component._handle_msg(message)
    drawing.grammar._handle_msg({"kind": "sizes", "v": 4, "m": 5, "s": 2, "L": 3})
    assert "distinct tuples" in lens.sentences[-1]
    assert state.setting == setting


def test_a_grammar_of_ones_own_is_shown_with_its_own_rules(grammar):
    seeded = HierarchyLens(grammar)
    assert seeded.state.setting.grammar == GrammarSpec(SMALL, 0)
    own = ex.hierarchy.Grammar(grammar.v, grammar.tables[::-1])
    lens = HierarchyLens(own)
    assert lens.grammar is own
    assert lens.state.setting.grammar == GrammarSpec(SMALL, None)
    lens.state.renew("grammar")
    assert lens.grammar is not own
    with pytest.raises(ex.GrammarError, match="takes a Grammar"):
        HierarchyLens("grammar")


def test_moving_the_slider_measures_there_and_a_stopped_lens_goes_on():
    async def main():
        lens = HierarchyLens(query=f"{QUICK}&view.seed=4")
        lens.display()
        while lens.measured is None or not lens.measured.rows:
            await asyncio.sleep(0.01)
        lens.stop()
        await lens.settled()
        assert not lens.complete
        assert lens.drawing.notices.action == "go on"
        lens.go_on()
        await lens.settled()
        assert lens.complete
        lens.state.set_level(0.63)
        assert not lens.complete
        await lens.settled()
        assert 0.63 in lens.measured.rows
        lens.close()

    run(main())


def test_files_hold_what_is_on_screen_and_how_it_is_made(lens, tmp_path):
    png = Image.open(io.BytesIO(lens.file("png")))
    assert "ex.hierarchy.forward_backward(g, levels" in png.info["Description"]
    assert lens.file("svg").lstrip().startswith(b"<?xml")
    lines = [x for x in lens.file("csv").decode().splitlines() if not x.startswith("#")]
    assert lines[0].startswith("model,level,susceptibility")
    assert len(lines) == 1 + sum(len(m.rows) for m in (lens.measured, *lens.controls.values()))
    path = tmp_path / "rhm.nc"
    path.write_bytes(lens.file("nc"))
    with xr.open_dataset(path, engine="h5netcdf") as loaded:
        np.testing.assert_array_equal(loaded["susceptibility"], lens.result["susceptibility"])
        np.testing.assert_array_equal(loaded["tree_after"], lens.trajectory.after)
    with pytest.raises(ex.UnknownNameError, match="'pdf'"):
        lens.file("pdf")


def test_the_python_that_is_copied_computes_the_same(lens):
    names: dict = {}
    exec(lens.to_python(), names)
    levels = lens.measured.levels
    found = names["result"]["susceptibility"].sel(level=levels)
    np.testing.assert_allclose(found, lens.result["susceptibility"])
    np.testing.assert_array_equal(names["g"].tables, lens.grammar.tables)


def test_the_ipywidget_follows_the_lens_and_the_lens_the_ipywidget():
    import traitlets

    lens = HierarchyLens(query=QUICK)
    widget = lens.to_ipywidget()
    lens.state.set_level(0.25)
    assert widget.value == 0.25
    widget.value = 0.5
    widget.datum = 3
    assert (lens.state.setting.level, lens.state.setting.datum) == (0.5, 3)
    with pytest.raises(traitlets.TraitError, match="between 0 and 1"):
        widget.value = 1.5
    with pytest.raises(traitlets.TraitError):
        widget.noise = -1


# Learning


LEARNING = "view.lens=hierarchy&view.view=learning"


@pytest.fixture(scope="module")
def learning() -> HierarchyLens:
    """A lens with the learning view open, its shipped curves read."""
    made = HierarchyLens(query=LEARNING)
    made.display().main()
    run(made.settled())
    laid_out(made)
    return made


def laid_out(lens: HierarchyLens) -> None:
    """What a browser says as soon as it has the charts."""
    learning = lens.drawing.displays[0]._learning
    for name in learning._charts:
        learning.arrived(name)


def test_every_experiment_has_a_panel_and_a_chart_of_its_shipped_curve(learning):
    assert {*PANELS} == {*ex.hierarchy.learning.EXPERIMENTS}
    assert learning.desk.complete
    (display,) = learning.drawing.displays
    for name in PANELS:
        shipped, live = display._learning._charts[name].marks.data, learning.desk.live.get(name)
        assert live is None
        assert len(shipped["x"]) > 15, name
        assert np.isfinite(shipped["y"]).all()
        head = learning.drawing.heads.of[name]
        assert f"python -m explorer.hierarchy.learning {name}" in head.shipped
        assert head.key
        assert not head.busy


def test_the_denoising_view_is_not_computed_while_learning_is_on_screen(learning):
    assert learning.measured is None
    assert learning.trajectory is None


def test_charts_show_the_numbers_of_the_shipped_curve(learning):
    data = ex.hierarchy.learning.cached("tuples_cluster")
    series = PANELS["tuples_cluster"].series(learning.desk.shipped["tuples_cluster"], False)
    np.testing.assert_array_equal(series[0].x, data["examples"])
    np.testing.assert_array_equal(series[0].y, data["separation"])
    np.testing.assert_array_equal(series[0].law[1], data["law"])


def test_rescaled_axes_are_divided_by_the_law_of_each_curve(learning):
    data = ex.hierarchy.learning.cached("correlation_staircase")
    panel = PANELS["correlation_staircase"]
    series = panel.series(learning.desk.shipped["correlation_staircase"], True)
    here = data.sel(distance=2)
    np.testing.assert_allclose(series[1].x, here["examples"] / here["needed_law"])
    np.testing.assert_allclose(series[1].y, (here["correlation"] / here["noise"]) ** 2)
    np.testing.assert_allclose(series[1].law[1], 1 + series[1].x)
    for name, other in PANELS.items():
        for one in other.series(learning.desk.shipped[name], True):
            assert len(one.x) == len(one.y) == len(one.error)


def test_marks_and_lines_are_columns_of_equal_length():
    x = np.array([1.0, 2.0])
    curve = Series("a", "#000000", x, x, np.array([np.nan, 0.5]), (x, 2 * x))
    mark = Series("b", "#111111", x, x, x, (x[:1], x[:1]), joined=False)
    columns = learning_curves.marks([curve, mark])
    assert {len(values) for values in columns.values()} == {4}
    assert columns["lower"][:2] == [1.0, 1.5]
    drawn = learning_curves.lines([curve, mark])
    assert drawn["dash"] == ["solid", "dashed"]
    assert learning_curves.law_marks([curve, mark])["label"] == ["b"]


def test_measuring_live_puts_another_grammars_mark_on_the_chart_and_says_so():
    async def main():
        lens = HierarchyLens(query=LEARNING)
        lens.display().main()
        head = lens.drawing.heads.of["tuples_cluster"]
        send = head._handle_msg
        send({"kind": "examples", "name": "tuples_cluster", "value": 512})
        send({"kind": "measure", "name": "tuples_cluster"})
        assert head.busy
        await lens.settled()
        assert lens.desk.complete, "the shipped curves are read as well"
        laid_out(lens)
        (display,) = lens.drawing.displays
        assert display._learning._charts["tuples_cluster"].live.data["x"] == [512.0]
        live = lens.desk.live["tuples_cluster"]
        again = ex.hierarchy.learning.tuples_cluster(
            8, 8, 2, 2, [512], seeds=1, seed=live.attrs["seed"]
        ).result()
        xr.testing.assert_allclose(live, again)
        assert head.said.startswith("P = 512, seed 1000: ratio ")
        assert not head.busy
        send({"kind": "measure", "name": "tuples_cluster"})
        await lens.settled()
        assert lens.desk.live["tuples_cluster"].attrs["seed"] != live.attrs["seed"]
        lens.close()

    run(main())


def test_training_live_can_be_stopped_and_another_panel_measured():
    async def main():
        lens = HierarchyLens(query=LEARNING)
        lens.display().main()
        lens.drawing.actions.learning({"kind": "measure", "name": "memorisation_time"})
        while lens.desk.progress == 0:
            await asyncio.sleep(0.02)
        assert lens.drawing.notices.action == "stop"
        lens.drawing.actions.learning({"kind": "stop", "name": "memorisation_time"})
        lens.drawing.actions.learning({"kind": "measure", "name": "tuples_cluster"})
        await lens.settled()
        assert {*lens.desk.live} == {"tuples_cluster"}
        assert lens.desk.measuring == ""
        lens.close()

    run(main())


def test_messages_of_the_learning_view_that_make_no_sense_do_no_harm(learning):
    actions, before = learning.drawing.actions, learning.state.setting
    for message in (
        {"kind": "measure", "name": "nothing"},
        {"kind": "examples", "name": "tuples_cluster", "value": 7},
        {"kind": "examples", "name": "tuples_cluster", "value": True},
        {"kind": "scaled", "name": "tuples_cluster"},
        {"kind": "scaled", "name": "x", "on": True},
        {"kind": "else", "name": "tuples_cluster"},
    ):
        actions.learning(message)
    assert learning.state.setting == before
    assert "no experiment on learning 'x'" in learning.sentences[-1]


def test_turning_to_learning_and_back_goes_on_with_the_curves():
    async def main():
        lens = HierarchyLens(query=f"{QUICK}&view.seed=8")
        display = lens.display()
        display.main()
        lens.state.look_at("learning")
        assert display.toggle.value == "learning"
        await lens.settled()
        assert lens.desk.complete
        assert not display._tree.visible
        display.toggle.value = "tree"
        assert lens.state.setting.view == "tree"
        await lens.settled()
        assert lens.complete
        assert display._tree.visible
        lens.close()

    run(main())


def test_a_link_restores_the_view_its_rescaled_axes_and_the_numbers_of_examples():
    state = TreeState(Setting(view="learning", scaled=("tuples_cluster", "latent_or_token")))
    state.choose_examples({"diffusion_learns": 32, "tuples_cluster": 512})
    again = TreeState()
    assert links.apply(app_links.read(links.to_query(state.setting)), again) == []
    assert again.setting == state.setting
    assert (again.examples("diffusion_learns"), again.examples("tuples_cluster")) == (32, 512)
    assert again.examples("latent_or_token") == PANELS["latent_or_token"].usual


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("view.view=nowhere", "no view 'nowhere'"),
        ("view.scaled=x", "no experiment on learning 'x'"),
        ("view.examples=x:512", "no experiment on learning 'x'"),
        ("view.examples=tuples_cluster:511", "511 examples cannot be measured"),
        ("view.examples=tuples_cluster:many", "a whole number was wanted"),
        ("view.examples=512", "no experiment on learning"),
    ],
)
def test_a_bad_link_to_the_learning_view_is_a_sentence(query, says):
    state = TreeState()
    (wrong,) = links.apply(app_links.read(query), state)
    assert says in wrong
    assert state.setting == Setting()


def test_a_chosen_number_of_examples_can_be_undone():
    state = TreeState()
    state.choose_examples({"tuples_cluster": 512})
    state.choose_examples({"tuples_cluster": PANELS["tuples_cluster"].usual})
    assert state.setting == Setting(), "as it was before anybody chose"
    state.undo()
    assert state.examples("tuples_cluster") == 512
    state.undo()
    assert state.setting == Setting()


def test_the_law_of_a_panel_says_how_far_it_is_from_what_was_measured(learning):
    data = ex.hierarchy.learning.cached("diffusion_learns")
    ratio = (data["needed"] / data["needed_law"]).values
    heads = learning.drawing.heads.of
    assert f"measured {ratio.min():.2f} to {ratio.max():.2f} of it" in heads["diffusion_learns"].law
    assert "measured" not in heads["tuples_cluster"].law, "that law has no constant to be fitted"


def test_files_of_the_learning_view_hold_every_curve(learning, tmp_path):
    png = Image.open(io.BytesIO(learning.file("png")))
    assert "learning.cached('tuples_cluster', sizes)" in png.info["Description"]
    assert learning.file("svg").lstrip().startswith(b"<?xml")
    lines = [x for x in learning.file("csv").decode().splitlines() if not x.startswith("#")]
    assert len(lines) > 100
    assert {line.split(",")[0] for line in lines[1:]} == {*PANELS}
    path = tmp_path / "learning.nc"
    path.write_bytes(learning.file("nc"))
    with xr.open_dataset(path, group="tuples_cluster/8-8-2-2", engine="h5netcdf") as loaded:
        shipped = ex.hierarchy.learning.cached("tuples_cluster")
        np.testing.assert_array_equal(loaded["separation"], shipped["separation"])
    assert learning._named("csv")[0] == "rhm-learning.csv"
    names: dict = {}
    exec(learning.to_python(), names)
    assert len(names["tuples_cluster"]) == len(learning.desk.shipped["tuples_cluster"])
