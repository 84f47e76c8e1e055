"""Grammar: the rules of a Random Hierarchy Model, its strings and their parse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from explorer.compute.device import memory_facts, pick_device
from explorer.errors import GrammarError

# Numbers a symbol of one leaf takes while a posterior is computed: the messages up and down, the
# marginals, and the rule weights, over all depths (a geometric series, at most twice the leaves').
_NUMBERS_A_SYMBOL = 16


@dataclass(frozen=True, eq=False, repr=False)
class Grammar:
    """A tree grammar in which every symbol has m rules, and every tuple at most one parent.

        g = ex.hierarchy.Grammar.random(v=32, m=8, s=2, L=7, seed=0)
        leaves = g.sample(10, seed=1)[-1]
        g.parse(leaves)[0]                  # the classes of the ten strings

    The Random Hierarchy Model of Cagnetta et al. 2023 (arXiv 2307.02129): depth 0 is the class,
    depth L the string of s^L leaves; a node picks one of its symbol's m rules, each an s-tuple of
    symbols one depth below. The tuples of one depth are distinct, so that a string has one parse.

    ``v`` symbols a depth (classes at depth 0 may be fewer or more), ``tables`` the rules, root
    first, each an int64 array (symbols, m, s). Raises GrammarError for tables that are no such
    grammar, or whose strings are too long for the memory of this machine.
    """

    v: int
    tables: tuple[np.ndarray, ...]
    seed: int | None = None

    def __post_init__(self) -> None:
        tables = tuple(_read_only(table) for table in self.tables)
        object.__setattr__(self, "tables", tables)
        _check_tables(self.v, tables)
        check_sizes(self.v, self.m, self.s, self.L, self.n_classes)
        check_fits(self.v, self.s, self.L)

    @classmethod
    def random(
        cls, v: int, m: int, s: int, L: int, seed: int = 0, n_classes: int | None = None
    ) -> "Grammar":
        """Draw each depth's tuples uniformly among the v^s, without replacement.

        ``v`` symbols, ``m`` rules a symbol, ``s`` children a node, ``L`` levels, ``n_classes``
        symbols at the root (None for v). Raises GrammarError when no such grammar exists:
        distinct tuples need m v <= v^s.
        """
        classes = v if n_classes is None else n_classes
        check_sizes(v, m, s, L, classes)
        check_fits(v, s, L)
        rng = np.random.default_rng(check_seed(seed))
        tables = []
        for depth in range(L):
            symbols = classes if depth == 0 else v
            codes = rng.choice(v**s, size=symbols * m, replace=False)
            tuples = np.stack(np.unravel_index(codes, (v,) * s), axis=-1)
            tables.append(tuples.reshape(symbols, m, s))
        return cls(v, tuple(tables), int(seed))

    @property
    def rules(self) -> list[np.ndarray]:
        """One read-only int64 array (symbols, m, s) a depth, root first."""
        return list(self.tables)

    @property
    def m(self) -> int:
        """Rules (synonyms) a symbol."""
        return self.tables[0].shape[1]

    @property
    def s(self) -> int:
        """Children a node."""
        return self.tables[0].shape[2]

    @property
    def L(self) -> int:
        """Levels of rules; a string has s^L leaves."""
        return len(self.tables)

    @property
    def n_classes(self) -> int:
        """Symbols of the root."""
        return len(self.tables[0])

    @property
    def n_leaves(self) -> int:
        """Length of a string, s^L."""
        return self.s**self.L

    @property
    def n_strings(self) -> int:
        """How many strings the grammar has: n_c m^((s^L - 1) / (s - 1)), all equally likely."""
        return self.n_classes * self.m ** ((self.n_leaves - 1) // (self.s - 1))

    def n_symbols(self, depth: int) -> int:
        """Symbols of a node at a depth: the classes at depth 0, ``v`` below."""
        return self.n_classes if depth == 0 else self.v

    def sample(self, n: int, seed: int = 0) -> list[np.ndarray]:
        """``n`` strings with their latent symbols: int64 arrays (n, s^depth), root first.

        Classes are uniform, and every node picks one of its m rules uniformly. The first strings
        are the same however many are drawn.
        """
        n, seed = check_whole("n", n, 1), check_seed(seed)
        inner = (self.n_leaves - 1) // (self.s - 1)
        chosen = np.random.default_rng([seed, 1]).integers(self.m, size=(n, inner))
        levels = [np.random.default_rng([seed, 0]).integers(self.n_classes, size=(n, 1))]
        start = 0
        for table in self.tables:
            above = levels[-1]
            rules = chosen[:, start : start + above.shape[1]]
            start += above.shape[1]
            levels.append(table[above, rules].reshape(n, -1))
        return levels

    def parse(self, leaves: ArrayLike) -> list[np.ndarray]:
        """The latent symbols of strings, exactly: int64 arrays (n, s^depth), root first.

        ``leaves`` are symbols (n, s^L) or one string (s^L,). A node whose tuple is no rule, or
        that stands above such a node, is -1, so that the legal share at a depth is
        ``(levels[depth] >= 0).mean()`` (Favero et al. 2025, arXiv 2502.12089).
        """
        levels = [self._checked_leaves(leaves)]
        for table in reversed(self.tables):
            below = levels[-1]
            levels.append(self._parents(table, below.reshape(len(below), -1, self.s)))
        return levels[::-1]

    def _parents(self, table: np.ndarray, tuples: np.ndarray) -> np.ndarray:
        place = self.v ** np.arange(self.s)[::-1]
        codes = table.reshape(-1, self.s) @ place
        order = np.argsort(codes)
        found = np.where((tuples < 0).any(-1), -1, tuples @ place)
        at = np.minimum(np.searchsorted(codes, found, sorter=order), len(codes) - 1)
        rule = order[at]
        return np.where(codes[rule] == found, rule // self.m, -1)

    def _checked_leaves(self, leaves: ArrayLike) -> np.ndarray:
        symbols = np.asarray(leaves)
        if symbols.ndim == 1:
            symbols = symbols[None]
        if symbols.ndim != 2 or symbols.shape[1] != self.n_leaves or symbols.dtype.kind not in "iu":
            raise GrammarError(
                f"Strings of this grammar are whole numbers of shape (n, {self.n_leaves}), "
                f"not {symbols.dtype} of shape {symbols.shape}."
            )
        if symbols.size and (symbols.min() < 0 or symbols.max() >= self.v):
            raise GrammarError(f"The symbols of a string are 0 to {self.v - 1}.")
        return symbols.astype(np.int64)

    def __repr__(self) -> str:
        classes = "" if self.n_classes == self.v else f", n_classes={self.n_classes}"
        seed = "" if self.seed is None else f", seed={self.seed}"
        return f"Grammar(v={self.v}, m={self.m}, s={self.s}, L={self.L}{classes}{seed})"


def check_whole(name: str, value: object, least: int) -> int:
    """``value`` as an int; GrammarError unless it is a whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise GrammarError(f"{name} must be a whole number of {least} or more, not {value!r}.")
    return int(value)


def check_seed(seed: object) -> int:
    """``seed`` as an int; GrammarError unless it is a whole number of 0 or more."""
    return check_whole("The seed", seed, 0)


def check_sizes(v: int, m: int, s: int, L: int, n_classes: int | None = None) -> None:
    """Raise GrammarError unless a grammar of these sizes exists."""
    for name, value, least in (("v", v, 2), ("m", m, 1), ("s", s, 2), ("L", L, 1)):
        check_whole(name, value, least)
    symbols = max(v, check_whole("n_classes", v if n_classes is None else n_classes, 1))
    if symbols * m > v**s:
        raise GrammarError(
            f"{symbols} symbols with m = {m} rules each need {symbols * m} distinct tuples, but "
            f"there are only v^s = {v**s}: choose a smaller m, or a larger v or s."
        )


def check_fits(v: int, s: int, L: int) -> None:
    """Raise GrammarError unless the messages of one string of s^L leaves fit into memory."""
    if v**s > 2**62:
        raise GrammarError(f"v^s = {v}^{s} tuples are too many to number; choose a smaller s.")
    # In logarithms, since s^L itself may be too long a number to write.
    log_bytes = math.log(4 * _NUMBERS_A_SYMBOL * v) + L * math.log(s)
    available = memory_facts(pick_device("cpu"))["available"]
    if log_bytes > math.log(available * 1e9):
        raise GrammarError(
            f"A string of s^L = {s}^{L} leaves with {v} symbols would take about "
            f"10^{(log_bytes / math.log(10)) - 9:.1f} GB of memory, and {available:.3g} GB are "
            f"free: choose a smaller L."
        )


def _read_only(table: ArrayLike) -> np.ndarray:
    array = np.array(table)
    if array.dtype.kind not in "iu" or array.ndim != 3:
        raise GrammarError(
            f"Rules are whole numbers of shape (symbols, m, s), not {array.dtype} of shape "
            f"{array.shape}."
        )
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def _check_tables(v: int, tables: Sequence[np.ndarray]) -> None:
    check_whole("v", v, 2)
    if not tables:
        raise GrammarError("A grammar has at least one level of rules (L = 1).")
    _, m, s = tables[0].shape
    for depth, table in enumerate(tables):
        if table.shape[1:] != (m, s) or (depth and len(table) != v) or not table.size:
            raise GrammarError(
                f"The rules at depth {depth} have shape {table.shape}; a grammar of {v} symbols "
                f"whose root has {m} rules of {s} symbols needs ({v}, {m}, {s}) below the root."
            )
        if table.min() < 0 or table.max() >= v:
            raise GrammarError(f"The rules at depth {depth} hold symbols beyond 0 to {v - 1}.")
        tuples = table.reshape(-1, s)
        repeated = len(tuples) - len(np.unique(tuples, axis=0))
        if repeated:
            raise GrammarError(
                f"The rules at depth {depth} are ambiguous: {repeated} of {len(tuples)} tuples "
                "occur more than once, so that a string would have several parses."
            )
