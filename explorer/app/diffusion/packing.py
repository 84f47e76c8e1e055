"""A track as the browser receives it: pictures as sheets, noise and changes as base64."""

from __future__ import annotations

from typing import Any

import numpy as np

from explorer.app.diffusion.measured import Measured
from explorer.app.diffusion.tracks import Row, Track, sheet, sheet_columns
from explorer.app.tree.packing import base64_of

MOST_NOISE = 400_000
"""Numbers of noise sent to the browser: all variants' where they are few, else the first one's."""
NOISE_SCALE = 4096
EXAMPLES_SHOWN = 24


def side(track: Track) -> dict[str, Any]:
    """What is fixed: the picture, its noise, and how much of either there is at every step."""
    height, width, channels = track.picture.shape
    noise, known = track.noise, 0
    if noise is not None:
        known = len(noise) if noise.size <= MOST_NOISE else 1
    samples = next((len(row.images) for row in track.rows.values()), track.spec.samples)
    return {
        "title": track.title,
        "size": [height, width, channels],
        "original": base64_of(track.picture, np.uint8),
        "noise": "" if noise is None else base64_of(_scaled(noise[:known]), np.int16),
        "noises": known,
        "alpha_bar": [None if x != x else float(x) for x in track.alpha_bar],
        "steps": track.steps,
        "samples": samples,
        "columns": sheet_columns(samples),
        "precomputed": track.precomputed,
    }


def row(row: Row, measured: Measured | None) -> dict[str, Any]:
    """One level: its variants, and how much every patch of each changed (0 to 255)."""
    packed: dict[str, Any] = {
        "point": row.point,
        "sheet": row.sheet,
        "noised": row.noised_sheet,
        "preview": row.preview,
        "change": "",
    }
    if measured is not None and row.point in measured.fields:
        field = measured.fields[row.point][0]  # of the first picture
        largest = measured.largest or 1.0
        packed |= {
            "change": base64_of(np.round(field / largest * 255), np.uint8),
            "grid": [*field.shape[1:]],
            "threshold": measured.threshold(row.point) / largest * 255,
        }
    return packed


def examples(pictures: np.ndarray | None) -> dict[str, Any]:
    """The first held-out pictures of a model, for the picker."""
    if pictures is None or not len(pictures):
        return {"sheet": "", "columns": 1, "n": 0}
    shown = pictures[:EXAMPLES_SHOWN]
    return {"sheet": sheet(shown), "columns": sheet_columns(len(shown)), "n": len(shown)}


def _scaled(noise: np.ndarray) -> np.ndarray:
    return np.clip(np.round(noise * NOISE_SCALE), -32768, 32767)
