"""The exact posterior of a string given what is seen of its leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from explorer.errors import GrammarError
from explorer.hierarchy.arithmetic import LOGARITHMIC, PLAIN
from explorer.hierarchy.grammar import Grammar, check_seed, check_whole
from explorer.hierarchy.messages import (
    DepthRules,
    Upward,
    compiled,
    draw_trees,
    marginals,
    node_order,
    reliable,
    upward,
)

# Bytes of messages computed at once: a processor's cache, or a share of a graphics card.
_BLOCK_BYTES = {"cpu": 2**25, "cuda": 2**32}


def posterior(g: Grammar, leaf_likelihood: Any, contradictory: str = "raise") -> "Posterior":
    """Exact marginals of every node of the tree, a depth: belief propagation.

        leaves = torch.tensor(g.sample(5)[-1])
        beliefs = ex.hierarchy.posterior(g, ex.hierarchy.epsilon_likelihood(leaves, g.v, 0.7))
        beliefs[0]                       # (5, 1, n_classes): the class
        beliefs.sample(100, seed=1)[-1]  # (5, 100, s^L): strings

    ``leaf_likelihood`` (..., s^L, v), proportional to p(what is seen of the leaf | symbol):
    non-negative, of any scale a leaf. Classes are uniform and rules equally likely beforehand
    (Sclocchi et al. 2024, arXiv 2402.16991, appendix on belief propagation). The result is a
    sequence of arrays (..., s^depth, symbols), root first: numpy arrays for an array, tensors on
    its device for a tensor, in float64 if the likelihood is and in float32 otherwise.

    Messages are computed as plain numbers, and where these would underflow, as logarithms.
    Evidence that no string fits raises GrammarError; with ``contradictory="flag"`` its marginals
    are all 0 and ``contradicted`` says where.
    """
    likelihood = _checked_likelihood(g, leaf_likelihood)
    if contradictory not in ("raise", "flag"):
        raise GrammarError(f"contradictory is 'raise' or 'flag', not {contradictory!r}.")
    columns = likelihood.reshape(-1, g.n_leaves, g.v)
    solved = [_solve(g, block) for block in _blocks(g, columns)]
    log_evidence = torch.cat([log for _, log in solved])
    if contradictory == "raise" and bool((log_evidence == -torch.inf).any()):
        where = int((log_evidence == -torch.inf).nonzero()[0])
        raise GrammarError(
            f"No string of the grammar fits the evidence (the first such is number {where} of "
            f"{len(columns)}). Soften the likelihood, or ask for contradictory='flag'."
        )
    batch = likelihood.shape[:-2]
    levels = [
        torch.cat([found[depth] for found, _ in solved]).view(*batch, g.s**depth, -1)
        for depth in range(g.L + 1)
    ]
    as_numpy = not isinstance(leaf_likelihood, Tensor)
    return Posterior(g, likelihood, tuple(levels), log_evidence.view(batch), as_numpy)


class Posterior(Sequence):
    """Exact marginals, one array (..., s^depth, symbols) a depth, root first; see ``posterior``."""

    def __init__(
        self,
        grammar: Grammar,
        likelihood: Tensor,
        levels: tuple[Tensor, ...],
        log_evidence: Tensor,
        as_numpy: bool,
    ) -> None:
        self.grammar = grammar
        self._likelihood = likelihood
        self._levels = levels
        self._log_evidence = log_evidence
        self._as_numpy = as_numpy

    @overload
    def __getitem__(self, depth: int) -> Any: ...
    @overload
    def __getitem__(self, depth: slice) -> list[Any]: ...
    def __getitem__(self, depth: int | slice) -> Any:
        if isinstance(depth, slice):
            return [self._out(level) for level in self._levels[depth]]
        return self._out(self._levels[depth])

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def log_evidence(self) -> Any:
        """log sum over strings of p(string) prod_i lambda_i(leaf i), (...); -inf if none fits."""
        return self._out(self._log_evidence)

    @property
    def contradicted(self) -> Any:
        """Whether no string of the grammar fits the evidence, bool (...)."""
        return self._out(self._log_evidence == -torch.inf)

    def sample(self, n: int, seed: int = 0) -> list[Any]:
        """``n`` exact draws of the whole tree: int64 (..., n, s^depth) a depth, root first.

        A string's draws depend on the seed and its place in the batch alone. Where the evidence
        contradicts itself every symbol is -1.
        """
        g, n, seed = self.grammar, check_whole("n", n, 1), check_seed(seed)
        columns = self._likelihood.reshape(-1, g.n_leaves, g.v)
        drawn, start = [], 0
        for block in _blocks(g, columns, n):
            numbers = uniforms(g, seed, range(start, start + len(block)), n)
            trees = Beliefs.of(g, block, sums=True).draw(numbers.to(block.device))
            drawn.append([_natural_draws(tree, g.s, depth) for depth, tree in enumerate(trees)])
            start += len(block)
        batch = self._likelihood.shape[:-2]
        levels = [torch.cat(parts) for parts in zip(*drawn, strict=True)]
        return [self._out(level.view(*batch, n, level.shape[-1])) for level in levels]

    def _out(self, tensor: Tensor) -> Any:
        return tensor.cpu().numpy() if self._as_numpy else tensor

    def __repr__(self) -> str:
        shape = tuple(self._likelihood.shape[:-2])
        return f"<Posterior of {self.grammar!r}, batch {shape}, {len(self)} depths>"


@dataclass(frozen=True)
class Beliefs:
    """Messages of some strings' evidence, ready for marginals and draws.

    ``likelihood`` (columns, leaves, v) in natural order. Columns that plain numbers cannot hold
    are computed again with logarithms in float64.
    """

    grammar: Grammar
    likelihood: Tensor
    rules: list[DepthRules]
    up: Upward
    reliable: Tensor

    @classmethod
    def of(cls, g: Grammar, likelihood: Tensor, sums: bool = False) -> "Beliefs":
        """Messages up; ``sums`` keeps what makes many draws of each column fast."""
        rules = compiled(g, likelihood.device)
        up = upward(rules, _ordered(g, likelihood), PLAIN, sums)
        return cls(g, likelihood, rules, up, reliable(up.slack[0], len(likelihood)))

    def thinned(self, group: int, kept: int) -> "Beliefs":
        """Those of the first ``kept`` of every ``group`` columns, for marginals alone."""
        likelihood = self.likelihood.unflatten(0, (-1, group))[:, :kept].flatten(0, 1)
        plain = self.reliable.view(-1, group)[:, :kept].flatten()
        return Beliefs(self.grammar, likelihood, self.rules, self.up.thinned(group, kept), plain)

    def log_evidence(self) -> Tensor:
        """log p(evidence), (columns), -inf where it contradicts itself."""
        log = self.up.log_evidence.clone()
        wrong = ~self.reliable
        if wrong.any():
            log[wrong] = self._in_logarithms(wrong).log_evidence.to(log.dtype)
        return log

    def marginals(self) -> list[Tensor]:
        """Marginals (symbols, nodes, columns) a depth, nodes in the order of the messages."""
        columns = len(self.likelihood)
        found, left = marginals(self.rules, self.up, PLAIN)
        wrong = ~(torch.stack([reliable(x, columns) for x in left]).all(0) & self.reliable)
        levels = [level.view(len(level), -1, columns) for level in found]
        if wrong.any():
            exact, _ = marginals(self.rules, self._in_logarithms(wrong), LOGARITHMIC)
            for level, right in zip(levels, exact, strict=True):
                level[..., wrong] = right.view(*level.shape[:2], -1).to(level.dtype)
        return levels

    def draw(self, numbers: Tensor) -> list[Tensor]:
        """One tree a column and sample; ``numbers`` (1 + inner nodes, columns, samples)."""
        trees = draw_trees(self.rules, self.up, numbers, PLAIN)
        wrong = ~self.reliable
        if wrong.any():
            up = self._in_logarithms(wrong, sums=True)
            exact = draw_trees(self.rules, up, numbers[:, wrong], LOGARITHMIC)
            impossible = (up.log_evidence == -torch.inf)[None, :, None]
            for tree, right in zip(trees, exact, strict=True):
                tree[:, wrong] = right.masked_fill(impossible, -1)
        return trees

    def _in_logarithms(self, columns: Tensor, sums: bool = False) -> Upward:
        likelihood = _ordered(self.grammar, self.likelihood[columns].double())
        return upward(self.rules, likelihood, LOGARITHMIC, sums)


def uniforms(g: Grammar, seed: int, columns: Sequence[int], samples: int) -> Tensor:
    """float32 numbers in [0, 1) for drawing trees: (1 + inner nodes, columns, samples).

    Each column has a generator of its own, so that its draws do not depend on the batch.
    """
    inner = 1 + (g.n_leaves - 1) // (g.s - 1)
    numbers = [
        np.random.default_rng([seed, 0, c]).random((samples, inner), dtype=np.float32)
        for c in columns
    ]
    return torch.from_numpy(np.stack(numbers)).permute(2, 0, 1).contiguous()


def columns_at_once(g: Grammar, device: torch.device, samples: int = 1) -> int:
    """How many strings' messages, or draws of ``samples`` each, to compute together."""
    budget = _BLOCK_BYTES.get(device.type, _BLOCK_BYTES["cpu"])
    messages = 4 * g.n_leaves * g.v * (g.m // (g.s - 1) + 2)
    draws = 32 * g.n_leaves * samples // 4
    return max(1, budget // max(messages, draws))


def _blocks(g: Grammar, columns: Tensor, samples: int = 1) -> Iterator[Tensor]:
    return iter(columns.split(columns_at_once(g, columns.device, samples)))


def _solve(g: Grammar, likelihood: Tensor) -> tuple[list[Tensor], Tensor]:
    beliefs = Beliefs.of(g, likelihood)
    found = [_natural(level, g.s, depth) for depth, level in enumerate(beliefs.marginals())]
    return found, beliefs.log_evidence()


def _ordered(g: Grammar, likelihood: Tensor) -> Tensor:
    """(columns, leaves, v) in natural order -> (v, leaves x columns) in the messages' order."""
    order = torch.from_numpy(node_order(g.s, g.L)).to(likelihood.device)
    # Rows of symbols are moved whole, and then turned over: faster than one step.
    return likelihood.transpose(0, 1)[order].flatten(0, 1).t().contiguous()


def _natural(level: Tensor, s: int, depth: int) -> Tensor:
    order = torch.from_numpy(node_order(s, depth)).to(level.device)
    return level[:, order].permute(2, 1, 0)


def _natural_draws(tree: Tensor, s: int, depth: int) -> Tensor:
    order = torch.from_numpy(node_order(s, depth)).to(tree.device)
    return tree[order].permute(1, 2, 0)


def _checked_likelihood(g: Grammar, given: Any) -> Tensor:
    likelihood = given if isinstance(given, Tensor) else torch.tensor(np.asarray(given))
    if likelihood.dtype not in (torch.float32, torch.float64):
        likelihood = likelihood.float()
    if likelihood.ndim < 2 or likelihood.shape[-2:] != (g.n_leaves, g.v):
        raise GrammarError(
            f"A leaf likelihood of this grammar has shape (..., {g.n_leaves}, {g.v}): leaves and "
            f"symbols; this one has {tuple(likelihood.shape)}."
        )
    if not bool((likelihood >= 0).all()) or not bool(likelihood.isfinite().all()):
        raise GrammarError("A leaf likelihood must hold finite numbers of 0 or more.")
    return likelihood
