"""A small network that denoises masked strings of a tree grammar, and strings drawn from it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TreeNet(nn.Module):
    """A U-Net with the tree's own shape: a level up joins s neighbours, one down parts them.

    Takes strings int64 (n, s^L) in which the symbol ``v`` stands for a mask, gives logits
    (n, s^L, v) of what was there. Weights are shared over the places of a level, as the grammar's
    rules are (after the U-Nets of arXiv 2502.12089, with linear layers of ``width`` features).
    """

    def __init__(self, v: int, s: int, L: int, width: int = 64) -> None:
        super().__init__()
        self.v, self.s = v, s
        self.embed = nn.Embedding(v + 1, width)
        self.up = nn.ModuleList(nn.Linear(s * width, width) for _ in range(L))
        self.down = nn.ModuleList(nn.Linear(2 * width, s * width) for _ in range(L))
        self.top = nn.Linear(width, width)
        self.out = nn.Linear(2 * width, v)

    def forward(self, strings: Tensor) -> Tensor:
        x = self.embed(strings)
        kept = [x]
        for up in self.up:
            n, nodes, width = x.shape
            x = F.relu(up(x.reshape(n, nodes // self.s, self.s * width)))
            kept.append(x)
        x = F.relu(self.top(x))
        for down, skipped in zip(reversed(self.down), reversed(kept[1:]), strict=True):
            n, nodes, width = x.shape
            x = F.relu(down(torch.cat([x, skipped], -1))).reshape(n, nodes * self.s, width)
        return self.out(torch.cat([x, kept[0]], -1))


@dataclass(frozen=True)
class Training:
    """How a network is trained: Adam with ``rate``, ``batch`` strings a step."""

    width: int = 64
    rate: float = 3e-3
    batch: int = 128


def trained(
    data: Tensor, v: int, s: int, L: int, seed: int, how: Training = Training()
) -> Iterator[TreeNet]:
    """The same network after 0, 1, 2, ... steps of masked diffusion on strings (P, s^L).

    Loss: cross-entropy of the masked leaves, in each string a share t masked with t uniform,
    weighted 1 / t: the bound of masked (absorbing) diffusion on -log p (Austin et al. 2021,
    arXiv 2107.03006). Every step draws its strings with replacement.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TreeNet(v, s, L, how.width)
    optimiser = torch.optim.Adam(net.parameters(), lr=how.rate, fused=True)
    while True:
        yield net
        chosen = data[torch.randint(len(data), (how.batch,), generator=generator)]
        loss = masked_loss(net, chosen, *masks(chosen.shape, generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def masks(
    shape: "torch.Size | tuple[int, int]", generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which leaves are masked, bool (n, d), and the weight of each string, (n, 1).

    The number of masked leaves k is uniform on 1 ... d, and which ones is uniform: the same bound
    as with independent masks, with less noise. The weight is d / k.
    """
    n, d = shape
    order = torch.rand(n, d, generator=generator).argsort(1).argsort(1)
    k = torch.randint(1, d + 1, (n, 1), generator=generator)
    return order < k, d / k


def masked_loss(net: nn.Module, strings: Tensor, masked: Tensor, weight: Tensor) -> Tensor:
    """Bound on -log p(leaf) in nats a leaf."""
    seen = strings.masked_fill(masked, net.v)  # type: ignore[arg-type]
    loss = F.cross_entropy(net(seen).transpose(1, 2), strings, reduction="none")
    return (loss * masked * weight).mean()


@torch.no_grad()
def generated(net: TreeNet, n: int, d: int, seed: int) -> np.ndarray:
    """``n`` strings drawn from the network, int64 (n, d).

    All leaves begin masked; one leaf a step, in an order of its own for every string, is drawn
    from what the network predicts: the reverse of masked diffusion with one leaf a step.
    """
    generator = torch.Generator().manual_seed(seed)
    strings = torch.full((n, d), net.v)
    order = torch.rand(n, d, generator=generator).argsort(1)
    rows = torch.arange(n)
    for place in order.T:
        logits = net(strings)[rows, place]
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        strings[rows, place] = drawn
    return strings.numpy()


def copies(strings: np.ndarray, data: np.ndarray) -> float:
    """Share of strings (n, d) that are among data (P, d), leaf for leaf."""
    known = {row.tobytes() for row in np.ascontiguousarray(data)}
    return float(np.mean([row.tobytes() in known for row in np.ascontiguousarray(strings)]))
