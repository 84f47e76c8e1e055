"""Stage ``diffusion``: train a small diffusers UNet on tiles or digits; resumable by steps.

The network predicts v (Salimans and Ho 2022, arXiv 2202.00512) under a cosine schedule (Nichol and
Dhariwal 2021, arXiv 2102.09672). The rate is constant after a warm-up, and the weights that are
used are an average over the last tenth of training, whenever that ends (power-function EMA, Karras
et al. 2024, arXiv 2312.02696), so that training can stop and go on at any step. ``--cool`` ends it:
over so many last steps the rate falls to zero. ``--base`` goes on from a packed network, of which
nothing but the averaged weights is left.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file
from torch import Tensor

from .clip import DEVICE
from .diffusion_data import PICTURES, Pictures

RATE, WARMUP, BATCH = 1e-3, 200, 64
EMA_POWER = 6.94  # width of the average a tenth of the training so far
STEPS = 1000
NETWORKS: dict[str, dict[str, Any]] = {
    "tiles": {
        "sample_size": 16,
        "block_out_channels": (16, 48, 96),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    },
    "digits": {
        "sample_size": 32,
        "block_out_channels": (16, 32, 64, 96),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    },
}


def network(name: str, channels: int) -> UNet2DModel:
    """The network of that name, weights drawn from torch's generator."""
    return UNet2DModel(
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        **NETWORKS[name],
    )


def schedule() -> DDPMScheduler:
    """The noise that all these networks are trained with."""
    return DDPMScheduler(
        STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=True,
    )


def batch(pictures: Pictures, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures in [-1, 1], noise and timesteps of a step; they depend on seed and step alone."""
    rng = np.random.default_rng([seed, step])
    x = torch.from_numpy(pictures.batch(rng, BATCH)).permute(0, 3, 1, 2).float() / 127.5 - 1
    g = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(x.shape, generator=g)
    # One timestep in each of BATCH equal parts: the loss varies less from step to step.
    t = (torch.arange(BATCH) + torch.rand(BATCH, generator=g)) * (STEPS / BATCH)
    return x, noise, t.long()


def v_loss(unet: UNet2DModel, noise_schedule: DDPMScheduler, drawn: tuple) -> Tensor:
    """Mean squared error of the predicted v, with the network in bfloat16."""
    x, noise, t = (part.to(DEVICE) for part in drawn)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = unet(noise_schedule.add_noise(x, noise, t), t).sample
    return (found.float() - noise_schedule.get_velocity(x, noise, t)).square().mean()


def average(ema: list[Tensor], weights: list[Tensor], step: int) -> None:
    """One step of the power-function average, in place; ``step`` counts from 1."""
    decay = (1 - 1 / step) ** (EMA_POWER + 1)
    torch._foreach_lerp_(ema, weights, 1 - decay)


def rate_at(step: int, begun: int, steps: int, cool: int) -> float:
    """Constant after a warm-up from step ``begun``, linearly to zero over the last ``cool``."""
    end = (steps - step) / cool if cool else 1.0
    return RATE * min(1.0, (step - begun + 1) / WARMUP, end)


def load(work: Path, name: str, pictures: Pictures) -> tuple[UNet2DModel, dict[str, int]]:
    """The averaged network so far on the CPU, and how it was trained: ``step`` done so far,
    ``begun`` at (0, or where it went on from a packed network), ``cool``."""
    unet = network(name, pictures.channels)
    state = torch.load(work / f"diffusion-{name}.pt", weights_only=True, map_location="cpu")
    unet.load_state_dict(state["ema"])
    return unet.eval(), {key: state.get(key, 0) for key in ("step", "begun", "cool")}


def main(work: Path, options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m training diffusion")
    parser.add_argument("--model", choices=list(NETWORKS), required=True)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--judge", type=int, default=250, help="steps between looks at samples")
    parser.add_argument("--cool", type=int, default=0, help="last steps, in which the rate falls")
    parser.add_argument("--base", type=Path, help="packed network to go on from, see --begun")
    parser.add_argument("--begun", type=int, default=0, help="steps that made the --base")
    args = parser.parse_args(options)
    pictures, noise_schedule = PICTURES[args.model](work), schedule()
    torch.manual_seed(args.seed)
    unet = network(args.model, pictures.channels).to(DEVICE)
    if args.base:
        packed = load_file(args.base / "unet" / "diffusion_pytorch_model.safetensors")
        unet.load_state_dict({key: tensor.float() for key, tensor in packed.items()})
    ema = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    solver = torch.optim.AdamW(unet.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    path, start = work / f"diffusion-{args.model}.pt", args.begun
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=DEVICE)
        unet.load_state_dict(state["unet"])
        solver.load_state_dict(state["solver"])
        ema, start = state["ema"], state["step"]
    weights = list(unet.state_dict().values())
    began, losses = time.time(), []
    for step in range(start, args.steps):
        for group in solver.param_groups:
            group["lr"] = rate_at(step, args.begun, args.steps, args.cool)
        loss = v_loss(unet, noise_schedule, batch(pictures, args.seed, step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        solver.step()
        solver.zero_grad()
        losses.append(loss.item())
        average(list(ema.values()), weights, step + 1)
        done = step + 1
        if done % 50 == 0:
            speed = (done - start) * BATCH / (time.time() - began)
            print(
                f"{args.model} {done} loss {np.mean(losses[-50:]):.4f} {speed:.0f} images/s",
                flush=True,
            )
        if done % args.every == 0 or done == args.steps:
            state = {
                "unet": unet.state_dict(),
                "ema": ema,
                "solver": solver.state_dict(),
                "step": done,
                "begun": args.begun,
                "cool": args.cool,
            }
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
        if done % args.judge == 0 or done == args.steps:
            from .diffusion_quality import glance

            averaged = network(args.model, pictures.channels).to(DEVICE).eval()
            averaged.load_state_dict(ema)
            seen = {
                "step": done,
                "loss": float(np.mean(losses)),
                **glance(averaged, noise_schedule, pictures),
            }
            print(args.model, seen, flush=True)
            with open(work / f"diffusion-{args.model}.jsonl", "a") as log:
                log.write(json.dumps(seen) + "\n")
