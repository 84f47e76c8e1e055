"""What the rooms of the ``data`` stage fill: the pretraining bank, and the arrays of one task.

A *concept* is a domain and its captions, grouped by tag: in the contrastive loss a caption is true
of a picture where the caption's tag is among the tags of the picture's concept.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Captions = dict[str, list[str]]  # by tag
Pictures = dict[str, list[tuple[np.ndarray, int]]]  # by split: pictures with their labels
Arrays = dict[str, np.ndarray]  # "<split>_images" and "<split>_labels", as they are saved
Save = Callable[[str, Arrays], None]  # keeps the arrays of the task named first
View = Callable[[Tensor, torch.Generator], Tensor]  # one of ``augment``'s: pictures to task images

SPLITS = ("train", "val", "test")
SHARES = {"pretrain": 0.40, "train": 0.36, "val": 0.08, "test": 0.16}
LIMITS = {"val": 500, "test": 1000}  # the most pictures of a split; training has no limit


class Bank:
    """Pictures and concepts of the pretraining set, collected one by one."""

    def __init__(self) -> None:
        self.masks: list[np.ndarray] = []
        self.mask_concept: list[int] = []
        self.colour: list[np.ndarray] = []
        self.colour_concept: list[int] = []
        self.concepts: list[dict] = []

    def add(self, domain: str, captions: Captions, pictures: Iterable[np.ndarray]) -> None:
        """Add a concept with its pictures: uint8 masks (H, W) or colours (H, W, 3 or 4)."""
        concept = len(self.concepts)
        self.concepts.append({"domain": domain, "captions": captions})
        for picture in pictures:
            if picture.ndim == 2:
                self.masks.append(picture)
                self.mask_concept.append(concept)
            else:
                self.colour.append(opaque(picture) if picture.shape[2] == 3 else picture)
                self.colour_concept.append(concept)

    def save(self, work: Path) -> None:
        """Write ``bank.npz`` (pictures, and the concept of each) and ``concepts.json``."""
        np.savez(
            work / "bank.npz",
            masks=np.stack(self.masks),
            mask_concept=np.array(self.mask_concept, np.int32),
            colour=np.stack(self.colour),
            colour_concept=np.array(self.colour_concept, np.int32),
        )
        (work / "concepts.json").write_text(json.dumps(self.concepts, ensure_ascii=False))


def opaque(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) colours with a full alpha channel: (H, W, 4)."""
    return np.concatenate([picture, np.full_like(picture[..., :1], 255)], 2)


def no_pictures() -> Pictures:
    """An empty list for every split of a task."""
    return {split: [] for split in SPLITS}


def shared_out(names: list[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Shuffled ``names``, cut into pretrain, train, val and test by SHARES."""
    edges = np.cumsum([round(SHARES[s] * len(names)) for s in ("pretrain", "train", "val")])
    return dict(zip(SHARES, np.split(rng.permutation(names), edges), strict=True))


def sampled(items: list, most: int, rng: np.random.Generator) -> list:
    """At most ``most`` of ``items``, in random order."""
    return [items[i] for i in rng.permutation(len(items))[:most]]


def task_arrays(pictures: Pictures, repeats: dict[str, int], view: View, seed: int) -> Arrays:
    """Each split's pictures ``repeats`` times, shuffled, at most LIMITS, seen through ``view``."""
    arrays = {}
    for k, split in enumerate(SPLITS):
        items = pictures.get(split, []) * repeats.get(split, 1)
        if not items:
            continue
        g = torch.Generator().manual_seed(1000 * seed + k)
        order = torch.randperm(len(items), generator=g).tolist()[: LIMITS.get(split)]
        stack = torch.from_numpy(np.stack([items[i][0] for i in order]))
        arrays[f"{split}_images"] = view(stack, g).numpy()
        arrays[f"{split}_labels"] = np.array([items[i][1] for i in order])
    return arrays
