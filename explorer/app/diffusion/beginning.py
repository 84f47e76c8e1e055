"""The first that is known of a subject: its picture and its noise, or a run that was reopened."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from explorer.app.diffusion import opened
from explorer.app.diffusion.setting import Spec
from explorer.app.diffusion.tracks import Track, rows_of, to_pictures

if TYPE_CHECKING:
    import xarray as xr

    from explorer.diffusion.model import Diffusion


def of_model(spec: Spec, p: Diffusion, uploads: dict[str, bytes]) -> Track:
    """The track of a picture of a model, or of one that was uploaded, before any level is known.

    Raises ImageError, ModelError.
    """
    from explorer.diffusion.results import standard_normal
    from explorer.diffusion.samplers import timestep_grid

    picture = opened.picture_of(spec.subject.picture, p, uploads)[0]
    grid = timestep_grid(p.timesteps, min(spec.steps, p.timesteps))
    noise = None
    if p.vae is None:
        shape = (p.network_channels, *p.network_size)
        drawn = [standard_normal(spec.seed, 0, i, 0, shape) for i in range(spec.samples)]
        noise = np.moveaxis(np.stack(drawn), 1, -1)
    alpha_bar = np.array([1.0, *(p.alpha_bar[t] for t in grid)])
    return Track(spec, p.name.rsplit("/", 1)[-1], spec.steps, picture, alpha_bar, noise)


def of_run(spec: Spec, result: xr.Dataset) -> Track:
    """The track of a saved run, as `runs.check_run` leaves it, with all its levels.

    Its noise is in the file, or drawn from the seed again.
    """
    from explorer.diffusion.results import noise_of

    steps = spec.steps
    alpha_bar = np.full(steps + 1, np.nan)
    rows = rows_of(result, steps)
    if "alpha_bar" in result.coords:
        alpha_bar[[row.point for row in rows]] = result["alpha_bar"].values
    picture = result["original"].values.reshape(-1, *result["image"].shape[-3:])[0]
    said = f"{result.attrs.get('device', 'another machine')}, {steps} steps"
    title = str(result.attrs.get("model", "a saved run")).rsplit("/", 1)[-1]
    track = Track(spec, title, steps, picture, alpha_bar, noise_of(result), precomputed=said)
    for row in rows:
        noised = to_pictures(row.data["x_t"].values[0, 0]) if "x_t" in row.data else None
        track = track.with_row(replace(row, noised=noised))
    return track
