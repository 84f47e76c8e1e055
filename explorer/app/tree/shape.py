"""Where the nodes of a tree are drawn, and which leaves moved together. Pure functions of arrays.

Nodes are in one line, root first, as in the Datasets of `explorer.hierarchy`: depth d begins at
(s^d - 1) / (s - 1), and its nodes go from left to right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNCHANGED = 255
"""In `chunk_depths`: the node kept its symbol."""


@dataclass(frozen=True)
class Band:
    """A chunk: the leaves that changed together with the topmost changed node above them.

    The node is at `depth` and `position` (from the left); `first` to `stop` are all leaves below
    it, `moved` says which of those changed as a part of the chunk.
    """

    depth: int
    position: int
    first: int
    stop: int
    moved: tuple[int, ...]


def starts(s: int, L: int) -> list[int]:
    """Where each depth begins in the line of nodes, and the number of nodes last."""
    return [(s**depth - 1) // (s - 1) for depth in range(L + 2)]


def positions(s: int, L: int) -> tuple[np.ndarray, np.ndarray]:
    """x (0 left, 1 right) and y (0 root, 1 leaves) of every node: over the middle of its leaves."""
    x = [(np.arange(s**depth) + 0.5) / s**depth for depth in range(L + 1)]
    y = [np.full(s**depth, depth / L) for depth in range(L + 1)]
    return np.concatenate(x), np.concatenate(y)


def chunk_depths(changed: np.ndarray, s: int, L: int) -> np.ndarray:
    """Depth at which the chunk of each changed node begins, `UNCHANGED` elsewhere.

    ``changed`` bool (..., nodes) -> uint8 (..., nodes). A chunk goes down an unbroken line of
    changed nodes: a changed node below an unchanged one begins a chunk of its own.
    """
    begins = np.full(changed.shape, UNCHANGED, np.uint8)
    at = starts(s, L)
    for depth in range(L + 1):
        here = slice(at[depth], at[depth + 1])
        above = np.full(changed[..., here].shape, UNCHANGED, np.uint8)
        if depth:
            above = begins[..., at[depth - 1] : at[depth]].repeat(s, axis=-1)
        own = np.where(above == UNCHANGED, depth, above)
        begins[..., here] = np.where(changed[..., here], own, UNCHANGED)
    return begins


def bands(begins: np.ndarray, s: int, L: int) -> list[Band]:
    """The chunks of one tree, from `chunk_depths` (nodes,): topmost first, then left to right.

    A chunk in which no leaf changed (its node changed, and every branch below turned back) moved
    nothing and is left out.
    """
    found = []
    at = starts(s, L)
    leaves = begins[at[L] :]
    for depth in range(L + 1):
        width = s ** (L - depth)
        for position in np.flatnonzero(begins[at[depth] : at[depth + 1]] == depth):
            first = int(position) * width
            moved = first + np.flatnonzero(leaves[first : first + width] == depth)
            if len(moved):
                whole = (int(leaf) for leaf in moved)
                found.append(Band(depth, int(position), first, first + width, tuple(whole)))
    return found


def sentence(found: list[Band], leaves: int) -> str:
    """What moved, in words: "37 of 128 leaves changed, in 6 chunks; the largest has 20"."""
    sizes = sorted((len(band.moved) for band in found), reverse=True)
    if not sizes:
        return f"none of {leaves} leaves changed"
    chunks = "1 chunk" if len(sizes) == 1 else f"{len(sizes)} chunks; the largest has {sizes[0]}"
    return f"{sum(sizes)} of {leaves} leaves changed, in {chunks}"
