"""Tiles: strings of a quad-tree grammar as pictures, for which the exact denoiser is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.errors import GrammarError, ImageError
from explorer.hierarchy.grammar import Grammar

# Eight colours that most colour-blind people tell apart (Okabe and Ito 2008, Color Universal
# Design), in the order of the symbols.
COLOURS = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


@dataclass(frozen=True, eq=False)
class Tiles:
    """Pictures of a grammar with s = 4: a node's children are its quarters, a leaf is one colour.

        tiles = Tiles(ex.hierarchy.Grammar.random(v=8, m=4, s=4, L=3))
        images = tiles.render(tiles.grammar.sample(5)[-1])      # (5, 16, 16, 3) uint8
        tiles.grammar.parse(tiles.read(images))                 # exact, level by level

    A picture has 2^L x 2^L tiles of ``pixels`` x ``pixels`` pixels. The children of a node lie
    upper left, upper right, lower left, lower right. Raises GrammarError for a grammar that is
    no quad tree, or that has more symbols than there are ``colours``.
    """

    grammar: Grammar
    pixels: int = 2
    colours: tuple[tuple[int, int, int], ...] = COLOURS

    def __post_init__(self) -> None:
        if self.grammar.s != 4:
            raise GrammarError(
                f"Tiles are drawn from a grammar with s = 4, four quarters a node, not "
                f"s = {self.grammar.s}."
            )
        if self.grammar.v > len(self.colours):
            raise GrammarError(
                f"{self.grammar.v} symbols need as many colours, and there are "
                f"{len(self.colours)}: choose v of at most {len(self.colours)}."
            )

    @property
    def side(self) -> int:
        """Pixels a side of a picture."""
        return self.pixels * 2**self.grammar.L

    @property
    def palette(self) -> Tensor:
        """The symbols' colours as the network sees them, float32 (v, 3) in [-1, 1]."""
        return torch.tensor(self.colours[: self.grammar.v], dtype=torch.float32) / 127.5 - 1

    def render(self, leaves: np.ndarray) -> np.ndarray:
        """Symbols (n, 4^L) -> uint8 pictures (n, side, side, 3)."""
        grid = np.empty((len(leaves), 2**self.grammar.L, 2**self.grammar.L), dtype=np.int64)
        rows, columns = leaf_places(self.grammar.L)
        grid[:, rows, columns] = leaves
        picture = np.array(self.colours, dtype=np.uint8)[grid]
        return picture.repeat(self.pixels, axis=1).repeat(self.pixels, axis=2)

    def read(self, images: np.ndarray) -> np.ndarray:
        """uint8 pictures (n, side, side, 3) -> symbols (n, 4^L): the colour nearest the tile's.

        Raises ImageError for pictures of another size.
        """
        pictures = np.asarray(images)
        if pictures.ndim != 4 or pictures.shape[1:] != (self.side, self.side, 3):
            raise ImageError(
                f"Tiles are read from pictures of shape (n, {self.side}, {self.side}, 3), not "
                f"{pictures.shape}."
            )
        x = torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        tile = self._by_leaf(x).mean(-2)
        return torch.cdist(tile, self.palette.expand(len(tile), -1, -1)).argmin(-1).numpy()

    def likelihood(self, x_t: Tensor, alpha_bar: float) -> Tensor:
        """p(x_t of a tile | symbol) up to a factor: float32 (n, 3, side, side) -> (n, 4^L, v).

        x_t = sqrt(abar) x_0 + sqrt(1 - abar) z in every pixel, so that the logarithm is
        -sum over the tile of |x_t - sqrt(abar) colour|^2 / (2 (1 - abar)); with
        ``explorer.hierarchy.posterior`` this is the exact p(x_0 | x_t) of these pictures. Raises
        GrammarError for alpha_bar outside [0, 1).
        """
        if not 0 <= alpha_bar < 1:
            raise GrammarError(
                f"alpha_bar must lie in [0, 1), not {alpha_bar!r}: without noise there is "
                "nothing to infer."
            )
        pixels = self._by_leaf(x_t).double()
        # What all symbols share cancels: only the squared norm of a colour and the product stay.
        colour = self.palette.double().to(x_t.device)
        product = pixels.sum(-2) @ colour.T * alpha_bar**0.5
        norm = colour.square().sum(-1) * (alpha_bar * self.pixels**2 / 2)
        return torch.softmax((product - norm) / (1 - alpha_bar), dim=-1).float()

    def _by_leaf(self, x: Tensor) -> Tensor:
        """(n, 3, side, side) -> the pixels of each leaf, (n, 4^L, pixels^2, 3)."""
        p, n = self.pixels, len(x)
        blocks = x.view(n, 3, self.side // p, p, self.side // p, p).permute(0, 2, 4, 3, 5, 1)
        rows, columns = leaf_places(self.grammar.L)
        return blocks.flatten(3, 4)[:, rows, columns]

    def to_json(self) -> dict[str, Any]:
        """The rules themselves, not the seed that drew them: plain lists and numbers."""
        return {
            "v": self.grammar.v,
            "rules": [table.tolist() for table in self.grammar.rules],
            "seed": self.grammar.seed,
            "pixels": self.pixels,
            "colours": [list(colour) for colour in self.colours],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Tiles":
        """The inverse of ``to_json``."""
        tables = tuple(np.array(table) for table in saved["rules"])
        r, g, b = range(3)
        colours = tuple((c[r], c[g], c[b]) for c in saved["colours"])
        return cls(Grammar(saved["v"], tables, saved["seed"]), saved["pixels"], colours)


def leaf_places(levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every leaf of a quad tree, each int64 (4^levels), leaves in order."""
    leaf = np.arange(4**levels)
    row, column = np.zeros_like(leaf), np.zeros_like(leaf)
    for height in range(levels):
        quarter = leaf // 4**height % 4
        row += (quarter // 2) << height
        column += (quarter % 2) << height
    return row, column
