"""Predicting latents against predicting tokens: how many examples until the tree is found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from explorer.compute.run import Run
from explorer.errors import GrammarError
from explorer.hierarchy.grammar import Grammar, check_sizes
from explorer.hierarchy.learning.grouping import agreement, k_means
from explorer.hierarchy.learning.staircase import first_above
from explorer.hierarchy.learning.sweep import (
    Sweep,
    check_examples,
    check_sweep,
    named,
    over_seeds,
    spread_out,
    with_errors,
)

if TYPE_CHECKING:
    import xarray as xr

TARGETS = ("latent", "token")
RECOVERED = 0.8
"""Adjusted Rand index from which a level counts as found."""


def latent_or_token(
    v: int = 8,
    m: int = 3,
    s: int = 2,
    L: int = 5,
    examples: ArrayLike | None = None,
    *,
    seeds: int = 3,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """Find the levels of the tree by clustering, with latents or with tokens as targets.

        run = ex.hierarchy.learning.latent_or_token(8, 3, 2, 5)
        run.result().levels_found.plot(hue="target", xscale="log")

    From the leaves upwards: tuples are clustered by what is seen in the block beside them, since
    tuples of one parent are exchangeable; the clusters are the tuples' parents, renamed. With the
    target "latent" that is the first symbol of the neighbouring tuple, as found one level below;
    with "token" it is the first leaf below the neighbour, and the tuples are even made of the
    true symbols. No network: counts and k-means, one vector a tuple, of all places at once.

    Law (arXiv 2605.27734): tuples of ``height`` h, in examples of one place, need v m^3 with
    latents whatever their height, and v m^(h+2) with tokens, so that the whole tree (h = L - 1;
    the class above has no neighbour) takes v m^3 and v m^(L+1). As all places have the same
    rules, height h has s^(L-1-h) examples a string: ``needed_law`` is divided by that.

    ``examples`` numbers of strings (None: v m^3 / 8 to 16 v m^(L+1), at most 2^17). One grammar a
    seed. Over (target, height, examples): recovered (adjusted Rand index of the tuples that
    occur), with a standard error over seeds, and coordinate scaled (P / needed_law). Over (target,
    examples): levels_found, those below and including it all above 0.8. Over (target, height):
    needed, the P at which recovered first reaches 0.8 (nan if never), and needed_law. Raises
    GrammarError.
    """
    check_sizes(v, m, s, L)
    if L < 2:
        raise GrammarError("With L = 1 there is only the class, which has no neighbour: L >= 2.")
    law = v * m**3
    most = min(16 * v * m ** (L + 1), 2**17)
    grid = spread_out(law, 1 / 8, max(most / law, 1), 9)
    wanted = check_examples(grid if examples is None else examples, s, L)
    work = _Work(v, m, s, L, tuple(wanted))
    return over_seeds("latent_or_token", *check_sweep(seeds, seed), work.measure, work.dataset)


def needed_law(v: int, m: int, s: int, L: int) -> np.ndarray:
    """Strings needed for each target and height, (2, L - 1); see ``latent_or_token``."""
    height = np.arange(1, L)
    places = float(s) ** (L - 1 - height)
    return np.stack([np.full(L - 1, v * m**3) / places, v * float(m) ** (height + 2) / places])


@dataclass(frozen=True)
class _Work(Sweep):
    def measure(self, seed: int, checkpoint: Callable[[float], None]) -> dict[str, np.ndarray]:
        g = self.grammar(seed)
        trees = g.sample(self.examples[-1], seed)
        recovered = np.zeros((len(TARGETS), self.L - 1, len(self.examples)))
        for at, P in enumerate(self.examples):
            first = [tree[:P] for tree in trees]
            for target, name in enumerate(TARGETS):
                checkpoint((at + target / 2) / len(self.examples))
                recovered[target, :, at] = recovered_levels(g, first, name, seed)
        found = np.cumprod(recovered >= RECOVERED, axis=1).sum(1)
        needed = [
            [first_above(self.examples, line, RECOVERED) for line in lines] for lines in recovered
        ]
        return {"recovered": recovered, "levels_found": found, "needed": np.array(needed)}

    def dataset(self, values: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> "xr.Dataset":
        import xarray as xr

        law = needed_law(self.v, self.m, self.s, self.L)
        every, level = ("target", "height", "examples"), ("target", "height")
        names = {
            "recovered": (every, "adjusted Rand index of a level's symbols", "1"),
            "levels_found": (
                ("target", "examples"),
                "levels found from the leaves upwards",
                "1",
            ),
            "needed": (level, "P at which recovered first reaches 0.8", "1"),
        }
        variables = with_errors(names, values)
        variables["needed_law"] = (level, law, named("P by the law"))
        coordinates = {
            "target": ("target", [*TARGETS]),
            "height": ("height", np.arange(1, self.L), named("levels above the leaves")),
            "examples": self.P,
            "scaled": (every, self.P[1] / law[..., None], named("P / needed_law")),
        }
        return xr.Dataset(variables, coordinates, {**attrs, **self.sizes})


def recovered_levels(g: Grammar, trees: list[np.ndarray], target: str, seed: int) -> np.ndarray:
    """Adjusted Rand index of the parents found at heights 1 ... L - 1, (L - 1).

    Over the tuples of true symbols that occur, each with the parent most often found for it:
    over nodes, the index would be high with few strings, where hardly any two tuples are alike.

    ``trees`` are strings with their latents, root first; latents make the tuples of the target
    "token" and are compared with in the end.
    """
    found = trees[-1]
    scores = []
    for height in range(1, g.L):
        below = found if target == "latent" else trees[g.L - height + 1]
        seen = below if target == "latent" else trees[-1]
        found = parents_found(below, seen, g.v, g.s, seed)
        scores.append(_agreement_of_tuples(g, trees, height, found))
    return np.array(scores)


def _agreement_of_tuples(
    g: Grammar, trees: list[np.ndarray], height: int, found: np.ndarray
) -> float:
    above, below = trees[g.L - height], trees[g.L - height + 1].reshape(*found.shape, g.s)
    codes = (below * g.v ** np.arange(g.s)).sum(-1).ravel()
    _, first, tuples = np.unique(codes, return_index=True, return_inverse=True)
    votes = np.bincount(tuples * g.v + found.ravel(), minlength=len(first) * g.v)
    return agreement(votes.reshape(-1, g.v).argmax(1), above.ravel()[first])


def parents_found(below: np.ndarray, seen: np.ndarray, v: int, s: int, seed: int) -> np.ndarray:
    """Cluster the tuples of one level: a number below v for every node above them, (n, nodes).

    ``below`` (n, s nodes) are the symbols that make the tuples, ``seen`` (n, any) those to be
    predicted: of each neighbour the first one below it. A tuple's vector is, for each of its
    places among its siblings, how often it comes with each symbol of the next sibling, less what
    is expected were they independent.
    """
    n = len(below)
    codes = (below.reshape(n, -1, s) * v ** np.arange(s)[::-1]).sum(-1)
    kinds, tuples = np.unique(codes, return_inverse=True)
    tuples = tuples.reshape(n, -1, s)  # strings, families, siblings
    first = seen.reshape(n, tuples.shape[1], s, -1)[..., 0]
    vectors = []
    for place in range(s):
        neighbour = first[..., (place + 1) % s]
        code = tuples[..., place] * v + neighbour
        counts = np.bincount(code.ravel(), minlength=len(kinds) * v).reshape(-1, v).astype(float)
        expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
        vectors.append((counts - expected) / counts.sum())
    groups = k_means(np.concatenate(vectors, axis=1), v, seed)
    return groups[tuples].reshape(n, -1)
