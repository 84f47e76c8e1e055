"""How much every patch changed at each level, and how far changes reach: columns of the charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from explorer.app.diffusion.setting import CLASSIFIER
from explorer.app.diffusion.tracks import Track
from explorer.app.tree.measured import Columns, with_bars

if TYPE_CHECKING:
    import xarray as xr

    from explorer.diffusion.tiles import Tiles


@dataclass(frozen=True, eq=False)
class Measured:
    """Change fields of one track in one kind: number of steps -> field (datum, sample, y, x).

    ``chunks`` is of all finished levels, as by ``ex.chunk_statistics``; None before the first.
    """

    kind: str
    fields: Mapping[int, np.ndarray] = field(default_factory=dict)
    chunks: xr.Dataset | None = None
    levels: frozenset[tuple[int, int]] = frozenset()
    """The finished levels that are measured, each with its number of pictures."""
    note: str = ""
    """What a person should know of how it was measured: that memory ran out."""

    def threshold(self, point: int) -> float:
        """Above it a patch counts as changed: Otsu's of all finished levels, or of this one."""
        from explorer.measures.chunks import otsu_threshold

        if self.chunks is not None:
            return float(self.chunks.attrs["threshold"])
        return otsu_threshold(self.fields[point]) if point in self.fields else 0.0

    def field_of(self, point: int) -> tuple[np.ndarray, float, float] | tuple[()]:
        """What the map of a level is drawn from: field, threshold and scale; empty for none."""
        if point not in self.fields:
            return ()
        return self.fields[point], self.threshold(point), self.largest

    @property
    def largest(self) -> float:
        """The largest change of all, for the map's scale."""
        return max((float(values.max()) for values in self.fields.values()), default=0.0)

    # Columns of the charts

    def against_level(self, name: str) -> Columns:
        """One mark a level of one of the statistics, with its error bar."""
        if self.chunks is None:
            return with_bars({"level": []}, "value", np.array([]), np.array([]))
        start: Columns = {"level": self.chunks["level"].values.tolist()}
        values, errors = (self.chunks[f"{name}{end}"].values for end in ("", "_error"))
        return with_bars(start, "value", values, errors)

    def correlation(self, level: float) -> tuple[float, Columns]:
        """The measured level nearest to one, and C(r) / C(0) over r in patches there.

        What is not positive has no place on a logarithmic axis and becomes nan.
        """
        if self.chunks is None:
            return float("nan"), with_bars({"r": []}, "correlation", np.array([]), np.array([]))
        here = self.chunks.sel(level=level, method="nearest")
        values = here["relative_correlation"].values[1:]
        errors = here["relative_correlation_error"].values[1:]
        start: Columns = {"r": here["distance"].values[1:].tolist()}
        made = with_bars(start, "correlation", np.where(values > 0, values, np.nan), errors)
        made["lower"] = np.maximum(np.array(made["lower"]), 1e-6).tolist()
        return float(here["level"]), made


@dataclass(frozen=True, eq=False)
class Side:
    """All that is known of one subject on screen."""

    title: str
    track: Track
    measured: Measured
    seen: xr.Dataset | None = None
    """What a classifier sees, as by ``ex.depth_similarity``; None where none has looked."""


def change_of(data: xr.Dataset, kind: str, tiles: Tiles | None) -> tuple[np.ndarray, str]:
    """The change field of one row (datum, sample, y, x), as by ``ex.change_field``, and a note."""
    from explorer.measures.change_field import change_field

    data = data.assign_attrs(note="")  # the run's own is known
    found = change_field(data, kind, tower=_glyphs() if kind == "clip" else None, tiles=tiles)
    change = found["change"].transpose("level", "datum", "sample", "y", "x").values[0]
    return change, str(found.attrs.get("note", ""))


def statistics(fields: Mapping[float, np.ndarray]) -> xr.Dataset:
    """``ex.chunk_statistics`` of several levels: level -> change (datum, sample, y, x)."""
    import xarray as xr

    from explorer.measures.chunks import chunk_statistics

    change = xr.DataArray(
        np.stack([*fields.values()]),
        dims=("level", "datum", "sample", "y", "x"),
        coords={"level": [*fields]},
    )
    return chunk_statistics(change)


def _glyphs():
    """The CLIP tower that is embedded, opened once a process."""
    from explorer.app.shared_models import open_shared

    return open_shared(CLASSIFIER)
