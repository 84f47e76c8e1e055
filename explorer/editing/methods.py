"""Merging methods: a method is one decorated function, and its signature is its interface."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from explorer.editing.task_vector import TaskVector
from explorer.errors import RecipeError, UnknownNameError

MergeFunction = Callable[..., TaskVector]


@dataclass(frozen=True)
class MergingMethod:
    """A registered method: its function, its options (from the signature) and its reference.

    ``linear`` says that the result is sum_t c_t tau_t, so that resident weights may merge it in
    one fused pass instead of calling the function.
    """

    name: str
    function: MergeFunction
    reference: str
    linear: bool = False

    @property
    def signature(self) -> inspect.Signature:
        """The options beyond vectors and coefficients, with their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())
        return inspect.Signature(parameters[2:])

    @property
    def summary(self) -> str:
        """First line of the method's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def __call__(
        self,
        vectors: Mapping[str, TaskVector],
        coefficients: Mapping[str, float],
        **options: Any,
    ) -> TaskVector:
        try:
            self.signature.bind(**options)
        except TypeError as error:
            raise RecipeError(f"The method {self.name!r} has no such option: {error}.") from None
        return self.function(vectors, coefficients, **options)

    def __repr__(self) -> str:
        return f"{self.name}{self.signature}: {self.summary} [{self.reference}]"


_METHODS: dict[str, MergingMethod] = {}


def merging_method(
    *, reference: str, linear: bool = False
) -> Callable[[MergeFunction], MergeFunction]:
    """Register ``f(vectors, coefficients, **options) -> TaskVector`` under its own name.

    ``vectors`` and ``coefficients`` have the same keys, none of them zero.
    """

    def register(function: MergeFunction) -> MergeFunction:
        name = function.__name__
        if name in _METHODS and _METHODS[name].function is not function:
            raise RecipeError(f"There already is a merging method {name!r}.")
        _METHODS[name] = MergingMethod(name, function, reference, linear)
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


@merging_method(reference="Ilharco et al. 2023, Editing Models with Task Arithmetic", linear=True)
def task_arithmetic(
    vectors: Mapping[str, TaskVector], coefficients: Mapping[str, float]
) -> TaskVector:
    """The weighted sum of task vectors, sum_t c_t tau_t; a negative weight forgets."""
    return sum(coefficients[task] * vector for task, vector in vectors.items())  # type: ignore[return-value]
