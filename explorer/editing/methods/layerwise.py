"""Task arithmetic with a factor for every task and depth, or every task and tensor.

What AdaMerging learns is of this kind. A recipe has one coefficient a task and one schedule for
all of them, so that such a table of numbers is an option of a method of its own, written as text:
``birds=0.3,0.25,1;cars=0.1,0.2,0.4``, names percent-encoded.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal
from urllib.parse import quote, unquote

from explorer.editing.layers import layer_name, layer_names
from explorer.editing.methods import Option, merging_method
from explorer.editing.methods.pieces import Coefficients, Vectors, weighted_sum
from explorer.editing.task_vector import TaskVector, count_blocks
from explorer.errors import RecipeError

By = Literal["layer", "tensor"]


@merging_method(
    reference="Yang et al. 2024, AdaMerging: Adaptive Model Merging for Multi-Task Learning "
    "(what it merges, for numbers that are given)"
)
def layerwise(
    vectors: Vectors,
    coefficients: Coefficients,
    by: By = "layer",
    factors: Annotated[
        str, Option("task=numbers;task=numbers, a number a depth or tensor; 1 for other tasks")
    ] = "",
) -> TaskVector:
    """The sum with factors for every task and depth, sum_t c_t f_t,l tau_t,l.

    By layer a task has a number for the input, each block and the output; by tensor one for each
    tensor, in the alphabetical order of their names. A task that ``factors`` does not name has 1
    everywhere. Raises RecipeError for a text that is no such table or has other counts.
    """
    first = next(iter(vectors.values()))
    depth = count_blocks(first)
    names = layer_names(depth) if by == "layer" else sorted(first)
    groups = {key: layer_name(key, depth) if by == "layer" else key for key in first}
    table = read_factors(factors)
    for task in vectors.keys() & table.keys():
        if len(table[task]) != len(names):
            raise RecipeError(
                f"The factors of {task!r} are {len(table[task])} numbers, but this tower has "
                f"{len(names)} by {by}: give as many, or choose the other kind."
            )
    by_group = {task: dict(zip(names, numbers, strict=False)) for task, numbers in table.items()}
    ones = dict.fromkeys(names, 1.0)
    return weighted_sum(
        vectors, lambda task, key: coefficients[task] * by_group.get(task, ones)[groups[key]]
    )


def read_factors(text: str) -> dict[str, list[float]]:
    """task -> numbers, of a text that ``write_factors`` wrote. Raises RecipeError."""
    found: dict[str, list[float]] = {}
    for part in filter(None, text.split(";")):
        name, equals, numbers = part.partition("=")
        task = unquote(name.strip())
        if not equals or task in found:
            raise RecipeError(
                f"Factors are written task=0.3,0.2;task=1,0.5 with each task once, unlike "
                f"{part[:60]!r}."
            )
        found[task] = [_number(x, task) for x in numbers.split(",")]
    return found


def write_factors(table: Mapping[str, Iterable[float]]) -> str:
    """The text of a table task -> numbers, each to six decimals."""
    return ";".join(
        f"{quote(task, safe='')}={','.join(repr(round(float(x), 6)) for x in numbers)}"
        for task, numbers in table.items()
    )


def _number(text: str, task: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RecipeError(f"The factors of {task!r} are finite numbers, unlike {text[:60]!r}.")
    return number
