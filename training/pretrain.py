"""Stage ``pretrain``: symmetric contrastive training of the base on the bank; resumable by steps.

Each batch draws CAPTIONS captions and VIEWS pictures of each one's concept. A caption that is also
true of another picture in the batch (it carries one of its concept's tags) is neither its positive
nor its negative. Matrices inside the blocks are trained with Muon, everything else with AdamW, both
on one cosine schedule.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import augment, clip

CAPTIONS, VIEWS = 192, 2
DOMAINS = {
    "latin": 0.20,
    "digits": 0.12,
    "kana": 0.14,
    "scripts": 0.15,
    "emoji": 0.13,
    "icons": 0.16,
    "shapes": 0.08,
    "textures": 0.02,
}
RATE, DECAY, WARMUP = 2e-3, 0.1, 200


class Sampler:
    """Batches of (images, caption rows, which captions are true of which image)."""

    def __init__(self, work: Path, vocabulary: clip.Vocabulary | None = None) -> None:
        with np.load(work / "bank.npz") as bank:
            self.masks = torch.from_numpy(bank["masks"])
            self.colour = torch.from_numpy(bank["colour"])
            owner = np.concatenate([bank["mask_concept"], bank["colour_concept"]])
        concepts = json.loads((work / "concepts.json").read_text())
        tags = sorted({tag for c in concepts for tag in c["captions"]})
        number = {tag: i for i, tag in enumerate(tags)}
        self.captions = [
            [(number[tag], text) for tag, texts in c["captions"].items() for text in texts]
            for c in concepts
        ]
        width = max(len(c["captions"]) for c in concepts)
        self.tags = torch.full((len(concepts), width), -1)
        for i, c in enumerate(concepts):
            self.tags[i, : len(c["captions"])] = torch.tensor([number[t] for t in c["captions"]])
        order = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[order], np.arange(len(concepts) + 1))
        self.pictures = [order[a:b] for a, b in itertools.pairwise(starts)]
        self.domain = {
            d: [i for i, c in enumerate(concepts) if c["domain"] == d and len(self.pictures[i])]
            for d in DOMAINS
        }
        texts = sorted({text for c in self.captions for _, text in c})
        self.vocabulary = vocabulary or clip.Vocabulary(texts)
        self.rows = dict(zip(texts, self.vocabulary(texts), strict=True))

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([seed, step])
        g = torch.Generator().manual_seed(int(rng.integers(2**62)))
        chosen = self.concepts(rng, CAPTIONS)
        said = [self.captions[c][rng.integers(len(self.captions[c]))] for c in chosen]
        views = [rng.choice(self.pictures[c], VIEWS) for c in chosen]
        images = self.views(np.concatenate(views), g)
        owners = torch.tensor(chosen).repeat_interleave(VIEWS)
        spoken = torch.tensor([tag for tag, _ in said])
        true = (self.tags[owners][:, :, None] == spoken[None, None]).any(1)
        return images, torch.stack([self.rows[text] for _, text in said]), true

    def concepts(self, rng: np.random.Generator, n: int) -> list[int]:
        """``n`` concepts, the domains in their shares."""
        shares = np.array(list(DOMAINS.values())) / sum(DOMAINS.values())
        names = rng.choice(list(DOMAINS), n, p=shares)
        return [int(rng.choice(self.domain[d])) for d in names]

    def views(self, places: np.ndarray, g: torch.Generator) -> Tensor:
        """Augmented pictures (n, 3, 32, 32) in [0, 1], by their places in the bank."""
        pictures = torch.from_numpy(places)
        images = torch.empty(len(pictures), 3, augment.SIDE, augment.SIDE)
        coloured = pictures >= len(self.masks)
        images[~coloured] = augment.strong(self.masks[pictures[~coloured]], g)
        rows = pictures[coloured] - len(self.masks)
        images[coloured] = augment.strong_colour(self.colour[rows], g)
        return images


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, true: Tensor) -> Tensor:
    """Symmetric cross-entropy of (N, D) images, (K, D) texts; image n is of caption n // VIEWS."""
    logits = scale * image @ text.T
    own = torch.arange(len(image), device=image.device) // VIEWS
    mine = F.one_hot(own, len(text)).bool()
    masked = logits.masked_fill(true & ~mine, -torch.inf)
    to_text = F.cross_entropy(masked, own)
    # Each picture against the other captions' pictures: its own siblings are masked as well.
    negatives = logits.masked_fill(true | mine, -torch.inf).logsumexp(0)
    positive = logits.gather(1, own[:, None])[:, 0]
    to_image = -(positive - torch.logaddexp(positive, negatives[own])).mean()
    return (to_text + to_image) / 2


def optimisers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if "resblocks" in n and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98), fused=True),
    ]


def resumed(path: Path, model: torch.nn.Module, solvers: list[torch.optim.Optimizer]) -> int:
    """Load what ``keep`` saved, if there is something; the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=clip.DEVICE)
    model.load_state_dict(state["model"])
    for solver, saved in zip(solvers, state["solvers"], strict=True):
        solver.load_state_dict(saved)
    return state["step"]


def keep(
    path: Path, model: torch.nn.Module, solvers: list[torch.optim.Optimizer], step: int
) -> None:
    """Save what ``resumed`` loads after ``step`` steps, whole or not at all."""
    state = {
        "model": model.state_dict(),
        "solvers": [s.state_dict() for s in solvers],
        "step": step,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)


def learn(
    model: torch.nn.Module,
    solvers: list[torch.optim.Optimizer],
    loss: Tensor,
    step: int,
    steps: int,
) -> None:
    """Step ``step`` of ``steps`` down the loss, on the cosine schedule; bounds ``logit_scale``."""
    rate = RATE * min((step + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for solver in solvers:
        for group in solver.param_groups:
            group["lr"] = rate
        solver.step()
        solver.zero_grad()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))


def zero_shot(
    model, vocabulary: clip.Vocabulary, info: dict, tasks: dict, split: str, n: int | None = None
) -> dict[str, float]:
    """Accuracy of every task's zero-shot head on the first ``n`` images of a split."""
    out = {}
    for name, task in tasks.items():
        weight = clip.head(model, vocabulary, info[name]["class_names"], info[name]["templates"])
        predicted = clip.predict(model.visual, weight, task[f"{split}_images"][:n])
        out[name] = float((predicted == task[f"{split}_labels"][:n]).mean())
    return out


def main(work: Path, options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m training pretrain")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--every", type=int, default=250, help="steps between checkpoints and validation"
    )
    args = parser.parse_args(options)
    info, tasks = clip.load_tasks(work)
    sampler = Sampler(work)
    (work / "vocabulary.json").write_text(json.dumps({"tokens": sampler.vocabulary.ids}))
    model = clip.build(len(sampler.vocabulary.ids), args.seed).to(clip.DEVICE)
    tower = clip.fast_tower(model.visual)
    solvers = optimisers(model)
    path = work / "pretrain.pt"
    start = resumed(path, model, solvers)
    began = time.time()
    for step in range(start, args.steps):
        images, captions, true = (x.to(clip.DEVICE) for x in sampler.batch(step, args.seed))
        model.train()
        image = F.normalize(tower(clip.normalised(images)), dim=-1)
        text = F.normalize(model.encode_text(captions), dim=-1)
        loss = contrastive_loss(image, text, model.logit_scale.exp(), true)
        learn(model, solvers, loss, step, args.steps)
        if step % 25 == 0:
            speed = (step - start + 1) * CAPTIONS * VIEWS / (time.time() - began)
            print(
                f"step {step} loss {loss.item():.3f} "
                f"scale {model.logit_scale.exp().item():.1f} {speed:.0f} images/s",
                flush=True,
            )
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            found = zero_shot(model.eval(), sampler.vocabulary, info, tasks, "val", 200)
            print(
                step + 1,
                {k: round(v, 3) for k, v in found.items()},
                f"mean {np.mean([v for k, v in found.items() if k != 'shapes']):.3f}",
                flush=True,
            )
            keep(path, model, solvers, step + 1)
