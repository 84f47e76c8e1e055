"""A trajectory as the browser receives it: arrays as base64, a byte a node where that is enough."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from explorer.app.tree.palette import depth_colours, symbol_colours
from explorer.app.tree.trajectory import Trajectory

FULL = 65535
"""A posterior probability of 1."""


def packed(trajectory: Trajectory) -> dict[str, Any]:
    """What `Tree.picture` holds. Symbols are below 256, which `TreeState` sees to."""
    sizes = trajectory.spec.grammar.sizes
    return {
        "s": sizes.s,
        "L": sizes.L,
        "v": sizes.v,
        "levels": trajectory.levels.tolist(),
        "before": base64_of(trajectory.before, np.uint8),
        "after": base64_of(trajectory.after, np.uint8),
        "begins": base64_of(trajectory.begins, np.uint8),
        "marginal": base64_of((trajectory.marginal.clip(0, 1) * FULL).round(), np.uint16),
        # Belief mixing draws nothing: its leaves are seen as they are, only less certain.
        "noised": ""
        if trajectory.spec.process == "epsilon"
        else base64_of(trajectory.noised, np.int16),
        "depth_colours": depth_colours(sizes.L),
        "symbol_colours": symbol_colours(sizes.v),
    }


def base64_of(array: np.ndarray, kind: type) -> str:
    """The numbers of an array in a format of numpy, for the browser."""
    return base64.b64encode(np.ascontiguousarray(array.astype(kind)).tobytes()).decode("ascii")
