"""Geometry equals numpy on concatenated vectors."""

import numpy as np
import pytest
import xarray as xr

import explorer as ex


@pytest.mark.parametrize("space", ["weights", "tangent"])
def test_cosines_and_norms_equal_numpys(tiny_model, space):
    result = ex.geometry(tiny_model, space)
    flat = {
        task: np.concatenate(
            [v.double().numpy().ravel() for v in tiny_model.task_vector(task, space).values()]
        )
        for task in tiny_model.tasks
    }
    base = np.concatenate([v.double().numpy().ravel() for v in tiny_model.base.values()])
    for a, x in flat.items():
        assert float(result.norm.sel(task=a)) == pytest.approx(np.linalg.norm(x), rel=1e-9)
        relative = np.linalg.norm(x) / np.linalg.norm(base)
        assert float(result.relative_norm.sel(task=a)) == pytest.approx(relative, rel=1e-9)
        for b, y in flat.items():
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            found = float(result.cosine.sel(task=a, task2=b))
            assert found == pytest.approx(cosine, abs=1e-9)


def test_norms_by_layer_are_relative_to_the_base_of_that_layer(tiny_model):
    result = ex.geometry(tiny_model)
    base = ex.TaskVector(tiny_model.base).by_layer()
    assert result.layer.values.tolist() == ["input", "block 1", "block 2", "block 3", "output"]
    for task in tiny_model.tasks:
        for layer, norm in tiny_model.task_vector(task).by_layer().items():
            found = float(result.norm_by_layer.sel(task=task, layer=layer))
            assert found == pytest.approx(norm / base[layer], rel=1e-9)


def test_the_cosine_matrix_is_symmetric_with_ones_on_its_diagonal(tiny_model):
    cosine = ex.geometry(tiny_model).cosine.values
    np.testing.assert_allclose(cosine, cosine.T)
    np.testing.assert_allclose(np.diag(cosine), 1)


def test_geometry_saves_to_netcdf(tiny_model, tmp_path):
    result = ex.geometry(tiny_model)
    result.to_netcdf(tmp_path / "geometry.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "geometry.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)
    assert result.attrs["family"] == tiny_model.family


def test_an_unknown_space_is_refused(tiny_model):
    with pytest.raises(ex.UnknownNameError, match=r"'tangents'.*'tangent'"):
        ex.geometry(tiny_model, "tangents")
