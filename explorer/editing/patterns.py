"""The fixed functions of depth that every schedule is a weighted sum of."""

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from explorer.editing.layers import depth_name, layer_of, lies_after_blocks
from explorer.errors import RecipeError

Outside = Literal["alpha", "depth"]
Order = Literal["rising", "falling", "shuffled"]


@dataclass(frozen=True)
class Pattern:
    """A function of depth without free numbers, p(depth); a schedule is sum_i w_i p_i(depth).

    ``shape`` is "everywhere" (1 at every depth), "ramp" ((l-1)/(L-1) for the l-th block in
    ``order``, 0 outside) or "group" (1 at the depth called ``group``, 0 elsewhere). Under
    ``outside="depth"`` what comes after the blocks follows the last block of a ramp.
    Frozen and hashable: what is computed for a pattern may be kept under it.
    """

    shape: Literal["everywhere", "ramp", "group"]
    order: Order = "rising"
    seed: int = 0
    outside: Outside = "alpha"
    group: str = ""

    def at(self, layer: int | None, n_layers: int, *, after: bool = False) -> float:
        """The value at block ``layer`` of ``n_layers``, or outside the blocks (None)."""
        if layer is not None and not 0 <= layer < n_layers:
            raise RecipeError(f"Block {layer + 1} is asked for, but the tower has {n_layers}.")
        if self.shape == "everywhere":
            return 1.0
        if self.shape == "group":
            return 1.0 if depth_name(layer, after) == self.group else 0.0
        if layer is None:
            layer = n_layers - 1 if after and self.outside == "depth" else None
        return 0.0 if layer is None else self._ramp(layer, n_layers)

    def of(self, key: str, n_blocks: int) -> float:
        """The value at a parameter by its name."""
        return self.at(layer_of(key, n_blocks), n_blocks, after=lies_after_blocks(key))

    def _ramp(self, layer: int, n_layers: int) -> float:
        """(l-1)/(L-1) for the place l that the order gives to a block."""
        if n_layers < 2:
            return 0.0
        if self.order == "rising":
            place = layer
        elif self.order == "falling":
            place = n_layers - 1 - layer
        else:
            place = shuffled(n_layers, self.seed)[layer]
        return place / (n_layers - 1)


EVERYWHERE = Pattern("everywhere")


@lru_cache(maxsize=256)
def group(name: str) -> Pattern:
    """1 at the depth of that name ("input", "block 3", "output"), 0 elsewhere."""
    return Pattern("group", group=name)


def shuffled(n: int, seed: int) -> list[int]:
    """A permutation of 0 ... n-1 that depends on the seed only, on any version of Python."""
    generator = random.Random(seed)
    keys = [generator.random() for _ in range(n)]
    return sorted(range(n), key=keys.__getitem__)
