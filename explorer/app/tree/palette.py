"""Colours of the hierarchy lens: one a depth, one a symbol.

Depths go from orange (the root) through orchid to blue (the leaves): from yellow to blue, which
every colour vision tells apart, and of middling lightness, so that they show on white and on
black. Symbols are colorcet's Glasbey colours, each as far as possible from all before it.
"""

from __future__ import annotations

import colorcet
import numpy as np

_STOPS = ((0.90, 0.42, 0.02), (0.74, 0.36, 0.58), (0.49, 0.40, 0.86), (0.16, 0.55, 0.90))

CONTROL_LINES = {"mixture": "#009E73", "field": "#8C6D31"}
"""Controls' colours on the curves."""


def depth_colours(L: int) -> list[str]:
    """L + 1 colours, the root's first."""
    at = np.linspace(0, len(_STOPS) - 1, L + 1)
    channels = [np.interp(at, range(len(_STOPS)), [stop[i] for stop in _STOPS]) for i in range(3)]
    return [
        "#" + "".join(f"{round(255 * x):02x}" for x in rgb) for rgb in zip(*channels, strict=True)
    ]


def symbol_colours(v: int) -> list[str]:
    """v colours, one a symbol."""
    colours = colorcet.b_glasbey_category10
    return [colours[symbol % len(colours)] for symbol in range(v)]
