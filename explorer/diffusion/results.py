"""What came back at every level, as one labelled Dataset; saved to a file and opened again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explorer.compute.batches import Batches, with_note
from explorer.diffusion.model import Diffusion
from explorer.errors import CheckpointError, ExportError
from explorer.measures.provenance import versions

if TYPE_CHECKING:
    import xarray as xr

STOCHASTIC = {"ddpm", "ddim_eta1", "dpm_sde"}
DECODED_AT_ONCE = 64
"""Pictures in one call of a decoder or encoder."""
FORMAT = "explorer forward-backward run 1"
NOISE = "noise"
_SEEDED = "left out: standard_normal(seed, datum, sample, 0)"
_COMPRESSED = {"zlib": True, "complevel": 4, "shuffle": True}
CHANNELS = {1: ["grey"], 3: ["red", "green", "blue"]}


def standard_normal(
    seed: int, datum: int, sample: int, step: int, shape: Sequence[int]
) -> np.ndarray:
    """float32 numbers of one trajectory and step; step 0 is the noise of x_t."""
    rng = np.random.default_rng([seed, datum, sample, step])
    return rng.standard_normal(tuple(shape), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Setting:
    """What is asked for, checked: ``points`` are the levels as numbers of steps, rising."""

    p: Diffusion
    pictures: np.ndarray
    points: Sequence[int]
    samples: int
    steps: int
    seed: int
    method: str
    dtype: torch.dtype
    several: bool

    @cached_property
    def trajectories(self) -> list[tuple[int, int]]:
        """(datum, sample) of every trajectory of one level."""
        return [(d, s) for d in range(len(self.pictures)) for s in range(self.samples)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one x: channels, height, width."""
        return (self.p.network_channels, *self.p.network_size)


class Trajectories:
    """All trajectories of all levels: x_t, the latest picture, and whether it is a preview.

    ``noise`` (trajectories, c, h, w) is the same at all levels; ``alpha_bar`` that of each step.
    """

    def __init__(self, setting: Setting, noise: Tensor, alpha_bar: Sequence[float]) -> None:
        self._setting = setting
        self._encoding = Batches(DECODED_AT_ONCE, "encoded")
        self._decoding = Batches(DECODED_AT_ONCE, "decoded")
        pictures = setting.pictures
        parts = self._encoding.over(len(pictures), lambda part: setting.p.encode(pictures[part]))
        x0 = torch.cat(parts)
        self._x0 = x0.repeat_interleave(setting.samples, dim=0)
        self._noise = noise
        self._alpha_bar = alpha_bar
        shape = (len(setting.points), len(setting.pictures), setting.samples)
        self._images = np.empty((*shape, *setting.pictures.shape[1:]), dtype=np.uint8)
        self._latest: dict[int, Tensor] = {}
        self._preview = np.array([k > 0 for k in setting.points])
        self._row = {k: i for i, k in enumerate(setting.points)}
        if 0 in self._row:  # without noise the picture itself comes back
            self._images[self._row[0]] = setting.pictures[:, None]

    def x_t(self, k: int) -> Tensor:
        """sqrt(abar) x_0 + sqrt(1 - abar) z of every trajectory, (trajectories, c, h, w)."""
        abar = self._alpha_bar[k]
        return abar**0.5 * self._x0 + (1 - abar) ** 0.5 * self._noise

    def keep(self, k: int, x0: Tensor) -> None:
        """The latest guess at x_0 of a level; it becomes a picture when one is asked for."""
        self._latest[k] = x0

    def finish(self, points: Sequence[int]) -> None:
        """These levels are denoised to the end."""
        self._preview[[self._row[k] for k in points]] = False

    def dataset(self, facts: Mapping[str, Any], complete: bool) -> "xr.Dataset":
        """Everything so far; arrays that still change are copied."""
        import xarray as xr

        self._develop()
        setting = self._setting
        pixels = ("y", "x", "channel")
        over = ("level", "datum", "sample")
        x_t, x_dims, x_coords = self._seen_noised
        variables = {
            "image": (
                (*over, *pixels),
                self._images.copy(),
                _named("picture after noising and denoising", "0 to 255"),
            ),
            "x_t": ((*over, *x_dims), x_t, _named("noised picture", "-1 black, 1 white")),
            "original": (("datum", *pixels), setting.pictures, _named("picture", "0 to 255")),
            "preview": ("level", self._preview.copy(), _named("not yet denoised to the end")),
        }
        dataset = xr.Dataset(
            variables, coords=self._coordinates() | x_coords, attrs=self._attrs(facts, complete)
        )
        return dataset if setting.several else dataset.isel(datum=0, drop=True)

    def _develop(self) -> None:
        for k, x0 in self._latest.items():
            row = self._images[self._row[k]]
            row[:] = decoded(self._setting.p, x0, self._decoding).reshape(row.shape)
        self._latest.clear()

    @cached_property
    def _seen_noised(self) -> tuple[np.ndarray, tuple[str, ...], dict[str, Any]]:
        """x_t of all levels, channels last, with the names of its last dimensions."""
        setting = self._setting
        stacked = torch.stack([self.x_t(k) for k in setting.points]).movedim(2, -1).cpu().numpy()
        stacked = stacked.reshape(*self._images.shape[:3], *stacked.shape[2:])
        if setting.p.vae is None:
            return stacked, ("y", "x", "channel"), {}
        return stacked, ("latent_y", "latent_x", "latent"), {}

    def _coordinates(self) -> dict[str, Any]:
        setting = self._setting
        points = np.array(setting.points)
        abar = np.array([self._alpha_bar[k] for k in setting.points])
        return {
            "level": ("level", points / setting.steps, _named("noise level t / T")),
            "alpha_bar": ("level", abar, _named("share of the signal's variance left")),
            "channel": CHANNELS[setting.pictures.shape[-1]],
            "sample": np.arange(setting.samples),
            "datum": np.arange(len(setting.pictures)),
        }

    def _attrs(self, facts: Mapping[str, Any], complete: bool) -> dict[str, Any]:
        setting, p = self._setting, self._setting.p
        return {
            "model": p.name,
            "family": p.family,
            "method": setting.method,
            "stochastic": int(setting.method in STOCHASTIC),
            "variance": p.variance_kind(setting.steps),
            "prediction": p.prediction,
            "steps": setting.steps,
            "samples": setting.samples,
            "seed": setting.seed,
            "precision": str(setting.dtype).removeprefix("torch."),
            "device": p.device.type,
            "versions": versions(),
            "complete": int(complete),
            **facts,
            **with_note(facts.get("note"), self._encoding.note, self._decoding.note),
        }


def decoded(p: Diffusion, x: Tensor, batches: Batches) -> np.ndarray:
    """x (n, c, h, w) -> uint8 pictures (n, h, w, channels), in parts that memory has room for."""
    return np.concatenate(batches.over(len(x), lambda part: p.decode(x[part])))


def _named(words: str, units: str = "1") -> dict[str, str]:
    return {"long_name": words, "units": units}


# --- files -----------------------------------------------------------------------------------


def save_result(
    result: "xr.Dataset", path: str | Path, *, noised: bool = True, overwrite: bool = False
) -> Path:
    """Write a result of ``ex.forward_backward`` as NetCDF; returns the path.

        save_result(ex.forward_backward(p, image, levels).result(), "run.nc")
        open_result("run.nc")           # where there is no GPU, and no network either

    Without ``noised`` the x_t are left out, which are most of the file; nothing but the noised
    picture and ``exact_denoising`` needs them, and ``noise_of`` draws those of pictures (not of
    latents) again from the seed. A file that is there is kept unless ``overwrite``.
    Raises ExportError for a path that cannot be written, CheckpointError for another Dataset.
    """
    path = Path(path).expanduser()
    _check_result(result, "This Dataset")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} is there already; choose another name, or overwrite=True.")
    kept = result
    if not noised and "x_t" in result:
        of_pictures = result["x_t"].dims[-3:] == ("y", "x", "channel")
        kept = result.drop_vars("x_t").assign_attrs({NOISE: _SEEDED if of_pictures else "left out"})
    kept = kept.assign_attrs(format=FORMAT)
    large = [name for name in ("image", "x_t", "original") if name in kept]
    part = path.with_name(f".{path.name}.part")  # never half a file under the name asked for
    try:
        kept.to_netcdf(part, engine="h5netcdf", encoding=dict.fromkeys(large, _COMPRESSED))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ExportError(f"{path} cannot be written ({error.strerror or error}).") from None
    return path


def open_result(path: str | Path, *, most_bytes: int | None = None) -> "xr.Dataset":
    """A result that ``save_result`` wrote, read whole; its attrs say ``precomputed`` = 1.

    Measures and pictures take it as they take a fresh one. NetCDF holds arrays and texts: nothing
    in the file is run. Raises CheckpointError for a file that is none, is damaged, holds something
    else, or arrays of more than ``most_bytes`` (packed they may be a thousand times smaller).
    """
    import xarray as xr

    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    try:
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as saved:
            claimed = saved.nbytes
            fits = most_bytes is None or claimed <= most_bytes
            result = saved.load() if fits else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path.name} cannot be read as NetCDF ({reason}); copy it again."
        ) from None
    if result is None:
        raise CheckpointError(
            f"{path.name} unpacks to {claimed / 1e6:,.0f} MB, and at most "
            f"{(most_bytes or 0) / 1e6:,.0f} MB are taken here; save fewer variants or levels, or "
            "without x_t (noised=False)."
        )
    _check_result(result, path.name)
    return result.assign_attrs(precomputed=1, precomputed_file=path.name)


def noise_of(result: "xr.Dataset") -> np.ndarray | None:
    """The noise of a run's first picture, drawn from its seed: float32 (sample, y, x, channel).

    x_t = sqrt(abar) x_0 + sqrt(1 - abar) times it. None for a run whose file kept x_t, or was of
    latents, or does not name its seed.
    """
    seed = result.attrs.get("seed")
    if not isinstance(seed, int | np.integer) or seed < 0 or result.attrs.get(NOISE) != _SEEDED:
        return None
    rows, columns, channels = (result.sizes[name] for name in ("y", "x", "channel"))
    datum = int(np.ravel(result["datum"].values)[0]) if "datum" in result.coords else 0
    samples = (
        result["sample"].values if "sample" in result.coords else range(result.sizes["sample"])
    )
    drawn = [
        standard_normal(int(seed), datum, int(i), 0, (channels, rows, columns)) for i in samples
    ]
    return np.moveaxis(np.stack(drawn), 1, -1)


def _check_result(result: Any, what: str) -> None:
    """Raises CheckpointError unless the arrays of a result are there and fit each other."""
    needed = {"image": {"level", "sample", "y", "x", "channel"}, "original": {"y", "x", "channel"}}
    for name, dims in needed.items():
        if not hasattr(result, "data_vars") or name not in result.data_vars:
            raise CheckpointError(
                f"{what} is no result of ex.forward_backward: it has no {name!r}. Files that "
                "save_result wrote can be opened."
            )
        found = result[name]
        if set(found.dims) - {"datum"} != dims or found.dtype != np.uint8:
            raise CheckpointError(
                f"{name!r} of {what} must be uint8 over {', '.join(sorted(dims))}, not "
                f"{found.dtype} over {', '.join(map(str, found.dims))}."
            )
    for name in ("level", "alpha_bar", "preview"):
        values = result[name].values if name in result.variables else None
        if values is None or values.shape != (result.sizes["level"],):
            raise CheckpointError(f"{what} is no result of ex.forward_backward: {name!r} is amiss.")
    levels = result["level"].values
    if not np.issubdtype(levels.dtype, np.floating) or not ((levels >= 0) & (levels <= 1)).all():
        raise CheckpointError(f"The levels of {what} must lie in [0, 1].")
