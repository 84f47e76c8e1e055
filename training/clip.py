"""The small CLIP of the zoo, in open_clip's own classes, and its trimmed vocabulary."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from explorer.models.towers import VisionTower, build_tower

CONTEXT = 16
ARCHITECTURE = {
    "embed_dim": 128,
    "vision_cfg": {"layers": 6, "width": 128, "head_width": 32, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": CONTEXT, "width": 128, "heads": 4, "layers": 2},
}
MEAN, STD = 0.5, 0.5


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Vocabulary:
    """CLIP's byte-pair tokens, but only those that the captions use; row i is id ``ids[i]``."""

    def __init__(self, texts: list[str]) -> None:
        self.encode = SimpleTokenizer().encode
        self.ids = sorted({0, 49406, 49407} | {i for text in texts for i in self.encode(text)})
        self.row = {token: row for row, token in enumerate(self.ids)}

    def __call__(self, texts: list[str]) -> Tensor:
        """(len(texts), CONTEXT) int64 rows: start, words (as many as fit), end, zeros."""
        out = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
        for line, text in zip(out, texts, strict=True):
            tokens = [49406, *self.encode(text)[: CONTEXT - 2], 49407]
            line[: len(tokens)] = torch.tensor([self.row[t] for t in tokens])
        return out


def build(vocabulary_size: int, seed: int = 0) -> CLIP:
    """A freshly initialised model of ARCHITECTURE."""
    torch.manual_seed(seed)
    text = {**ARCHITECTURE["text_cfg"], "vocab_size": vocabulary_size}
    return CLIP(ARCHITECTURE["embed_dim"], ARCHITECTURE["vision_cfg"], text)


def fast_tower(visual: torch.nn.Module) -> torch.nn.Module:
    """The package's own tower over the very parameters of open_clip's: the same in less time.

    The package's own towers are what they are.
    """
    if isinstance(visual, VisionTower):
        return visual
    tower = build_tower(ARCHITECTURE)
    tower.load_state_dict(dict(visual.named_parameters()), assign=True)
    return tower


def normalised(images: Tensor) -> Tensor:
    """(B, 3, 32, 32) in [0, 1], or uint8 (B, 32, 32, 3), as the tower wants it."""
    if images.dtype == torch.uint8:
        images = images.permute(0, 3, 1, 2).float() / 255
    return (images - MEAN) / STD


@torch.no_grad()
def head(
    model: CLIP, vocabulary: Vocabulary, class_names: list[str], templates: list[str]
) -> Tensor:
    """Zero-shot head (classes, 128): unit means over templates of normalised text features."""
    rows = []
    for name in class_names:
        tokens = vocabulary([t.format(name) for t in templates]).to(model.logit_scale.device)
        features = F.normalize(model.encode_text(tokens), dim=-1)
        rows.append(F.normalize(features.mean(0), dim=0))
    return torch.stack(rows)


@torch.no_grad()
def predict(
    visual: torch.nn.Module, weight: Tensor, images: np.ndarray, batch: int = 256
) -> np.ndarray:
    """Class index of each uint8 image under a bias-free head."""
    visual.eval()
    found = []
    for i in range(0, len(images), batch):
        pixels = torch.from_numpy(images[i : i + batch]).to(weight.device)
        features = visual(normalised(pixels))
        found.append((F.normalize(features, dim=-1) @ weight.T).argmax(1))
    return torch.cat(found).cpu().numpy()


def load_tasks(work: Path) -> tuple[dict, dict]:
    """``tasks.json`` and, per task, its arrays."""
    info = json.loads((work / "tasks.json").read_text())
    return info, {name: dict(np.load(work / "tasks" / f"{name}.npz")) for name in info}


def load_base(work: Path) -> tuple[CLIP, Vocabulary]:
    """The pretrained model, rounded to fp16 as shipped, in evaluation mode; and its vocabulary."""
    vocabulary = Vocabulary([])
    vocabulary.ids = json.loads((work / "vocabulary.json").read_text())["tokens"]
    vocabulary.row = {token: row for row, token in enumerate(vocabulary.ids)}
    model = build(len(vocabulary.ids))
    state = torch.load(work / "pretrain.pt", weights_only=True, map_location="cpu")["model"]
    model.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}
    )
    return model.to(DEVICE).eval().requires_grad_(False), vocabulary
