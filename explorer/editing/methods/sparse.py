"""Methods that keep a part of every task vector: TIES, DARE, Model Breadcrumbs."""

import math
from hashlib import blake2b
from typing import Annotated, Literal

import torch
from torch import Tensor

from explorer.editing.interrupting import step
from explorer.editing.methods import Option, merging_method
from explorer.editing.methods.pieces import (
    Coefficients,
    Piece,
    Vectors,
    by_entry,
    column,
    pieces,
    rows_of,
    working_dtype,
)
from explorer.editing.task_vector import TaskVector

_DIGIT = 16  # bits of a magnitude that one pass of the selection looks at


@merging_method(
    reference="Yadav et al. 2023, TIES-Merging: Resolving Interference When Merging Models"
)
def ties(
    vectors: Vectors,
    coefficients: Coefficients,
    density: Annotated[
        float, Option("share of the image tower's parameters kept a task", 0, 1, 0.01)
    ] = 0.2,
    merge: Literal["mean", "sum"] = "mean",
) -> TaskVector:
    """Trim small entries, elect a sign for each parameter, merge the entries that agree with it.

    Trim: of each whole vector the int(density P) entries of largest magnitude stay, P the number
    of its entries; entries as large as the last of them stay too. Elect: sign(sum_t c_t tau_t) of
    what stayed; where that is 0, the sign that most parameters have, + when there are as many of
    both. Merge: the mean (the paper) or the sum of the entries of the elected sign; 0 where there
    is none. The authors' ``ties_minimal.ipynb``, whose trimming keeps one entry more.
    """
    cut = [_threshold(vector, density) for vector in vectors.values()]

    def trimmed(rows: Tensor) -> Tensor:
        limit = torch.tensor(cut, dtype=rows.dtype, device=rows.device)[:, None]
        return (column(coefficients, rows) * rows).masked_fill_(rows.abs() < limit, 0.0)

    first = next(iter(vectors.values()))
    elected = {
        key: torch.empty(tensor.numel(), dtype=torch.int8, device=tensor.device)
        for key, tensor in first.items()
    }
    balance = 0
    for piece in pieces(first):
        sign = trimmed(rows_of(vectors, piece)).sum(0).sign().to(torch.int8)
        elected[piece.key][piece.start : piece.stop] = sign
        balance += int(sign.sum(dtype=torch.int64))
    majority = -1 if balance < 0 else 1

    def agreeing(rows: Tensor, piece: Piece) -> Tensor:
        sign = elected[piece.key][piece.start : piece.stop]
        sign = sign.where(sign != 0, majority)
        rows = trimmed(rows)
        agrees = rows.sign() == sign
        total = rows.masked_fill_(~agrees, 0.0).sum(0)
        return total if merge == "sum" else total / agrees.sum(0).clamp_(min=1)

    return by_entry(vectors, agreeing)


@merging_method(reference="Yu et al. 2024, Language Models are Super Mario (DARE)")
def dare(
    vectors: Vectors,
    coefficients: Coefficients,
    drop_rate: Annotated[float, Option("share of the entries dropped a task", 0, 0.99, 0.01)] = 0.5,
    seed: Annotated[int, Option("which entries are dropped", 0, 2**31 - 1, 1)] = 0,
) -> TaskVector:
    """Drop entries at random and rescale the others, then sum: sum_t c_t m_t tau_t / (1-p).

    Every entry of m_t is 0 with probability p = drop_rate and 1 otherwise, so that the expected
    vector stays. What a task loses depends on the seed and its name, not on the other tasks; the
    numbers are drawn on the CPU, so that they are the same on every device.
    """
    generators = [_generator(seed, task) for task in vectors]

    def kept(rows: Tensor, piece: Piece) -> Tensor:
        n = piece.stop - piece.start
        mask = torch.stack([torch.rand(n, generator=g) >= drop_rate for g in generators])
        rows = rows * (column(coefficients, rows) / (1 - drop_rate))
        return (rows * mask.to(rows.device)).sum(0)

    return by_entry(vectors, kept)


@merging_method(reference="Davari and Belilovsky 2024, Model Breadcrumbs")
def breadcrumbs(
    vectors: Vectors,
    coefficients: Coefficients,
    density: Annotated[float, Option("share of each row kept (beta)", 0, 1, 0.01)] = 0.2,
    outliers: Annotated[float, Option("share of each row dropped as too large", 0, 1, 0.01)] = 0.1,
) -> TaskVector:
    """Drop the largest and the smallest entries of every row, then sum: sum_t c_t m_t tau_t.

    In each row of n entries (the last axis of a tensor, as in the authors' code) the int(gamma n)
    largest magnitudes go, gamma = outliers, and of the others the int(density n) largest stay.
    Equal magnitudes share their fate: dropped with the largest, kept with the last that stays.
    A scalar parameter has no row and stays.
    """
    first = next(iter(vectors.values()))
    merged = {}
    for key, like in first.items():
        total = torch.zeros(like.shape, dtype=working_dtype(like), device=like.device)
        for task, vector in vectors.items():
            step()
            tau = vector[key].to(total.dtype)
            total += coefficients[task] * tau * _between(tau.abs(), density, outliers)
        merged[key] = total.to(like.dtype)
    return TaskVector(merged)


def _between(magnitude: Tensor, density: float, outliers: float) -> Tensor:
    """Which entries of every row stay, as booleans of the same shape."""
    if magnitude.ndim == 0:
        return torch.ones_like(magnitude, dtype=torch.bool)
    rows = magnitude.reshape(-1, magnitude.shape[-1])
    n = rows.shape[1]
    top = min(int(outliers * n), n)
    last = min(top + int(density * n), n)
    if last == top:
        return torch.zeros_like(magnitude, dtype=torch.bool)
    keep = rows >= rows.kthvalue(n - last + 1, dim=1, keepdim=True).values
    if top:
        keep &= rows < rows.kthvalue(n - top + 1, dim=1, keepdim=True).values
    return keep.reshape(magnitude.shape)


def _generator(seed: int, task: str) -> torch.Generator:
    digest = blake2b(f"{seed} {task}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)


def _threshold(vector: TaskVector, density: float) -> float:
    """The magnitude from which entries are kept: inf keeps none."""
    keep = int(density * sum(tensor.numel() for tensor in vector.values()))
    return kth_magnitude(vector, keep) if keep else math.inf


def kth_magnitude(vector: TaskVector, k: int) -> float:
    """The k-th largest |entry| of a whole vector (k = 1: the largest), exactly, without a copy.

    Magnitudes sort like their bits. Every pass counts 16 bits of those entries that agree with
    what is known so far, from the highest bits down: two passes in float32, four in float64.
    """
    fine = any(tensor.dtype == torch.float64 for tensor in vector.values())
    floating, whole, width = (
        (torch.float64, torch.int64, 64) if fine else (torch.float32, torch.int32, 32)
    )
    known = 0
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        counts = torch.zeros(2**_DIGIT, dtype=torch.int64)
        for piece in pieces(vector):
            entries = vector[piece.key].reshape(-1)[piece.start : piece.stop]
            bits = entries.to(floating).abs().view(whole)
            if shift + _DIGIT < width:
                bits = bits[bits >> (shift + _DIGIT) == known]
            digits = (bits >> shift) & (2**_DIGIT - 1)
            counts += torch.bincount(digits, minlength=2**_DIGIT).cpu()
        from_above = counts.flip(0).cumsum(0)
        place = int((from_above < k).sum())  # the digit, counted from the largest one
        k -= int(from_above[place - 1]) if place else 0
        known = known << _DIGIT | 2**_DIGIT - 1 - place
    return float(torch.tensor(known, dtype=whole).view(floating))
