"""Stage ``finetune``: each task's image tower, tuned from the shared base; zero-shot heads frozen.

Small learning rates on purpose: arithmetic needs vectors of a few per cent of the base's norm.
Writes ``weights/seed<S>/<task>.safetensors``, the fp16 difference from the base; skips what exists.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from . import augment, clip

BATCH, WARMUP, DECAY = 64, 40, 0.1
# Chosen on validation images: the real digits had stopped learning by then.
STEPS = {"default": 800, "mnist": 400, "uci": 400}


def batches(task: dict, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``steps`` jittered batches, epoch by epoch in an order drawn from ``seed``."""
    images, labels = torch.from_numpy(task["train_images"]), torch.from_numpy(task["train_labels"])
    g = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(images), generator=g)])
        take, order = order[:BATCH], order[BATCH:]
        yield clip.normalised(augment.jitter(images[take], g)), labels[take]


def rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then cosine to zero."""
    return peak * min((step + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)))


def tune(
    visual: torch.nn.Module,
    head: Tensor,
    scale: float,
    task: dict,
    steps: int,
    rate: float,
    seed: int,
) -> dict[str, Tensor]:
    """The task vector (fp32) of one standard fine-tuning; ``visual`` is not changed."""
    tuned = clip.fast_tower(deepcopy(visual).requires_grad_(True))
    solver = torch.optim.AdamW(tuned.parameters(), lr=rate, weight_decay=DECAY, fused=True)
    for step, (images, labels) in enumerate(batches(task, steps, seed)):
        solver.param_groups[0]["lr"] = rate_at(step, steps, rate)
        images, labels = images.to(head.device), labels.to(head.device)
        loss = F.cross_entropy(scale * F.normalize(tuned(images), dim=-1) @ head.T, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        solver.step()
        solver.zero_grad()
    start = dict(visual.named_parameters())
    return {key: (value - start[key]).detach() for key, value in tuned.named_parameters()}


def accuracy(model: CLIP, head: Tensor, vector: dict[str, Tensor], task: dict) -> float:
    """Share of the validation images that the base plus a vector gets right."""
    tuned = deepcopy(model.visual)
    for key, parameter in tuned.named_parameters():
        parameter.add_(vector[key])
    return float((clip.predict(tuned, head, task["val_images"]) == task["val_labels"]).mean())


def arguments(stage: str, rate: float, seeds: list[int], options: list[str]) -> argparse.Namespace:
    """Command line that both kinds of fine-tuning share."""
    parser = argparse.ArgumentParser(prog=f"python -m training {stage}")
    parser.add_argument("--steps", type=int, help="of every task; default: as the zoo was made")
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--tasks", nargs="+")
    return parser.parse_args(options)


Tune = Callable[[CLIP, Tensor, dict, int, int], dict[str, Tensor]]
Check = Callable[[CLIP, Tensor, dict[str, Tensor], dict], float]


def make_vectors(
    work: Path, folder: str, args: argparse.Namespace, steps: dict, tune: Tune, check: Check
) -> None:
    """Save ``folder/seed<S>/<task>.safetensors`` (fp16) for every task and seed that lacks one."""
    model, vocabulary = clip.load_base(work)
    info, tasks = clip.load_tasks(work)
    size = torch.cat([p.flatten() for p in model.visual.parameters()]).norm()
    wanted = args.tasks or [name for name in tasks if "train_images" in tasks[name]]
    for seed, name in itertools.product(args.seeds, wanted):
        path = work / folder / f"seed{seed}" / f"{name}.safetensors"
        if path.exists():
            continue
        began, task = time.time(), tasks[name]
        count = args.steps or steps.get(name, steps["default"])
        head = clip.head(model, vocabulary, info[name]["class_names"], info[name]["templates"])
        vector = {k: v.half() for k, v in tune(model, head, task, count, 100 + seed).items()}
        right = check(model, head, {k: v.float() for k, v in vector.items()}, task)
        share = torch.cat([v.float().flatten() for v in vector.values()]).norm() / size
        note = {"seed": seed, "steps": count, "rate": args.rate, "validation": right}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: v.cpu() for k, v in vector.items()}, path, {k: str(v) for k, v in note.items()}
        )
        print(
            f"seed {seed} {name}: validation {right:.3f}, |tau|/|theta0| {share:.4f}, "
            f"{time.time() - began:.0f} s",
            flush=True,
        )


def main(work: Path, options: list[str]) -> None:
    args = arguments("finetune", 1.5e-4, [0, 1, 2], options)

    def standard(model: CLIP, head: Tensor, task: dict, steps: int, seed: int) -> dict[str, Tensor]:
        scale = model.logit_scale.exp().item()
        return tune(model.visual, head, scale, task, steps, args.rate, seed)

    make_vectors(work, "weights", args, STEPS, standard, accuracy)
