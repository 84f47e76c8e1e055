"""Forward-backward experiments: noise a picture to some level, denoise it many times."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from explorer.compute.batches import Batches
from explorer.compute.run import Run
from explorer.diffusion.model import Diffusion
from explorer.diffusion.pictures import as_pictures
from explorer.diffusion.results import Setting, Trajectories, standard_normal
from explorer.diffusion.samplers import Prediction, Step, find_sampler, timestep_grid
from explorer.errors import ModelError

if TYPE_CHECKING:
    import xarray as xr

# Pictures in one call of the network: on a processor more bring nothing, on a card they do.
_AT_ONCE = {"cpu": 32, "cuda": 256}
# Between previews of unfinished levels lie this many steps.
_STEPS_A_PREVIEW = 10


def forward_backward(
    p: Diffusion,
    image: Any,
    levels: ArrayLike,
    samples: int = 32,
    steps: int = 50,
    seed: int = 0,
    method: str = "ddpm",
    *,
    batch: int | None = None,
    precision: str = "auto",
) -> "Run[xr.Dataset]":
    """Noise a picture to each level, denoise each ``samples`` times: what came back.

        run = ex.forward_backward(p, p.examples[0], np.linspace(0.1, 1, 10), samples=16)
        for partial in run:
            partial.image          # (level, sample, y, x, channel) uint8

    x_0 -> x_t ~ q(x_t | x_0) -> x_0' ~ p(x_0' | x_t), the last step by step with the network
    (Sclocchi et al. 2024, arXiv 2402.16991; 2025, arXiv 2410.13770). A level is t / T: 0 gives the
    picture back, 1 is pure noise. There are ``steps`` steps from 1 to 0, and levels are rounded to
    them, so that noising and denoising use the same timesteps.

    ``image`` is one picture (see ``pictures.as_picture``) or several, which add the dimension
    ``datum``. ``method`` is "ddpm", "ddim_eta1" or "dpm_sde", which draw samples, or
    "ddim_preview", which is deterministic given x_t. Random numbers depend on the seed, the
    picture's number, the sample and the step alone: results do not depend on the other levels,
    nor on ``batch`` (pictures a call of the network; None: as the device likes it), but for the
    rounding of bfloat16, which "auto" uses where it is faster; ``precision="float32"`` has none.

    The first partial is a preview of every level, what the network predicts of x_0 at once, which
    is a mean and therefore blurred (``preview`` is True); previews sharpen as steps go on, and
    levels finish lowest first. Raises ModelError, ImageError and UnknownNameError at once.
    """
    if not isinstance(p, Diffusion):
        raise ModelError(
            f"forward_backward takes a model of ex.open_diffusion, not {type(p).__name__}."
        )
    find_sampler(method)
    steps = _whole("steps", steps, 1)
    if steps > p.timesteps:
        raise ModelError(f"{p.name} was trained with {p.timesteps} steps: {steps} are too many.")
    setting = Setting(
        p,
        as_pictures(image, p.image_size, p.channels),
        grid_points(levels, steps),
        _whole("samples", samples, 1),
        steps,
        _whole("The seed", seed, 0),
        method,
        p.dtype_of(precision),
        several=_several(image),
    )
    most = _AT_ONCE.get(p.device.type, 32) if batch is None else _whole("batch", batch, 1)
    batches = Batches(most, "denoised")
    return Run(lambda run: _Work(setting, run, batches).partials(), title="forward-backward")


def grid_points(levels: ArrayLike, steps: int) -> list[int]:
    """The distinct steps (0 to ``steps``) nearest to levels in [0, 1], rising.

    Raises ModelError for none, or for one outside.
    """
    points = set()
    for level in np.ravel(np.asarray(levels, dtype=object)):
        try:
            number = float(level)
        except (TypeError, ValueError):
            number = float("nan")
        if not 0 <= number <= 1:
            raise ModelError(f"A noise level must lie in [0, 1], not {level!r}.")
        points.add(round(number * steps))
    if not points:
        raise ModelError("At least one level of noise is needed.")
    return sorted(points)


@dataclass
class _Work:
    """The trajectories of all levels, run in groups that fill a batch, lowest levels first."""

    setting: Setting
    run: Run
    batches: Batches
    calls: int = 0

    def partials(self) -> Iterator["xr.Dataset"]:
        setting = self.setting
        grid = timestep_grid(setting.p.timesteps, setting.steps)
        self.alpha_bar = [1.0, *(float(setting.p.alpha_bar[t]) for t in grid)]
        self.timestep = [0, *grid]
        self.total = len(setting.trajectories) * sum(1 + k for k in setting.points if k) or 1
        found = Trajectories(setting, self._numbers(0), self.alpha_bar)
        for k in setting.points:
            if k:
                self._preview(found, k)
        yield found.dataset(self._facts(), complete=not any(setting.points))
        for group in self._groups():
            for k in self._descend(found, group):
                if k and k % _STEPS_A_PREVIEW == 0:
                    yield found.dataset(self._facts(), complete=False)
            found.finish(group)
            last = group[-1] == setting.points[-1]
            yield found.dataset(self._facts(), complete=last)

    def _groups(self) -> list[list[int]]:
        """Levels whose trajectories fill a batch together, lowest first."""
        points = [k for k in self.setting.points if k]
        size = max(1, self.batches.at_once // len(self.setting.trajectories))
        return [points[i : i + size] for i in range(0, len(points), size)]

    def _preview(self, found: Trajectories, k: int) -> None:
        x = found.x_t(k)
        found.keep(k, self._predict(x, k).x0)

    def _descend(self, found: Trajectories, group: list[int]) -> Iterator[int]:
        """One descending loop over the grid, in which a level takes part from its own step on.

        Equal to running the levels one by one: they only share calls of the network.
        """
        setting, sampler = self.setting, find_sampler(self.setting.method)
        n, kind = len(setting.trajectories), setting.p.variance_kind(setting.steps)
        x: dict[int, Tensor] = {}
        previous: dict[int, Tensor] = {}
        for k in range(group[-1], 0, -1):
            if k in group:
                x[k] = found.x_t(k)
            seen = self._predict(torch.cat(list(x.values())), k)
            z = self._numbers(k)
            for i, point in enumerate(x):
                mine = seen.part(slice(i * n, (i + 1) * n))
                before = self.alpha_bar[k + 1] if point in previous else None
                step = Step(self.alpha_bar[k], self.alpha_bar[k - 1], before, kind)
                x[point] = sampler(x[point], mine, step, z, previous.get(point, mine.x0))
                previous[point] = mine.x0
                found.keep(point, x[point] if k == 1 else mine.x0)
            yield k - 1

    def _numbers(self, step: int) -> Tensor:
        """Random numbers of every trajectory at a step, (trajectories, c, h, w)."""
        setting = self.setting
        drawn = [
            standard_normal(setting.seed, datum, sample, step, setting.shape)
            for datum, sample in setting.trajectories
        ]
        return torch.from_numpy(np.stack(drawn)).to(setting.p.device)

    def _predict(self, x: Tensor, k: int) -> Prediction:
        """The network's word on all of x, in as many calls as memory asks for."""

        def predict(part: slice) -> Prediction:
            self.run.checkpoint(self.calls / self.total)
            p, dtype = self.setting.p, self.setting.dtype
            seen = p.predict(x[part], self.timestep[k], dtype=dtype)
            self.calls += len(seen.x0)
            return seen

        parts = self.batches.over(len(x), predict)
        variances = [part.variance for part in parts if part.variance is not None]
        return Prediction(
            torch.cat([part.x0 for part in parts]),
            torch.cat([part.noise for part in parts]),
            torch.cat(variances) if variances else None,
        )

    def _facts(self) -> dict[str, Any]:
        note = {"note": self.batches.note} if self.batches.note else {}
        return {"batch": self.batches.at_once, **note}


def _several(image: Any) -> bool:
    return isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ModelError(f"{name} must be a whole number of {least} or more, not {value!r}.")
    return int(value)
