"""Which images make the error: those that the joint edit labels otherwise than the single one.

Pure functions over the datasets of `ex.disentanglement`, which hold every image's prediction, so
that a click is answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Differing:
    """The images of one task whose label differs at one cell. Arrays have one entry an image."""

    task: str
    cell: tuple[float, float]
    n: int
    """Images compared, those that do not differ among them."""
    places: np.ndarray
    """Where in the stored test split each differing image is."""
    single: np.ndarray
    joint: np.ndarray
    true: np.ndarray
    known: bool = True
    """Whether the cell is computed; if not, no image is known to differ."""

    @property
    def became_wrong(self) -> int:
        """Images that the single edit had right and the joint edit has not."""
        return int((self.single == self.true).sum())

    @property
    def became_right(self) -> int:
        return int((self.joint == self.true).sum())


def differing(result: xr.Dataset, task: int, cell: tuple[float, float]) -> Differing:
    """Images of task 0 or 1 that differ at a cell, given by its coefficients."""
    i, j = (
        int(np.abs(result[name].values - x).argmin())
        for name, x in zip(("alpha1", "alpha2"), cell, strict=True)
    )
    n = int(result["n"].values[task])
    joint = result["predicted"].values[task, i, j, :n].astype(int)
    single = (result["single1"].values[i] if task == 0 else result["single2"].values[j])[:n]
    found = (float(result["alpha1"].values[i]), float(result["alpha2"].values[j]))
    known = np.allclose(found, cell) and bool(result["measured"].values[i, j])
    differ = np.flatnonzero(joint != single) if known else np.array([], int)
    return Differing(
        str(result["task"].values[task]),
        cell,
        n,
        result["image_index"].values[task, differ],
        single[differ].astype(int),
        joint[differ],
        result["label"].values[task, differ].astype(int),
        known,
    )


def count_sentence(found: Differing, title: str) -> str:
    """ "37 of 400 images of letters differ at (0.9, 0.6)": how many images make the error."""
    place = f"({found.cell[0]:g}, {found.cell[1]:g})"
    if not found.known:
        return f"the cell {place} is not computed yet"
    share = "" if not found.n else f" ({len(found.places) / found.n:.1%})"
    return f"{len(found.places):,} of {found.n:,} images of {title} differ at {place}{share}"


def change_sentence(found: Differing) -> str:
    """What the second task vector did to these images, in numbers."""
    if not len(found.places):
        return ""
    other = len(found.places) - found.became_wrong - found.became_right
    return (
        f"{found.became_wrong:,} became wrong, {found.became_right:,} became right, "
        f"{other:,} wrong in another way than with the task's own vector alone"
    )
