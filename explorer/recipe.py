"""Recipe: a frozen description of an edited model. Pure data, with JSON, link and Python forms."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote

from explorer.editing.schedule import Schedule
from explorer.errors import RecipeError

COEFFICIENT_RANGE = (-1.0, 2.0)
SPACES = ("weights", "posthoc", "tangent")
DEFAULT_METHOD = "task_arithmetic"
_RESERVED = ("base", "schedule", "method", "space")


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is done to the weights of ``base``: theta_0 + schedule(method(coefficients, taus)).

        Recipe(base="glyphs", coefficients={"mnist": 0.4}, schedule=ex.lines(0.1, 0.9))

    ``space`` is "weights" (the ordinary network), "posthoc" (the same task vectors in the network
    linearised at theta_0) or "tangent" (task vectors of tangent fine-tuning, linearised too).
    Recipes compare and hash by meaning: the order of the coefficients and zeros play no part.
    Any finite coefficient is allowed here; links are held to COEFFICIENT_RANGE.
    """

    base: str = "glyphs"
    coefficients: Mapping[str, float] = field(default_factory=dict)
    schedule: Schedule | None = None
    method: str = DEFAULT_METHOD
    options: tuple[tuple[str, Any], ...] = ()
    space: str = "weights"

    def __post_init__(self) -> None:
        if not isinstance(self.base, str) or not self.base:
            raise RecipeError(f"The base of a recipe is the name of a model, not {self.base!r}.")
        if not isinstance(self.coefficients, Mapping):
            raise RecipeError(
                f"The coefficients of a recipe map tasks to numbers, unlike {self.coefficients!r}."
            )
        numbers = {_task(t): _coefficient(t, x) for t, x in self.coefficients.items()}
        object.__setattr__(self, "coefficients", MappingProxyType(numbers))
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise RecipeError(
                f"The schedule of a recipe is built with ex.lines or ex.constant, "
                f"not {self.schedule!r}."
            )
        if self.space not in SPACES:
            raise RecipeError(
                f"There is no space {self.space!r}; choose among {', '.join(SPACES)}."
            )
        if not isinstance(self.method, str) or not self.method:
            raise RecipeError(f"The method of a recipe is a name, not {self.method!r}.")
        object.__setattr__(self, "options", _options(self.options))

    # --- meaning -----------------------------------------------------------------------------

    @property
    def active(self) -> dict[str, float]:
        """The coefficients that are not zero, sorted by task."""
        return {task: x for task, x in sorted(self.coefficients.items()) if x != 0.0}

    def _meaning(self) -> tuple:
        return (
            self.base,
            tuple(self.active.items()),
            self.schedule,
            self.method,
            self.options,
            self.space,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash(self._meaning())

    def coefficient(self, task: str) -> float:
        """The coefficient of a task, zero where the recipe does not name it."""
        return self.coefficients.get(task, 0.0)

    def with_coefficient(self, task: str, coefficient: float) -> "Recipe":
        """The same recipe with one coefficient changed."""
        return self.replace(coefficients={**self.coefficients, task: coefficient})

    def replace(self, **changes: Any) -> "Recipe":
        """The same recipe with some fields changed."""
        try:
            return replace(self, **changes)
        except TypeError as error:
            raise RecipeError(f"A recipe has no such field: {error}.") from None

    def __reduce__(self):  # a mapping proxy does not pickle
        return _rebuild, (self.to_data(),)

    # --- JSON --------------------------------------------------------------------------------

    def to_data(self) -> dict[str, Any]:
        """Plain data: what ``to_json`` writes."""
        return {
            "base": self.base,
            "coefficients": self.active,
            "schedule": self.schedule.to_data() if self.schedule else None,
            "method": self.method,
            "options": dict(self.options),
            "space": self.space,
        }

    @classmethod
    def from_data(cls, data: object) -> "Recipe":
        """Read what ``to_data`` gave; RecipeError names the field that is wrong."""
        if not isinstance(data, Mapping):
            raise RecipeError(f"A recipe is a JSON object, not {_shorten(data)}.")
        unknown = sorted(set(data) - {*_RESERVED, "coefficients", "options"})
        if unknown:
            raise RecipeError(f"A recipe has no field {', '.join(map(repr, unknown))}.")
        known = {key: value for key, value in data.items() if value is not None}
        if "schedule" in known:
            known["schedule"] = Schedule.from_data(known["schedule"])
        return cls(**known)

    def to_json(self, indent: int | None = None) -> str:
        """JSON text; ``from_json`` reads it back to an equal recipe."""
        return json.dumps(self.to_data(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """Read a recipe from JSON text. Raises RecipeError on anything that is not one."""
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, RecursionError) as error:
            raise RecipeError(f"This is not a recipe in JSON: {error}.") from None
        return cls.from_data(data)

    # --- links -------------------------------------------------------------------------------

    def to_url(self) -> str:
        """A query string a person can read: ``base=glyphs&mnist=0.4&schedule=lines:0.1,0.9``."""
        pairs = [("base", self.base)]
        pairs += [
            (f"task.{t}" if t in _RESERVED or t.startswith(("task.", "option.")) else t, repr(x))
            for t, x in self.active.items()
        ]
        if self.schedule is not None:
            pairs.append(("schedule", self.schedule.to_text()))
        if self.method != DEFAULT_METHOD:
            pairs.append(("method", self.method))
        pairs += [(f"option.{name}", json.dumps(value)) for name, value in self.options]
        if self.space != "weights":
            pairs.append(("space", self.space))
        return "&".join(f"{quote(k, safe='.')}={quote(v, safe='.,:-')}" for k, v in pairs)

    @classmethod
    def from_url(cls, query: str) -> "Recipe":
        """Read a link's query string (with or without ``?`` or the address before it).

        Raises RecipeError for a coefficient outside COEFFICIENT_RANGE, a repeated name, or
        anything that is not a number.
        """
        if not isinstance(query, str):
            raise RecipeError(f"A link is text, not {_shorten(query)}.")
        query = query.rpartition("?")[2].partition("#")[0]
        fields: dict[str, Any] = {}
        coefficients: dict[str, float] = {}
        options: dict[str, Any] = {}
        for key, text in _pairs(query):
            if key in _RESERVED:
                _put(fields, key, Schedule.from_text(text) if key == "schedule" else text)
            elif key.startswith("option."):
                _put(options, key.removeprefix("option."), _option(key, text))
            else:
                _put(coefficients, key.removeprefix("task."), _in_range(key, text))
        return cls(**fields, coefficients=coefficients, options=tuple(options.items()))

    # --- Python and display ------------------------------------------------------------------

    def to_python(self) -> str:
        """The Python expression that builds this recipe, for a notebook with ``ex`` imported."""
        parts = [f"base={self.base!r}", f"coefficients={self.active!r}"]
        if self.schedule is not None:
            parts.append(f"schedule={self.schedule.to_python()}")
        if self.method != DEFAULT_METHOD:
            parts.append(f"method={self.method!r}")
        if self.options:
            parts.append(f"options={dict(self.options)!r}")
        if self.space != "weights":
            parts.append(f"space={self.space!r}")
        return f"ex.Recipe({', '.join(parts)})"

    def __repr__(self) -> str:
        return self.to_python().removeprefix("ex.")

    def __iter__(self) -> Iterator[str]:
        raise TypeError("A recipe is not a sequence; iterate over recipe.coefficients.")


def _rebuild(data: dict[str, Any]) -> Recipe:
    return Recipe.from_data(data)


def _task(task: object) -> str:
    if not isinstance(task, str) or not task:
        raise RecipeError(f"Coefficients belong to tasks by name; {task!r} is no name.")
    return task


def _coefficient(task: object, value: object) -> float:
    if isinstance(value, bool | str | bytes):
        raise RecipeError(f"The coefficient of {task!r} must be a number, not {value!r}.")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise RecipeError(
            f"The coefficient of {task!r} must be a number, not {_shorten(value)}."
        ) from None
    if not math.isfinite(number):
        raise RecipeError(f"The coefficient of {task!r} must be a finite number, not {number}.")
    return number


def _options(options: Any) -> tuple[tuple[str, Any], ...]:
    try:
        pairs = options.items() if isinstance(options, Mapping) else options
        named = tuple(sorted((str(name), value) for name, value in pairs))
        hash(named)
    except (TypeError, ValueError):
        raise RecipeError(
            f"The options of a recipe map names to plain values, not {_shorten(options)}."
        ) from None
    return named


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise RecipeError(f"This link holds no recipe: {_shorten(query)}.") from None


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    if key in fields:
        raise RecipeError(f"The link gives {key!r} twice; give it once.")
    fields[key] = value


def _in_range(task: str, text: str) -> float:
    low, high = COEFFICIENT_RANGE
    try:
        number = float(text)
    except ValueError:
        raise RecipeError(f"The link gives {task}={_shorten(text)}, which is no number.") from None
    if not low <= number <= high:  # also refuses nan
        raise RecipeError(
            f"The link gives {task}={text}, but a coefficient lies between {low:g} and {high:g}."
        )
    return number


def _option(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise RecipeError(f"The link gives {key}={_shorten(text)}, which is no value.") from None


def _shorten(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
