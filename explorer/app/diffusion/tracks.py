"""What is known of one subject: its picture, its noise, and the variants of every level so far."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.diffusion.setting import Spec

if TYPE_CHECKING:
    import xarray as xr

LARGEST_TILE = 128
"""Variants are sent to the browser with at most so many pixels a side."""


@dataclass(frozen=True, eq=False)
class Row:
    """One level: a result of ``ex.forward_backward`` with one level and the dimension datum."""

    point: int
    data: xr.Dataset
    preview: bool
    noised: np.ndarray | None = None
    """x_t as pictures (sample, h, w, c) uint8, where the browser cannot compute it."""

    @property
    def level(self) -> float:
        return float(self.data["level"].values[0])

    @property
    def pictures(self) -> int:
        """How many pictures were noised."""
        return self.data.sizes["datum"]

    @property
    def images(self) -> np.ndarray:
        """Variants of the first picture, uint8 (sample, h, w, c)."""
        return self.data["image"].values[0, 0]

    @cached_property
    def sheet(self) -> str:
        """The variants side by side, as a data address."""
        return sheet(self.images)

    @cached_property
    def noised_sheet(self) -> str:
        """The noised pictures side by side, as a data address; empty where there are none."""
        return "" if self.noised is None else sheet(self.noised)


@dataclass(frozen=True, eq=False)
class Track:
    """One subject's picture (h, w, c) uint8, and its levels: number of steps -> row."""

    spec: Spec
    title: str
    steps: int
    picture: np.ndarray
    alpha_bar: np.ndarray
    """Of every number of steps, 0 to `steps`; nan where a saved run does not say."""
    noise: np.ndarray | None = None
    """z of the noised pictures, float32 (sample, h, w, c); None where x is no picture."""
    rows: Mapping[int, Row] = field(default_factory=dict)
    precomputed: str = ""
    """What a reopened run says of itself; empty for one that is computed here."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_row(self, row: Row) -> Track:
        """With another level, unless that would put a preview in a finished level's place."""
        known = self.rows.get(row.point)
        if known is None or known.preview:
            better = True
        else:
            better = not row.preview and row.pictures >= known.pictures
        if not better:
            return self
        return replace(self, rows={**self.rows, row.point: row}, facts={**row.data.attrs})

    @property
    def finished(self) -> dict[int, Row]:
        """Levels that are denoised to the end, lowest first."""
        return {point: self.rows[point] for point in sorted(self.rows) if self.done(point)}

    def done(self, point: int, pictures: int = 1) -> bool:
        """Whether a level is finished, of that many pictures."""
        row = self.rows.get(point)
        return row is not None and not row.preview and row.pictures >= pictures

    @property
    def curve_rows(self) -> list[Row]:
        """Finished levels of as many pictures as the curves are of, lowest first."""
        most = max((row.pictures for row in self.finished.values()), default=1)
        return [row for row in self.finished.values() if row.pictures == most]

    def nearest(self, level: float) -> Row | None:
        """The row at a level or nearest to it, finished or not."""
        if not self.rows:
            return None
        at = level * self.steps
        return self.rows[min(self.rows, key=lambda point: (abs(point - at), point))]

    def dataset(self) -> xr.Dataset:
        """All finished levels as one Dataset, as by ``ex.forward_backward``."""
        import xarray as xr

        rows = self.curve_rows
        parts = [row.data for row in rows]
        made = xr.concat(parts, "level", data_vars="minimal", coords="minimal", compat="override")
        return made.assign_attrs(parts[-1].attrs, complete=1)


def rows_of(partial: xr.Dataset, steps: int, known: Container[int] = ()) -> list[Row]:
    """Every level of a result with the dimension datum, each on its own, but those known."""
    found = []
    for i, (level, preview) in enumerate(
        zip(partial["level"].values, partial["preview"].values, strict=True)
    ):
        point = round(float(level) * steps)
        if preview or point not in known:
            row = partial.isel(level=[i]).copy(deep=True)  # a view would keep all levels alive
            found.append(Row(point, row, bool(preview)))
    return found


def sheet(images: np.ndarray) -> str:
    """Pictures (n, h, w, 1 or 3) uint8, ceil(sqrt(n)) in a row, as a PNG or JPEG data address."""
    from PIL import Image

    n, height, width, channels = images.shape
    columns = sheet_columns(n)
    board = np.zeros((math.ceil(n / columns) * height, columns * width, channels), np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        board[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    picture = Image.fromarray(board[..., 0] if channels == 1 else board)
    shrink = min(1.0, LARGEST_TILE / max(height, width))
    if shrink < 1:
        size = (round(picture.width * shrink), round(picture.height * shrink))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    out = io.BytesIO()
    kind = "PNG" if max(height, width) <= 64 else "JPEG"
    picture.save(out, kind, **({} if kind == "PNG" else {"quality": 88}))
    return f"data:image/{kind.lower()};base64," + base64.b64encode(out.getvalue()).decode("ascii")


def sheet_columns(n: int) -> int:
    """Pictures in one row of a sheet of n."""
    return math.ceil(math.sqrt(n))


def to_pictures(x: np.ndarray) -> np.ndarray:
    """x in [-1, 1] as uint8; what lies outside is black or white."""
    return ((np.clip(x, -1, 1) + 1) * 127.5).round().astype(np.uint8)
