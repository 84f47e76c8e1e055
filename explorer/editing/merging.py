"""Merging: a recipe applied to named tensors, plainly, one tensor at a time."""

from collections.abc import Mapping

from torch import Tensor

from explorer.editing.methods import find_method
from explorer.editing.schedule import Schedule
from explorer.editing.task_vector import NamedTensors, TaskVector, check_same_layout, count_blocks
from explorer.errors import RecipeError, UnknownNameError
from explorer.recipe import Recipe


def merge(
    base: NamedTensors, vectors: Mapping[str, TaskVector], recipe: Recipe
) -> dict[str, Tensor]:
    """theta_0 + schedule(method(coefficients, vectors)) as a new dictionary of named tensors.

        ex.merge(m.base, {"a": ta, "b": tb}, ex.Recipe(coefficients={"a": 0.4, "b": -0.3}))

    Raises UnknownNameError when the recipe names a task without a vector, RecipeError for a
    recipe in a linearised space (its model has no merged weights), CheckpointError when a vector
    does not fit the base.
    """
    if recipe.space != "weights":
        raise RecipeError(
            f"A recipe in the {recipe.space!r} space has no merged weights: its features are "
            "linear in the coefficients. Measure it with ex.accuracy instead."
        )
    return with_edit(base, combined_vector(vectors, recipe, base), recipe.schedule)


def with_edit(
    base: NamedTensors, edit: TaskVector | None, schedule: Schedule | None
) -> dict[str, Tensor]:
    """theta_0 + schedule(edit) as a new dictionary; theta_0 itself for None."""
    if edit is None:
        return {key: tensor.clone() for key, tensor in base.items()}
    return edit.scaled(schedule, count_blocks(base)).apply_to(base)


def combined_vector(
    vectors: Mapping[str, TaskVector], recipe: Recipe, base: NamedTensors
) -> TaskVector | None:
    """What the method makes of the active vectors of ``base``, before the schedule.

    None when no coefficient is active.
    """
    check_tasks(recipe, vectors)
    method = find_method(recipe.method)
    chosen = {task: vectors[task] for task in recipe.active}
    first = next(iter(chosen.values()), None)
    if first is None:
        return None
    for task, vector in chosen.items():
        check_same_layout(first, vector, "the first task vector", f"the one of {task!r}")
    return method(chosen, recipe.active, base, **dict(recipe.options))


def check_tasks(recipe: Recipe, tasks: Mapping[str, object] | list[str]) -> None:
    """Raise UnknownNameError when an active coefficient belongs to none of ``tasks``."""
    for task in recipe.active:
        if task not in tasks:
            raise UnknownNameError("task vector", task, tasks)
