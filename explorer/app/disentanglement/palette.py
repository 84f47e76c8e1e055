"""Colours of the maps: perceptually uniform, and told apart with any colour vision.

Low errors are dark blue and high ones yellow (colorcet's CET_CBL2, made for protanopia and
deuteranopia). For accuracies the order is reversed, so that blue means "as one would have it" in
every layer.
"""

from __future__ import annotations

import colorcet

from explorer.app.disentanglement.layers import BETTER_HIGH

ERROR: list[str] = [*colorcet.CET_CBL2]
ACCURACY: list[str] = ERROR[::-1]
STOPS = 17
"""Colours that draw a smooth bar in the browser."""


def palette(layer: str) -> list[str]:
    """The 256 colours of a layer, from its lowest to its highest number."""
    return ACCURACY if layer in BETTER_HIGH else ERROR


def stops(layer: str) -> list[str]:
    """A few of them, evenly spread, for the colour bar."""
    colours = palette(layer)
    return [colours[round(i * (len(colours) - 1) / (STOPS - 1))] for i in range(STOPS)]
