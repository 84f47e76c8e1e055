"""A network of tiles scored against the exact denoiser, on the same noised pictures."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from explorer.diffusion.exact import exact_denoising
from explorer.diffusion.model import Diffusion
from explorer.diffusion.samplers import timestep_grid
from explorer.diffusion.tiles import Tiles, leaf_places
from explorer.errors import ModelError
from explorer.hierarchy.chunks import RESAMPLES
from explorer.hierarchy.inference import posterior
from explorer.measures.change_field import change_field
from explorer.measures.chunks import chunk_statistics

if TYPE_CHECKING:
    import xarray as xr

DENOISERS = ["network", "exact"]


def score_against_exact(
    result: "xr.Dataset", p: Diffusion, seed: int = 0, resamples: int = RESAMPLES
) -> "xr.Dataset":
    """Statistics of a network's changes beside those of exact draws from the same x_t.

        result = ex.forward_backward(p, starts, levels).result()
        score = score_against_exact(result, p)
        score.susceptibility.sel(denoiser="exact")

    Everything of ``ex.chunk_statistics`` on the tiles' symbols, with a dimension ``denoiser``
    ("network", "exact") and bootstrap errors over pictures. Besides, at each level:

    - ``mean_error`` (level, denoiser): mean squared difference between x_0, from -1 to 1, and its
      predicted mean given x_t, a pixel and colour. No denoiser is below the exact one on average,
      E(x_0 | x_t) by belief propagation.
    - ``gap`` (level): mean squared difference between the two predicted means; on average it is
      what the network's ``mean_error`` has too much. Of both, errors are over pictures.

    Raises ModelError for a model without tiles, or a result without x_t.
    """
    import xarray as xr

    if p.tiles is None:
        raise ModelError(f"{p.name} is no model of tiles: its exact denoiser is not known.")
    runs = {"network": result, "exact": exact_denoising(result, p.tiles, seed)}
    chunks = [
        chunk_statistics(
            change_field(run, kind="symbols", tiles=p.tiles), 0.5, seed=seed, resamples=resamples
        )
        for run in runs.values()
    ]
    score = xr.concat(chunks, xr.Variable("denoiser", DENOISERS), combine_attrs="drop_conflicts")
    errors = _mean_errors(result, p)
    for name, (values, spread) in errors.items():
        dims = ("level", "denoiser") if values.ndim == 2 else ("level",)
        score[name] = (dims, values, {"units": "1"})
        score[f"{name}_error"] = (dims, spread, {"long_name": "standard error", "units": "1"})
    return score


def exact_mean(tiles: Tiles, x_t: Tensor, alpha_bar: float) -> Tensor:
    """E(x_0 | x_t) over all strings of the grammar, float32 (n, 3, side, side) like ``x_t``."""
    beliefs = torch.as_tensor(posterior(tiles.grammar, tiles.likelihood(x_t, alpha_bar))[-1])
    colour = beliefs.float() @ tiles.palette.to(beliefs.device)  # (n, leaves, 3)
    rows, columns = (torch.from_numpy(place) for place in leaf_places(tiles.grammar.L))
    grid = torch.empty(len(x_t), 3, 2**tiles.grammar.L, 2**tiles.grammar.L, device=x_t.device)
    grid[:, :, rows, columns] = colour.movedim(-1, 1)
    return grid.repeat_interleave(tiles.pixels, -1).repeat_interleave(tiles.pixels, -2)


def _mean_errors(result: "xr.Dataset", p: Diffusion) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """``mean_error`` (level, denoiser) and ``gap`` (level), each with its standard error."""
    assert p.tiles is not None
    side, steps = p.tiles.side, int(result.attrs["steps"])
    grid = [0, *timestep_grid(p.timesteps, steps)]
    over = [d for d in ("level", "datum", "sample") if d in result.x_t.dims]
    x_t = result.x_t.transpose(*over, "channel", "y", "x").values
    x_t = torch.from_numpy(x_t).reshape(len(x_t), -1, result.sizes["sample"], 3, side, side)
    starts = result.original.transpose(..., "y", "x", "channel").values
    x0 = p.encode(starts.reshape(-1, side, side, 3)).cpu()[:, None]
    own, gap = np.zeros((*x_t.shape[:2], 2)), np.zeros(x_t.shape[:2])
    for i, level in enumerate(result.level.values):
        if level == 0:  # nothing to guess
            continue
        flat = x_t[i].flatten(0, 1)
        timestep = grid[round(float(level) * steps)]
        seen = p.predict(flat.to(p.device), timestep).x0.cpu().view(x_t[i].shape)
        mean = exact_mean(p.tiles, flat, float(p.alpha_bar[timestep])).view(x_t[i].shape)
        for j, guess in enumerate((seen, mean)):
            own[i, :, j] = (guess - x0).square().flatten(1).mean(1)
        gap[i] = (seen - mean).square().flatten(1).mean(1)
    return {
        "mean_error": (own.mean(1), _standard_error(own)),
        "gap": (gap.mean(1), _standard_error(gap)),
    }


def _standard_error(by_picture: np.ndarray) -> np.ndarray:
    """(level, pictures, ...) -> (level, ...), nan of a single picture."""
    n = by_picture.shape[1]
    if n == 1:
        return np.full((by_picture.shape[0], *by_picture.shape[2:]), np.nan)
    return by_picture.std(1, ddof=1) / n**0.5
