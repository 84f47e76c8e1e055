"""Sums and products of beliefs, in two arithmetics: plain numbers, and their logarithms.

Plain numbers are faster; logarithms hold what plain numbers underflow to zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

Rows = Tensor | Sequence[Tensor]
"""Row numbers, term by term."""


class Arithmetic(ABC):
    """How beliefs are multiplied, summed and kept in range. Beliefs are (symbols, columns)."""

    zero: float
    one: float

    @abstractmethod
    def of(self, likelihood: Tensor) -> Tensor:
        """Plain likelihoods in this arithmetic."""

    @abstractmethod
    def sum_of_products(self, factors: Sequence[Tensor], picks: Sequence[Rows]) -> Tensor:
        """Sum over p of the product over f of ``factors[f][picks[f][p]]``: (symbols, columns).

        ``picks[f][p]`` are int64 row numbers of as many of the first symbols as have p terms.
        """

    @abstractmethod
    def partial_sums(
        self, factors: Sequence[Tensor], picks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The same sum, and what it was after 1, 2, ... terms: (p, symbols, columns).

        Here every symbol has as many terms: ``picks[f]`` (p, symbols).
        The partial sums are plain numbers of any scale, all that drawing one of the terms needs.
        """

    @abstractmethod
    def rescaled(self, beliefs: Tensor) -> tuple[Tensor, Tensor]:
        """Beliefs with largest symbol 1, and the factor taken out, (columns)."""

    @abstractmethod
    def log(self, factor: Tensor) -> Tensor:
        """Logarithm of a factor taken out by ``rescaled``."""

    @abstractmethod
    def normalised(self, beliefs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The product of beliefs as plain probabilities, and its log total (columns).

        Where every symbol is impossible the probabilities are 0 and the log total -inf.
        """


class Plain(Arithmetic):
    """Beliefs as numbers, the largest of each node 1."""

    zero, one = 0.0, 1.0

    def of(self, likelihood: Tensor) -> Tensor:
        return likelihood

    def sum_of_products(self, factors: Sequence[Tensor], picks: Sequence[Rows]) -> Tensor:
        first, *more, last = factors
        total = first.new_zeros(len(picks[0][0]), first.shape[1])
        # A loop over terms keeps each of them in the processor's cache: three to seven times
        # faster than one gather of all terms, on one core with 64 to 256 strings.
        for p in range(len(picks[0])):
            product = first.index_select(0, picks[0][p])
            for factor, pick in zip(more, picks[1:-1], strict=True):
                product.mul_(factor.index_select(0, pick[p]))
            total[: len(product)].addcmul_(product, last.index_select(0, picks[-1][p]))
        return total

    def partial_sums(
        self, factors: Sequence[Tensor], picks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        first, *more = factors
        sums = first.new_empty(*picks[0].shape, first.shape[1])
        for p in range(len(picks[0])):
            product = first.index_select(0, picks[0][p])
            for factor, pick in zip(more, picks[1:], strict=True):
                product.mul_(factor.index_select(0, pick[p]))
            if p:
                torch.add(sums[p - 1], product, out=sums[p])
            else:
                sums[p] = product
        return sums[-1], sums

    def rescaled(self, beliefs: Tensor) -> tuple[Tensor, Tensor]:
        largest = beliefs.amax(0)
        return beliefs / torch.where(largest > 0, largest, 1.0), largest

    def log(self, factor: Tensor) -> Tensor:
        return factor.log()

    def normalised(self, beliefs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        product = beliefs[0]
        for belief in beliefs[1:]:
            product = product * belief
        total = product.sum(0)
        return product / torch.where(total > 0, total, 1.0), total.log()


class Logarithmic(Arithmetic):
    """Beliefs as logarithms, the largest of each node 0: nothing underflows."""

    zero, one = -torch.inf, 0.0

    def of(self, likelihood: Tensor) -> Tensor:
        return likelihood.log()

    def sum_of_products(self, factors: Sequence[Tensor], picks: Sequence[Rows]) -> Tensor:
        total = factors[0].new_full((len(picks[0][0]), factors[0].shape[1]), self.zero)
        for rows in zip(*picks, strict=True):
            chosen = [factor[row] for factor, row in zip(factors, rows, strict=True)]
            n = len(rows[0])
            total[:n] = torch.logaddexp(total[:n], torch.stack(chosen).sum(0))
        return total

    def partial_sums(
        self, factors: Sequence[Tensor], picks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        pairs = zip(factors, picks, strict=True)
        terms = torch.stack([factor[pick] for factor, pick in pairs]).sum(0)
        return terms.logsumexp(0), (terms - _finite(terms.amax(0))).exp().cumsum(0)

    def rescaled(self, beliefs: Tensor) -> tuple[Tensor, Tensor]:
        largest = beliefs.amax(0)
        return beliefs - _finite(largest), largest

    def log(self, factor: Tensor) -> Tensor:
        return factor

    def normalised(self, beliefs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        product = torch.stack(tuple(beliefs)).sum(0)
        total = product.logsumexp(0)
        return (product - _finite(total)).exp(), total


def _finite(log: Tensor) -> Tensor:
    """0 in place of -inf, since -inf - -inf is no number: what is impossible stays impossible."""
    return torch.where(log.isfinite(), log, 0.0)


PLAIN = Plain()
LOGARITHMIC = Logarithmic()
