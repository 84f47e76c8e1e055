"""What a seed's network is trained and tested on, and what can be said of it beforehand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.errors import GrammarError
from explorer.hierarchy.grammar import Grammar, check_sizes, check_whole
from explorer.hierarchy.learning.network import TreeNet, masked_loss, masks

LONGEST_STRING = 64
Checkpoint = Callable[[float], None]


def entropy(v: int, m: int, s: int, L: int) -> float:
    """-log p of a string, in nats a leaf: all strings are equally likely."""
    rules = (s**L - 1) // (s - 1)
    return float((np.log(v) + rules * np.log(m)) / s**L)


def check_task(v: int, m: int, s: int, L: int, steps: int, strings: int) -> None:
    """Raise GrammarError for a grammar, or a training, that a network here cannot learn."""
    check_sizes(v, m, s, L)
    check_whole("steps", steps, 1)
    check_whole("strings", strings, 2)
    if s**L > LONGEST_STRING:
        raise GrammarError(
            f"A network for strings of s^L = {s**L} leaves trains for hours here; choose sizes "
            f"with at most {LONGEST_STRING} leaves."
        )


@dataclass(frozen=True)
class Material:
    """What a seed's network sees and is tested on."""

    g: Grammar
    data: Tensor
    validation: Tensor
    other: np.ndarray

    @classmethod
    def of(cls, g: Grammar, P: int, seed: int) -> "Material":
        data, other = g.sample(P, seed + 1)[-1], g.sample(P, seed + 2_000_003)[-1]
        validation = torch.from_numpy(g.sample(1024, seed + 1_000_003)[-1])
        return cls(g, torch.from_numpy(data), validation, other)

    @torch.no_grad()
    def loss(self, net: TreeNet, strings: Tensor) -> float:
        """The same masks at every look, eight a string where strings are few."""
        generator = torch.Generator().manual_seed(1)
        many = strings[:1024].repeat(max(1, min(8, 1024 // len(strings))), 1)
        return float(masked_loss(net, many, *masks(many.shape, generator)))
