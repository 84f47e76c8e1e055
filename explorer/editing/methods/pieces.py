"""Going through task vectors piece by piece, so that no second copy of them is ever held."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.editing.interrupting import step
from explorer.editing.task_vector import TaskVector

Vectors = Mapping[str, TaskVector]
Coefficients = Mapping[str, float]

# Entries of one vector at a time: 1 MiB in float32, so that a piece of every vector fits a cache.
PIECE = 2**18


@dataclass(frozen=True)
class Piece:
    """The entries ``start`` to ``stop`` of one named tensor, flattened."""

    key: str
    start: int
    stop: int


def pieces(vector: TaskVector) -> Iterator[Piece]:
    """All entries of a vector in pieces of at most PIECE."""
    for key, tensor in vector.items():
        for start in range(0, tensor.numel(), PIECE):
            step()
            yield Piece(key, start, min(start + PIECE, tensor.numel()))


def rows_of(vectors: Vectors, piece: Piece) -> Tensor:
    """The piece of every task vector as rows (tasks, entries), in float32 (or float64)."""
    rows = [v[piece.key].reshape(-1)[piece.start : piece.stop] for v in vectors.values()]
    return torch.stack([row.to(working_dtype(row)) for row in rows])


def stacked(vectors: Vectors, coefficients: Coefficients, key: str) -> Tensor:
    """c_t tau_t of one named tensor, (tasks, *shape), in float32 (or float64)."""
    step()
    tensors = [coefficients[task] * v[key].to(working_dtype(v[key])) for task, v in vectors.items()]
    return torch.stack(tensors)


def column(coefficients: Coefficients, rows: Tensor) -> Tensor:
    """The coefficients as a column (tasks, 1) beside ``rows``."""
    return torch.tensor(list(coefficients.values()), dtype=rows.dtype, device=rows.device)[:, None]


def weighted_sum(vectors: Vectors, factor: Callable[[str, str], float]) -> TaskVector:
    """sum_t factor(t, key) tau_t for every named tensor."""
    first = next(iter(vectors.values()))
    merged = {}
    for key, like in first.items():
        step()
        total = torch.zeros(like.shape, dtype=working_dtype(like), device=like.device)
        for task, vector in vectors.items():
            total.add_(vector[key], alpha=factor(task, key))
        merged[key] = total.to(like.dtype)
    return TaskVector(merged)


def by_entry(vectors: Vectors, rule: Callable[[Tensor, Piece], Tensor]) -> TaskVector:
    """A merged vector from a rule for entries: rows (tasks, n) of tau_t -> the n merged entries."""
    first = next(iter(vectors.values()))
    merged = {
        key: torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        for key, tensor in first.items()
    }
    for piece in pieces(first):
        entries = rule(rows_of(vectors, piece), piece)
        merged[piece.key].view(-1)[piece.start : piece.stop] = entries
    return TaskVector(merged)


def by_tensor(
    vectors: Vectors, coefficients: Coefficients, rule: Callable[[Tensor], Tensor]
) -> TaskVector:
    """A merged vector from a rule for tensors: (tasks, *shape) of c_t tau_t -> (*shape)."""
    first = next(iter(vectors.values()))
    return TaskVector(
        {key: rule(stacked(vectors, coefficients, key)).to(x.dtype) for key, x in first.items()}
    )


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The number format to compute in: float32, unless the tensor is finer."""
    return torch.promote_types(tensor.dtype, torch.float32)
