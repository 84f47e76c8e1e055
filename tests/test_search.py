"""Searches equal brute force, and say plainly when nothing is feasible."""

import numpy as np
import pytest
import xarray as xr

import explorer as ex

GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def brute_force(model, grid, sign=1.0, tasks=None, only=None, space="weights"):
    """Accuracy (grid, tasks) on validation, one call of ex.accuracy a point."""
    rows = []
    for c in grid:
        coefficients = dict.fromkeys(only or model.tasks, sign * c)
        recipe = ex.Recipe(coefficients=coefficients, space=space)
        rows.append(ex.accuracy(model, recipe, tasks=tasks, split="val"))
    return rows


@pytest.mark.parametrize("space", ["weights", "tangent"])
def test_the_best_shared_coefficient_is_the_one_of_brute_force(tiny_model, space):
    found = ex.best_shared_coefficient(tiny_model, GRID, space=space).result()
    rows = brute_force(tiny_model, GRID, space=space)
    expected = np.array([row.normalized.values for row in rows])
    np.testing.assert_allclose(found.normalized, expected)
    np.testing.assert_allclose(found.accuracy, [row.edited.values for row in rows])
    assert found.attrs["best_coefficient"] == GRID[int(expected.mean(1).argmax())]


def test_the_default_grid_has_twenty_one_points_between_zero_and_one(tiny_model):
    found = ex.best_shared_coefficient(tiny_model, n=4).result()
    np.testing.assert_allclose(found.coefficient, np.linspace(0, 1, 21))


def test_the_choice_is_made_on_validation_images(tiny_model):
    found = ex.best_shared_coefficient(tiny_model, GRID).result()
    assert found.attrs["split"] == "val"
    assert found.n.values.tolist() == [40] * 3


def test_partials_span_the_range_from_the_start_and_are_sorted(tiny_model):
    partials = list(ex.best_shared_coefficient(tiny_model, GRID, n=8))
    assert [len(p.coefficient) for p in partials] == list(range(1, 7))
    assert partials[1].coefficient.values.tolist() == [0.0, 1.0]
    assert all((np.diff(p.coefficient) > 0).all() for p in partials)
    assert [p.attrs["complete"] for p in partials] == [0] * 5 + [1]


def test_negation_takes_the_lowest_target_that_keeps_the_control(tiny_model):
    found = ex.negation(tiny_model, "digits", control_threshold=0.9, grid=GRID).result()
    rows = brute_force(tiny_model, GRID, -1.0, ["digits", "shapes"], only=["digits"])
    target, control = np.array([row.edited.values for row in rows]).T
    np.testing.assert_allclose(found.target, target)
    np.testing.assert_allclose(found.control, control)
    floor = 0.9 * control[0]
    np.testing.assert_array_equal(found.feasible, control >= floor)
    allowed = [i for i, c in enumerate(GRID) if c > 0 and control[i] >= floor]
    best = min(allowed, key=lambda i: target[i])
    assert ex.negation_coefficient(found) == GRID[best]
    assert "At strength" in found.attrs["conclusion"]


def test_when_nothing_is_feasible_the_result_says_so_and_the_choice_raises(tiny_model):
    found = ex.negation(tiny_model, "digits", control_threshold=1.5, grid=GRID).result()
    assert np.isnan(found.attrs["best_coefficient"])
    assert found.attrs["conclusion"].startswith("Nothing is feasible")
    with pytest.raises(ex.NothingFeasibleError, match="cannot be forgotten"):
        ex.negation_coefficient(found)


def test_no_edit_at_all_does_not_count_as_forgetting(tiny_model):
    found = ex.negation(tiny_model, "digits", grid=(0.0,)).result()
    assert found.feasible.values.tolist() == [1]
    with pytest.raises(ex.NothingFeasibleError):
        ex.negation_coefficient(found)


def test_negation_is_refused_where_it_makes_no_sense(tiny_model):
    with pytest.raises(ex.UnknownNameError, match=r"'digit'.*'digits'"):
        ex.negation(tiny_model, "digit")
    with pytest.raises(ex.UnknownNameError, match="task vector"):
        ex.negation(tiny_model, "shapes")
    with pytest.raises(ex.RecipeError, match="another than"):
        ex.negation(tiny_model, "digits", control="digits")
    with pytest.raises(ex.RecipeError, match="grid"):
        ex.negation(tiny_model, "digits", grid=[])
    with pytest.raises(ex.RecipeError, match="grid"):
        ex.best_shared_coefficient(tiny_model, grid=[float("nan")])


@pytest.mark.parametrize(
    "search", [ex.best_shared_coefficient, lambda m, **k: ex.negation(m, "digits", **k)]
)
def test_searches_save_to_netcdf_and_cancel(tiny_model, tmp_path, search):
    result = search(tiny_model, grid=(0.0, 1.0), n=4).result()
    result.to_netcdf(tmp_path / "search.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "search.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)
    run = search(tiny_model, n=4)
    next(run)
    run.cancel()
    assert list(run) == []
    assert run.cancelled
