"""What a merging method is: its function, its options read from the signature, its reference."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

from explorer.editing.task_vector import NamedTensors, TaskVector
from explorer.errors import RecipeError

MergeFunction = Callable[..., TaskVector]
Factors = Callable[[Mapping[str, float]], dict[str, float]]

# What an option of a kind accepts, and what it is called.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    float: ((float, int), "a number"),
    int: ((int,), "a whole number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a text"),
    object: ((object, bool), "anything"),
}


@dataclass(frozen=True)
class Option:
    """One option of a method, as a slider, a switch or a menu needs it.

        density: Annotated[float, Option("share of the entries kept", 0.0, 1.0, 0.01)] = 0.2

    ``scale="log"`` makes equal ways on a slider equal factors; it needs a ``low`` above 0.
    ``kind`` (float, int, bool or str), ``default`` and ``choices`` are read from the signature.
    """

    text: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    scale: Literal["linear", "log"] = "linear"
    kind: type = object
    default: Any = inspect.Parameter.empty
    choices: tuple[str, ...] = ()

    def complaint(self, value: object) -> str:
        """What is wrong with a value, as the end of a sentence; empty when nothing is."""
        if self.choices:
            known = ", ".join(map(repr, self.choices))
            return "" if value in self.choices else f"is one of {known}, not {value!r}"
        accepted, name = _KINDS[self.kind]
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            return f"is {name}, not {value!r}"
        if not isinstance(value, float | int):
            return ""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not (math.isfinite(value) and low <= value <= high):
            return f"lies between {low:g} and {high:g}, not at {value:g}"
        return ""


@dataclass(frozen=True)
class MergingMethod:
    """A registered method: its function, its options (from the signature) and its reference.

    ``linear`` says that the result is sum_t c_t tau_t. ``weights`` says that it is
    sum_t w_t tau_t with w = weights(c). Either way resident weights may merge it in one fused
    pass (``one_pass``) with ``factors(c)`` instead of calling the function. ``per_task`` says
    that the result is a model for one task, which the option ``task`` names. A function with a
    parameter ``base`` looks at the weights theta_0 too, and gets them there; it is no option.
    """

    name: str
    function: MergeFunction
    reference: str
    linear: bool = False
    weights: Factors | None = None
    per_task: bool = False

    @property
    def one_pass(self) -> bool:
        """Whether the result is a weighted sum whose weights depend on the coefficients only."""
        return self.linear or self.weights is not None

    def factors(self, coefficients: Mapping[str, float]) -> dict[str, float]:
        """The w_t of a one-pass method, sum_t w_t tau_t, for coefficients that are not zero."""
        if not self.one_pass:
            raise RecipeError(f"The method {self.name!r} is not a weighted sum of task vectors.")
        return dict(coefficients) if self.weights is None else self.weights(coefficients)

    @property
    def signature(self) -> inspect.Signature:
        """The options beyond vectors and coefficients, with their defaults."""
        return inspect.Signature(
            [p.replace(annotation=_annotation(p.annotation)[0]) for p in self._parameters]
        )

    @property
    def options(self) -> dict[str, Option]:
        """The options by name, with bounds and steps where the method gives them."""
        return {parameter.name: _option(parameter) for parameter in self._parameters}

    @property
    def needs_base(self) -> bool:
        """Whether the function looks at the weights of the base."""
        return "base" in inspect.signature(self.function).parameters

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        parameters = list(inspect.signature(self.function).parameters.values())[2:]
        return [parameter for parameter in parameters if parameter.name != "base"]

    @property
    def summary(self) -> str:
        """First line of the method's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def __call__(
        self,
        vectors: Mapping[str, TaskVector],
        coefficients: Mapping[str, float],
        base: NamedTensors | None = None,
        **options: Any,
    ) -> TaskVector:
        self.check_options(options)
        if self.needs_base:
            if base is None:
                raise RecipeError(
                    f"The method {self.name!r} compares task vectors with the weights they belong "
                    "to: give them as base=."
                )
            return self.function(vectors, coefficients, base, **options)
        return self.function(vectors, coefficients, **options)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise RecipeError for an option that the signature does not have, or a wrong value."""
        try:
            self.signature.bind(**options)
        except TypeError as error:
            raise RecipeError(f"The method {self.name!r} has no such option: {error}.") from None
        for name, value in options.items():
            complaint = self.options[name].complaint(value)
            if complaint:
                raise RecipeError(f"The option {name!r} of {self.name!r} {complaint}.")

    def __repr__(self) -> str:
        return f"{self.name}{self.signature}: {self.summary} [{self.reference}]"


def _option(parameter: inspect.Parameter) -> Option:
    annotation, option = _annotation(parameter.annotation)
    if get_origin(annotation) is Literal:
        return replace(option, kind=str, default=parameter.default, choices=get_args(annotation))
    kind = annotation if annotation in (float, int, bool, str) else object
    return replace(option, kind=kind, default=parameter.default)


def _annotation(annotation: Any) -> tuple[Any, Option]:
    """The bare type of an annotation, and the Option that Annotated carries with it."""
    if get_origin(annotation) is not Annotated:
        return annotation, Option()
    bare, *notes = get_args(annotation)
    return bare, next((note for note in notes if isinstance(note, Option)), Option())
