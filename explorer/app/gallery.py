"""The gallery's pictures: one sprite a page, cut from the focused task's test images."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

PER_PAGE = 48
COLUMNS = 8
SHORTEST_SIDE = 64
"""Smaller pictures are enlarged to this many pixels, so that browsers do not blur them."""


@dataclass(frozen=True)
class Page:
    """Some consecutive test images of one task, as one picture."""

    task: str
    sprite: str
    """All pictures, `COLUMNS` in a row, as a data address (PNG)."""
    labels: list[int]
    images: slice
    number: int
    pages: int
    where: str


def page_of(
    task: str, images: np.ndarray, labels: np.ndarray, number: int, per_page: int = PER_PAGE
) -> Page:
    """Page `number` (0-based, clipped to those there are) of uint8 images (n, y, x, 3)."""
    total = len(images)
    pages = max(1, math.ceil(total / per_page))
    number = min(max(number, 0), pages - 1)
    part = slice(number * per_page, min((number + 1) * per_page, total))
    where = f"{part.start + 1:,}–{part.stop:,} of {total:,}" if total else "no images"
    return Page(task, sprite(images[part]), labels[part].tolist(), part, number, pages, where)


def sprite(images: np.ndarray) -> str:
    """Images (n, y, x, 3) side by side, `COLUMNS` in a row, as a PNG data address."""
    n, height, width = images.shape[:3]
    lines = max(1, math.ceil(n / COLUMNS))
    sheet = np.zeros((lines * height, COLUMNS * width, 3), np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, COLUMNS)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    picture = Image.fromarray(sheet)
    times = math.ceil(SHORTEST_SIDE / min(height, width)) if n else 1
    if times > 1:
        picture = picture.resize(
            (sheet.shape[1] * times, sheet.shape[0] * times), Image.Resampling.NEAREST
        )
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=False)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
