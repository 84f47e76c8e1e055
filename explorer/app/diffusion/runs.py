"""Saved runs that a person opens again: checked, and the last ones kept."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ImageError

if TYPE_CHECKING:
    import xarray as xr

LARGEST_RUN = 14_000_000
"""Bytes of an upload: a message of the browser's may have 20 MB, and base64 adds a third."""
LARGEST_UNPACKED = 400_000_000
"""Bytes of an uploaded run's arrays: a small file may hold very many zeros."""
MOST_KEPT = 400_000_000
"""Bytes of all runs that one session keeps to go back to."""
MOST_STEPS = 10_000
"""Published models were trained with 1000 or 4000."""
RUN_DIMS = ("level", "sample", "y", "x", "channel")
INSTEAD = "Open it in a notebook, with ex.DiffusionLens(result=ex.open_result(file))."


def read_run(name: str, data: bytes) -> xr.Dataset:
    """A saved run from the bytes of a NetCDF file. Raises ImageError, CheckpointError."""
    from explorer.diffusion.results import open_result

    if sentence := too_large(name[:60], len(data)):
        raise ImageError(sentence)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(name).name[:60] or "run.nc")
        path.write_bytes(data)
        return check_run(open_result(path, most_bytes=LARGEST_UNPACKED))


def too_large(name: str, size: int) -> str:
    """What to say of a file that is too large to be opened again in a browser; else nothing."""
    if size <= LARGEST_RUN:
        return ""
    return (
        f"{name} has {size / 1e6:.1f} MB; a browser can hand over at most "
        f"{LARGEST_RUN / 1e6:.0f} MB. {INSTEAD}"
    )


def check_run(result: xr.Dataset) -> xr.Dataset:
    """A result of ``ex.forward_backward`` with the dimension datum, fit to be shown.

    What a file says of itself may be anything. Raises ImageError.
    """
    wanted = {"image", "original", "preview"} <= set(getattr(result, "data_vars", ()))
    if not wanted or not set(RUN_DIMS) <= set(result["image"].dims):
        raise ImageError("This Dataset is no result of ex.forward_backward.")
    steps = _steps(result.attrs.get("steps"))
    if result.sizes["level"] < 1 or result.sizes["sample"] < 2:
        raise ImageError("A run to look at has at least one level and two variants.")
    if result.sizes["channel"] not in (1, 3):
        raise ImageError(f"A run's pictures are grey or RGB, not of {result.sizes['channel']}.")
    _check_levels(result, steps)
    preview = result["preview"]
    result = result[[name for name in ("image", "original", "x_t") if name in result]]
    if "datum" not in result["image"].dims:
        result = result.expand_dims("datum")
    result = result.assign(preview=preview)
    order = ("level", "datum", "sample", "y", "x", "channel")
    result = result.transpose(*order, ..., missing_dims="ignore").assign_attrs(steps=steps)
    if "x_t" in result and (result["x_t"].dims != order or result["x_t"].dtype.kind != "f"):
        result = result.drop_vars("x_t")  # of latents, or of something else: no picture
    return result


def _steps(said: Any) -> int:
    """The number of steps that a file claims, as a whole number. Raises ImageError."""
    whole = isinstance(said, int | np.integer) and not isinstance(said, bool)
    if not whole or not 1 <= said <= MOST_STEPS:
        raise ImageError(
            f"A run says how many steps it has, a whole number from 1 to {MOST_STEPS:,}, not "
            f"{str(said)[:40]!r}: save it again with ex.save_result."
        )
    return int(said)


def _check_levels(result: xr.Dataset, steps: int) -> None:
    """Raises ImageError unless levels are different steps, with numbers beside them."""
    levels = result["level"].values
    fit = levels.dtype.kind == "f" and bool(((levels >= 0) & (levels <= 1)).all())
    if not fit or len({*np.round(levels * steps).tolist()}) != len(levels):
        raise ImageError(
            f"The levels of a run are different ones of its {steps} steps from 0 to 1; save it "
            "again with ex.save_result."
        )
    if result["preview"].dtype.kind not in "bi" or result["preview"].shape != levels.shape:
        raise ImageError("A run says of every level whether it is a preview; save it again.")
    abar = result.coords.get("alpha_bar")
    if abar is not None and (abar.dtype.kind != "f" or abar.shape != levels.shape):
        raise ImageError("alpha_bar of a run is a number for every level; save it again.")


class Runs(dict[str, "xr.Dataset"]):
    """Runs that a session has opened, by name: the last ones, as many as ``most_bytes`` hold."""

    def __init__(self, most_bytes: int = MOST_KEPT):
        super().__init__()
        self.most_bytes = most_bytes

    def keep(self, result: xr.Dataset, shown: Collection[str] = ()) -> tuple[str, list[str]]:
        """The name under which a run is kept from now on, and the names of those that made room.

        Those in ``shown`` are on screen, and stay.
        """
        digest = hashlib.sha256(result["image"].values.tobytes())
        digest.update(result["level"].values.tobytes())
        name = digest.hexdigest()[:12]
        self.pop(name, None)
        self[name] = result
        gone: list[str] = []
        for oldest in [key for key in self if key != name and key not in shown]:
            if sum(run.nbytes for run in self.values()) <= self.most_bytes:
                break
            del self[oldest]
            gone.append(oldest)
        return name, gone

    def of(self, name: str) -> xr.Dataset:
        """The run of that name. Raises ImageError for one that had to make room."""
        if name not in self:
            raise ImageError(
                "This run is no longer in memory, where others took its place; open its file again."
            )
        return self[name]
