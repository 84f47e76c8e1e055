"""How a grammar spreads probability downwards: what follows exactly, without any string."""

import numpy as np

from explorer.hierarchy.grammar import Grammar


def transitions(table: np.ndarray, v: int) -> list[np.ndarray]:
    """p(symbol of child k | symbol above), one (symbols, v) a child."""
    symbols, m, s = table.shape
    found = []
    for k in range(s):
        counts = np.zeros((symbols, v))
        np.add.at(counts, (np.arange(symbols)[:, None], table[..., k]), 1 / m)
        found.append(counts)
    return found


def probabilities(g: Grammar, depth: int) -> list[np.ndarray]:
    """p(symbol) of every node at a depth, left to right: arrays (symbols)."""
    found = [np.full(g.n_classes, 1 / g.n_classes)]
    for table in g.tables[:depth]:
        down = transitions(table, g.v)
        found = [above @ t for above in found for t in down]
    return found


def leaf_joint(g: Grammar, i: int, j: int) -> np.ndarray:
    """p(leaf i, leaf j), (v, v), for two different leaves.

    Their common ancestor's symbol picks a rule; the two children on the way are then independent
    of each other, and each leaf follows from its own child alone.
    """
    s, height = g.s, 1
    while i // s**height != j // s**height:
        height += 1
    depth = g.L - height
    above = probabilities(g, depth)[i // s**height]
    table = g.tables[depth]
    a, b = (_down(g, depth + 1, leaf % s ** (height - 1)) for leaf in (i, j))
    first, second = (leaf // s ** (height - 1) % s for leaf in (i, j))
    chosen = np.zeros((g.v, g.v))
    weight = np.repeat(above / g.m, g.m)
    np.add.at(chosen, (table[..., first].ravel(), table[..., second].ravel()), weight)
    return a.T @ chosen @ b


def _down(g: Grammar, depth: int, leaf: int) -> np.ndarray:
    """p(leaf | symbol of the node at a depth above it), (symbols, v); leaf counted below it."""
    found = np.eye(g.n_symbols(depth))
    for level in range(depth, g.L):
        below = g.s ** (g.L - level - 1)
        found = found @ transitions(g.tables[level], g.v)[leaf // below]
        leaf %= below
    return found
