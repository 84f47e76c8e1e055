"""Disentanglement maps: equal to the definition computed naively, streamed, labelled."""

import copy
import sys
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from torch.func import functional_call, jvp

import explorer as ex
from explorer.compute.cascade import distances, settled
from explorer.measures import plane as plane_module
from explorer.measures.grid import Grid, nearest_measured
from explorer.measures.plane import LinearPlane, Subset, WeightPlane, as_it_is
from explorer.models.tangent import linearised_features
from explorer.models.towers import build_tower, load_weights

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the benchmarks

PAIR = ("digits", "letters")
FIVE = [-3.0, -1.2, 0.0, 0.6, 3.0]
SPACES = ["weights", "posthoc", "tangent"]


def summed(taus, coefficients):
    """Task arithmetic: a1 tau1 + a2 tau2."""
    return {k: sum(a * tau[k] for a, tau in zip(coefficients, taus, strict=True)) for k in taus[0]}


def by_ties(taus, coefficients):
    """TIES (trim to a fifth, elect signs, mean of those that agree), plainly and in float64."""
    active = [(a, tau) for a, tau in zip(coefficients, taus, strict=True) if a]
    if not active:
        return {k: torch.zeros_like(t) for k, t in taus[0].items()}
    rows = []
    for a, tau in active:
        flat = np.concatenate([tensor.numpy().ravel() for tensor in tau.values()])
        least = np.sort(np.abs(flat))[-int(0.2 * len(flat))]
        rows.append(a * np.where(np.abs(flat) >= least, flat, 0.0))
    rows = np.array(rows)
    elected = np.sign(rows.sum(0))
    elected[elected == 0] = -1 if elected.sum() < 0 else 1
    agrees = np.sign(rows) == elected
    mean = np.where(agrees, rows, 0.0).sum(0) / np.maximum(agrees.sum(0), 1)
    parts = torch.from_numpy(mean).split([tensor.numel() for tensor in taus[0].values()])
    return {k: p.view_as(taus[0][k]) for k, p in zip(taus[0], parts, strict=True)}


def brute_force(model, pair, points, n, space="weights", schedule=None, seed=0, merge=summed):
    """(error, accuracy), each (task, a1, a2): the definition in float64, cell by cell."""
    base = {key: tensor.double() for key, tensor in model.base.items()}
    taus = [{k: t.double() for k, t in model.task_vector(task, space).items()} for task in pair]
    tower = load_weights(build_tower(model.architecture), base)
    blocks = model.architecture["vision_cfg"]["layers"]
    mean, std = (torch.tensor(model.card[k]).double().view(3, 1, 1) for k in ("mean", "std"))

    def scale(key):
        if schedule is None:
            return 1.0
        alpha, beta = schedule
        depth = int(key.split("resblocks.")[1].split(".")[0]) if "resblocks." in key else 0
        return alpha + beta * depth / (blocks - 1)

    @cache
    def classes(t, a1, a2):
        images, labels, _ = model.images(pair[t])
        chosen = model.task(pair[t]).order("test", seed)[:n]
        x = (torch.tensor(images[chosen]).permute(0, 3, 1, 2).double() / 255 - mean) / std
        edit = {k: tensor * scale(k) for k, tensor in merge(taus, (a1, a2)).items()}
        if space == "weights":
            features = functional_call(tower, {k: base[k] + edit[k] for k in base}, (x,))
        else:
            run = lambda weights: functional_call(tower, weights, (x,), {"explicit": True})  # noqa: E731
            features = sum(jvp(run, (base,), (edit,)))
        logits = (F.normalize(features) @ model.head(pair[t]).weight.double().T).tolist()
        return [row.index(max(row)) for row in logits], labels[chosen]

    error, accuracy = np.empty((2, 2, len(points), len(points)))
    for i, a1 in enumerate(points):
        for j, a2 in enumerate(points):
            for t, (b1, b2) in enumerate([(a1, 0.0), (0.0, a2)]):
                joint, labels = classes(t, a1, a2)
                single, _ = classes(t, b1, b2)
                error[t, i, j] = np.mean([x != y for x, y in zip(joint, single, strict=True)])
                accuracy[t, i, j] = np.mean([x == y for x, y in zip(joint, labels, strict=True)])
    return error, accuracy


def subset_of(model, n=40, pair=PAIR, seed=0):
    return Subset(model, pair, "test", seed, (n, n))


@pytest.fixture
def in_bfloat16(monkeypatch):
    """As on a processor that is faster in bfloat16."""
    monkeypatch.setattr(
        plane_module,
        "fast_dtype",
        lambda device, precision: torch.float32 if precision == "float32" else torch.bfloat16,
    )


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("pair", [PAIR, ("hearts", "digits")], ids="-".join)
def test_a_map_equals_the_definition_computed_naively(tiny_model, in_bfloat16, pair, space):
    found = ex.disentanglement(tiny_model, pair, FIVE, n=40, space=space, seed=3).result()
    error, accuracy = brute_force(tiny_model, pair, FIVE, 40, space, seed=3)
    assert error.max() > 0.2
    np.testing.assert_array_equal(found["error"], error)
    np.testing.assert_array_equal(found["accuracy"], accuracy)
    assert found["task"].values.tolist() == list(pair)


@pytest.mark.parametrize("space", SPACES)
def test_a_map_with_a_schedule_equals_the_definition(tiny_model, space):
    points = [-1.5, 0.0, 2.0]
    found = ex.disentanglement(
        tiny_model, PAIR, points, n=30, space=space, schedule=ex.lines(0.3, 0.8)
    ).result()
    error, accuracy = brute_force(tiny_model, PAIR, points, 30, space, (0.3, 0.8))
    np.testing.assert_array_equal(found["error"], error)
    np.testing.assert_array_equal(found["accuracy"], accuracy)
    assert found.attrs["schedule"] == "lines:0.3,0.8"


@pytest.mark.parametrize("pair", [PAIR, ("hearts", "digits")], ids="-".join)
def test_a_map_of_ties_equals_the_definition_computed_naively(tiny_model, pair):
    found = ex.disentanglement(tiny_model, pair, FIVE, n=40, method="ties", seed=3).result()
    error, accuracy = brute_force(tiny_model, pair, FIVE, 40, seed=3, merge=by_ties)
    assert error.max() > 0.2
    np.testing.assert_array_equal(found["error"], error)
    np.testing.assert_array_equal(found["accuracy"], accuracy)
    plain = ex.disentanglement(tiny_model, pair, FIVE, n=40, seed=3).result()
    assert (found["error"] != plain["error"]).any()


@pytest.mark.parametrize("space", SPACES)
def test_the_error_is_zero_without_an_edit_and_for_a_task_on_its_own_axis(tiny_model, space):
    found = ex.disentanglement(tiny_model, PAIR, FIVE, n=40, space=space).result()
    error = found["error"]
    assert (error.sel(alpha1=0, alpha2=0) == 0).all()
    assert (error.sel(task="digits", alpha2=0) == 0).all()
    assert (error.sel(task="letters", alpha1=0) == 0).all()


def test_on_the_other_axis_it_is_the_disagreement_with_the_base(tiny_model):
    found = ex.disentanglement(tiny_model, PAIR, FIVE, n=40).result()
    along = found["predicted"].sel(task="letters", alpha2=0)
    base = found["predicted"].sel(task="letters", alpha1=0, alpha2=0)
    differs = (along != base).sum("image") / int(found["n"].sel(task="letters"))
    np.testing.assert_array_equal(found["error"].sel(task="letters", alpha2=0), differs)
    assert differs.max() > 0


def test_error_accuracy_and_standard_error_follow_from_the_predictions(tiny_model):
    found = ex.disentanglement(tiny_model, ("letters", "hearts"), FIVE, n=50).result()
    assert found["n"].values.tolist() == [48, 50]
    none = np.iinfo(found["predicted"].dtype).max
    for t, single in enumerate([found["single1"], found["single2"]]):
        n = int(found["n"][t])
        one = found["predicted"][t]
        error = (one != single).isel(image=slice(n)).mean("image").transpose("alpha1", "alpha2")
        np.testing.assert_allclose(found["error"][t], error, rtol=1e-15)
        se = np.sqrt(error * (1 - error) / n)
        np.testing.assert_allclose(found["standard_error"][t], se, rtol=1e-12)
        right = (one == found["label"][t]).isel(image=slice(n)).mean("image")
        np.testing.assert_allclose(found["accuracy"][t], right, rtol=1e-15)
        assert (one.isel(image=slice(n, None)) == none).all()
        assert (one.isel(image=slice(n)) != none).all()
        assert (found["label"][t, n:] == -1).all()
        _, labels, _ = tiny_model.images(str(found["task"][t].values))
        np.testing.assert_array_equal(
            found["label"][t, :n], labels[found["image_index"][t, :n].values]
        )


def test_references_are_accuracies_on_the_same_images(tiny_model):
    found = ex.disentanglement(tiny_model, PAIR, [0.0, 1.0], n=30).result()
    for task, cell in (("digits", (1, 0)), ("letters", (0, 1))):
        accuracy = found["accuracy"].sel(task=task)
        tuned = accuracy.sel(alpha1=cell[0], alpha2=cell[1])
        assert float(found["fine_tuned"].sel(task=task)) == float(tuned)
        zero = accuracy.sel(alpha1=0, alpha2=0)
        assert float(found["zero_shot"].sel(task=task)) == float(zero)


@pytest.mark.parametrize("schedule", [None, ex.lines(0.2, 0.7)], ids=str)
def test_the_weights_of_every_cell_are_the_merge_from_scratch_bit_for_bit(tiny_model, schedule):
    recipe = ex.Recipe("tiny", dict.fromkeys(PAIR, 1.0), schedule)
    cells = WeightPlane(subset_of(tiny_model), recipe)._weights.get()
    resident = tiny_model.resident("weights")
    tau1, tau2 = (resident.vector(task) for task in PAIR)
    base = resident.layout.views(resident.theta0)
    for a1, a2 in Grid.of(np.linspace(-3, 3, 7)).visits():
        cells.set(a1, a2)
        for key, tensor in cells.named().items():
            s = schedule.scale_of(key, resident.layout.n_blocks) if schedule else 1.0
            row = torch.add(base[key], tau1[key], alpha=a1 * s)
            assert torch.equal(tensor, torch.add(row, tau2[key], alpha=a2 * s)), (key, a1, a2)


def test_close_calls_in_float32_give_the_predictions_of_float32(tiny_model, in_bfloat16):
    maps = {
        precision: ex.disentanglement(
            tiny_model, PAIR, FIVE, n=None, precision=precision, store=False
        ).result()
        for precision in ("auto", "float32", "bfloat16")
    }
    assert maps["auto"].attrs["precision"] == "bfloat16, close calls in float32"
    np.testing.assert_array_equal(maps["auto"]["predicted"], maps["float32"]["predicted"])
    assert (maps["bfloat16"]["predicted"] != maps["float32"]["predicted"]).any()


def exact_of(sets):
    """`exact` of `settled`, and a list of how many images it is asked for each time."""
    asked = []

    def exact(places):
        asked.append(sum(map(len, places)))
        return [logits[i] for logits, i in zip(sets, places, strict=True)]

    return exact, asked


def test_only_images_near_a_boundary_are_computed_twice():
    generator = torch.Generator().manual_seed(0)
    weights = [10 * torch.randn(k, 24, generator=generator) for k in (3, 12)]
    features = [F.normalize(torch.randn(n, 24, generator=generator)) for n in (900, 600)]
    blurred = [x + 2e-3 * torch.randn(x.shape, generator=generator) for x in features]
    true = [x @ w.T for x, w in zip(features, weights, strict=True)]
    fast = [x @ w.T for x, w in zip(blurred, weights, strict=True)]
    exact, asked = exact_of(true)
    found = settled(fast, [distances(w) for w in weights], exact)
    wrong = 0
    for classes, logits, rough in zip(found, true, fast, strict=True):
        assert torch.equal(classes, logits.argmax(1))
        wrong += int((rough.argmax(1) != logits.argmax(1)).sum())
    assert wrong > 0
    assert sum(asked) < 0.15 * 1500


def test_a_head_of_one_class_or_of_equal_ones_has_no_close_calls():
    one, equal = torch.ones(1, 4), torch.ones(3, 4)
    fast = [torch.randn(20, 4) @ w.T for w in (one, equal)]
    exact, asked = exact_of(fast)
    found = settled(fast, [distances(w) for w in (one, equal)], exact)
    assert [classes.tolist() for classes in found] == [logits.argmax(1).tolist() for logits in fast]
    assert asked == []


def test_what_bfloat16_cannot_hold_is_computed_twice():
    weight = torch.eye(3)
    true = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    fast = true.clone()
    fast[5:30] = float("nan")
    exact, _ = exact_of([true])
    (found,) = settled([fast], [distances(weight)], exact)
    assert torch.equal(found, true.argmax(1))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_of_cells_gives_what_each_gives_alone_in_order(tiny_model, in_bfloat16, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        recipe = ex.Recipe("tiny", dict.fromkeys(PAIR, 1.0))
        plane = WeightPlane(subset_of(tiny_model), recipe)
        cells = Grid.of([-2.0, -0.7, 0.0, 1.1]).visits()
        streamed = list(plane.stream(cells, (40, 30)))
        alone = [plane.predict(cell, (40, 30)) for cell in cells]
        plane.close()
    finally:
        torch.set_num_threads(before)
    assert [[len(x) for x in pair] for pair in streamed] == [[40, 30]] * len(cells)
    for found, expected in zip(streamed, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_a_tower_may_be_run_in_another_way_that_follows_its_weights(tiny_model):
    batches = []

    def counted(tower):
        return lambda x: batches.append(len(x)) or tower(x)

    recipe = ex.Recipe("tiny", dict.fromkeys(PAIR, 1.0))
    usual, other = (
        WeightPlane(subset_of(tiny_model), recipe, "float32", forward)
        for forward in (as_it_is, counted)
    )
    for cell in [(0.0, 0.0), (1.5, -2.0)]:
        for found, expected in zip(
            other.predict(cell, (40, 30)), usual.predict(cell, (40, 30)), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    assert batches == [40, 30] * 2


def test_the_fastest_way_is_chosen_of_those_that_run_and_follow_the_weights(monkeypatch):
    from benchmarks import _forwards

    def slow(tower):
        return lambda x: time.sleep(0.01) or tower(x)

    def frozen(tower):
        return copy.deepcopy(tower)

    def refused(tower):
        raise RuntimeError("there is no such device")

    ways = {"slow": slow, "plain": as_it_is, "frozen": frozen, "refused": refused}
    monkeypatch.setattr(_forwards, "WAYS", ways)
    tower = torch.nn.Linear(3, 2)

    def change(k):
        torch.nn.init.constant_(tower.weight, float(k + 1))

    rows, chosen = _forwards.compare(tower, change, torch.ones(5, 3), 5, "", 1e-3)
    assert chosen.name == "plain"
    notes = {row.what: row.note for row in rows}
    assert "not to be chosen" in notes["frozen"]
    assert notes["refused"] == "not run: there is no such device"
    assert notes["chosen"] == "plain"


def test_an_error_in_a_cell_reaches_the_one_who_waits(tiny_model):
    def broken(n_images):
        raise ZeroDivisionError

    before, threads = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        plane = WeightPlane(subset_of(tiny_model), ex.Recipe("tiny", dict.fromkeys(PAIR, 1.0)))
        with pytest.raises(ZeroDivisionError):
            list(plane.stream([(0.0, 0.0), (1.0, 0.0)], (40, 40), broken))
        plane.close()
    finally:
        torch.set_num_threads(threads)
    assert set(threading.enumerate()) <= before


def test_linear_features_equal_a_fresh_derivative_in_every_cell(tiny_model):
    recipe = ex.Recipe("tiny", dict.fromkeys(PAIR, 1.0), space="tangent")
    subset = subset_of(tiny_model, 12)
    plane = LinearPlane(subset, recipe)
    plane.predict((0.0, 0.0), subset.counts)
    tower = load_weights(build_tower(tiny_model.architecture), tiny_model.base)
    store = tiny_model.image_store
    for t in range(2):
        x = store.normalised(store.range(subset.range(t)), torch.float32)
        for a1, a2 in [(-3.0, 2.0), (0.4, 0.0), (1.0, 1.0)]:
            vectors = [tiny_model.task_vector(task, "tangent") for task in PAIR]
            edit = a1 * vectors[0] + a2 * vectors[1]
            fresh = linearised_features(tower, tiny_model.base, edit, x) @ subset.head(t).weight.T
            base, first, second = plane._logits[t]
            torch.testing.assert_close(base + a1 * first + a2 * second, fresh, rtol=1e-4, atol=1e-4)


def test_partials_are_complete_labelled_maps_from_coarse_to_fine(tiny_model, monkeypatch):
    monkeypatch.setattr("explorer.measures.disentanglement.PACE_S", 0.0)
    points = np.linspace(-3, 3, 13)
    partials = list(ex.disentanglement(tiny_model, PAIR, points, n=60, store=False))
    resolutions = list(dict.fromkeys(p.attrs["resolution"] for p in partials))
    assert resolutions == ["5 x 5 of 13 x 13", "9 x 9 of 13 x 13", "13 x 13 of 13 x 13"]
    assert [p.attrs["complete"] for p in partials] == [0] * (len(partials) - 1) + [1]
    assert partials[0].attrs["n"] == 48
    assert partials[-1].attrs["n"] == 60
    for p in partials:
        assert all(p[name].notnull().all() for name in p.data_vars)
        assert p.sizes["alpha1"] == int(p.attrs["resolution"].split()[0])
        assert int(p["measured"].sum()) <= p.attrs["cells_done"]
        assert (p["measured"].sel(alpha2=0) == 1).all()
        assert (p["measured"].sel(alpha1=0) == 1).all()
    shares = [p.attrs["cells_done"] / p.attrs["cells"] for p in partials]
    assert any(share < 1 for share in shares)
    assert (partials[-1]["measured"] == 1).all()


def test_an_unmeasured_cell_shows_its_nearest_measured_one(tiny_model, monkeypatch):
    monkeypatch.setattr("explorer.measures.disentanglement.PACE_S", 0.0)
    points = np.linspace(-2, 2, 7)
    for p in ex.disentanglement(tiny_model, PAIR, points, n=20, store=False):
        known = np.argwhere(p["measured"].values == 1)
        for i, j in np.argwhere(p["measured"].values == 0):
            away = ((known - (i, j)) ** 2).sum(1)
            near = [p["error"].values[:, a, b] for a, b in known[away == away.min()]]
            assert any((p["error"].values[:, i, j] == values).all() for values in near)
            assert (p["predicted"].values[:, i, j] == 255).all()


def test_a_finer_stage_never_begins_coarser_than_the_one_before(tiny_model, monkeypatch):
    monkeypatch.setattr("explorer.measures.disentanglement.PACE_S", 0.0)
    before = last = None
    for p in ex.disentanglement(tiny_model, PAIR, np.linspace(-3, 3, 13), n=60, store=False):
        before = last if last is not None and last.sizes != p.sizes else before
        last = p
        if before is not None and p["measured"].sum() < before["measured"].size:
            assert p.attrs["stage"] == 2  # the first, of fewer images, gave nothing to begin with
            points = {"alpha1": p["alpha1"], "alpha2": p["alpha2"]}
            coarse = before["error"].sel(points, method="nearest")
            shown = p["error"].where(p["measured"] == 0)
            xr.testing.assert_equal(
                shown.drop_vars(["alpha1", "alpha2"]),
                coarse.drop_vars(["alpha1", "alpha2"]).where(p["measured"].values == 0),
            )


def test_the_nearest_measured_cell_is_the_euclidean_one():
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(0)
    for shape in [(1, 1), (1, 7), (9, 4), (21, 21)]:
        measured = rng.random(shape) < 0.1
        measured[rng.integers(shape[0]), rng.integers(shape[1])] = True
        rows, columns = nearest_measured(measured)
        assert measured[rows, columns].all()
        away = np.hypot(rows - np.arange(shape[0])[:, None], columns - np.arange(shape[1]))
        np.testing.assert_allclose(away, distance_transform_edt(~measured))


def test_every_cell_is_visited_once_axes_first_and_spread_out():
    grid = Grid.of((np.linspace(-3, 3, 21), np.linspace(0.5, 3, 6)))
    visits = grid.visits()
    assert len(visits) == len(set(visits)) == 21 * 6 + 21
    assert set(visits[: len(grid.axis_cells())]) == set(grid.axis_cells())
    rest = visits[len(grid.axis_cells()) :]
    assert {a for a, _ in rest[:6]} >= {-3.0, 3.0}
    assert [str(g) for g in grid.stages()] == ["5 x 5", "9 x 6", "21 x 6"]


def test_a_grid_without_zero_is_measured_by_axes_that_it_does_not_show(tiny_model):
    points = [-1.5, 0.6, 2.1]
    found = ex.disentanglement(tiny_model, PAIR, points, n=30).result()
    error, accuracy = brute_force(tiny_model, PAIR, points, 30)
    assert found["alpha1"].values.tolist() == points
    np.testing.assert_array_equal(found["error"], error)
    np.testing.assert_array_equal(found["accuracy"], accuracy)


def test_partials_wait_for_a_cell_that_is_shown(tiny_model, monkeypatch):
    monkeypatch.setattr("explorer.measures.disentanglement.PACE_S", 0.0)
    for partial in ex.disentanglement(tiny_model, PAIR, ([0.5, 0.9], [0.6]), n=20, store=False):
        assert partial["measured"].any()


def test_the_axes_may_have_points_of_their_own(tiny_model):
    whole = ex.disentanglement(tiny_model, PAIR, FIVE, n=30).result()
    part = ex.disentanglement(tiny_model, PAIR, ([3, 0.6], [-3, 0, 0.6, 0.6]), n=30).result()
    assert part["alpha1"].values.tolist() == [0.6, 3.0]
    assert part["alpha2"].values.tolist() == [-3.0, 0.0, 0.6]
    wanted = whole.sel(alpha1=part["alpha1"], alpha2=part["alpha2"])
    for name in ("error", "accuracy", "predicted", "single1", "single2"):
        np.testing.assert_array_equal(part[name], wanted[name])


def test_a_method_that_is_not_linear_merges_every_cell(tiny_model, monkeypatch):
    from explorer.editing import methods

    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))

    @ex.merging_method(reference="this test")
    def larger(vectors, coefficients, keep=1.0):
        """Of the scaled vectors, at every place the one of larger size, times ``keep``."""
        one, *others = (coefficients[task] * vector for task, vector in vectors.items())
        pick = lambda a, b: torch.where(a.abs() >= b.abs(), a, b)  # noqa: E731
        for other in others:
            one = ex.TaskVector({key: pick(one[key], other[key]) for key in one})
        return keep * one

    found = ex.disentanglement(
        tiny_model, PAIR, [-1, 0, 2], n=20, method="larger", options={"keep": 0.5}
    ).result()
    recipe = ex.Recipe("tiny", method="larger", options={"keep": 0.5})
    vectors = {task: tiny_model.task_vector(task) for task in PAIR}
    tower = build_tower(tiny_model.architecture)
    for a1, a2 in [(-1, 2), (2, 2), (2, 0), (0, -1), (0, 0)]:
        edit = recipe.replace(coefficients=dict(zip(PAIR, (a1, a2), strict=True)))
        load_weights(tower, ex.merge(tiny_model.base, vectors, edit))
        for t, task in enumerate(PAIR):
            subset = subset_of(tiny_model, 20)
            store = tiny_model.image_store
            x = store.normalised(store.range(subset.range(t)), torch.float32)
            expected = tiny_model.head(task).logits(tower(x)).argmax(1)
            np.testing.assert_array_equal(
                found["predicted"].sel(task=task, alpha1=a1, alpha2=a2), expected
            )
    assert found.attrs["method"] == "larger"
    with pytest.raises(ex.RecipeError, match="no such option"):
        ex.disentanglement(tiny_model, PAIR, method="larger", options={"kep": 1})
    with pytest.raises(ex.RecipeError, match="not linear"):
        ex.disentanglement(tiny_model, PAIR, method="larger", space="tangent")


def test_a_seed_draws_a_subset_and_fewer_images_are_its_beginning(tiny_model):
    task = tiny_model.task("digits")
    order = task.order("test", 5)
    assert sorted(order) == list(range(70))
    np.testing.assert_array_equal(order, task.order("test", 5))
    assert (order != task.order("test", 6)).any()
    assert (tiny_model.task("hearts").order("test", 5) != order[:60]).any()
    np.testing.assert_array_equal(task.order("test", None), np.arange(70))
    small, large = (subset_of(tiny_model, n, seed=5) for n in (7, 30))
    np.testing.assert_array_equal(small.places(0), large.places(0)[:7])
    pixels = tiny_model.image_store.range(large.range(0)).permute(0, 2, 3, 1)
    images, labels, _ = tiny_model.images("digits")
    np.testing.assert_array_equal(pixels, images[order[:30]])
    np.testing.assert_array_equal(large.labels(0), labels[order[:30]])


def test_cancel_in_the_middle_leaves_no_thread_running(tiny_model):
    before = set(threading.enumerate())
    run = ex.disentanglement(tiny_model, PAIR, np.linspace(-3, 3, 41), n=40, store=False)
    worker = threading.Thread(target=lambda: list(run))
    worker.start()
    while run.progress < 0.02:
        assert worker.is_alive()
        worker.join(timeout=0.01)
    run.cancel()
    worker.join(timeout=10)
    assert not worker.is_alive()
    assert run.cancelled
    assert run.progress < 1
    assert set(threading.enumerate()) <= before
    with pytest.raises(ex.RunCancelled):
        run.result()


def test_lanes_give_what_one_thread_gives_and_leave_its_number_of_threads(tiny_model):
    from explorer.compute.lanes import Lanes

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Lanes(torch.device("cpu")) as lanes:
            assert lanes.n == 2
            assert torch.get_num_threads() == 2
            batches = [torch.full((2,), float(i)) for i in range(9)]
            found = lanes.map(lambda x: x + torch.get_num_threads(), batches)
            assert torch.equal(torch.stack(found), torch.stack(batches) + 1)
            with pytest.raises(ZeroDivisionError):
                lanes.map(lambda x: 1 // 0, batches)
            two = ex.disentanglement(tiny_model, PAIR, FIVE, n=40, store=False).result()
    finally:
        torch.set_num_threads(before)
    one = ex.disentanglement(tiny_model, PAIR, FIVE, n=40, store=False).result()
    xr.testing.assert_identical(one, two)


def test_a_map_says_what_it_is_and_saves_to_netcdf(tiny_model, tmp_path):
    found = ex.disentanglement(tiny_model, PAIR, FIVE, n=20, seed=4).result()
    for name, value in {"space": "weights", "seed": 4, "n": 20, "split": "test"}.items():
        assert found.attrs[name] == value
    assert found.attrs["family"] == tiny_model.family
    assert found["error"].attrs["units"] == "1"
    found.to_netcdf(tmp_path / "map.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "map.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), found)
        assert saved.attrs["resolution"] == "5 x 5 of 5 x 5"


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"tasks": ("digits", "digits")}, ex.RecipeError, "two different tasks"),
        ({"tasks": ("digits",)}, ex.RecipeError, "two different tasks"),
        ({"tasks": ("digits", "leters")}, ex.UnknownNameError, "'letters'"),
        ({"tasks": ("digits", "shapes")}, ex.UnknownNameError, "task vector 'shapes'"),
        ({"alphas": []}, ex.RecipeError, "finite numbers"),
        ({"alphas": [0, float("nan")]}, ex.RecipeError, "finite numbers"),
        ({"alphas": ["a"]}, ex.RecipeError, "finite numbers"),
        ({"alphas": [[[1]]]}, ex.RecipeError, "finite numbers"),
        ({"alphas": ([1, 2], [])}, ex.RecipeError, "finite numbers"),
        ({"alphas": range(500)}, ex.RecipeError, "at most 201"),
        ({"n": 0}, ex.ImageError, "1 or more"),
        ({"seed": -1}, ex.ImageError, "seed"),
        ({"seed": 0.5}, ex.ImageError, "seed"),
        ({"space": "flat"}, ex.RecipeError, "no space 'flat'"),
        ({"split": "train"}, ex.UnknownNameError, "split"),
        ({"precision": "float8"}, ex.ModelError, "precision"),
        ({"method": "ties!"}, ex.UnknownNameError, "merging method"),
        ({"schedule": 0.5}, ex.RecipeError, "schedule"),
    ],
    ids=str,
)
def test_what_makes_no_map_is_refused_at_once_in_a_sentence(tiny_model, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        ex.disentanglement(**{"model": tiny_model, "tasks": PAIR} | changes)


def test_the_summary_is_what_numpy_makes_of_the_map(tiny_model):
    points = [-1.0, 0.0, 0.5, 1.0, 2.0]
    found = ex.disentanglement(tiny_model, PAIR, points, n=40).result()
    summary = ex.disentanglement_summary(found)
    error, accuracy = found["error"].values, found["accuracy"].values
    tuned = found["fine_tuned"].values
    normalized = (accuracy[0] / tuned[0] + accuracy[1] / tuned[1]) / 2
    place = np.unravel_index(normalized.argmax(), normalized.shape)
    expected = [error.mean((1, 2)), error[:, 1:4, 1:4].mean((1, 2)), error[:, *place]]
    assert summary["cells"].values.tolist() == [25, 9, 1]
    best = [points[i] for i in place]
    assert normalized[place] == pytest.approx(summary.attrs["best_normalized"])
    at = found.sel(alpha1=summary.attrs["best_alpha1"], alpha2=summary.attrs["best_alpha2"])
    if (normalized == normalized.max()).sum() == 1:
        assert [summary.attrs["best_alpha1"], summary.attrs["best_alpha2"]] == best
    expected[2] = at["error"].values
    np.testing.assert_allclose(summary["error"], expected)
    np.testing.assert_allclose(summary["mean_error"], np.mean(expected, 1))
    outside = ex.disentanglement(tiny_model, PAIR, [2.0, 3.0], n=10).result()
    assert np.isnan(ex.disentanglement_summary(outside)["mean_error"][1])


def test_pairs_are_the_means_of_single_maps(tiny_model):
    points = [-1.0, 0.0, 0.5, 1.0]
    run = ex.disentanglement_pairs(tiny_model, alphas=points, n=20)
    partials = list(run)
    assert [int(p["mean_error"].notnull().sum()) for p in partials if not p.attrs["complete"]]
    last = partials[-1]
    assert last.attrs["pairs_done"] == 3
    assert np.isnan(np.diag(last["mean_error"])).all()
    for one, other in (PAIR, ("digits", "hearts"), ("letters", "hearts")):
        single = ex.disentanglement(tiny_model, (one, other), points, n=20).result()
        numbers = ex.disentanglement_summary(single)["mean_error"].values
        for row, column in ((one, other), (other, one)):
            cell = last.sel(task1=row, task2=column)
            assert float(cell["mean_error"]) == numbers[0]
            assert float(cell["search_region_error"]) == numbers[1]
        whole = single["error"].mean("task").values
        np.testing.assert_array_equal(last["error"].sel(task1=one, task2=other), whole)
        np.testing.assert_array_equal(last["error"].sel(task1=other, task2=one), whole.T)
    assert last["n"].values.tolist() == [20, 20, 20]
    assert last.attrs["stored"] == "saved"
    with pytest.raises(ex.RecipeError, match="two different tasks"):
        ex.disentanglement_pairs(tiny_model, ["digits"])
    with pytest.raises(ex.UnknownNameError):
        ex.disentanglement_pairs(tiny_model, ["digits", "shapes"])


@pytest.mark.parametrize(
    "more",
    [{"schedule": ex.lines(0.2, 0.8)}, {"method": "ties", "options": {"density": 0.5}}],
    ids=["lines", "ties"],
)
def test_pairs_can_be_measured_by_a_schedule_or_a_method(tiny_model, more):
    points = [-1.0, 0.0, 1.0]
    pairs = ex.disentanglement_pairs(tiny_model, PAIR, n=20, alphas=points, **more).result()
    single = ex.disentanglement(tiny_model, PAIR, points, n=20, **more).result()
    found = float(pairs["mean_error"].sel(task1=PAIR[0], task2=PAIR[1]))
    assert found == float(ex.disentanglement_summary(single)["mean_error"][0]) > 0
    plain = ex.disentanglement_pairs(tiny_model, PAIR, n=20, alphas=points).result()
    assert found != float(plain["mean_error"][0, 1])
    with pytest.raises(ex.RecipeError, match="no such option"):
        ex.disentanglement_pairs(tiny_model, method="ties", options={"densty": 1})


def test_pairs_on_other_points_of_one_axis_keep_each_map_in_one_order(tiny_model):
    axes = ([0.0, 1.0], [-1.0, 0.0, 0.5])
    found = ex.disentanglement_pairs(tiny_model, PAIR, n=10, alphas=axes).result()
    single = ex.disentanglement(tiny_model, PAIR, axes, n=10).result()
    np.testing.assert_array_equal(found["error"][0, 1], single["error"].mean("task"))
    assert np.isnan(found["error"][1, 0]).all()
    assert float(found["mean_error"][1, 0]) == float(found["mean_error"][0, 1])


def test_a_partial_of_pairs_follows_every_cell_so_that_one_may_turn_away_soon(tiny_model):
    partials = list(ex.disentanglement_pairs(tiny_model, n=10, alphas=[-1, 0, 1], store=False))
    assert len(partials) == 3 * 9
    assert [p.attrs["pairs_done"] for p in partials] == [0] * 8 + [1] * 9 + [2] * 9 + [3]
    assert [p.attrs["complete"] for p in partials] == [0] * 26 + [1]
    assert partials[0].attrs["current"] == "digits and letters"


def test_averaging_is_mapped_in_a_linear_space_as_accuracy_measures_it(tiny_model):
    found = ex.disentanglement(
        tiny_model, PAIR, [-1, 0, 1, 2], n=30, space="tangent", method="weight_averaging"
    ).result()
    for a1, a2 in [(1, 2), (0, 2), (-1, 0), (0, 0)]:
        coefficients = dict(zip(PAIR, (a1, a2), strict=True))
        recipe = ex.Recipe(coefficients=coefficients, method="weight_averaging", space="tangent")
        for t, task in enumerate(PAIR):
            images = subset_of(tiny_model, 30).range(t)
            features = tiny_model.linear_features.features(recipe, images)
            np.testing.assert_array_equal(
                found["predicted"].sel(task=task, alpha1=a1, alpha2=a2),
                tiny_model.head(task).logits(features).argmax(1),
            )
