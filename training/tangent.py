"""Stage ``tangent``: fine-tuning in the tangent space of the same base.

Ortiz-Jimenez et al. 2023, section 4. The features are f(x; theta_0) + J tau, so one step needs a
Jacobian-vector product for the features and one ordinary backward pass at theta_0 for J^T of the
loss gradient: no differentiation through forward mode.
Writes ``tangent/seed<S>/<task>.safetensors``; skips what exists.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from explorer.models.tangent import linearised_features

from . import clip
from .finetune import arguments, batches, make_vectors, rate_at


def tune(
    visual: torch.nn.Module,
    head: Tensor,
    scale: float,
    task: dict,
    steps: int,
    rate: float,
    seed: int,
) -> dict[str, Tensor]:
    """The task vector (fp32) of one tangent fine-tuning."""
    base = {key: value.detach().clone() for key, value in visual.named_parameters()}
    vector = {key: torch.zeros_like(value) for key, value in base.items()}
    solver = torch.optim.AdamW(vector.values(), lr=rate, weight_decay=0.0)
    tower = clip.fast_tower(visual).requires_grad_(True)
    moving = dict(tower.named_parameters())
    for step, (images, labels) in enumerate(batches(task, steps, seed)):
        solver.param_groups[0]["lr"] = rate_at(step, steps, rate)
        images, labels = images.to(head.device), labels.to(head.device)
        features = linearised_features(tower, base, vector, images).detach().requires_grad_(True)
        loss = F.cross_entropy(scale * F.normalize(features, dim=-1) @ head.T, labels)
        (slope,) = torch.autograd.grad(loss, features)
        gradient = torch.autograd.grad(tower(images), [moving[k] for k in base], slope)
        size = torch.stack([g.norm() for g in gradient]).norm().clamp(min=1.0)
        for value, g in zip(vector.values(), gradient, strict=True):
            value.grad = g / size
        solver.step()
    tower.requires_grad_(False)
    return vector


def accuracy(model: CLIP, head: Tensor, vector: dict[str, Tensor], task: dict) -> float:
    """Share of the validation images that the tangent model with this vector gets right."""
    base = dict(model.visual.named_parameters())
    tower = clip.fast_tower(model.visual)
    images, labels = task["val_images"], task["val_labels"]
    right = 0
    for i in range(0, len(images), 250):
        batch = clip.normalised(torch.from_numpy(images[i : i + 250]).to(head.device))
        features = linearised_features(tower, base, vector, batch)
        predicted = (features @ head.T).argmax(1).cpu().numpy()
        right += int((predicted == labels[i : i + 250]).sum())
    return right / len(labels)


def main(work: Path, options: list[str]) -> None:
    args = arguments("tangent", 4e-4, [0], options)

    def tangent(model: CLIP, head: Tensor, task: dict, steps: int, seed: int) -> dict[str, Tensor]:
        scale = model.logit_scale.exp().item()
        return tune(model.visual, head, scale, task, steps, args.rate, seed)

    make_vectors(work, "tangent", args, {"default": 350}, tangent, accuracy)
