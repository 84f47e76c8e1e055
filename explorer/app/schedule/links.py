"""Everything the lens shows as a link, and back.

The recipe's part is `Recipe.to_url`, schedule, method and options included; what belongs to the
view has names that start with "view.": `mnist=1.0&schedule=lines:0.1,0.9&view.tab=search`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.app import links
from explorer.app.links import VIEW, Link, take
from explorer.app.schedule.state import TABS, USUAL_IMAGES, ScheduleState
from explorer.errors import RecipeError

LENS = "schedule"
SHARED = ("off", "focus", "chart")
"""Parts of the view that the task-arithmetic lens has as well."""


def to_query(state: ScheduleState) -> str:
    """The query part of a link that restores this state."""
    view = {"lens": LENS}
    if state.tab != TABS[0]:
        view["tab"] = state.tab
    if state.n != USUAL_IMAGES:
        view["n"] = f"{state.n}"
    if state.seed:
        view["seed"] = f"{state.seed}"
    if state.adamerging:
        view["adamerging"] = "with"
    return "&".join([links.to_query(state), *(f"{VIEW}{key}={text}" for key, text in view.items())])


def apply(link: Link, state: ScheduleState) -> list[str]:
    """Bring state to what the link asks for, as far as it makes sense; returns sentences."""
    shared = Link(link.recipe, {k: text for k, text in link.view.items() if k in SHARED})
    own = Link(None, {k: text for k, text in link.view.items() if k not in SHARED}, link.wrong)
    wrong, _ = links.apply(shared, state)
    return take(own, _steps(state)) + wrong


def _steps(state: ScheduleState) -> dict[str, Callable[[str], Any]]:
    return {
        "tab": state.set_tab,
        "n": lambda text: state.set_n(_integer(text, "n")),
        "seed": lambda text: state.set_seed(_integer(text, "seed")),
        "adamerging": state.set_adamerging,
    }


def _integer(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RecipeError(
            f"The link gives {VIEW}{name}={text[:60]!r}, which is no whole number."
        ) from None
