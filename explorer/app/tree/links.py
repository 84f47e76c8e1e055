"""Everything the lens shows as a link, and back.

All names start with "view.", as those of the other lenses do:
`view.lens=hierarchy&view.grammar=32,8,2,7&view.rules=0&view.process=epsilon&view.level=0.73`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.app.links import VIEW, Link, take
from explorer.app.tree.setting import Setting
from explorer.app.tree.state import TreeState
from explorer.errors import GrammarError

LENS = "hierarchy"
NOTHING = "none"
"""Of the controls, which are shown where a link says nothing."""


def to_query(setting: Setting) -> str:
    """The query part of a link that restores this setting.

    Rules that were handed to the lens have no seed, and so no place in a link: it then opens a
    grammar of the same sizes.
    """
    sizes = setting.sizes
    view = {
        "lens": LENS,
        "grammar": f"{sizes.v},{sizes.m},{sizes.s},{sizes.L}",
        "rules": f"{setting.grammar.seed or 0}",
        "process": setting.process,
        "level": f"{setting.level:g}",
        "datum": f"{setting.datum}",
        "noise": f"{setting.noise}",
        "n": f"{setting.data},{setting.samples}",
        "seed": f"{setting.seed}",
    }
    if setting.controls != Setting().controls:
        view["controls"] = ",".join(setting.controls) or NOTHING
    if setting.view != "tree":
        view["view"] = setting.view
    if setting.scaled:
        view["scaled"] = ",".join(setting.scaled)
    if setting.examples:
        view["examples"] = ",".join(f"{name}:{number}" for name, number in setting.examples)
    return "&".join(f"{VIEW}{key}={text}" for key, text in view.items())


def apply(link: Link, state: TreeState) -> list[str]:
    """Bring state to what the link asks for, as far as it makes sense; returns sentences.

    A recipe in the link is another lens's, and is left alone.
    """
    return take(link, _steps(state))


def _steps(state: TreeState) -> dict[str, Callable[[str], Any]]:
    def counts(text: str) -> None:
        data, samples = integers(text, "n", 2)
        state.set_counts(data, samples)

    def seed(what: str, name: str) -> Callable[[str], None]:
        return lambda text: state.set_seed(what, *integers(text, name, 1))

    return {
        "grammar": lambda text: state.set_sizes(*integers(text, "grammar", 4)),
        "rules": seed("grammar", "rules"),
        "process": state.set_process,
        "level": lambda text: state.set_level(decimal(text, "level")),
        "datum": seed("datum", "datum"),
        "noise": seed("noise", "noise"),
        "n": counts,
        "seed": seed("seed", "seed"),
        "view": state.look_at,
        "scaled": lambda text: state.rescale(text.split(",")),
        "examples": lambda text: state.choose_examples(_numbers(text, "examples")),
        "controls": lambda text: state.set_controls([] if text == NOTHING else text.split(",")),
    }


def _numbers(text: str, name: str) -> dict[str, int]:
    pairs = [part.rpartition(":") for part in text.split(",")]
    return {key: integers(number, f"{name}={key[:40]}", 1)[0] for key, _, number in pairs}


def integers(text: str, name: str, count: int) -> list[int]:
    """So many whole numbers with commas between them. Raises GrammarError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        wanted = "a whole number" if count == 1 else f"{count} whole numbers"
        raise GrammarError(f"The link gives {VIEW}{name}={text[:60]!r}; {wanted} was wanted.")
    return found


def decimal(text: str, name: str) -> float:
    """A number. Raises GrammarError."""
    try:
        return float(text)
    except ValueError:
        raise GrammarError(
            f"The link gives {VIEW}{name}={text[:60]!r}, which is no number."
        ) from None
