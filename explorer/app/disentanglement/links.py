"""Everything the lens shows as a link, and back.

All names start with "view.", as those of the other lens do, so that no task can be mistaken for
one: `base=glyphs&view.lens=disentanglement&view.pair=mnist,letters&view.point=0.6,0.3`.

A pinned map is its pair, kind, range, points, images and seed, and LiNeS's two numbers where it has
them: `view.pin1=mnist,letters:weights:-3,3:21:400:0`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from explorer.app.disentanglement.spec import MapSpec
from explorer.app.disentanglement.state import MOST_PINS, MapState
from explorer.app.links import VIEW, Link, take
from explorer.errors import RecipeError

LENS = "disentanglement"


def to_query(state: MapState) -> str:
    """The query part of a link that restores this state."""
    view = {
        "lens": LENS,
        "pair": _names(state.pair),
        "point": _numbers(state.point),
        "maps": ",".join(state.maps),
        "range": _numbers(state.extent),
        "points": f"{state.points}",
        "n": f"{state.n}",
        "seed": f"{state.seed}",
        "layer": state.layer,
        "terms": state.terms,
    }
    if "lines" in (*state.maps, state.pairs_kind):
        view["lines"] = _numbers(state.lines)
    if state.fitted:
        view["colours"] = "fitted"
    if state.pairs_kind != "weights":
        view["pairs"] = state.pairs_kind
    view |= {f"pin{i}": _pinned(spec) for i, spec in enumerate(state.pins, 1)}
    base = quote(state.recipe.base, safe="")
    return "&".join([f"base={base}", *(f"{VIEW}{key}={text}" for key, text in view.items())])


def asks_for_maps(link: Link) -> bool:
    """Whether a link is of this lens."""
    return link.view.get("lens") == LENS


def apply(link: Link, state: MapState) -> list[str]:
    """Bring state to what the link asks for, as far as it makes sense; returns sentences."""
    wrong = take(link, _steps(state))
    if link.recipe is not None and link.recipe.base != state.recipe.base:
        wrong.append(f"The link is of the model {link.recipe.base!r}, which is not the open one.")
    return wrong


def _steps(state: MapState) -> dict[str, Callable[[str], Any]]:
    def pin(name: str) -> Callable[[str], Any]:
        return lambda text: state.pin(_spec(text, name, state))

    # In this order: a point must lie in the range, on the axes of the pair.
    return {
        "pair": lambda text: state.set_pair(*(unquote(t) for t in _two(text, "pair"))),
        "range": lambda text: state.set_extent(*_floats(text, "range")),
        "point": lambda text: state.move(_floats(text, "point")),
        "points": lambda text: state.set_points(_integer(text, "points")),
        "n": lambda text: state.set_n(_integer(text, "n")),
        "seed": lambda text: state.set_seed(_integer(text, "seed")),
        "lines": lambda text: state.set_lines(*_floats(text, "lines")),
        "maps": lambda text: state.set_maps(text.split(",")),
        "layer": state.set_layer,
        "terms": state.set_terms,
        "colours": lambda text: state.param.update(fitted=text == "fitted"),
        "pairs": state.set_pairs_kind,
        **{name: pin(name) for name in (f"pin{i}" for i in range(1, MOST_PINS + 1))},
    }


def _pinned(spec: MapSpec) -> str:
    """A map as text."""
    parts = [_names(spec.pair), spec.kind, _numbers(spec.extent)]
    parts += [f"{spec.points}", f"{spec.n}", f"{spec.seed}"]
    return ":".join(parts if spec.lines is None else [*parts, _numbers(spec.lines)])


def _spec(text: str, name: str, state: MapState) -> MapSpec:
    """The map that a text describes, checked as the lens's own maps are."""
    parts = text.split(":")
    if len(parts) not in (6, 7):
        raise RecipeError(
            f"The link gives {VIEW}{name}={text[:60]!r}; a pinned map has 6 parts, or 7 with LiNeS."
        )
    pair, kind, extent, points, n, seed, *lines = parts
    asked = MapState(state.tasks, state.recipe.base)
    asked.set_pair(*(unquote(t) for t in _two(pair, name)))
    asked.set_maps([kind])
    asked.set_extent(*_floats(extent, name))
    asked.set_points(_integer(points, name))
    asked.set_n(_integer(n, name))
    asked.set_seed(_integer(seed, name))
    if lines:
        asked.set_lines(*_floats(lines[0], name))
    return asked.spec(kind)


def _names(pair: tuple[str, str]) -> str:
    return ",".join(quote(quote(task, safe="")) for task in pair)


def _numbers(values: tuple[float, float]) -> str:
    return ",".join(f"{x:g}" for x in values)


def _two(text: str, name: str) -> list[str]:
    parts = text.split(",")
    if len(parts) != 2:
        raise RecipeError(
            f"The link gives {VIEW}{name}={text[:60]!r}; two are needed, not {len(parts)}."
        )
    return parts


def _floats(text: str, name: str) -> list[float]:
    try:
        return [float(part) for part in _two(text, name)]
    except ValueError:
        raise RecipeError(
            f"The link gives {VIEW}{name}={text[:60]!r}, which are no numbers."
        ) from None


def _integer(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RecipeError(
            f"The link gives {VIEW}{name}={text[:60]!r}, which is no whole number."
        ) from None
