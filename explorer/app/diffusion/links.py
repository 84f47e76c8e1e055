"""Everything the lens shows as a link, and back.

All names start with "view.", as those of the other lenses do:
`view.lens=diffusion&view.model=tiles&view.picture=0&view.level=0.5`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from explorer.app.diffusion.setting import Setting
from explorer.app.diffusion.state import DiffusionState
from explorer.app.links import VIEW, Link, take
from explorer.app.tree.links import decimal, integers
from explorer.errors import ModelError

LENS = "diffusion"


def to_query(setting: Setting) -> str:
    """The query part of a link that restores this setting.

    Pictures and runs that a person brought have no place in a link: it says that they are missing.
    """
    view = {"lens": LENS}
    for number, subject in zip(("", "2"), setting.subjects, strict=False):
        if subject.run:
            view[f"run{number}"] = "reopened"
        elif subject.model:
            view[f"model{number}"] = quote(subject.model, safe="/")
            view[f"picture{number}"] = "uploaded" if subject.uploaded else subject.picture
    view |= {
        "level": f"{setting.level:g}",
        "n": f"{setting.samples},{setting.steps},{setting.data}",
        "seed": f"{setting.seed}",
        "method": setting.method,
        "kind": setting.kind,
        "variant": f"{setting.variant}",
        "opacity": f"{setting.opacity:g}",
        "view": setting.view,
    }
    if setting.task:
        view["task"] = quote(setting.task)
    return "&".join(f"{VIEW}{key}={text}" for key, text in view.items())


def apply(link: Link, state: DiffusionState) -> list[str]:
    """Bring state to what the link asks for, as far as it makes sense; returns sentences."""
    steps: dict[str, Callable[[str], Any]] = {
        "model": state.choose_model,
        "picture": lambda text: _picture(text, state, 0),
        "run": _gone,
        "model2": lambda text: _second(text, state),
        "picture2": lambda text: _picture(text, state, 1),
        "run2": _gone,
        "n": lambda text: _counts(text, state),
        "level": lambda text: state.set_level(decimal(text, "level")),
        "seed": lambda text: state.set_seed(*integers(text, "seed", 1)),
        "method": state.set_method,
        "kind": state.set_kind,
        "variant": lambda text: state.choose_variant(*integers(text, "variant", 1)),
        "opacity": lambda text: state.set_opacity(decimal(text, "opacity")),
        "view": state.look_at,
        "task": state.set_task,
    }
    return take(link, steps)


def _picture(text: str, state: DiffusionState, side: int) -> None:
    if text == "uploaded":
        raise ModelError(
            "The link is of a picture that was uploaded, which a link cannot hold: upload it again."
        )
    state.choose_picture(text, side)


def _second(name: str, state: DiffusionState) -> None:
    state.compare(True)
    state.choose_model(name, 1)


def _gone(_: str) -> None:
    raise ModelError("The link is of a reopened run, which a link cannot hold: open its file.")


def _counts(text: str, state: DiffusionState) -> None:
    samples, steps, data = integers(text, "n", 3)
    state.set_counts(samples, steps, data)
