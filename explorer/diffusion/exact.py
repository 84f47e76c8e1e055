"""The exact denoiser of tiles, to score a network against: the same x_t, belief propagation."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from explorer.diffusion.tiles import Tiles
from explorer.errors import ModelError
from explorer.hierarchy.inference import posterior

if TYPE_CHECKING:
    import xarray as xr


def exact_denoising(result: "xr.Dataset", tiles: Tiles, seed: int = 0) -> "xr.Dataset":
    """A result of ``ex.forward_backward`` with every picture drawn from the exact posterior.

        exact = exact_denoising(result, p.tiles)
        ex.chunk_statistics(ex.change_field(exact, kind="symbols", tiles=p.tiles))

    Each x_t of the result is kept, and its picture becomes one draw of p(x_0 | x_t) over all
    strings of the grammar, by belief propagation. Raises ModelError for a result that has no x_t
    of the tiles' size, or a level without noise that is no string of tiles.
    """
    dims = ("y", "x", "channel")
    side = tiles.side
    if "x_t" not in result or tuple(result.sizes.get(d) for d in dims) != (side, side, 3):
        raise ModelError(
            f"Exact denoising needs a result of ex.forward_backward with x_t of {side} x {side} "
            "pixels in colour."
        )
    x_t = result.x_t.transpose(..., *dims)
    images = result.image.transpose(..., *dims).values.copy()
    for level, abar in enumerate(result.alpha_bar.values):
        if abar == 1:  # without noise the posterior is the picture itself
            continue
        x = torch.from_numpy(x_t.values[level]).reshape(-1, side, side, 3).permute(0, 3, 1, 2)
        beliefs = posterior(tiles.grammar, tiles.likelihood(x.contiguous(), float(abar)))
        leaves = beliefs.sample(1, seed)[-1][:, 0]
        images[level] = tiles.render(np.asarray(leaves)).reshape(images[level].shape)
    exact = result.assign(image=(x_t.dims, images))
    exact["preview"] = result.preview.copy(data=np.zeros(result.sizes["level"], dtype=bool))
    exact.attrs |= {"method": "exact", "stochastic": 1, "exact_seed": seed}
    return exact
