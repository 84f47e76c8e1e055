"""Claims about runs kept in files: opened again they are what they were, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_diffusion import model, picture, result  # noqa: F401  (fixtures)

import explorer as ex
from explorer.diffusion.results import open_result, save_result


@pytest.fixture
def found(model, picture):  # noqa: F811
    return result(model, picture, [0, 0.5, 1])


def test_a_run_opens_again_without_its_model_or_a_gpu(found, tmp_path, monkeypatch):
    path = save_result(found, tmp_path / "run.nc")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("explorer.diffusion.opening.open_diffusion", None)
    again = open_result(path)
    assert again.equals(found)
    assert again.attrs["precomputed"] == 1
    assert again.attrs["precomputed_file"] == "run.nc"
    assert {key: again.attrs[key] for key in found.attrs} == found.attrs
    for kind in ("blocks", "clip"):
        fresh, kept = (ex.chunk_statistics(ex.change_field(x, kind)) for x in (found, again))
        assert kept.equals(fresh)
        assert kept.attrs["precomputed"] == 1  # the label goes on to what is measured of it


def test_a_run_of_several_pictures_keeps_them_all(model, picture, tmp_path):  # noqa: F811
    found = result(model, [picture, picture[::-1].copy()], [0.5])
    again = open_result(save_result(found, tmp_path / "run.nc"))
    assert again.equals(found)
    assert again.sizes["datum"] == 2


def test_the_noised_pictures_may_stay_behind(found, tmp_path):
    whole = save_result(found, tmp_path / "whole.nc")
    small = save_result(found, tmp_path / "small.nc", noised=False)
    assert small.stat().st_size < whole.stat().st_size
    again = open_result(small)
    assert "x_t" not in again
    assert (again.image == found.image).all()


def test_a_file_that_is_there_is_kept_unless_asked(found, tmp_path):
    path = tmp_path / "run.nc"
    path.write_text("mine")
    with pytest.raises(ex.ExportError, match="is there already"):
        save_result(found, path)
    assert path.read_text() == "mine"
    assert open_result(save_result(found, path, overwrite=True)).equals(found)


def test_a_folder_that_is_not_there_is_a_sentence(found, tmp_path):
    with pytest.raises(ex.ExportError, match="cannot be written"):
        save_result(found, tmp_path / "nowhere" / "run.nc")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_runs_are_refused(found, tmp_path):
    with pytest.raises(ex.CheckpointError, match="There is no file"):
        open_result(tmp_path / "missing.nc")
    (tmp_path / "text.nc").write_text("no NetCDF")
    with pytest.raises(ex.CheckpointError, match="cannot be read as NetCDF"):
        open_result(tmp_path / "text.nc")
    whole = save_result(found, tmp_path / "whole.nc").read_bytes()
    (tmp_path / "half.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ex.CheckpointError, match=r"half\.nc cannot be read"):
        open_result(tmp_path / "half.nc")
    ex.chunk_statistics(ex.change_field(found, "blocks")).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(ex.CheckpointError, match="has no 'image'"):
        open_result(tmp_path / "other.nc")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.assign(image=x.image.astype(float)), "uint8"),
        (lambda x: x.isel(sample=0), "must be uint8 over"),
        (lambda x: x.drop_vars("alpha_bar"), "'alpha_bar' is amiss"),
        (lambda x: x.assign_coords(level=x.level * 3), r"\[0, 1\]"),
        (lambda x: x.assign_coords(level=["a", "b", "c"]), r"\[0, 1\]"),
    ],
)
def test_runs_that_were_tampered_with_are_refused(found, tmp_path, change, words):
    changed = change(found)
    with pytest.raises(ex.CheckpointError, match=words):
        save_result(changed, tmp_path / "run.nc")
    changed.to_netcdf(tmp_path / "changed.nc")
    with pytest.raises(ex.CheckpointError, match=words):
        open_result(tmp_path / "changed.nc")


def test_levels_that_are_not_finite_are_refused(found, tmp_path):
    with pytest.raises(ex.CheckpointError, match=r"\[0, 1\]"):
        save_result(found.assign_coords(level=found.level * np.nan), tmp_path / "run.nc")
