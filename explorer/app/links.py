"""Everything on screen as a link, and back. The recipe's part is `Recipe.to_url`.

What belongs to the view has names that start with "view.", so that no task can be mistaken for it:
`base=glyphs&mnist=0.4&view.focus=letters&view.chart=normalized&view.off=hiragana:0.3`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from explorer.app.state import CHARTS, LensState, Prompts
from explorer.errors import ExplorerError, RecipeError, UnknownNameError
from explorer.recipe import Recipe

VIEW = "view."


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
