"""Claims about noising and denoising: samplers, the staggered loop, seeds, edges, bad input."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    UNet2DModel,
)

import explorer as ex
from explorer.diffusion import experiment
from explorer.diffusion.model import Diffusion
from explorer.diffusion.results import Trajectories
from explorer.diffusion.samplers import SAMPLERS, Prediction, Step, timestep_grid

SIDE = 8


class Gaussian(torch.nn.Module):
    """The exact noise predictor of data N(mean, C), C of all pixels, in closed form.

    E[x_0 | x_t] = mean + sqrt(abar) C (abar C + (1 - abar) I)^-1 (x_t - sqrt(abar) mean).
    """

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor, scheduler) -> None:
        super().__init__()
        self.mean, self.covariance, self.scheduler = mean, covariance, scheduler
        side = int(len(mean) ** 0.5)
        self.config = {"in_channels": 1, "out_channels": 1, "sample_size": side}

    def posterior(self, x_t: torch.Tensor, abar: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (n, d) and covariance (d, d) of x_0 given x_t (n, d)."""
        d = len(self.mean)
        gain = (
            abar**0.5
            * self.covariance
            @ torch.linalg.inv(
                abar * self.covariance + (1 - abar) * torch.eye(d, dtype=torch.float64)
            )
        )
        mean = self.mean + (x_t.double() - abar**0.5 * self.mean) @ gain.T
        return mean, self.covariance - abar**0.5 * gain @ self.covariance

    def forward(self, x, timestep):
        abar = float(self.scheduler.alphas_cumprod.double()[int(timestep[0])])
        x0, _ = self.posterior(x.flatten(1), abar)
        noise = (x.flatten(1).double() - abar**0.5 * x0) / (1 - abar) ** 0.5
        return SimpleNamespace(sample=noise.view_as(x).float())


def small_unet(channels: int = 1, out: int | None = None) -> UNet2DModel:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIDE,
        in_channels=channels,
        out_channels=out or channels,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )
    return unet.requires_grad_(False).eval()


def small_model(channels: int = 1, out: int | None = None, **schedule) -> Diffusion:
    return Diffusion("small", small_unet(channels, out), DDPMScheduler(**schedule))


@pytest.fixture(scope="module")
def model() -> Diffusion:
    return small_model()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)


def result(p, image, levels, **options):
    options = {"samples": 3, "steps": 12, "precision": "float32"} | options
    return ex.forward_backward(p, image, levels, **options).result(show_progress=False)


def floats(p, image, levels, monkeypatch, **options):
    """The denoised x_0' in float32, before they are rounded to bytes, by level."""
    kept: dict[int, torch.Tensor] = {}
    options = {"samples": 3, "steps": 12, "precision": "float32"} | options
    with monkeypatch.context() as patch:
        patch.setattr(Trajectories, "keep", lambda self, k, x0: kept.update({k: x0.clone()}))
        ex.forward_backward(p, image, levels, **options).result(show_progress=False)
    return {k / options["steps"]: x0 for k, x0 in kept.items()}


# --- the loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(SAMPLERS))
def test_staggered_levels_equal_separate_runs(model, picture, method, monkeypatch):
    levels = [0.25, 0.5, 1.0]
    together = floats(model, picture, levels, monkeypatch, method=method)
    for level in levels:
        alone = floats(model, picture, [level], monkeypatch, method=method)[level]
        assert torch.allclose(together[level], alone, atol=1e-5), level


def test_a_seed_gives_the_same_at_every_batch_size(model, picture, monkeypatch):
    reference = floats(model, picture, [0.5, 1], monkeypatch, batch=64)
    for batch in (1, 4):
        again = floats(model, picture, [0.5, 1], monkeypatch, batch=batch)
        for level, x in reference.items():
            assert torch.allclose(x, again[level], atol=1e-5)


def test_another_seed_gives_other_variants(model, picture):
    a, b = (result(model, picture, [0.8], seed=seed).image for seed in (0, 1))
    assert (a != b).mean() > 0.5


def test_more_samples_leave_the_first_ones_as_they_were(model, picture):
    few, many = (result(model, picture, [0.5], samples=n).image for n in (2, 5))
    assert np.abs(few.astype(int) - many[:, :2].astype(int)).max() <= 1


def test_no_noise_gives_the_picture_back(model, picture):
    found = result(model, picture, [0, 0.5])
    assert (found.image.sel(level=0) == found.original).all()
    assert np.allclose(found.x_t.sel(level=0), picture / 127.5 - 1, atol=1e-6)
    assert not found.preview.any()


def test_no_noise_alone_needs_no_network(picture):
    unet = small_unet()
    unet.forward = None  # calling it would fail
    found = result(Diffusion("none", unet, DDPMScheduler()), picture, [0.0])
    assert (found.image[0] == picture).all()
    assert found.attrs["complete"] == 1


def test_full_noise_forgets_the_picture(model, picture):
    # At the last timestep of the linear schedule abar is 4e-5: what is left of the picture is
    # smaller than a hundredth of the noise.
    other = 255 - picture
    a, b = (result(model, x, [1.0]) for x in (picture, other))
    assert float(a.alpha_bar[0]) < 1e-4
    assert np.abs(a.x_t - b.x_t).max() < 0.02


def test_x_t_has_the_variance_that_the_schedule_says(model):
    grey = np.full((SIDE, SIDE, 1), 255, dtype=np.uint8)
    found = result(model, grey, [0.5], samples=64, steps=2)
    abar = float(found.alpha_bar[0])
    assert abar == pytest.approx(float(model.alpha_bar[499]))
    assert float(found.x_t.mean()) == pytest.approx(abar**0.5, abs=0.05)
    assert float(found.x_t.var()) == pytest.approx(1 - abar, abs=0.05)


def test_previews_come_first_and_levels_finish_from_the_lowest(model, picture):
    run = ex.forward_backward(
        model, picture, [0.25, 0.5, 1], samples=2, steps=12, batch=2, precision="float32"
    )
    finished = [partial.preview.values.tolist() for partial in run]
    assert finished[0] == [True, True, True]
    assert [True, True, True] not in finished[finished.index([False, True, True]) :]
    order = [finished.index(state) for state in ([False, True, True], [False, False, True])]
    assert order == sorted(order)
    assert finished[-1] == [False, False, False]
    assert run.progress == 1


def test_partials_do_not_change_later(model, picture):
    run = ex.forward_backward(model, picture, [0.5, 1], samples=2, steps=12, precision="float32")
    first = next(run)
    copy = first.image.values.copy()
    for _ in run:
        pass
    assert (first.image.values == copy).all()
    assert (run.latest.image.values != copy).any()


def test_cancelling_stops_within_a_batch(model, picture):
    run = ex.forward_backward(model, picture, [1.0], samples=2, steps=12, precision="float32")
    next(run)
    calls = []
    forward = model.unet.forward

    def counted(*args, **kwargs):
        calls.append(1)
        run.cancel()
        return forward(*args, **kwargs)

    model.unet.forward = counted
    try:
        assert list(run) == []
    finally:
        model.unet.forward = forward
    assert run.cancelled
    assert len(calls) <= 1


def test_levels_are_rounded_to_steps_and_doubles_merge(model, picture):
    found = result(model, picture, [0.24, 0.26, 0.5], steps=4)
    assert found.level.values.tolist() == [0.25, 0.5]


def test_several_pictures_are_their_own_dimension_with_noise_of_their_own(model, picture):
    found = result(model, [picture, picture], [0.5])
    assert found.sizes["datum"] == 2
    alone = result(model, picture, [0.5])
    assert np.abs(found.image[:, 0].astype(int) - alone.image.astype(int)).max() <= 1
    assert (found.x_t[:, 0] != found.x_t[:, 1]).any()


def test_a_result_is_saved_and_opened_again(model, picture, tmp_path):
    import xarray as xr

    found = result(model, picture, [0.5])
    found.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as again:
        assert (again.image == found.image).all()
        assert again.attrs["seed"] == 0


def test_memory_that_runs_out_halves_the_batch_and_says_so(picture):
    p = small_model()
    forward, largest = p.unet.forward, []

    def greedy(x, *args, **kwargs):
        largest.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(x, *args, **kwargs)

    p.unet.forward = greedy
    found = result(p, picture, [0.5, 1], samples=4, batch=8)
    assert largest[0] == 4
    assert found.attrs["batch"] == 2
    assert "Memory ran out" in found.attrs["note"]
    reference = result(small_model(), picture, [0.5, 1], samples=4, batch=8)
    assert np.abs(found.image.astype(int) - reference.image.astype(int)).max() <= 1


def test_other_errors_of_the_network_are_not_taken_for_memory(picture):
    p = small_model()

    def broken(*args, **kwargs):
        raise RuntimeError("shapes do not fit")

    p.unet.forward = broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        result(p, picture, [0.5])


# --- the mathematics -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ddpm", "ddim_eta1", "dpm_sde"])
def test_with_the_exact_score_of_a_gaussian_the_posterior_is_sampled(method, monkeypatch):
    scheduler = DDPMScheduler(clip_sample=False)
    place = torch.arange(4.0, dtype=torch.float64)
    spots = torch.cartesian_prod(place, place)
    covariance = 0.09 * torch.exp(-torch.cdist(spots, spots) / 1.5)
    mean = torch.linspace(-0.2, 0.2, 16, dtype=torch.float64)
    gaussian = Gaussian(mean, covariance, scheduler)
    p = Diffusion("gaussian", gaussian, scheduler)
    # One x_t, many reverse trajectories, whose noise is drawn at once: that is faster.
    g = torch.Generator().manual_seed(0)
    start = torch.randn(1, 1, 4, 4, generator=g)

    def numbers(work, step):
        n = len(work.setting.trajectories)
        return torch.randn(n, 1, 4, 4, generator=g) if step else start.expand(n, 1, 4, 4)

    monkeypatch.setattr(experiment._Work, "_numbers", numbers)
    picture = ((mean + 0.3).view(4, 4, 1).numpy() * 127.5 + 127.5).round().astype(np.uint8)
    # First-order samplers with the variance of a known x_0 narrow the posterior, by a tenth at
    # 200 steps; the second-order one does not.
    options = {"steps": 200 if method == "dpm_sde" else 1000, "method": method}
    kept = floats(p, picture, [0.5], monkeypatch, samples=3000, batch=3000, **options)
    found = result(p, picture, [0.5], samples=2, **options)
    x = kept[0.5].flatten(1).double()
    x_t = torch.from_numpy(found.x_t.values[0, 0]).flatten()[None]
    exact_mean, exact_covariance = gaussian.posterior(x_t, float(found.alpha_bar[0]))
    error = exact_covariance.diag().max() ** 0.5
    # Of 3000 draws the standard errors are 0.018 and 0.026; the largest of 16 and of 136 is meant.
    mean_gap = float((x.mean(0) - exact_mean[0]).abs().max() / error)
    covariance_gap = float((torch.cov(x.T) - exact_covariance).abs().max() / error**2)
    assert mean_gap < 0.08
    assert covariance_gap < 0.12


def test_the_deterministic_preview_is_marked_and_gives_one_answer_an_x_t(model, picture):
    found = result(model, picture, [0.5], method="ddim_preview")
    assert found.attrs["stochastic"] == 0
    assert result(model, picture, [0.5]).attrs["stochastic"] == 1


def rng_tensors(n: int = 4, shape=(2, 1, 4, 4)) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=g) for _ in range(n)]


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large"])
def test_ddpm_steps_are_those_of_diffusers(kind, monkeypatch):
    x, out, z, _ = rng_tensors()
    scheduler = DDPMScheduler(clip_sample=False, variance_type=kind)
    grid = timestep_grid(1000, 10)
    scheduler.set_timesteps(timesteps=grid[::-1])
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: z.clone()
    )
    abar = scheduler.alphas_cumprod.double()
    for k in range(10):
        now, then = float(abar[grid[k]]), float(abar[grid[k - 1]]) if k else 1.0
        x0 = (x - (1 - now) ** 0.5 * out) / now**0.5
        ours = SAMPLERS["ddpm"](x, Prediction(x0, out), Step(now, then, None, kind), z, x0)
        if k == 0:  # diffusers adds a last noise here unless the timestep is 0; we never do
            assert torch.allclose(ours, x0, atol=1e-4)
            continue
        theirs = scheduler.step(out, grid[k], x).prev_sample
        assert torch.allclose(ours, theirs, atol=1e-4), k


@pytest.mark.parametrize(("method", "eta"), [("ddim_eta1", 1.0), ("ddim_preview", 0.0)])
def test_ddim_steps_are_those_of_diffusers_on_an_even_grid(method, eta):
    x, out, z, _ = rng_tensors()
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    grid = timestep_grid(1000, 10)
    assert scheduler.timesteps.tolist() == grid[::-1]
    abar = scheduler.alphas_cumprod.double()
    for k in range(1, 10):
        now, then = float(abar[grid[k]]), float(abar[grid[k - 1]])
        x0 = (x - (1 - now) ** 0.5 * out) / now**0.5
        ours = SAMPLERS[method](x, Prediction(x0, out), Step(now, then), z, x0)
        noise = z if eta else None
        theirs = scheduler.step(out, grid[k], x, eta=eta, variance_noise=noise).prev_sample
        assert torch.allclose(ours, theirs, atol=1e-4), k


def test_dpm_sde_steps_are_those_of_diffusers():
    x, *_ = rng_tensors()
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++", solver_order=2, timestep_spacing="trailing",
        final_sigmas_type="sigma_min", euler_at_final=False, lower_order_final=False,
    )  # fmt: skip
    scheduler.set_timesteps(10)
    grid = timestep_grid(1000, 10)
    assert scheduler.timesteps.tolist() == grid[::-1]
    abar = scheduler.alphas_cumprod.double()
    ours, theirs, previous, before = x, x, None, None
    g = torch.Generator().manual_seed(2)
    for k in range(9, 0, -1):
        out, z = (torch.randn(x.shape, generator=g) for _ in range(2))
        now, then = float(abar[grid[k]]), float(abar[grid[k - 1]])
        x0 = (ours - (1 - now) ** 0.5 * out) / now**0.5
        seen = Prediction(x0, out)
        step = Step(now, then, before)
        ours = SAMPLERS["dpm_sde"](ours, seen, step, z, x0 if previous is None else previous)
        previous, before = x0, now
        theirs = scheduler.step(out, grid[k], theirs, variance_noise=z).prev_sample
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3), k


def test_learned_variance_steps_are_those_of_diffusers(monkeypatch):
    x, out, z, variance = rng_tensors()
    variance = variance.clamp(-1, 1)
    scheduler = DDPMScheduler(clip_sample=False, variance_type="learned_range")
    grid = timestep_grid(1000, 10)
    scheduler.set_timesteps(timesteps=grid[::-1])
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: z.clone()
    )
    abar = scheduler.alphas_cumprod.double()
    now, then = float(abar[grid[5]]), float(abar[grid[4]])
    x0 = (x - (1 - now) ** 0.5 * out) / now**0.5
    step = Step(now, then, None, "learned_range")
    ours = SAMPLERS["ddpm"](x, Prediction(x0, out, variance), step, z, x0)
    theirs = scheduler.step(torch.cat([out, variance], 1), grid[5], x).prev_sample
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_network_with_twice_the_channels_is_one_with_learned_variance(picture):
    p = small_model(out=2, variance_type="learned_range")
    seen = p.predict(torch.randn(2, 1, SIDE, SIDE), 500)
    assert seen.variance.shape == seen.x0.shape == (2, 1, SIDE, SIDE)
    assert result(p, picture, [0.5]).attrs["variance"] == "learned_range"


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_type_means_the_same_x0(prediction):
    p = small_model(prediction_type=prediction, clip_sample=False)
    x, out, *_ = rng_tensors(shape=(1, 1, SIDE, SIDE))
    p.unet.forward = lambda *a, **k: SimpleNamespace(sample=out)
    seen = p.predict(x, 300)
    abar = p.alpha_bar[300]
    assert torch.allclose(abar**0.5 * seen.x0 + (1 - abar) ** 0.5 * seen.noise, x, atol=1e-5)
    named = {"epsilon": seen.noise, "sample": seen.x0}
    if prediction in named:
        assert torch.equal(named[prediction], out)


def test_large_variance_is_for_long_chains_only():
    p = small_model(variance_type="fixed_large")
    assert p.variance_kind(50) == "fixed_small"
    assert p.variance_kind(250) == "fixed_large"


def test_the_grid_ends_in_pure_noise_and_rises_evenly():
    assert timestep_grid(1000, 4) == [249, 499, 749, 999]
    assert timestep_grid(1000, 1000) == list(range(1000))
    assert timestep_grid(1000, 1) == [999]


# --- other architectures ---------------------------------------------------------------------


def small_dit(channels: int, size: int = 4) -> DiTTransformer2DModel:
    torch.manual_seed(0)
    return DiTTransformer2DModel(
        num_attention_heads=1, attention_head_dim=8, in_channels=channels, out_channels=channels,
        num_layers=1, sample_size=size, patch_size=2, num_embeds_ada_norm=10, norm_num_groups=4,
    ).requires_grad_(False).eval()  # fmt: skip


def small_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=8,
    ).requires_grad_(False).eval()  # fmt: skip


def test_a_class_conditional_transformer_is_asked_for_no_class(picture):
    dit, asked = small_dit(1, SIDE), []
    forward = dit.forward

    def listening(*args, **kwargs):
        asked.extend(kwargs["class_labels"].tolist())
        return forward(*args, **kwargs)

    dit.forward = listening
    result(Diffusion("dit", dit, DDPMScheduler()), picture, [0.5], steps=4)
    assert set(asked) == {10}


def test_a_model_of_latents_needs_its_decoder():
    with pytest.raises(ex.ModelError, match="latents"):
        Diffusion("dit", small_dit(4), DDPMScheduler())


def test_a_model_of_latents_with_its_decoder_gives_pictures():
    p = Diffusion("dit", small_dit(4), DDPMScheduler(), small_vae())
    assert p.image_size == (8, 8)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    found = result(p, image, [0, 0.5], steps=4, samples=2)
    assert found.image.shape == (2, 2, 8, 8, 3)
    assert found.x_t.dims[-1] == "latent"


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": []}, "At least one"),
        ({"levels": [1.2]}, "1.2"),
        ({"levels": ["much"]}, "much"),
        ({"levels": [float("nan")]}, "nan"),
        ({"samples": 0}, "samples"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "1000"),
        ({"seed": -1}, "seed"),
        ({"batch": 0}, "batch"),
        ({"precision": "float8"}, "float8"),
    ],
)
def test_bad_numbers_are_named_at_once(model, picture, options, words):
    given = {"levels": [0.5]} | options
    with pytest.raises(ex.ExplorerError, match=words):
        ex.forward_backward(model, picture, **given)


def test_an_unknown_sampler_is_named_with_its_nearest(model, picture):
    with pytest.raises(ex.UnknownNameError, match="ddpm"):
        ex.forward_backward(model, picture, [0.5], method="ddpmm")


def test_something_that_is_no_model_is_refused(picture):
    with pytest.raises(ex.ModelError, match="open_diffusion"):
        ex.forward_backward("tiles", picture, [0.5])
