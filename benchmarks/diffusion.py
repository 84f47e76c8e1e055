"""Forward-backward experiments: time to previews and to all variants, and the staggered loop.

The rival is a loop over levels, each run on its own, as the papers' public scripts do: the network
then sees one level's trajectories at a time. What a person waits for in a browser is measured by
``benchmarks.first_variants``.
"""

from __future__ import annotations

import time

import numpy as np

import explorer as ex
from benchmarks import Row, main, median_row
from explorer.compute.device import pick_device
from explorer.diffusion.model import Diffusion
from explorer.diffusion.opening import embedded_diffusion

LEVELS = np.arange(1, 11) / 10


def measure(quick: bool) -> list[Row]:
    """Embedded models, and a network of the size of google/ddpm-cifar10-32; quick: less of each."""
    rows: list[Row] = []
    names = embedded_diffusion()
    for name in names[:1] if quick else names:
        p = ex.open_diffusion(name)
        rows += [
            Row(f"{name}: parameters of the network", p.n_parameters / 1e6, "millions"),
            *_streaming(p, 1 if quick else 3),
            *_staggered(p, 2 if quick else 4, 1 if quick else 3),
            *_layouts(p, 16, 2 if quick else 10),
        ]
    cifar = _cifar_network()
    rows.append(Row("CIFAR-sized: parameters of the network", cifar.n_parameters / 1e6, "millions"))
    few = LEVELS[::4] if quick else LEVELS
    rows += _staggered(cifar, 1, 1 if quick else 3, 3 if quick else 10, few)
    rows += _layouts(cifar, 2 if quick else 4, 1 if quick else 3)
    if pick_device().type == "cuda":
        rows += _cifar_sized(16 if quick else 64)
    return rows


def _cifar_network() -> Diffusion:
    """The network of google/ddpm-cifar10-32, with attention at 16 x 16 pixels as there.

    Its 35.7 million weights are random, and as fast as trained ones.
    """
    import torch  # after explorer, which tells its threads not to spin
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        norm_num_groups=32,
    )
    unet = unet.requires_grad_(False).eval()
    return Diffusion("CIFAR-sized", unet, DDPMScheduler()).to(pick_device())


def _picture(p: Diffusion) -> np.ndarray:
    if p.examples is not None:  # an embedded model
        return p.examples[0]
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (*p.image_size, p.channels), dtype=np.uint8)


def _streaming(p: Diffusion, repeats: int) -> list[Row]:
    image, first, lowest, whole = _picture(p), [], [], []
    next(ex.forward_backward(p, image, LEVELS[:2], samples=2))  # warm up
    for seed in range(repeats):
        start = time.perf_counter()
        run = ex.forward_backward(p, image, LEVELS, samples=16, steps=50, seed=seed)
        next(run)
        first.append(time.perf_counter() - start)
        found = next(partial for partial in run if not partial.preview.all())
        lowest.append(time.perf_counter() - start)
        assert not found.preview[0]
        run.result(show_progress=False)
        whole.append(time.perf_counter() - start)
    return [
        median_row(f"{p.name}: previews of 10 levels x 16", sorted(first), "s", "limit 2 s"),
        median_row(f"{p.name}: first level denoised to the end", sorted(lowest), "s"),
        median_row(
            f"{p.name}: 10 levels x 16 x 50 steps", sorted(whole), "s", "limit 60 s on 2 cores"
        ),
    ]


def _staggered(
    p: Diffusion, samples: int, repeats: int, steps: int = 25, levels: np.ndarray = LEVELS
) -> list[Row]:
    """One descending loop against one run a level, in turns, few trajectories each."""
    image, together, apart = _picture(p), [], []
    options = {"samples": samples, "steps": steps}
    for _ in range(repeats):
        start = time.perf_counter()
        a = ex.forward_backward(p, image, levels, **options).result(False)
        together.append(time.perf_counter() - start)
        start = time.perf_counter()
        b = [ex.forward_backward(p, image, [x], **options).result(False) for x in levels]
        apart.append(time.perf_counter() - start)
        assert [len(one.level) for one in b] == [1] * len(a.level)
    ratio = float(np.median(np.array(apart) / np.array(together)))
    note = f"{samples} a level, {steps} steps, {repeats} runs in turns, {p.device.type}"
    n = len(levels)
    return [
        median_row(f"{p.name}: staggered loop over {n} levels", sorted(together), "s", note),
        median_row(f"{p.name}: a loop of its own for each level", sorted(apart), "s", note),
        Row(f"{p.name}: own loops over staggered", ratio, "ratio", note),
    ]


def _layouts(p: Diffusion, n: int, repeats: int) -> list[Row]:
    """One call of the network: contiguous against channels_last, in both number formats."""
    import copy

    import torch

    last = torch.channels_last
    networks = (p.unet, copy.deepcopy(p.unet).to(memory_format=last))
    x = torch.randn(n, p.network_channels, *p.network_size, device=p.device)
    inputs = (x, x.to(memory_format=last))
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        times: tuple[list[float], list[float]] = ([], [])
        with (
            torch.inference_mode(),
            torch.autocast(p.device.type, dtype, enabled=dtype == torch.bfloat16),
        ):
            for repeat in range(repeats + 1):
                for network, pictures, found in zip(networks, inputs, times, strict=True):
                    start = time.perf_counter()
                    network(pictures, 500)
                    if p.device.type == "cuda":
                        torch.cuda.synchronize()
                    if repeat:  # the first is a warm-up
                        found.append((time.perf_counter() - start) / n)
        ratio = float(np.median(np.array(times[0]) / np.array(times[1])))
        name, note = f"{p.name}, {str(dtype)[6:]}", f"{n} pictures a call, {repeats} in turns"
        rows += [
            median_row(f"{name}: a picture through the network", sorted(times[0]), note=note),
            Row(f"{name}: contiguous over channels_last", ratio, "ratio", note),
        ]
    return rows


def _cifar_sized(samples: int) -> list[Row]:
    """A network as large as google/ddpm-cifar10-32, 10 levels on a grid of 250 steps."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    p = _cifar_network()
    x = torch.zeros(1, 3, 32, 32, device=p.device)
    with FlopCounterMode(display=False) as counter:
        p.unet(x, 0)
    start = time.perf_counter()
    ex.forward_backward(p, _picture(p), LEVELS, samples=samples, steps=250).result(False)
    torch.cuda.synchronize()
    elapsed = time.perf_counter() - start
    calls = samples * sum(1 + round(250 * level) for level in LEVELS)
    speed = counter.get_total_flops() * calls / elapsed / 1e12
    note = f"{p.n_parameters / 1e6:.1f} million parameters, 10 levels x {samples}, 250 steps"
    return [
        Row("CIFAR-sized network", elapsed, "s", note),
        Row("CIFAR-sized network", speed, "TFLOP/s", note),
    ]


if __name__ == "__main__":
    main(measure)
