"""Everything on screen as a link, and back. The recipe's part is `Recipe.to_url`.

What belongs to the view has names that start with "view.", so that no task can be mistaken for it:
`base=glyphs&mnist=0.4&view.focus=letters&view.chart=normalized&view.off=hiragana:0.3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_plus

from explorer.app.probing import has_probes, is_closed
from explorer.app.state import CHARTS, LensState, Prompts
from explorer.errors import ExplorerError, RecipeError, UnknownNameError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model

VIEW = "view."
HEADS, PROBES = "heads", "probes"
"""`view.heads=probes` is of a model whose heads are linear probes."""


@dataclass
class Link:
    """What a link asks for; `wrong` says what made no sense (then `recipe` is None)."""

    recipe: Recipe | None = None
    view: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def to_query(state: LensState) -> str:
    """The query part of a link that restores this state."""
    parts = [state.recipe.to_url()]
    if state.focus != state.tasks[0]:
        parts.append(f"{VIEW}focus={quote(state.focus)}")
    if state.chart != CHARTS[0]:
        parts.append(f"{VIEW}chart={state.chart}")
    if state.off:
        pairs = (f"{quote(quote(task, safe=''))}:{x:g}" for task, x in state.off.items())
        parts.append(f"{VIEW}off={','.join(pairs)}")
    for task, prompts in state.prompts.items():
        name = quote(task, safe="")
        parts.append(f"{VIEW}classes.{name}={_join(prompts.class_names)}")
        parts.append(f"{VIEW}templates.{name}={_join(prompts.templates)}")
    return "&".join(part for part in parts if part)


def read(query: str) -> Link:
    """Take a link's query part to pieces; never raises, mistakes are sentences in `wrong`."""
    link = Link()
    recipe_parts = []
    for part in filter(None, query.lstrip("?").split("&")):
        key, _, value = part.partition("=")
        if unquote_plus(key).startswith(VIEW):
            link.view[unquote_plus(key)[len(VIEW) :]] = unquote_plus(value)
        else:
            recipe_parts.append(part)
    try:
        link.recipe = Recipe.from_url("&".join(recipe_parts)) if recipe_parts else None
    except ExplorerError as error:
        link.wrong.append(str(error))
    return link


def read_for(model: Model, query: str) -> Link:
    """The same for a lens on this model: that it has not the heads asked for is a sentence."""
    link = read(query)
    heads = link.view.pop(HEADS, "")
    if heads not in ("", PROBES):
        link.wrong.append(
            f"The link asks for the heads {heads[:60]!r}; there are {PROBES!r}, or without that "
            "the model's own."
        )
    elif heads == PROBES and not has_probes(model) and not is_closed(model):
        link.wrong.append(
            f"The link is of linear probes as heads, and {model.name} is open with its own: choose "
            "them in the app, or open it with ex.with_probes."
        )
    return link


def asks_for_probes(link: Link) -> bool:
    """Whether a link is of linear probes as heads."""
    return link.view.get(HEADS) == PROBES


def with_heads(query: str, model: Model | None) -> str:
    """A link's query part, of this model's heads: of probes or, also without a model, its own."""
    parts = [part for part in query.split("&") if not part.startswith(f"{VIEW}{HEADS}=")]
    if model is not None and has_probes(model):
        parts.append(f"{VIEW}{HEADS}={PROBES}")
    return "&".join(filter(None, parts))


def without_tasks(query: str, base: str, gone: Collection[str]) -> str:
    """A link's query part for a base without these tasks: what names them goes, the rest stays."""
    link = read(query)
    recipe = link.recipe or Recipe(base=base)
    left = {task: x for task, x in recipe.coefficients.items() if task not in gone}
    parts = [recipe.replace(base=base, coefficients=left).to_url()]
    for part in query.removeprefix("?").split("&"):
        name, _, value = part.partition("=")
        key, text = unquote_plus(name).removeprefix(VIEW), unquote_plus(value)
        if not unquote_plus(name).startswith(VIEW) or key.partition(".")[2] in gone:
            continue
        if key == "off":
            pairs = [
                pair for pair in text.split(",") if unquote(pair.rpartition(":")[0]) not in gone
            ]
            parts += [f"{name}={quote(','.join(pairs), safe=':,')}"] if pairs else []
        elif not {unquote(word) for word in re.split("[,:]", text)} & {*gone}:
            parts.append(part)
    return "&".join(parts)


def apply(link: Link, state: LensState) -> tuple[list[str], dict[str, Prompts]]:
    """Bring state to what the link asks for, as far as it makes sense.

    Returns sentences about what did not, and the prompts asked for: their words must be checked
    against the model's vocabulary before they can be used.
    """
    wrong = list(link.wrong)

    def attempt(step, *arguments):
        try:
            step(*arguments)
        except ExplorerError as error:
            wrong.append(str(error))

    if link.recipe is not None or "off" in link.view:
        attempt(
            lambda: state.replace(
                link.recipe or state.recipe, _off(link.view.get("off", ""), state)
            )
        )
    if "focus" in link.view:
        attempt(state.look_at, link.view["focus"])
    if "chart" in link.view:
        attempt(state.set_chart, link.view["chart"])
    asked: dict[str, Prompts] = {}
    for key in link.view:
        kind, _, task = key.partition(".")
        if kind == "classes":
            attempt(lambda task=task: asked.update({task: _prompts(link, state, task)}))
        elif kind not in ("lens", "focus", "chart", "off", "templates"):
            wrong.append(f"The link asks for {VIEW}{key}, which this app does not know.")
    return wrong, asked


def take(link: Link, steps: Mapping[str, Callable[[str], Any]]) -> list[str]:
    """Take the steps of a lens that its link asks for, in their order; returns sentences."""
    wrong = list(link.wrong)
    for key, step in steps.items():
        if key in link.view:
            try:
                step(link.view[key])
            except ExplorerError as error:
                wrong.append(str(error))
    return wrong + [
        f"The link asks for {VIEW}{key[:60]}, which this lens does not know."
        for key in link.view
        if key != "lens" and key not in steps
    ]


def _prompts(link: Link, state: LensState, task: str) -> Prompts:
    if task not in state.shown:
        raise UnknownNameError("task", task, state.shown)
    return Prompts(
        _split(link.view[f"classes.{task}"]), _split(link.view.get(f"templates.{task}", ""))
    )


def _off(text: str, state: LensState) -> dict[str, float]:
    off: dict[str, float] = {}
    for pair in filter(None, text.split(",")):
        name, _, value = pair.rpartition(":")
        task = unquote(name)
        if task not in state.tasks:
            raise UnknownNameError("task", task, state.tasks)
        try:
            off[task] = float(value)
        except ValueError:
            raise RecipeError(
                f"The link gives {task} the coefficient {value!r}, which is no number."
            ) from None
        if not -1 <= off[task] <= 2:
            raise RecipeError(
                f"The link gives {task} the coefficient {value}, which is outside -1 to 2."
            )
    return off


def _join(words: tuple[str, ...]) -> str:
    return quote("|".join(quote(word, safe=" ,.'-{}") for word in words), safe="|")


def _split(text: str) -> tuple[str, ...]:
    return tuple(unquote(word) for word in text.split("|")) if text else ()
