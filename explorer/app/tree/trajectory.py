"""One string, noised to every level and denoised with the same random numbers: how chunks grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.tree.setting import LEVELS, TreeSpec
from explorer.app.tree.shape import Band, bands, chunk_depths

if TYPE_CHECKING:
    import torch

    from explorer.hierarchy import Grammar

COARSE = 10
"""Every so many levels are computed first."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The tree of one string before, and after at every level in `levels`.

    `before` (nodes), `after` and `marginal` (levels, nodes), `noised` (levels, leaves; -1 where
    nothing is seen). `marginal` is the exact posterior of the symbol before, given what is seen at
    that level. Nodes are in one line, root first.
    """

    spec: TreeSpec
    levels: np.ndarray
    before: np.ndarray
    after: np.ndarray
    noised: np.ndarray
    marginal: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether every level of the slider is there."""
        return len(self.levels) == len(LEVELS)

    @cached_property
    def begins(self) -> np.ndarray:
        """Depth at which each changed node's chunk begins (levels, nodes); see `chunk_depths`."""
        sizes = self.spec.grammar.sizes
        return chunk_depths(self.after != self.before, sizes.s, sizes.L)

    def nearest(self, level: float) -> int:
        """Number of the computed level nearest to one."""
        return int(np.abs(self.levels - level).argmin())

    def bands(self, level: float) -> list[Band]:
        """The chunks at the computed level nearest to one."""
        sizes = self.spec.grammar.sizes
        return bands(self.begins[self.nearest(level)], sizes.s, sizes.L)


def trajectories(
    g: Grammar, spec: TreeSpec, checkpoint: Callable[[], None] = lambda: None
) -> Iterator[Trajectory]:
    """The trajectory at a few levels, then at all. `checkpoint` is called between batches.

    With equal seeds of datum and noise this is the first trajectory of the first string of
    `ex.hierarchy.forward_backward`.
    """
    coarse = LEVELS[::COARSE]
    first = _trajectory(g, spec, coarse, checkpoint)
    yield first
    rest = _trajectory(g, spec, np.setdiff1d(LEVELS, coarse), checkpoint)
    order = np.argsort(np.concatenate([first.levels, rest.levels]))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(first, name), getattr(rest, name)])[order]

    over_levels = ("levels", "after", "noised", "marginal")
    yield Trajectory(spec, before=first.before, **{name: joined(name) for name in over_levels})


def _trajectory(
    g: Grammar, spec: TreeSpec, levels: np.ndarray, checkpoint: Callable[[], None]
) -> Trajectory:
    import torch

    from explorer.hierarchy.inference import columns_at_once

    before = g.sample(1, spec.datum)
    at_once = columns_at_once(g, torch.device("cpu"))
    parts = []
    for start in range(0, len(levels), at_once):
        checkpoint()
        parts.append(_batch(g, spec, before, levels[start : start + at_once]))
    after, noised, marginal = (np.concatenate(found) for found in zip(*parts, strict=True))
    symbols = np.concatenate(before, axis=1)[0]
    return Trajectory(spec, levels, symbols, after, noised, marginal)


def _batch(
    g: Grammar, spec: TreeSpec, before: list[np.ndarray], levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """after (levels, nodes), noised (levels, leaves) and marginal (levels, nodes) of some levels.

    Levels are columns of one batch of messages, which share their random numbers.
    """
    import torch

    from explorer.hierarchy.evidence import find_process
    from explorer.hierarchy.inference import Beliefs, uniforms

    process, leaves = find_process(spec.process), torch.from_numpy(before[-1])
    numbers = None
    if process.draw is not None:
        rng = np.random.default_rng([spec.noise, 1, 0])
        numbers = torch.from_numpy(process.draw(rng, (1, g.n_leaves), g.v))
    seen = [process.likelihood(leaves, g.v, float(level), numbers) for level in levels]
    likelihood = torch.cat(seen)
    beliefs = Beliefs.of(g, likelihood, sums=True)
    shared = uniforms(g, spec.noise, range(1), 1).expand(-1, len(levels), -1)
    after = [tree[..., 0].T.numpy() for tree in beliefs.draw(shared)]
    marginal = [
        _of_symbols(found, _ordered(g, symbols, depth))
        for depth, (found, symbols) in enumerate(zip(beliefs.marginals(), before, strict=True))
    ]
    return _natural(g, after), _likeliest(likelihood), _natural(g, marginal)


def _of_symbols(marginal: torch.Tensor, symbols: np.ndarray) -> np.ndarray:
    """(levels, nodes): the marginal (symbols, nodes, levels) of one symbol a node."""
    return marginal.numpy()[symbols, np.arange(len(symbols))].T


def _ordered(g: Grammar, symbols: np.ndarray, depth: int) -> np.ndarray:
    """One string's symbols (1, nodes) of a depth in the order of the messages."""
    from explorer.hierarchy.messages import node_order

    return symbols[0, node_order(g.s, depth)]


def _natural(g: Grammar, found: list[np.ndarray]) -> np.ndarray:
    """(levels, nodes) of each depth in the order of the messages, as one line from the root."""
    from explorer.hierarchy.messages import node_order

    return np.concatenate([x[:, node_order(g.s, d)] for d, x in enumerate(found)], axis=1)


def _likeliest(likelihood: torch.Tensor) -> np.ndarray:
    """The likeliest symbol of each leaf, -1 where every symbol is equally likely."""
    largest, symbol = likelihood.max(-1)
    found: Any = symbol.masked_fill(largest == likelihood.amin(-1), -1)
    return found.numpy()
