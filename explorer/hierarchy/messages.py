"""Belief propagation on a tree grammar: messages up, messages down, one draw of a tree.

Nodes of one depth are kept in the order in which the children of all nodes stand in s blocks, the
k-th children first to last: position i at depth l has its children at k s^l + i. Then a message
is one matrix (symbols, nodes x columns) whose child blocks are views, and a step of belief
propagation is a few gathers of whole rows. A column is one string's evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from explorer.hierarchy.arithmetic import Arithmetic
from explorer.hierarchy.grammar import Grammar


@dataclass(frozen=True)
class DepthRules:
    """The rules of one depth as row numbers.

    ``children`` int64 (s, symbols x m): the k-th symbol of each rule. ``up[k]`` (m, symbols): the
    row of each rule's k-th child in messages viewed as (v x s, ...). ``down[k]``: for the
    k-th child, the rules that hold each of its v symbols there, see `Holders`.
    """

    children: Tensor
    up: list[Tensor]
    down: list["Holders"]


@dataclass(frozen=True)
class Holders:
    """The rules that hold each symbol at one of their places, symbols with most of them first.

    ``picks[0][p]`` are the parents of each symbol's p-th rule, ``picks[1:][p]`` the rows of its
    other children, of as many symbols as have such a rule. ``place`` (v): where in that order a
    symbol stands.
    """

    picks: list[list[Tensor]]
    place: Tensor


@lru_cache(maxsize=16)
def compiled(g: Grammar, device: torch.device) -> list[DepthRules]:
    """The rules of every depth on a device, root first."""
    return [_depth_rules(table, g.v, device) for table in g.tables]


def _depth_rules(table: np.ndarray, v: int, device: torch.device) -> DepthRules:
    symbols, m, s = table.shape
    flat = table.reshape(-1, s)
    rows = flat * s + np.arange(s)  # of rule (a, r) at a m + r, child k
    return DepthRules(
        torch.tensor(flat.T.copy(), device=device),
        [torch.tensor(rows[:, k].reshape(symbols, m).T.copy(), device=device) for k in range(s)],
        [_holders(flat, rows, k, v, m, device) for k in range(s)],
    )


def _holders(
    flat: np.ndarray, rows: np.ndarray, k: int, v: int, m: int, device: torch.device
) -> Holders:
    counts = np.bincount(flat[:, k], minlength=v)
    by_count = np.argsort(-counts, kind="stable")
    place = np.empty_like(by_count)
    place[by_count] = np.arange(v)
    by_symbol = np.argsort(flat[:, k], kind="stable")
    first = np.cumsum(counts) - counts
    counts, first = counts[by_count], first[by_count]
    terms = [by_symbol[first[counts > p] + p] for p in range(counts.max())]
    others = [j for j in range(flat.shape[1]) if j != k]
    found = [[rule // m for rule in terms]] + [[rows[rule, j] for rule in terms] for j in others]
    picks = [[torch.tensor(row, device=device) for row in column] for column in found]
    return Holders(picks, torch.tensor(place, device=device))


@lru_cache(maxsize=64)
def node_order(s: int, depth: int) -> np.ndarray:
    """The natural position of each node in the order of this file; its own inverse."""
    natural = np.arange(s**depth).reshape((s,) * depth)
    return natural.transpose().ravel()


@dataclass(frozen=True)
class Upward:
    """Messages from the leaves to the root, root first.

    ``beliefs`` u_l (symbols, s^l x columns), the largest of a node 1. ``log_evidence``
    (columns): log of the total likelihood of the evidence, -inf where no string fits.
    ``slack`` (s^l x columns): what is left of the number range; see ``reliable``.
    ``rule_sums``: for each parent symbol the running sum of its rules' weights
    (m, symbols, s^l x columns), if it was asked for.
    """

    beliefs: list[Tensor]
    slack: list[Tensor]
    log_evidence: Tensor
    rule_sums: list[Tensor]

    def thinned(self, group: int, kept: int) -> "Upward":
        """The messages of the first ``kept`` of every ``group`` columns, without rule sums."""

        def first(x: Tensor) -> Tensor:
            return x.view(*x.shape[:-1], -1, group)[..., :kept].flatten(-2)

        slack = [first(x) for x in self.slack]
        return Upward([first(x) for x in self.beliefs], slack, first(self.log_evidence), [])


def upward(
    rules: list[DepthRules], likelihood: Tensor, arithmetic: Arithmetic, sums: bool = False
) -> Upward:
    """u_l(a) ~ sum over rules r of a of prod_k u_{l+1, child k}(R_l[a, r, k]).

    ``likelihood`` (v, leaves x columns) with leaves in the order of this file.
    """
    s = len(rules[0].up)
    columns = likelihood.shape[1] // s ** len(rules)
    belief, taken = arithmetic.rescaled(arithmetic.of(likelihood))
    beliefs, slack, rule_sums = [belief], [taken.new_ones(taken.shape)], []
    log_evidence = arithmetic.log(taken).view(-1, columns).sum(0)
    for rule in reversed(rules):
        below = beliefs[-1].view(beliefs[-1].shape[0] * s, -1)
        if sums:
            total, partial = arithmetic.partial_sums([below] * s, rule.up)
            rule_sums.append(partial)
        else:
            total = arithmetic.sum_of_products([below] * s, rule.up)
        belief, taken = arithmetic.rescaled(total)
        beliefs.append(belief)
        slack.append(taken * _least(slack[-1], s))
        log_of_m = float(np.log(len(rule.up[0])))
        log_evidence = log_evidence + (arithmetic.log(taken) - log_of_m).view(-1, columns).sum(0)
    log_evidence = log_evidence + arithmetic.normalised(beliefs[-1:])[1] - np.log(len(beliefs[-1]))
    return Upward(beliefs[::-1], slack[::-1], log_evidence, rule_sums[::-1])


def marginals(
    rules: list[DepthRules], up: Upward, arithmetic: Arithmetic
) -> tuple[list[Tensor], list[Tensor]]:
    """Exact marginals u_l d_l / Z a depth, root first, and how much range each node had left.

    d_{l+1, child k}(x) ~ sum over rules (a, r) with R_l[a, r, k] = x of
    d_l(a) prod_{j != k} u_{l+1, child j}(R_l[a, r, j]), with d_0 uniform.
    """
    down = torch.full_like(up.beliefs[0], arithmetic.one)
    down_slack = up.slack[0].new_ones(up.slack[0].shape)
    found, left = [], []
    for depth, belief in enumerate(up.beliefs):
        if depth:
            down, down_slack = _one_down(rules[depth - 1], down, down_slack, up, depth, arithmetic)
        marginal, log_total = arithmetic.normalised([belief, down])
        found.append(marginal)
        left.append(log_total.exp() * torch.minimum(up.slack[depth], down_slack).clamp(max=1))
    return found, left


def _one_down(
    rule: DepthRules,
    down: Tensor,
    down_slack: Tensor,
    up: Upward,
    depth: int,
    arithmetic: Arithmetic,
) -> tuple[Tensor, Tensor]:
    s, v = len(rule.up), len(up.beliefs[depth])
    below = up.beliefs[depth].view(v * s, -1)
    messages = []
    for child in rule.down:
        found = arithmetic.sum_of_products([down] + [below] * (s - 1), child.picks)
        unheld = found.new_full((v - len(found), found.shape[1]), arithmetic.zero)
        messages.append(torch.cat([found, unheld]).index_select(0, child.place))
    message, taken = arithmetic.rescaled(torch.stack(messages, dim=1).flatten(1))
    before = torch.minimum(_least(up.slack[depth], s), down_slack).clamp(max=1)
    return message, taken * before.repeat(s)


def _least(slack: Tensor, s: int) -> Tensor:
    return slack.view(s, -1).amin(0).clamp(max=1)


def reliable(slack: Tensor, columns: int) -> Tensor:
    """Columns whose plain numbers kept their precision, bool (columns).

    A belief that underflowed is wrong by the smallest number tiny at most; later divisions by the
    factors that keep messages in range multiply that error. ``slack`` is the product of those
    factors on the way, so tiny / slack bounds the error: below the rounding error it is harmless.
    """
    info = torch.finfo(slack.dtype)
    return (slack.view(-1, columns) >= info.tiny / info.eps).all(0)


def draw_trees(
    rules: list[DepthRules], up: Upward, uniforms: Tensor, arithmetic: Arithmetic
) -> list[Tensor]:
    """Exact samples of the posterior: int64 (nodes, columns, samples) a depth, root first.

    The root from u_0 (uniform classes); then at each node rule r of its symbol a with
    probability ~ prod_k u_{child k}(R_l[a, r, k]). ``uniforms`` in [0, 1) are one a draw,
    (1 + inner nodes, columns, samples). Without its rule sums ``up`` must be plain.
    """
    columns = uniforms.shape[1]
    roots = arithmetic.normalised(up.beliefs[:1])[0].cumsum(0)[..., None].to(uniforms.dtype)
    # The last sum is left out: a uniform below 1 always stays below it.
    symbol = (roots[:-1] <= uniforms[0] * roots[-1]).sum(0)[None]
    trees, start = [symbol], 1
    for depth, rule in enumerate(rules):
        nodes = len(symbol)
        numbers = uniforms[start : start + nodes]
        start += nodes
        if up.rule_sums:
            chosen = _draw_rules(up.rule_sums[depth], symbol, numbers)
        else:
            chosen = _draw_unsummed(rule, up.beliefs[depth + 1], symbol, numbers)
        at = symbol * len(rule.up[0]) + chosen
        symbol = torch.stack([child.take(at) for child in rule.children])
        symbol = symbol.view(-1, columns, uniforms.shape[2])
        trees.append(symbol)
    return trees


def _draw_rules(sums: Tensor, symbol: Tensor, uniforms: Tensor) -> Tensor:
    """For each node the first rule of its symbol whose running sum exceeds its share of all."""
    nodes, columns, _ = symbol.shape
    column = torch.arange(nodes * columns, device=symbol.device).view(nodes, columns, 1)
    at = symbol * (nodes * columns) + column
    return _first_beyond([partial.take(at) for partial in sums], uniforms)


def _draw_unsummed(rule: DepthRules, below: Tensor, symbol: Tensor, uniforms: Tensor) -> Tensor:
    """The same where the sums were not kept: those of the one symbol of each node alone.

    ``below`` are the plain upward beliefs of the depth below. The numbers are added in the order
    of ``Plain.partial_sums``, so that both ways draw the same.
    """
    nodes, columns, _ = symbol.shape
    column = torch.arange(nodes * columns, device=symbol.device).view(nodes, columns, 1)
    sums: list[Tensor] = []
    starts = [rows * (nodes * columns) for rows in rule.up]
    for rows in zip(*starts, strict=True):
        first, *more = (start.take(symbol).add_(column) for start in rows)
        weight = below.take(first)
        for at in more:
            weight *= below.take(at)
        sums.append(sums[-1] + weight if sums else weight)
    return _first_beyond(sums, uniforms)


def _first_beyond(sums: Sequence[Tensor], uniforms: Tensor) -> Tensor:
    """Which sum is the first beyond ``uniforms`` times the last; the last, if rounding hides it."""
    threshold = sums[-1] * uniforms.to(sums[-1].dtype)
    chosen = torch.zeros_like(threshold, dtype=torch.int64)
    for partial in sums[:-1]:
        chosen += partial <= threshold
    return chosen
