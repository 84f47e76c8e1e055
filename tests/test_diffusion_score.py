"""Claims about scoring a network of tiles against the exact denoiser."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from test_diffusion import small_unet

import explorer as ex
from explorer.diffusion.model import Diffusion
from explorer.diffusion.opening import embedded_diffusion
from explorer.diffusion.tiles import Tiles, leaf_places
from explorer.measures.exact_score import exact_mean, score_against_exact

LEVELS = [0.0, 0.3, 0.5, 0.7, 1.0]


class ExactNetwork(torch.nn.Module):
    """A network that predicts E(x_0 | x_t) of tiles by belief propagation."""

    def __init__(self, tiles: Tiles, alpha_bar: np.ndarray) -> None:
        super().__init__()
        self.tiles, self.alpha_bar = tiles, alpha_bar
        self.config = {"in_channels": 3, "out_channels": 3, "sample_size": tiles.side}

    def forward(self, x, timestep):
        mean = exact_mean(self.tiles, x, float(self.alpha_bar[int(timestep[0])]))
        return SimpleNamespace(sample=mean)


class Grey(ExactNetwork):
    """A network that expects grey, whatever it sees."""

    def forward(self, x, timestep):
        return SimpleNamespace(sample=torch.zeros_like(x))


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    return Tiles(ex.hierarchy.Grammar.random(v=4, m=2, s=4, L=2, seed=3))


def exact_model(tiles: Tiles, network=ExactNetwork) -> Diffusion:
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
    )
    alpha_bar = scheduler.alphas_cumprod.double().numpy()
    return Diffusion("exact", network(tiles, alpha_bar), scheduler, tiles=tiles)


def run(p: Diffusion, strings: int, samples: int, steps: int = 100, levels=LEVELS):
    starts = p.tiles.render(p.tiles.grammar.sample(strings, seed=7)[-1])
    options = {"samples": samples, "steps": steps, "precision": "float32"}
    return ex.forward_backward(p, starts, levels, **options).result(show_progress=False)


def test_the_exact_mean_is_that_over_all_strings():
    tiles = Tiles(ex.hierarchy.Grammar.random(v=3, m=2, s=4, L=1, seed=0))
    grammar = tiles.grammar
    strings = np.unique(grammar.sample(2000, seed=0)[-1], axis=0)
    assert len(strings) == grammar.n_strings == 6
    x0 = torch.from_numpy(tiles.render(strings)).permute(0, 3, 1, 2).double() / 127.5 - 1
    g = torch.Generator().manual_seed(0)
    x_t, abar = torch.randn(3, 3, 4, 4, generator=g), 0.4
    gaps = (x_t[:, None].double() - abar**0.5 * x0).square().flatten(2).sum(2)
    weight = (-gaps / (2 * (1 - abar))).softmax(1)  # all strings are as likely beforehand
    slow = torch.einsum("ns,schw->nchw", weight, x0)
    assert torch.allclose(exact_mean(tiles, x_t, abar).double(), slow, atol=1e-5)


def test_a_network_that_is_exact_draws_from_the_exact_posterior(tiles):
    p = exact_model(tiles)
    levels = [0.7, 0.85]
    score = score_against_exact(run(p, strings=12, samples=8, steps=40, levels=levels), p)
    assert list(score.denoiser.values) == ["network", "exact"]
    network, exact = (score.sel(denoiser=name) for name in ("network", "exact"))
    assert float(score.gap.max()) < 1e-10
    assert np.allclose(network.mean_error, exact.mean_error)
    for name in ("changed", "susceptibility", "block_size"):
        apart = network[name] - exact[name]
        spread = np.hypot(network[f"{name}_error"], exact[f"{name}_error"])
        # Six comparisons of draws from the same x_t: none is three errors away.
        assert (np.abs(apart) < 3 * spread).all(), name
    # The tiles of a quarter change together, so that this is a comparison of something.
    assert float(exact.susceptibility.max()) > 1.5


def test_a_network_that_is_wrong_is_found_out(tiles):
    p = exact_model(tiles, Grey)
    score = score_against_exact(run(p, 4, 2, steps=10), p)
    network, exact = (score.mean_error.sel(denoiser=name) for name in ("network", "exact"))
    assert (network - exact)[1:].min() > 0.01
    # In the mean over x_t the excess is the squared gap (orthogonality of the exact mean).
    assert np.allclose((network - exact)[1:], score.gap[1:], rtol=0.5)
    changed = score.changed.sel(level=0.5)
    assert float(changed.sel(denoiser="network")) > 0.5 > float(changed.sel(denoiser="exact"))


def test_only_tiles_have_an_exact_denoiser(tiles):
    p = exact_model(tiles)
    result = run(p, 1, 2, steps=5, levels=[0.4])
    with pytest.raises(ex.ModelError, match="no model of tiles"):
        score_against_exact(result, Diffusion("small", small_unet(3), DDPMScheduler()))
    with pytest.raises(ex.ModelError, match="x_t"):
        score_against_exact(result.drop_vars("x_t"), p)


def test_colours_of_the_mean_lie_on_their_tiles(tiles):
    leaves = tiles.grammar.sample(1, seed=2)[-1]
    x0 = torch.from_numpy(tiles.render(leaves)).permute(0, 3, 1, 2).float() / 127.5 - 1
    mean = exact_mean(tiles, 0.9999**0.5 * x0, 0.9999)
    assert torch.allclose(mean, x0, atol=1e-4)
    rows, columns = leaf_places(2)
    assert torch.allclose(mean[0, :, 2 * rows[5], 2 * columns[5]], tiles.palette[leaves[0, 5]])


# --- the embedded models ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    """docs/diffusion_table.py, which is no package."""
    path = Path(__file__).parent.parent / "docs" / "diffusion_table.py"
    spec = importlib.util.spec_from_file_location("diffusion_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_embedded_network_denoises_almost_as_the_exact_one(table):
    p = ex.open_diffusion("tiles", device="cpu")
    starts = p.tiles.render(p.tiles.grammar.sample(4, seed=table.STARTS)[-1])
    run = ex.forward_backward(p, starts, [0.3, 0.9], samples=4, steps=20, precision="float32")
    score = score_against_exact(run.result(show_progress=False), p)
    error, exact = (score.mean_error.sel(denoiser=name).values for name in ("network", "exact"))
    # Where little is lost the picture is seen, and where nearly all is, the mean of all.
    assert error[0] < 0.02
    assert exact[1] < error[1] < 1.1 * exact[1]
    changed = score.changed.values
    assert changed[0, 0] < 0.1 < 0.6 < changed[0, 1]


@pytest.mark.slow
def test_the_tables_on_the_cards_can_be_measured_again(table, monkeypatch):
    monkeypatch.setattr(table, "LEVELS", {"tiles": (0.5, 0.8, 1.0), "digits": (0.3, 0.6, 1.0)})
    monkeypatch.setattr(table, "STEPS", 10)
    tiles, digits = table.of_tiles(3, 3), table.of_digits(3, 3)
    assert "chi peaks at" in tiles
    assert "half of the fall" in digits
    assert len([line for line in digits.splitlines() if line.startswith("| ")]) == 4


def test_tables_agree_within_the_rounding_of_another_machine(table):
    assert table.differences("| 0.40 | 2.00 ± 0.10 |", "| 0.40 | 2.10 ± 0.12 |") == []
    assert table.differences("| 0.40 | 2.00 ± 0.10 |", "| 0.40 | 2.50 ± 0.10 |")
    assert table.differences("| 0.40 | nan |", "| 0.40 | nan |") == []
    assert table.differences("two levels", "three levels")


def test_the_cards_hold_every_number_that_they_promise(table):
    for name in embedded_diffusion():
        card = (table.ZOO / name / "CARD.md").read_text()
        written = card.partition(table.BEGIN)[2].partition(table.END)[0]
        assert written.count("\n| ") >= len(table.LEVELS[name]), name
        assert "Fréchet distance" in card


def test_embedded_models_are_listed_and_their_files_verified():
    from explorer import doctor
    from explorer.checkpoints.zoo import diffusion_folders

    assert {"tiles", "digits"} <= set(embedded_diffusion())
    catalog = ex.catalog()
    for name in embedded_diffusion():
        assert catalog.loc[name, "kind"] == "diffusion"
        assert catalog.loc[name, "problem"] == ""
        with pytest.raises(ex.ModelError, match="open_diffusion"):
            ex.open_model(name)
    found = [f for f in doctor._findings(doctor.check_zoo) if "(diffusion)" in f.found]
    assert [f.state for f in found] == ["ok"] * len(diffusion_folders())


def test_a_damaged_diffusion_model_is_named(tmp_path):
    import shutil

    from explorer.checkpoints.zoo import diffusion_folders, verify_diffusion

    copy = shutil.copytree(diffusion_folders()["tiles"], tmp_path / "tiles")
    assert verify_diffusion(copy) > 3
    (copy / "tiles.json").write_text("{}")
    with pytest.raises(ex.CheckpointError, match=r"tiles\.json of the model 'tiles'"):
        verify_diffusion(copy)
    (copy / "tiles.json").unlink()
    with pytest.raises(ex.CheckpointError, match="missing"):
        verify_diffusion(copy)


def test_embedded_digits_were_held_out_of_training():
    examples = ex.open_diffusion("digits", device="cpu").examples
    glyphs = ex.open_model("glyphs")
    held_out = np.concatenate(
        [glyphs.images("mnist", split=s)[0][..., :1] for s in ("val", "test")]
    )
    known = {image.tobytes() for image in held_out}
    assert len(examples) >= 32
    assert all(image.tobytes() in known for image in examples)
