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
        "before": _text(trajectory.before, np.uint8),
        "after": _text(trajectory.after, np.uint8),
        "begins": _text(trajectory.begins, np.uint8),
        "marginal": _text((trajectory.marginal.clip(0, 1) * FULL).round(), np.uint16),
        # Belief mixing draws nothing: its leaves are seen as they are, only less certain.
        "noised": ""
        if trajectory.spec.process == "epsilon"
        else _text(trajectory.noised, np.int16),
        "depth_colours": depth_colours(sizes.L),
        "symbol_colours": symbol_colours(sizes.v),
    }


def _text(array: np.ndarray, kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(array.astype(kind)).tobytes()).decode("ascii")
