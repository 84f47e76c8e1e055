"""The lens chooser, above a lens in a cell or on the title bar of a page; the switch of heads."""

from __future__ import annotations

from collections.abc import Callable

import panel_material_ui as pmui

from explorer.app.disentanglement.components import Choice
from explorer.app.lenses import TITLES
from explorer.app.links import PROBES
from explorer.app.theme import MATERIAL

_TITLES_ON_ONE_LINE = {
    "textTransform": "none",
    "whiteSpace": "nowrap",
    "fontSize": "14px",
    "padding": "3px 12px",
}
IN_A_CELL = {
    "flexWrap": "wrap",
    # As wide as its title: by itself a button is as wide as the cell, and has a row for itself.
    "& .MuiToggleButton-root": {**_TITLES_ON_ONE_LINE, "width": "auto !important"},
}
"""Its style above a lens."""
ON_TITLE_BAR = {
    "flexWrap": "nowrap",
    "& .MuiToggleButton-root": {
        **_TITLES_ON_ONE_LINE,
        "color": "#fff !important",
        "border": "none",
        "borderRadius": "6px",
        "opacity": 0.8,
    },
    "& .MuiToggleButton-root.Mui-selected, & .MuiToggleButton-root.Mui-selected:hover": {
        "background": "rgb(255 255 255 / .22) !important",
        "opacity": 1,
    },
}
"""Its style on the bar of a page, which is dark in both themes."""


def lens_chooser(chosen: str, choose: Callable[[str], None]) -> pmui.RadioButtonGroup:
    """The chooser as it stands above a lens; ``choose(name)`` is called for what is picked."""
    chooser = pmui.RadioButtonGroup(
        options={title: name for name, title in TITLES.items()},
        value=chosen,
        size="small",
        label="",
        margin=(0, 12, 6, 0),
        theme_config=MATERIAL,
        sx=IN_A_CELL,
    )
    chooser.param.watch(lambda event: choose(event.new), "value")
    return chooser


def put_on_title_bar(chooser: pmui.RadioButtonGroup) -> None:
    """Make it look as it should on the bar of a page."""
    chooser.param.update(sx=ON_TITLE_BAR, margin=(0, 12))


def heads_switch(probes: bool, choose: Callable[[bool], None]) -> Choice:
    """What reads the tower's features: ``choose(probes)`` is called for what is picked."""
    return Choice(
        lambda message: choose(message.get("name") == PROBES),
        label="heads",
        chosen=PROBES if probes else "",
        choices=[
            {
                "name": "",
                "title": "zero-shot",
                "explanation": "a class is the direction of the words that name it",
            },
            {
                "name": PROBES,
                "title": "linear probes",
                "explanation": "linear classifiers, fitted on the base's features of each task's "
                "validation images",
            },
        ],
    )
