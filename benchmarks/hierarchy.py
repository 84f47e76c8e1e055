"""Belief propagation on the Random Hierarchy Model: whole rows against loops over nodes.

The second rival is the scheme of the public implementation in minimal_diffusion_rhm (MIT), in
our own words: messages (v, nodes x strings), every rule's product gathered at once, the downward
sum scattered into a table (v, rules, nodes x strings, s) that is mostly zeros, and one draw a
string and pass. Then whole experiments, on the CPU and, where there is one, on a CUDA device.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch

import explorer as ex
from benchmarks import Row, main, median_row, seconds
from explorer.hierarchy.inference import Beliefs, uniforms

SIZE = (32, 8, 2, 7)
LARGE = (32, 8, 2, 9)
EPSILON = 0.73


class LoopOverNodes:
    """Belief propagation of one string, node after node, rule after rule vectorised by numpy."""

    def __init__(self, g: ex.hierarchy.Grammar) -> None:
        self.g = g

    def upward(self, likelihood: np.ndarray) -> list[np.ndarray]:
        """Messages (nodes, symbols) a depth, root first."""
        s, up = self.g.s, [likelihood]
        for table in reversed(self.g.rules):
            messages = []
            for node in range(len(up[0]) // s):
                weight = np.ones(table.shape[:2])
                for k in range(s):
                    weight *= up[0][node * s + k][table[..., k]]
                belief = weight.sum(1)
                messages.append(belief / belief.sum())
            up.insert(0, np.array(messages))
        return up

    def marginals(self, likelihood: np.ndarray) -> list[np.ndarray]:
        """Marginals (nodes, symbols) a depth, root first."""
        s, up = self.g.s, self.upward(likelihood)
        down = [np.full_like(up[0], 1 / self.g.n_classes)]
        for depth, table in enumerate(self.g.rules):
            messages = []
            for node, above in enumerate(down[depth]):
                for k in range(s):
                    weight = np.repeat(above[:, None], self.g.m, axis=1)
                    for j in range(s):
                        if j != k:
                            weight = weight * up[depth + 1][node * s + j][table[..., j]]
                    belief = np.zeros(self.g.v)
                    np.add.at(belief, table[..., k], weight)
                    messages.append(belief / belief.sum())
            down.append(np.array(messages))
        products = [u * d for u, d in zip(up, down, strict=True)]
        return [p / p.sum(-1, keepdims=True) for p in products]

    def sample(self, up: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The leaves of one draw from the posterior."""
        symbols = [rng.choice(self.g.n_classes, p=up[0][0])]
        for depth, table in enumerate(self.g.rules):
            below = []
            for node, symbol in enumerate(symbols):
                weight = np.ones(self.g.m)
                for k in range(self.g.s):
                    weight = weight * up[depth + 1][node * self.g.s + k][table[symbol, :, k]]
                cumulative = weight.cumsum()
                rule = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
                below.extend(table[symbol, rule])
            symbols = below
        return np.array(symbols)


class AllRulesAtOnce:
    """The scheme of the public BpRhm: everything of a depth in one dense tensor."""

    def __init__(self, g: ex.hierarchy.Grammar) -> None:
        self.g = g
        self.rules = [torch.from_numpy(table.reshape(-1, g.s).copy()) for table in g.rules]

    def products(self, below: torch.Tensor, depth: int) -> torch.Tensor:
        """The upward beliefs that meet in each rule: (rules, s, nodes)."""
        children = below.view(len(below), -1, self.g.s)
        return children[self.rules[depth], :, torch.arange(self.g.s)]

    def upward(self, likelihood: torch.Tensor) -> list[torch.Tensor]:
        """Messages (symbols, nodes) a depth, root first."""
        up = [likelihood]
        for depth in reversed(range(self.g.L)):
            belief = self.products(up[0], depth).prod(1)
            belief = belief.view(-1, self.g.m, belief.shape[-1]).sum(1)
            up.insert(0, belief / belief.sum(0))
        return up

    def marginals(self, likelihood: torch.Tensor) -> list[torch.Tensor]:
        """Marginals (symbols, nodes) a depth, root first."""
        up, s = self.upward(likelihood), self.g.s
        down = [torch.full_like(up[0], 1 / len(up[0]))]
        for depth, rules in enumerate(self.rules):
            of_child = self.products(up[depth + 1], depth)
            spread = torch.zeros(self.g.v, len(rules), of_child.shape[-1], s)
            for k in range(s):
                others = of_child[:, [j for j in range(s) if j != k]].prod(1)
                weight = others * down[depth].repeat_interleave(self.g.m, 0)
                spread[rules[:, k], torch.arange(len(rules)), :, k] = weight
            belief = spread.sum(1).flatten(1)
            down.append(belief / belief.sum(0))
        products = [u * d for u, d in zip(up, down, strict=True)]
        return [p / p.sum(0) for p in products]

    def sample(self, up: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        """The leaves of one draw for every string, by a multinomial over all rules of a node."""
        symbols = torch.multinomial(up[0].T, 1, generator=generator)[:, 0]
        for depth, rules in enumerate(self.rules):
            weight = self.products(up[depth + 1], depth).prod(1)
            certain = torch.nn.functional.one_hot(symbols, len(rules) // self.g.m).T.float()
            chances = weight * certain.repeat_interleave(self.g.m, 0)
            rule = torch.multinomial(chances.T, 1, generator=generator)[:, 0]
            symbols = rules[rule].flatten()
        return symbols


def measure(quick: bool = False) -> list[Row]:
    """Time the posterior and its samples of 64 strings, and a whole experiment."""
    g = ex.hierarchy.Grammar.random(*SIZE, seed=0)
    leaves = torch.from_numpy(g.sample(64, seed=1)[-1])
    likelihood = ex.hierarchy.epsilon_likelihood(leaves, g.v, EPSILON)
    rows = _posteriors(g, likelihood, quick) + _samples(g, likelihood, quick)
    return rows + _experiments(g, quick) + _on_a_gpu(quick)


def _posteriors(g: ex.hierarchy.Grammar, likelihood: torch.Tensor, quick: bool) -> list[Row]:
    loop, dense = LoopOverNodes(g), AllRulesAtOnce(g)
    flat = likelihood.permute(2, 0, 1).flatten(1).contiguous()
    repeats = 2 if quick else 5
    few = 2 if quick else 8
    ours = seconds(lambda: ex.hierarchy.posterior(g, likelihood), 3 * repeats)
    public = seconds(lambda: dense.marginals(flat), repeats)
    one = seconds(lambda: [loop.marginals(x) for x in likelihood[:few].double().numpy()], repeats)
    one = [t * 64 / few for t in one]
    found = ex.hierarchy.posterior(g, likelihood)
    wanted = dense.marginals(flat)[-1].view(g.v, 64, -1).permute(1, 2, 0)
    apart = float((found[-1] - wanted).abs().max())
    exact = loop.marginals(likelihood[0].double().numpy())[-1]
    apart = max(apart, float(np.abs(found[-1][0].numpy() - exact).max()))
    note = "64 strings of 128 leaves, (v, m, s) = (32, 8, 2)"
    return [
        median_row("marginals, whole rows", ours, note=note),
        median_row("marginals, public scheme", public, note=note),
        median_row("marginals, loop over nodes", one, note=f"{few} strings, scaled to 64"),
        _ratio("marginals, public scheme / ours", public, ours),
        _ratio("marginals, loop over nodes / ours", one, ours),
        Row("largest difference of a marginal", apart, "", "float32 against both"),
    ]


def _samples(g: ex.hierarchy.Grammar, likelihood: torch.Tensor, quick: bool) -> list[Row]:
    loop, dense = LoopOverNodes(g), AllRulesAtOnce(g)
    flat = likelihood.permute(2, 0, 1).flatten(1).contiguous()
    repeats = 2 if quick else 5
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    draws = 2 if quick else 8

    def ours() -> None:
        Beliefs.of(g, likelihood, sums=True).draw(uniforms(g, 0, range(64), 64))

    def public() -> None:
        up = dense.upward(flat)
        for _ in range(draws):
            dense.sample(up, generator)

    def nodes() -> None:
        up = loop.upward(likelihood[0].double().numpy())
        for _ in range(draws):
            loop.sample(up, rng)

    fast = seconds(ours, 3 * repeats)
    dense_times = [t * 64 / draws for t in seconds(public, repeats)]
    loop_times = [t * 64 * 64 / draws for t in seconds(nodes, repeats)]
    note = "64 strings x 64 draws, with the messages up"
    return [
        median_row("draws, whole rows", fast, note=note),
        median_row("draws, public scheme", dense_times, note=f"{draws} draws, scaled to 64"),
        median_row("draws, loop over nodes", loop_times, note=f"1 string x {draws} draws, scaled"),
        _ratio("draws, public scheme / ours", dense_times, fast),
        _ratio("draws, loop over nodes / ours", loop_times, fast),
    ]


def _experiments(g: ex.hierarchy.Grammar, quick: bool) -> list[Row]:
    rows = []
    for process, level in (
        ("epsilon", EPSILON),
        ("masking", 0.28),
        ("uniform", 0.18),
        ("gaussian", 0.13),
    ):
        work = _experiment(g, level, process)
        times = seconds(work, 2 if quick else 5)
        note = "64 strings x 64 trajectories, marginals, chunks and errors"
        rows.append(median_row(f"one level, {process}", times, "s", note))
    curve = _experiment(g, np.linspace(0.5, 1, 21), "epsilon")
    rows.append(median_row("curve of 21 levels, epsilon", seconds(curve, 1 if quick else 3), "s"))
    return rows


def _on_a_gpu(quick: bool) -> list[Row]:
    what = "one level, epsilon, 256 x 256 at L = 9, GPU"
    if not torch.cuda.is_available():
        return [Row(what, float("nan"), "", "skipped: there is no CUDA device here")]
    g = ex.hierarchy.Grammar.random(*LARGE, seed=0)

    def work() -> object:
        run = ex.hierarchy.forward_backward(g, EPSILON, 256, 256, device="cuda")
        return run.result(show_progress=False)

    return [median_row(what, seconds(work, 2 if quick else 5), "s")]


def _experiment(
    g: ex.hierarchy.Grammar, levels: float | np.ndarray, process: str
) -> Callable[[], object]:
    def work() -> object:
        run = ex.hierarchy.forward_backward(g, levels, process=process)
        return run.result(show_progress=False)

    return work


def _ratio(what: str, slow: list[float], fast: list[float]) -> Row:
    return Row(what, statistics.median(slow) / statistics.median(fast), "x")


if __name__ == "__main__":
    main(measure)
