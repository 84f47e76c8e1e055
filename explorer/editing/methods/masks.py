"""Masks of the parameters that tasks need of a sum: TALL-masks and Consensus."""

from typing import Annotated

from torch import Tensor

from explorer.editing.methods import Option, merging_method
from explorer.editing.methods.pieces import Coefficients, Piece, Vectors, by_entry, column
from explorer.editing.task_vector import TaskVector
from explorer.errors import RecipeError, UnknownNameError

_REFERENCE = (
    "Wang et al. 2024, Localizing Task Information for Improved Model Merging and Compression"
)
_Threshold = Annotated[float, Option("lambda: what counts as the task's own", 0.0, 1.0, 0.05)]


@merging_method(reference=_REFERENCE, per_task=True)
def tall_masks(
    vectors: Vectors,
    coefficients: Coefficients,
    task: Annotated[str, Option("the task whose model this is")] = "",
    mask_threshold: _Threshold = 0.4,
) -> TaskVector:
    """The part of the sum that one task needs, m_t * tau_sum: a model for that task alone.

    m_t = |tau_t| > lambda |tau_sum - tau_t|, tau_sum = sum_t c_t tau_t (the authors'
    ``tallmask_utils.py``). It compresses rather than merges: there is one mask a task, and the
    task must be known when an image comes.
    Raises RecipeError when no task is named, UnknownNameError when it does not take part.
    """
    if not task:
        raise RecipeError(
            "TALL-masks give one model a task: say whose with "
            f"options={{'task': {next(iter(vectors))!r}}}."
        )
    if task not in vectors:
        raise UnknownNameError("task with a coefficient", task, vectors)
    row = list(vectors).index(task)

    def needed(rows: Tensor, piece: Piece) -> Tensor:
        total, masks = _masks(rows, coefficients, mask_threshold)
        return total * masks[row]

    return by_entry(vectors, needed)


@merging_method(reference=f"{_REFERENCE} (Consensus)")
def consensus(
    vectors: Vectors,
    coefficients: Coefficients,
    mask_threshold: _Threshold = 0.4,
    tasks_needed: Annotated[int, Option("tasks that must need a parameter", 1, 20, 1)] = 2,
) -> TaskVector:
    """The sum without the parameters that few tasks need: tau_sum where >= k TALL-masks agree.

    k = 2 drops "catastrophic" parameters, which no task needs, and "selfish" ones, which one needs.
    Where fewer than k tasks take part, all of them must agree.
    """

    def agreed(rows: Tensor, piece: Piece) -> Tensor:
        total, masks = _masks(rows, coefficients, mask_threshold)
        return total * (masks.sum(0) >= min(tasks_needed, len(rows)))

    return by_entry(vectors, agreed)


def _masks(
    rows: Tensor, coefficients: Coefficients, mask_threshold: float
) -> tuple[Tensor, Tensor]:
    """sum_t c_t tau_t (n,), and which of its entries each task needs (tasks, n)."""
    rows = column(coefficients, rows) * rows
    total = rows.sum(0)
    return total, rows.abs() > mask_threshold * (total - rows).abs_()
