"""Claims about change fields and their statistics, against slow loops and fields made of blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import explorer as ex
from explorer.measures.chunks import otsu_threshold
from explorer.measures.depth_similarity import _Classifier
from explorer.models.towers import build_tower, load_weights


def field(values: np.ndarray, levels=None) -> xr.DataArray:
    """(level, datum, sample, y, x) as a change field."""
    levels = np.arange(len(values)) if levels is None else levels
    dims = ("level", "datum", "sample", "y", "x")
    return xr.DataArray(values, dims=dims, coords={"level": levels}, name="change")


def block_field(side: int, block: int, data: int, samples: int, seed: int = 0) -> np.ndarray:
    """Blocks that change as one, each independently with probability 1/2."""
    rng = np.random.default_rng(seed)
    coins = rng.integers(2, size=(1, data, samples, side // block, side // block))
    return coins.repeat(block, -1).repeat(block, -2).astype(float)


def result(images: np.ndarray, original: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {
            "image": (("level", "sample", "y", "x", "channel"), images),
            "original": (("y", "x", "channel"), original),
        },
        coords={"level": np.linspace(0, 1, len(images))},
    )


# --- statistics ------------------------------------------------------------------------------


def test_correlation_and_susceptibility_are_those_of_a_loop_over_pairs():
    values = np.random.default_rng(0).random((2, 3, 4, 3, 4))
    values[..., 1:, :] += values[..., :-1, :]
    found = ex.chunk_statistics(field(values), resamples=2)
    places = [(y, x) for y in range(3) for x in range(4)]
    for level in range(2):
        sums: dict[int, list[float]] = {}
        for a in places:
            for b in places:
                covariances = [
                    np.cov(values[level, d, :, *a], values[level, d, :, *b])[0, 1] for d in range(3)
                ]
                r2 = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
                sums.setdefault(r2, []).append(float(np.mean(covariances)))
        assert found.distance.values == pytest.approx(np.sqrt(sorted(sums)))
        slow = [np.mean(sums[r2]) for r2 in sorted(sums)]
        assert found.correlation[level].values == pytest.approx(slow)
        chi = sum(map(sum, sums.values())) / sum(sums[0])
        assert float(found.susceptibility[level]) == pytest.approx(chi)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_statistics_of_blocks_recover_their_size(block):
    values = block_field(8, block, data=30, samples=30)
    found = ex.chunk_statistics(field(values)).isel(level=0)
    error = float(found.susceptibility_error)
    assert error < 0.1 * block**2
    assert float(found.susceptibility) == pytest.approx(block**2, abs=4 * error)
    # Between aligned blocks the correlation falls as (1 - dy/b)(1 - dx/b), so that it is 1/e
    # between 0.6 and 0.7 of a side for whole distances apart.
    assert float(found.relative_correlation[0]) == pytest.approx(1)
    beyond = found.relative_correlation.where(found.distance >= block * 2**0.5, drop=True)
    assert np.abs(beyond).max() < 0.12
    assert float(found.changed) == pytest.approx(0.5, abs=0.02)
    if block > 1:
        length = float(found.correlation_length)
        assert 0.5 * block < length < block


def test_a_single_block_has_its_size():
    values = np.zeros((1, 1, 2, 8, 8))
    values[..., 2:5, 1:5] = 1
    values[0, 0, 1, 7, 7] = 1
    found = ex.chunk_statistics(field(values), resamples=10).isel(level=0)
    assert found.block_count.sel(size=12) == 1
    assert found.block_count.sel(size=1) == 0.5
    assert found.block_count.sum() == 1.5
    assert float(found.largest_block) == pytest.approx(12 / 64)
    assert float(found.block_size) == pytest.approx((12 * 12 * 2 + 1) / 25)


def test_diagonal_neighbours_are_two_blocks():
    values = np.zeros((1, 1, 2, 2, 2))
    values[..., 0, 0] = values[..., 1, 1] = 1
    found = ex.chunk_statistics(field(values), resamples=2)
    assert found.block_count.sel(size=1).item() == 2


def test_pictures_are_not_mixed_into_the_covariance():
    # Each picture changes in its own constant amount: nothing varies at fixed x_0.
    values = np.ones((1, 6, 5, 4, 4)) * np.arange(6).reshape(1, 6, 1, 1, 1)
    found = ex.chunk_statistics(field(values), resamples=5)
    assert np.isnan(found.susceptibility).all()
    assert np.abs(found.correlation).max() < 1e-12
    assert np.isnan(found.correlation_length).all()


def test_all_patches_together_have_the_largest_susceptibility():
    values = np.random.default_rng(0).random((1, 3, 10, 1, 1)) * np.ones((1, 1, 1, 4, 4))
    found = ex.chunk_statistics(field(values), resamples=5)
    assert found.susceptibility.item() == pytest.approx(16)
    assert np.isnan(found.correlation_length).all()


@pytest.mark.parametrize("data", [1, 12])
def test_the_bootstrap_error_is_the_spread_over_repetitions(data):
    repeated = [
        ex.chunk_statistics(field(block_field(4, 2, data, 20, seed)), seed=seed, resamples=60)
        for seed in range(20)
    ]
    spread = np.std([r.susceptibility.item() for r in repeated], ddof=1)
    claimed = np.mean([r.susceptibility_error.item() for r in repeated])
    assert 0.5 < claimed / spread < 2
    over = "trajectories" if data == 1 else "pictures with their trajectories"
    assert repeated[0].attrs["error_over"] == over


def test_errors_are_the_same_for_the_same_seed():
    values = field(block_field(4, 2, 3, 5))
    a, b = (ex.chunk_statistics(values, seed=7) for _ in range(2))
    assert a.equals(b)


def test_a_field_of_one_picture_needs_no_datum():
    values = field(block_field(4, 2, 1, 20))
    a, b = ex.chunk_statistics(values), ex.chunk_statistics(values.isel(datum=0))
    assert (a.susceptibility == b.susceptibility).all()


def test_otsu_parts_two_heaps():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 0.1, 500), rng.normal(3, 0.1, 200)])
    assert 0.5 < otsu_threshold(values) < 2.5
    assert 0 < otsu_threshold(np.array([0.0, 1.0, 1.0])) < 1
    assert otsu_threshold(np.zeros(4)) == 0


def test_statistics_are_saved_and_opened_again(tmp_path):
    found = ex.chunk_statistics(field(block_field(4, 2, 2, 4)), resamples=4)
    found.to_netcdf(tmp_path / "chunks.nc")
    with xr.open_dataset(tmp_path / "chunks.nc") as again:
        assert again.susceptibility.equals(found.susceptibility)


def test_statistics_of_what_is_no_field_are_refused():
    with pytest.raises(ex.ImageError, match="two trajectories"):
        ex.chunk_statistics(field(np.zeros((1, 1, 1, 4, 4))))
    with pytest.raises(ex.ImageError, match="change_field"):
        ex.chunk_statistics(np.zeros((1, 2, 4, 4)))
    with pytest.raises(ex.ImageError, match="finite"):
        ex.chunk_statistics(field(np.full((1, 1, 2, 2, 2), np.nan)))


# --- change fields ---------------------------------------------------------------------------


def test_a_block_s_change_is_its_root_mean_square():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    original = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = ex.change_field(result(images, original), kind="blocks", size=4)
    assert found.change.dims == ("level", "sample", "y", "x")
    gap = (images[1, 2, 4:, :4].astype(float) - original[4:, :4]) / 255
    assert float(found.change[1, 2, 1, 0]) == pytest.approx((gap**2).mean() ** 0.5, rel=1e-5)
    assert found.y.values.tolist() == [2, 6]


def test_every_picture_is_compared_with_its_own_start():
    original = np.stack([np.full((4, 4, 1), v, dtype=np.uint8) for v in (0, 200)])
    images = original[None, :, None].repeat(2, 0).repeat(3, 2)
    images[1, 1, 2] = 0
    dataset = xr.Dataset(
        {
            "image": (("level", "datum", "sample", "y", "x", "channel"), images),
            "original": (("datum", "y", "x", "channel"), original),
        },
        coords={"level": [0.0, 1.0]},
    )
    change = ex.change_field(dataset, kind="blocks", size=2).change
    assert change.sum() == pytest.approx(4 * 200 / 255)
    assert (change[1, 1, 2] > 0).all()


def test_a_model_s_patch_tokens_are_open_clip_s(tiny_model):
    from open_clip.model import CLIP

    images = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32, 3), dtype=np.uint8)
    original = images[0, 0]
    mine = ex.change_field(result(images, original), kind="clip", tower=tiny_model)
    clip = CLIP(**tiny_model.architecture).eval()
    clip.visual.load_state_dict(tiny_model.base)
    clip.visual.image_mean, clip.visual.image_std = tiny_model.card["mean"], tiny_model.card["std"]
    theirs = ex.change_field(result(images, original), kind="clip", tower=clip)
    np.testing.assert_allclose(mine.change, theirs.change, atol=1e-5)
    assert (mine.change[0, 0] == 0).all()
    # The same by open_clip's own way to its last block, for one picture.
    pixels = torch.from_numpy(images[0]).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(tiny_model.card[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        found = clip.visual.forward_intermediates(
            (pixels - mean) / std, indices=1, intermediates_only=True, output_fmt="NLC"
        )
    tokens = found["image_intermediates"][-1]
    slow = (tokens[1] - tokens[0]).square().mean(-1).sqrt()
    np.testing.assert_allclose(mine.change[0, 1].values.ravel(), slow.numpy(), atol=1e-5)


def test_grey_and_small_pictures_are_fitted_to_the_tower(tiny_model):
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 8, 8, 1), dtype=np.uint8)
    found = ex.change_field(result(images, images[0, 0]), kind="clip", tower=tiny_model)
    assert float(found.change[0, 1].max()) > 0


def test_a_tower_without_patches_is_refused():
    images = np.zeros((1, 2, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(ex.ModelError, match="patch tokens"):
        ex.change_field(result(images, images[0, 0]), tower=torch.nn.Linear(2, 2))
    with pytest.raises(ex.ModelError, match="Model or a model of open_clip"):
        ex.change_field(result(images, images[0, 0]), tower="ViT-B-32")


@pytest.mark.parametrize("size", [3, 0, 2.0, True])
def test_blocks_that_do_not_divide_the_picture_are_refused(size):
    images = np.zeros((1, 2, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(ex.ImageError, match="do not divide"):
        ex.change_field(result(images, images[0, 0]), kind="blocks", size=size)


def test_other_kinds_and_other_datasets_are_refused():
    images = np.zeros((1, 2, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(ex.UnknownNameError, match="blocks"):
        ex.change_field(result(images, images[0, 0]), kind="block")
    with pytest.raises(ex.ImageError, match="forward_backward"):
        ex.change_field(xr.Dataset(), kind="blocks")
    with pytest.raises(ex.ModelError, match="tiles"):
        ex.change_field(result(images, images[0, 0]), kind="symbols")


# --- a classifier by depth -------------------------------------------------------------------


def test_an_unchanged_picture_is_alike_at_every_depth_and_never_flips(tiny_model):
    pictures, _, _ = tiny_model.images(tiny_model.tasks[0], 4)
    images = np.stack([pictures[[0, 0, 0]], pictures[1:4]])
    seen = ex.depth_similarity(result(images, pictures[0]), tiny_model, tiny_model.tasks[0])
    np.testing.assert_allclose(seen.similarity[0], 1, atol=1e-5)
    assert seen.flipped[0] == 0
    assert (seen.similarity[1] < 1).all()
    assert seen.layer.values[-1] == "logits"


def test_logits_by_depth_are_those_of_the_fine_tuned_model(tiny_model):
    task = tiny_model.tasks[0]
    pictures, _, _ = tiny_model.images(task, 5)
    logits = _Classifier(tiny_model, task, fine_tuned=True)(pictures)[-1]
    weights = tiny_model.task_vector(task).apply_to(tiny_model.base)
    plain = load_weights(build_tower(tiny_model.architecture), weights)
    x = tiny_model.image_store.normalised(
        torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.float32
    )
    with torch.no_grad():
        slow = tiny_model.head(task).logits(plain(x))
    np.testing.assert_allclose(logits.numpy(), slow.numpy(), atol=1e-4)
