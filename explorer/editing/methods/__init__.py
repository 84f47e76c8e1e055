"""Merging methods: a method is one decorated function, and its signature is its interface.

Coefficients enter every method in the same way: task t takes part as c_t tau_t, and only tasks
whose coefficient is not zero take part. A coefficient common to all tasks is then the same as the
factor that the papers apply after merging, but for ``wudi``, whose learning rate is in units of
weights. A negative coefficient merges the opposite of a task vector. Half-precision vectors are
computed with in float32 and the result has their number format again; integer buffers never get
here, since a task vector has none. The recipe's schedule (LiNeS) applies to the merged vector.

Every file of this folder is a family of methods; a new file or function here is registered, and
so shown by the app, the command line and the docs, without being named anywhere else.
"""

import importlib
import pkgutil
from collections.abc import Callable

from explorer.editing.methods.method import Factors, MergeFunction, MergingMethod, Option
from explorer.errors import RecipeError, UnknownNameError

__all__ = ["MergingMethod", "Option", "find_method", "merging_method", "merging_methods"]

_METHODS: dict[str, MergingMethod] = {}


def merging_method(
    *,
    reference: str,
    linear: bool = False,
    weights: Factors | None = None,
    per_task: bool = False,
) -> Callable[[MergeFunction], MergeFunction]:
    """Register ``f(vectors, coefficients, **options) -> TaskVector`` under its own name.

        @merging_method(reference="this notebook")
        def loudest(vectors, coefficients, power: float = 2.0):
            task = max(coefficients, key=coefficients.get)
            return coefficients[task] ** power * vectors[task]

    ``vectors`` and ``coefficients`` have the same keys, at least one, none of them zero. Options
    may carry bounds for a slider: ``Annotated[float, Option("what it is", 0.0, 1.0, 0.01)]``.
    A third parameter ``base`` gets theta_0, for methods that look at it.
    ``linear``, ``weights`` and ``per_task`` are those of MergingMethod.
    """

    def register(function: MergeFunction) -> MergeFunction:
        name = function.__name__
        if name in _METHODS and _METHODS[name].function is not function:
            raise RecipeError(f"There already is a merging method {name!r}.")
        _METHODS[name] = MergingMethod(name, function, reference, linear, weights, per_task)
        return function

    return register


def merging_methods() -> dict[str, MergingMethod]:
    """Every merging method by name; each shows its signature, summary and reference."""
    return dict(_METHODS)


def find_method(name: str) -> MergingMethod:
    """The method of that name. Raises UnknownNameError with the nearest names."""
    if name not in _METHODS:
        raise UnknownNameError("merging method", name, _METHODS)
    return _METHODS[name]


for _family in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_family.name}")
