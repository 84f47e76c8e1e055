"""Tuples cluster by their parent, once there are examples enough (Cagnetta et al. 2023)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from explorer.compute.run import Run
from explorer.hierarchy.grammar import Grammar, check_sizes
from explorer.hierarchy.learning.grouping import agreement, k_means
from explorer.hierarchy.learning.sweep import (
    Sweep,
    check_examples,
    check_sweep,
    named,
    over_seeds,
    sampled,
    spread_out,
    with_errors,
)
from explorer.hierarchy.learning.transitions import transitions

if TYPE_CHECKING:
    import xarray as xr


def tuples_cluster(
    v: int = 8,
    m: int = 8,
    s: int = 2,
    L: int = 2,
    examples: ArrayLike | None = None,
    *,
    n_classes: int | None = None,
    seeds: int = 4,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """Distances between the class statistics of s-tuples, against the number of examples P.

        run = ex.hierarchy.learning.tuples_cluster(8, 8, 2, 2)
        run.result().separation.plot(x="scaled", xscale="log", yscale="log")

    A bottom tuple's statistics are how often it comes with each class, less its mean over
    classes, one vector an occurring tuple and place in the string. ``separation`` is the mean
    squared distance of two tuples of different parents over that of two tuples of one parent,
    which are equal but for the noise of P examples; ``recovered`` how well k-means of one place's
    vectors finds the parents (adjusted Rand index). Law: separation = 1 + P / P*, P* = n_c m^L
    (arXiv 2307.02129, signal against noise of tuple-class correlations; averaged over grammars).
    ``exact`` is what the grammars drawn here give on average over their examples.

    ``examples`` numbers of training strings (None: 1/8 to 32 times P*). One grammar a seed.
    Over examples: the three, each with a standard error over seeds; coordinate ``scaled`` is
    P / P*. Raises GrammarError.
    """
    classes = v if n_classes is None else n_classes
    check_sizes(v, m, s, L, classes)
    law = float(classes * m**L)
    wanted = spread_out(law, 1 / 8, 32, 9) if examples is None else examples
    work = _Work(v, m, s, L, tuple(check_examples(wanted, s, L)), classes)
    return over_seeds("tuples_cluster", *check_sweep(seeds, seed), work.measure, work.dataset)


@dataclass(frozen=True)
class _Work(Sweep):
    n_classes: int

    @property
    def sizes(self) -> dict[str, int]:
        return {**super().sizes, "n_classes": self.n_classes}

    def measure(self, seed: int, checkpoint: Callable[[float], None]) -> dict[str, np.ndarray]:
        g = Grammar.random(self.v, self.m, self.s, self.L, seed, self.n_classes)
        parents = np.repeat(np.arange(g.v if g.L > 1 else g.n_classes), g.m)
        counts = np.zeros((g.s ** (g.L - 1), len(parents), g.n_classes))
        exact = exact_separation(g)
        found: dict[str, list[float]] = {"separation": [], "recovered": [], "exact": []}
        for drawn, trees in sampled(g, self.examples, seed):
            checkpoint(drawn / self.examples[-1])
            counts += tuple_class_counts(g, trees)
            if drawn in self.examples:
                vectors = counts - counts.mean(-1, keepdims=True)
                found["separation"].append(separation(vectors, parents))
                groups = k_means(vectors[0] / drawn, parents.max() + 1, seed)
                found["recovered"].append(agreement(groups, parents))
                found["exact"].append(exact(drawn))
        return {name: np.array(values) for name, values in found.items()}

    def dataset(self, values: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> "xr.Dataset":
        import xarray as xr

        P, over = self.P[1], ("examples",)
        law = self.n_classes * self.m**self.L
        names = {
            "separation": (over, "squared distance, different parents / one parent", "1"),
            "recovered": (over, "adjusted Rand index of k-means", "1"),
            "exact": (over, "separation expected of these grammars", "1"),
        }
        variables = with_errors(names, values)
        variables["law"] = ("examples", 1 + P / law, named("1 + P / (n_c m^L)"))
        coordinates = {
            "examples": self.P,
            "scaled": ("examples", P / law, named("P / (n_c m^L)")),
        }
        facts = {**attrs, **self.sizes, "examples_law": float(law)}
        return xr.Dataset(variables, coordinates, facts)


def tuple_class_counts(g: Grammar, trees: list[np.ndarray]) -> np.ndarray:
    """How often each bottom tuple comes with each class: (places, tuples, classes).

    Tuples are numbered parent by parent, as the rules of the lowest table.
    """
    parents, leaves = trees[-2], trees[-1].reshape(len(trees[-1]), -1, g.s)
    rule = (g.tables[-1][parents] == leaves[:, :, None]).all(-1).argmax(-1)
    tuples = parents * g.m + rule
    shape = (parents.shape[1], len(g.tables[-1]) * g.m, g.n_classes)
    place = np.arange(shape[0])
    code = (place * shape[1] + tuples) * shape[2] + trees[0]
    return np.bincount(code.ravel(), minlength=int(np.prod(shape))).reshape(shape)


def separation(vectors: np.ndarray, parents: np.ndarray) -> float:
    """Mean squared distance between groups over that within; (places, tuples, dimensions)."""
    lengths = (vectors**2).sum(-1)
    products = np.einsum("pid,pjd->pij", vectors, vectors)
    distance = (lengths[:, :, None] + lengths[:, None] - 2 * products).mean(0)
    same = parents[:, None] == parents
    other = ~np.eye(len(parents), dtype=bool)
    within = distance[same & other].mean()
    return float(distance[~same].mean() / within) if within > 0 else np.nan


def exact_separation(g: Grammar) -> Callable[[int], float]:
    """The ratio of expected distances, for P independent strings of one grammar.

    Counts are multinomial with cells p(tuple, class). With A the projection off the mean over
    classes, E |A (n_i - n_j)|^2 = P (P - 1) |A (p_i - p_j)|^2 + P (1 - 1 / n_c)(p_i + p_j).
    """
    joint = _parent_class_probabilities(g)
    centred = joint - joint.mean(-1, keepdims=True)
    alone = joint.sum(-1) / g.m
    gram = np.einsum("pad,pbd->ab", centred, centred) / g.m**2 / len(joint)
    lengths = np.diag(gram)
    apart = lengths[:, None] + lengths - 2 * gram
    noise = (1 - 1 / g.n_classes) * alone.mean(0)
    different = ~np.eye(len(gram), dtype=bool)
    signal = apart[different].mean()
    within, between = 2 * noise.mean(), (noise[:, None] + noise)[different].mean()
    return lambda P: float(((P - 1) * signal + between) / within)


def _parent_class_probabilities(g: Grammar) -> np.ndarray:
    """p(symbol above the bottom tuple, class): (places, symbols, classes)."""
    found = [np.eye(g.n_classes) / g.n_classes]
    for table in g.tables[:-1]:
        down = transitions(table, g.v)
        found = [t.T @ above for above in found for t in down]
    return np.stack(found)
