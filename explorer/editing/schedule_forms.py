"""The written forms of a schedule: plain data for JSON, text for links, Python for notebooks.

Each works on the three plain values a schedule consists of: kind, parameters and outside.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from explorer.errors import RecipeError

Parts = tuple[str, tuple[Any, ...], str]  # checked when the schedule is built

# The kinds that are a fixed list of numbers; "piecewise" and "per_layer" are as long as they are.
NAMES = {
    "constant": ("value",),
    "lines": ("alpha", "beta"),
    "inverse_lines": ("alpha", "beta"),
    "shuffled_lines": ("alpha", "beta", "seed"),
}
KINDS = (*NAMES, "piecewise", "per_layer")
LAYOUTS = ("alpha", "depth")


def checked(kind: object, parameters: object, outside: object) -> tuple[float, ...]:
    """The parameters of a schedule as finite numbers. Raises RecipeError for what is none."""
    if kind not in KINDS:
        raise RecipeError(f"There is no schedule {kind!r}; the schedules are {', '.join(KINDS)}.")
    if outside not in LAYOUTS:
        raise RecipeError(
            f"A schedule treats what lies outside the blocks by 'alpha' or by 'depth', "
            f"not by {outside!r}."
        )
    if isinstance(parameters, str) or not isinstance(parameters, Sequence):
        raise RecipeError(f"The schedule {kind!r} takes numbers, not {parameters!r}.")
    if kind == "piecewise":
        return _checked_points(parameters)
    if kind == "per_layer":
        if len(parameters) < 2:
            raise RecipeError("The schedule 'per_layer' takes a number for each block.")
        return tuple(_finite(value, f"factors of the schedule {kind!r}") for value in parameters)
    names = NAMES[str(kind)]
    if len(parameters) != len(names):
        raise RecipeError(
            f"The schedule {kind!r} takes {len(names)} numbers ({', '.join(names)}), "
            f"not {len(parameters)}."
        )
    return tuple(
        (_whole if name == "seed" else _finite)(value, f"{name} of the schedule {kind!r}")
        for name, value in zip(names, parameters, strict=True)
    )


def points_of(parameters: Sequence[float]) -> list[tuple[float, float]]:
    """(depth, scale) pairs of a piecewise schedule's parameters."""
    return list(zip(parameters[::2], parameters[1::2], strict=True))


# --- plain data ------------------------------------------------------------------------------


def to_data(kind: str, parameters: tuple[float, ...], outside: str) -> dict[str, Any]:
    """``{"kind": "lines", "alpha": 0.1, "beta": 0.9, "outside": "alpha"}`` and the like."""
    if kind == "per_layer":
        drawn = {"kind": kind, "values": list(parameters[1:]), "outside": parameters[0]}
        return drawn if outside == "alpha" else {**drawn, "layout": outside}
    if kind == "piecewise":
        points = [list(point) for point in points_of(parameters)]
        return {"kind": kind, "points": points, "outside": outside}
    data: dict[str, Any] = {"kind": kind, **dict(zip(NAMES[kind], parameters, strict=True))}
    return data if kind == "constant" else {**data, "outside": outside}


def from_data(data: object) -> Parts:
    """Read what ``to_data`` wrote. Raises RecipeError naming what is missing."""
    if not isinstance(data, Mapping) or data.get("kind") not in KINDS:
        raise RecipeError(
            "A schedule is written as {'kind': 'lines', 'alpha': ..., 'beta': ...} "
            f"or {{'kind': 'constant', 'value': ...}}, not as {data!r}."
        )
    kind = str(data["kind"])
    drawn = {"piecewise": ("points",), "per_layer": ("values", "outside")}
    names = drawn.get(kind) or NAMES[kind]
    missing = [name for name in names if name not in data]
    extra = {"layout"} if kind == "per_layer" else set()
    unknown = sorted(map(str, set(data) - {"kind", "outside", *names, *extra}))
    if missing or unknown:
        raise RecipeError(
            f"The schedule {kind!r} needs {', '.join(names)}; "
            f"missing: {missing or 'nothing'}, not understood: {unknown or 'nothing'}."
        )
    if kind == "per_layer":
        numbers = (data["outside"], *_sequence(data["values"], "values"))
        return kind, numbers, data.get("layout", "alpha")
    outside = data.get("outside", "alpha")
    if kind == "piecewise":
        return kind, flat_points(data["points"]), outside
    return kind, tuple(data[name] for name in names), outside


# --- links -----------------------------------------------------------------------------------


def to_text(kind: str, parameters: tuple[float, ...], outside: str) -> str:
    """``lines:0.1,0.9``, ``piecewise:0.0:0.1,1.0:0.9``, ``per_layer:0.2,0.8,outside:0.1``."""
    if kind == "per_layer":
        numbers = f"{_commas(parameters[1:])},outside:{parameters[0]!r}"
    elif kind == "piecewise":
        numbers = ",".join(f"{depth!r}:{scale!r}" for depth, scale in points_of(parameters))
    else:
        numbers = _commas(parameters)
    return f"{kind}:{numbers},depth" if outside == "depth" else f"{kind}:{numbers}"


def from_text(text: str) -> Parts:
    """Read what ``to_text`` wrote. Raises RecipeError."""
    kind, _, numbers = text.partition(":")
    parts: list[str] = [part for part in numbers.split(",") if part]
    outside = "alpha"
    if parts and parts[-1] == "depth":
        outside = parts.pop()
    if kind == "per_layer":
        if not parts or not parts[-1].startswith("outside:"):
            raise RecipeError(
                "A schedule 'per_layer' is written per_layer:0.2,0.8,outside:0.1 in a link, "
                f"not {text!r}."
            )
        return kind, (parts[-1].removeprefix("outside:"), *parts[:-1]), outside
    if kind == "piecewise":
        return kind, flat_points([part.split(":") for part in parts]), outside
    return kind, tuple(parts), outside


# --- Python ----------------------------------------------------------------------------------


def to_python(kind: str, parameters: tuple[float, ...], outside: str) -> str:
    """The expression that builds the schedule, ``ex.lines(0.1, 0.9)``."""
    if kind == "per_layer":
        layout = ', layout="depth"' if outside == "depth" else ""
        return f"ex.per_layer({list(parameters[1:])!r}, outside={parameters[0]!r}{layout})"
    extra = ', outside="depth"' if outside == "depth" else ""
    if kind == "piecewise":
        return f"ex.piecewise({points_of(parameters)!r}{extra})"
    return f"ex.{kind}({', '.join(map(repr, parameters))}{extra})"


# --- numbers ---------------------------------------------------------------------------------


def flat_points(points: object) -> tuple[float, ...]:
    """(depth, scale) pairs one after the other. Raises RecipeError for what is no pair."""
    pairs = _sequence(points, "points")
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise RecipeError(f"A point of a schedule is a pair (depth, scale), not {pair!r}.")
    return tuple(value for pair in pairs for value in pair)


def _checked_points(parameters: Sequence[object]) -> tuple[float, ...]:
    if not parameters or len(parameters) % 2:
        raise RecipeError("The schedule 'piecewise' takes points (depth, scale), at least one.")
    numbers = tuple(_finite(v, "points of the schedule 'piecewise'") for v in parameters)
    depths = numbers[::2]
    rising = all(a < b for a, b in pairwise(depths))
    if not rising or depths[0] < 0.0 or depths[-1] > 1.0:
        raise RecipeError(
            "The points of a schedule go from depth 0 (first block) to 1 (last block), each "
            f"deeper than the one before; these are at {', '.join(f'{d:g}' for d in depths)}."
        )
    return numbers


def _sequence(values: object, name: str) -> tuple[Any, ...]:
    if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
        raise RecipeError(f"The {name} of a schedule are a list, not {values!r}.")
    return tuple(values)


def _commas(numbers: Sequence[float]) -> str:
    return ",".join(map(repr, numbers))


def _finite(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RecipeError(f"The {name} must be a number, not {value!r}.") from None
    if not math.isfinite(number):
        raise RecipeError(f"The {name} must be a finite number, not {value!r}.")
    return number


def _whole(value: object, name: str) -> int:
    number = _finite(value, name)
    if number != int(number) or number < 0:
        raise RecipeError(f"The {name} must be a whole number from 0 on, not {value!r}.")
    return int(number)
