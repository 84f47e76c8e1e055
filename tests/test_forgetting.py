"""Forgetting: LiNeS's rule for a single task equals brute force, and the front is a front."""

import json

import numpy as np
import pytest
import xarray as xr

import explorer as ex
from explorer.measures.forgetting import default_schedules, pareto_front

OTHERS = ["letters", "hearts", "shapes"]


def brute_force(model, schedules, n, coefficient=1.0):
    """(target, control, accuracies) of every schedule, one call of ex.accuracy each."""
    found = {}
    for label, schedule in schedules.items():
        recipe = ex.Recipe(coefficients={"digits": coefficient}, schedule=schedule)
        table = ex.accuracy(model, recipe, ["digits", *OTHERS], n=n, split="val")
        shares = [
            float(table["edited"].sel(task=t)) / float(table["zero_shot"].sel(task=t))
            for t in OTHERS
        ]
        target = float(table["edited"].sel(task="digits")) / float(
            table["fine_tuned"].sel(task="digits")
        )
        found[label] = target, sum(shares) / len(shares), table["edited"].values
    return found


def test_the_default_schedules_are_the_papers_eleven_from_alpha_one_down():
    schedules = list(default_schedules().values())
    assert schedules == [ex.lines(round(1 - i / 10, 1), round(i / 10, 1)) for i in range(11)]


def test_target_control_and_tradeoff_equal_brute_force(tiny_model):
    found = ex.forgetting(tiny_model, "digits", n=30, coefficient=1.5).result()
    expected = brute_force(tiny_model, default_schedules(), 30, 1.5)
    assert found["schedule"].values.tolist() == list(expected)
    np.testing.assert_allclose(found["target"], [t for t, _, _ in expected.values()])
    np.testing.assert_allclose(found["control"], [c for _, c, _ in expected.values()])
    np.testing.assert_allclose(found["accuracy"], [a for _, _, a in expected.values()])
    np.testing.assert_allclose(found["tradeoff"], 2 * found["target"] + found["control"])
    assert found["task"].values.tolist() == ["digits", *OTHERS]
    assert found["n"].values.tolist() == [30, 30, 30, 30]
    np.testing.assert_allclose(found["alpha"] + found["beta"], 1)


def test_the_best_is_the_highest_tradeoff_and_ties_go_to_the_larger_alpha(tiny_model):
    found = ex.forgetting(tiny_model, "digits", n=30).result()
    best, best_score = None, -np.inf
    for label in found["schedule"].values:  # alpha falls: a tie does not replace what is there
        score = float(found["tradeoff"].sel(schedule=label))
        if score > best_score:
            best, best_score = label, score
    assert found.attrs["best"] == best
    # An edit of nothing is the same under every schedule: all eleven tie.
    same = ex.forgetting(tiny_model, "digits", n=10, coefficient=0.0).result()
    assert len(np.unique(same["tradeoff"])) == 1
    assert same.attrs["best"] == "LiNeS 1.0"


def test_any_schedules_may_be_tried_and_are_kept_as_json(tiny_model):
    tried = {
        "as it is": ex.constant(1.0),
        "a": ex.lines(0.2, 0.8),
        "b": ex.inverse_lines(0.2, 0.8),
        "drawn": ex.piecewise([(0, 0.1), (0.5, 0.7), (1, 1)]),
        "by hand": ex.per_layer([0.1, 0.5, 1.0]),
    }
    found = ex.forgetting(tiny_model, "digits", tried, n=20).result()
    for label, schedule in tried.items():
        data = json.loads(str(found["schedule_json"].sel(schedule=label).values))
        assert ex.Schedule.from_data(data) == schedule
    lines_only = np.isfinite(found["alpha"].values)
    assert lines_only.tolist() == [False, True, False, False, False]
    expected = brute_force(tiny_model, tried, 20)
    np.testing.assert_allclose(found["target"], [t for t, _, _ in expected.values()])
    np.testing.assert_allclose(found["control"], [c for _, c, _ in expected.values()])


def test_the_front_is_what_a_slow_loop_finds():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        target, control = rng.integers(0, 6, (2, n)) / 6
        expected = []
        for i in range(n):
            dominated = any(
                target[j] >= target[i]
                and control[j] >= control[i]
                and (target[j], control[j]) != (target[i], control[i])
                for j in range(n)
            )
            expected.append(not dominated)
        assert pareto_front(target, control).tolist() == expected


def test_partials_go_from_coarse_to_fine_and_each_is_whole(tiny_model):
    partials = list(ex.forgetting(tiny_model, "digits", n=8))
    assert [len(p["schedule"]) for p in partials] == list(range(1, 12))
    assert partials[1]["schedule"].values.tolist() == ["LiNeS 1.0", "LiNeS 0.0"]
    assert [p.attrs["complete"] for p in partials] == [0] * 10 + [1]
    for partial in partials:
        np.testing.assert_array_equal(
            partial["pareto"], pareto_front(partial["target"].values, partial["control"].values)
        )
        labels = partial["schedule"].values.tolist()
        assert partial.attrs["best"] in labels
        assert labels == [label for label in default_schedules() if label in labels]


def test_it_saves_to_netcdf_and_stops_within_a_batch(tiny_model, tmp_path):
    result = ex.forgetting(tiny_model, "digits", {"a": ex.lines(0.5, 0.5)}, n=4).result()
    result.to_netcdf(tmp_path / "forgetting.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "forgetting.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)
    run = ex.forgetting(tiny_model, "digits", n=4)
    next(run)
    run.cancel()
    assert list(run) == []
    assert run.cancelled


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"task": "digit"}, ex.UnknownNameError, "'digits'"),
        ({"task": "shapes"}, ex.UnknownNameError, "task vector"),
        ({"schedules": {}}, ex.RecipeError, "at least one"),
        ({"schedules": [ex.lines(0, 1)]}, ex.RecipeError, "mapping"),
        ({"schedules": {"x": 0.5}}, ex.RecipeError, r"ex\.lines"),
        ({"method": "task_arithmetics"}, ex.UnknownNameError, "task_arithmetic"),
        ({"method": "ties", "options": {"densty": 0.1}}, ex.RecipeError, "no such option"),
        ({"coefficient": float("nan")}, ex.RecipeError, "finite"),
        ({"n": 0}, ex.ImageError, "1 or more"),
    ],
)
def test_nonsense_is_refused_before_anything_is_computed(tiny_model, change, error, sentence):
    arguments = {"task": "digits", **change}
    with pytest.raises(error, match=sentence):
        ex.forgetting(tiny_model, **arguments)
