"""Colours of the diffusion lens: the first subject as the hierarchy lens draws what it measured,
the second in one that stands for nothing else; depths of a network from blue (first) to orange
(last)."""

from __future__ import annotations

from explorer.app import theme
from explorer.app.tree.marks import MEASURED_INK
from explorer.app.tree.palette import depth_colours

SUBJECTS = (MEASURED_INK, "#949400")
"""Blue and olive: apart with every colour vision, and dark enough for white, light enough for a
dark page."""
MARKS = ("circle", "triangle")
CHANGE = theme.EDITED
"""Where a patch changed."""


def layer_colours(n: int) -> list[str]:
    """n colours, the first layer's first; n of at least 2."""
    return depth_colours(n - 1)[::-1]
