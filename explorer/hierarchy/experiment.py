"""Forward-backward experiments: noise a string, draw from its exact posterior, see what moved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from explorer.compute.device import pick_device
from explorer.compute.run import Run, coarse_to_fine
from explorer.errors import GrammarError
from explorer.hierarchy.chunks import block_variance, changes_by_chunk
from explorer.hierarchy.evidence import Process, check_level, find_process
from explorer.hierarchy.grammar import Grammar, check_seed, check_whole
from explorer.hierarchy.inference import Beliefs, columns_at_once, uniforms
from explorer.hierarchy.messages import node_order
from explorer.hierarchy.results import Experiment, Measured

if TYPE_CHECKING:
    import xarray as xr

# Marginals take longer than draws. Where each trajectory has evidence of its own, they are
# computed for this many of a string's trajectories.
MARGINAL_TRAJECTORIES = 16


def forward_backward(
    g: Grammar,
    levels: ArrayLike,
    data: int = 64,
    samples: int = 64,
    process: str = "epsilon",
    seed: int = 0,
    *,
    shown: int = 1,
    changes: bool = False,
    device: str = "auto",
) -> "Run[xr.Dataset]":
    """Noise ``data`` strings to each level, denoise each ``samples`` times, measure the changes.

        run = ex.hierarchy.forward_backward(g, np.linspace(0.5, 1, 21))
        for partial in run:
            partial.susceptibility.plot()

    x_0 -> x_t ~ q(x_t | x_0) -> x_0' ~ p(x_0' | x_t), the last exactly, by belief propagation
    (Sclocchi et al. 2025, arXiv 2410.13770). ``process`` is "epsilon", "masking", "uniform" or
    "gaussian"; ``levels`` in [0, 1] are epsilon, the masked share, the probability to be redrawn,
    or 1 - alpha_bar. Each trajectory has an x_t of its own. Random numbers are the same at every
    level, so that results do not depend on which levels are asked for.

    Partials hold the levels done so far, coarse to fine, each complete: over (level, depth)
    marginal (exact probability of the true symbol, averaged over at most 16 x_t of a string),
    changed (share of nodes drawn otherwise) and moved_by (share of changed leaves whose chunk
    begins at that depth); over (level, distance) correlation; over level susceptibility and
    correlation_length (leaves), nan where nothing changes; each with a bootstrap error over
    strings. Of the first ``shown`` strings the whole trees: before (shown, node), after and
    noised. With ``changes``, changed_leaf (level, datum, sample, leaf). Raises GrammarError and
    UnknownNameError at once.
    """
    if not isinstance(g, Grammar):
        raise GrammarError(f"forward_backward takes a Grammar, not {type(g).__name__}.")
    work = _Work(
        g,
        find_process(process),
        check_whole("data", data, 1),
        check_whole("samples (a covariance is over at least two)", samples, 2),
        check_seed(seed),
        min(check_whole("shown", shown, 0), data),
        changes,
        pick_device(device),
    )
    return streamed(check_levels(levels), work.measure, work.experiment())


def check_levels(levels: ArrayLike) -> list[float]:
    """Sorted distinct levels of noise. Raises GrammarError for none, or one outside [0, 1]."""
    points = sorted({check_level(level) for level in np.ravel(np.asarray(levels, dtype=object))})
    if not points:
        raise GrammarError("At least one level of noise is needed.")
    return points


def streamed(levels: Sequence[float], measure: Any, experiment: Experiment) -> "Run[xr.Dataset]":
    """A Run that measures level after level, both ends first, and yields what there is.

    ``measure(level, checkpoint)`` returns a Measured and calls ``checkpoint(share)`` between
    batches, 0 to 1.
    """

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        found: dict[float, Measured] = {}
        for level in coarse_to_fine(levels):
            done = len(found)
            run.checkpoint(done / len(levels))
            found[level] = measure(
                level, lambda share, done=done: run.checkpoint((done + share) / len(levels))
            )
            yield experiment.dataset(found, complete=len(found) == len(levels))

    return Run(partials, title=experiment.title)


@dataclass(frozen=True)
class _Work:
    """What is done at every level, checked before anything is computed."""

    g: Grammar
    process: Process
    data: int
    samples: int
    seed: int
    shown: int
    changes: bool
    device: torch.device

    def experiment(self) -> Experiment:
        g = self.g
        return Experiment(
            title=f"forward-backward, {self.process.name}",
            s=g.s,
            L=g.L,
            seed=self.seed,
            level_name=self.process.level,
            before=_natural_trees(g, [level[:, : self.shown] for level in self.strings()]),
            attrs={
                "grammar": repr(g),
                "process": self.process.name,
                "v": g.v,
                "m": g.m,
                "s": g.s,
                "L": g.L,
                "n_classes": g.n_classes,
                "data": self.data,
                "samples": self.samples,
                "seed": self.seed,
                "device": self.device.type,
            },
        )

    def strings(self) -> list[Tensor]:
        """The starting strings' trees, (nodes, data) a depth, nodes in the messages' order."""
        trees = self.g.sample(self.data, self.seed)
        return [
            torch.from_numpy(tree[:, node_order(self.g.s, depth)].T.copy()).to(self.device)
            for depth, tree in enumerate(trees)
        ]

    def measure(self, level: float, checkpoint: Any) -> Measured:
        """All strings at one level of noise, in batches."""
        truth = self.strings()
        size = columns_at_once(self.g, self.device, self.samples)
        if self.process.draw:
            size = max(1, size // self.samples)
        size = min(size, -(-self.data // 4))  # so that a Run stops within a fraction of a level
        parts = []
        for start in range(0, self.data, size):
            checkpoint(start / self.data)
            which = range(start, min(start + size, self.data))
            parts.append(self._batch(level, which, [t[:, which.start : which.stop] for t in truth]))
        return Measured.joined(parts)

    def _batch(self, level: float, which: range, truth: list[Tensor]) -> Measured:
        likelihood = self._likelihood(level, which, truth[-1])
        numbers = uniforms(self.g, self.seed, which, self.samples).to(self.device)
        if self.process.draw:  # every trajectory is a column of its own
            numbers = numbers.flatten(1)[..., None]
        # Sums pay where they are drawn from more than once.
        beliefs = Beliefs.of(self.g, likelihood, sums=self.process.draw is None)
        trees = [tree.view(len(tree), len(which), -1) for tree in beliefs.draw(numbers)]
        changed = [tree != t[..., None] for tree, t in zip(trees, truth, strict=True)]
        sigma = changed[-1].float() * 2 - 1
        shown = max(0, min(len(which), self.shown - which.start))
        return Measured(
            variance=block_variance(sigma, self.g.s, self.g.L).cpu().numpy(),
            marginal=self._marginals(beliefs, truth, len(which)),
            changed=np.stack([c.float().mean((0, 2)).cpu().numpy() for c in changed], -1),
            moved=changes_by_chunk(changed, self.g.s).double().mean(-1).T.cpu().numpy(),
            after=_natural_trees(self.g, [tree[:, :shown] for tree in trees]),
            noised=self._noised(likelihood, shown),
            leaves=self._leaves(changed[-1]) if self.changes else None,
        )

    def _likelihood(self, level: float, which: range, leaves: Tensor) -> Tensor:
        """(columns, leaves, v) in natural order; a column a string, or a trajectory."""
        g, order = self.g, node_order(self.g.s, self.g.L)
        natural = leaves[torch.from_numpy(order).to(self.device)].T
        if self.process.draw is None:
            return self.process.likelihood(natural, g.v, level, None)
        shape = (self.samples, g.n_leaves)
        drawn = [
            self.process.draw(np.random.default_rng([self.seed, 1, datum]), shape, g.v)
            for datum in which
        ]
        numbers = torch.from_numpy(np.concatenate(drawn)).to(self.device)
        repeated = natural.repeat_interleave(self.samples, dim=0)
        return self.process.likelihood(repeated, g.v, level, numbers)

    def _marginals(self, beliefs: Beliefs, truth: list[Tensor], data: int) -> np.ndarray:
        if self.process.draw is not None and self.samples > MARGINAL_TRAJECTORIES:
            beliefs = beliefs.thinned(self.samples, MARGINAL_TRAJECTORIES)
        return _of_truth(beliefs.marginals(), truth, data)

    def _noised(self, likelihood: Tensor, shown: int) -> np.ndarray:
        """The likeliest symbol of each leaf, -1 where nothing is known: (shown, samples, leaf)."""
        drawn = self.samples if self.process.draw else 1
        seen = likelihood.view(-1, drawn, *likelihood.shape[1:])[:shown]
        largest, symbol = seen.max(-1)
        symbol = symbol.masked_fill(largest == seen.amin(-1), -1)
        return symbol.expand(-1, self.samples, -1).cpu().numpy().astype(np.int16)

    def _leaves(self, changed: Tensor) -> np.ndarray:
        order = torch.from_numpy(node_order(self.g.s, self.g.L)).to(self.device)
        return changed[order].permute(1, 2, 0).to(torch.int8).cpu().numpy()


def _of_truth(marginals: list[Tensor], truth: list[Tensor], data: int) -> np.ndarray:
    """Mean over nodes and trajectories of the marginal of the true symbol, (data, depth)."""
    found = []
    for marginal, symbols in zip(marginals, truth, strict=True):
        samples = marginal.shape[2] // data
        at = symbols.repeat_interleave(samples, dim=1)[None]
        found.append(marginal.gather(0, at)[0].view(-1, data, samples).mean((0, 2)))
    return torch.stack(found, dim=-1).cpu().numpy()


def _natural_trees(g: Grammar, trees: list[Tensor]) -> np.ndarray:
    """Trees (nodes, strings, ...) a depth as one int16 array (strings, ..., all nodes)."""
    ordered = [
        tree[torch.from_numpy(node_order(g.s, depth)).to(tree.device)].movedim(0, -1)
        for depth, tree in enumerate(trees)
    ]
    return torch.cat(ordered, dim=-1).cpu().numpy().astype(np.int16)
