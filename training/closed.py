"""Stage ``closed``: a base without text, trained to tell the bank's tags apart; resumable by steps.

The text tower of ``pretrain`` is replaced by one vector a tag, and pictures are classified by the
angle to them (a normalised softmax, Wang et al. 2017, arXiv 1704.06369). A picture has several
tags, each a right answer: for one of them, the others are no wrong ones. The vectors are thrown
away afterwards. ``untrained`` is the control: the same tower with random weights.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from explorer.models.towers import VisionTower, build_tower

from . import clip
from .pretrain import Sampler, keep, learn, optimisers, resumed

ARCHITECTURE = {
    "embed_dim": 64,
    "vision_cfg": {"layers": 4, "width": 48, "head_width": 16, "patch_size": 8, "image_size": 32},
}
PICTURES = 256
BASES = ("closed", "scratch")


class Classifier(torch.nn.Module):
    """The tower, one vector a tag, and the temperature."""

    def __init__(self, n_tags: int, seed: int) -> None:
        super().__init__()
        self.tower = untrained(seed)
        self.tags = torch.nn.Parameter(torch.randn(n_tags, ARCHITECTURE["embed_dim"]))
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, 32, 32) -> logits (n, tags)."""
        features = F.normalize(self.tower(images), dim=-1)
        return self.logit_scale.exp() * features @ F.normalize(self.tags, dim=-1).T


def untrained(seed: int) -> VisionTower:
    """The package's tower of ARCHITECTURE with open_clip's random initial weights."""
    torch.manual_seed(seed)
    text = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
    made = CLIP(ARCHITECTURE["embed_dim"], ARCHITECTURE["vision_cfg"], text)
    tower = build_tower(ARCHITECTURE)
    tower.load_state_dict(dict(made.visual.named_parameters()), assign=True)
    return tower


def load_base(work: Path, base: str, seed: int = 0) -> VisionTower:
    """The tower "closed" or "scratch", rounded to fp16 as shipped, in evaluation mode."""
    tower = untrained(seed)
    if base == "closed":
        saved = torch.load(work / "closed.pt", weights_only=True, map_location="cpu")["model"]
        tower.load_state_dict(
            {k.removeprefix("tower."): v for k, v in saved.items() if k.startswith("tower.")}
        )
    for parameter in tower.parameters():
        parameter.data = parameter.data.half().float()
    return tower.to(clip.DEVICE).eval().requires_grad_(False)


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Mean cross-entropy of (n, classes) logits to every tag of each picture.

    ``tags`` is (n, most), the classes that are true of a picture, filled up with -1. Against a
    true class stand all classes that are not true of the picture.
    """
    given = tags >= 0
    true = torch.zeros(len(logits), logits.shape[1] + 1, dtype=torch.bool, device=logits.device)
    true.scatter_(1, tags.where(given, logits.shape[1]), True)
    false = logits.masked_fill(true[:, :-1], -torch.inf).logsumexp(1, keepdim=True)
    found = logits.gather(1, tags.clamp(min=0))
    each = torch.logaddexp(found, false) - found
    return ((each * given).sum(1) / given.sum(1)).mean()


def batch(sampler: Sampler, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """PICTURES augmented pictures (n, 3, 32, 32) and their tags (n, most); by seed and step."""
    rng = np.random.default_rng([seed, step, 1])
    g = torch.Generator().manual_seed(int(rng.integers(2**62)))
    chosen = sampler.concepts(rng, PICTURES)
    places = np.array([rng.choice(sampler.pictures[c]) for c in chosen])
    return sampler.views(places, g), sampler.tags[chosen]


def main(work: Path, options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m training closed")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    args = parser.parse_args(options)
    sampler = Sampler(work)
    model = Classifier(int(sampler.tags.max()) + 1, args.seed).to(clip.DEVICE).train()
    solvers = optimisers(model)
    path = work / "closed.pt"
    start = resumed(path, model, solvers)
    began = time.time()
    for step in range(start, args.steps):
        images, tags = (x.to(clip.DEVICE) for x in batch(sampler, step, args.seed))
        loss = tag_loss(model(clip.normalised(images)), tags)
        learn(model, solvers, loss, step, args.steps)
        if step % 20 == 0:
            speed = (step - start + 1) * PICTURES / (time.time() - began)
            print(f"step {step} loss {loss.item():.3f} {speed:.0f} images/s", flush=True)
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            keep(path, model, solvers, step + 1)
