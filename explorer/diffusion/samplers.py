"""Stochastic steps from one noise level to a lower one: one function a sampler, beside its paper.

All are steps of p(x_s | x_t) with abar_s > abar_t, the cumulative products of the forward process
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) z. They take abar as numbers rather than reading them off
a scheduler's own timesteps, so that any grid can be used: diffusers' DDIM, for one, finds the
next timestep by a fixed stride, which is wrong on grids that are not even.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.errors import UnknownNameError

# Below this many steps the upper bound of the reverse variance, meant for a thousand, leaves noise
# in the picture (Song et al. 2021, arXiv 2010.02502, table 1: "sigma hat").
FEWEST_STEPS_FOR_LARGE_VARIANCE = 200


@dataclass(frozen=True)
class Prediction:
    """What the network says of x_t: the clean ``x0``, the ``noise``, each (n, c, h, w) float32.

    ``x0`` is clipped if the scheduler says so, ``noise`` is as predicted. ``variance`` is what a
    network with learned variance says of it, of the shape of x0, otherwise None.
    """

    x0: Tensor
    noise: Tensor
    variance: Tensor | None = None

    def part(self, rows: slice) -> "Prediction":
        """The same of some of the pictures."""
        variance = None if self.variance is None else self.variance[rows]
        return Prediction(self.x0[rows], self.noise[rows], variance)


@dataclass(frozen=True)
class Step:
    """One step: from abar ``now`` to abar ``then``; ``before`` was that of the step before.

    ``kind`` is the variance of the reverse process as diffusers names it.
    """

    now: float
    then: float
    before: float | None = None
    kind: str = "fixed_small"

    @property
    def beta(self) -> float:
        """1 - abar_t / abar_s, the variance that the forward process adds between the two."""
        return 1 - self.now / self.then

    @property
    def posterior_variance(self) -> float:
        """beta tilde of q(x_s | x_t, x_0); 0 for the last step."""
        return (1 - self.then) / (1 - self.now) * self.beta


def ddpm(x: Tensor, seen: Prediction, step: Step, z: Tensor, previous: Tensor) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7)."""
    of_x0 = math.sqrt(step.then) * step.beta / (1 - step.now)
    of_x = math.sqrt(step.now / step.then) * (1 - step.then) / (1 - step.now)
    mean = of_x0 * seen.x0 + of_x * x
    if step.then == 1:  # the last step: the mean is the picture
        return mean
    return mean + _ddpm_deviation(seen, step) * z


def _ddpm_deviation(seen: Prediction, step: Step) -> Tensor | float:
    if seen.variance is not None and step.kind == "learned_range":
        # Nichol and Dhariwal 2021, arXiv 2102.09672, equation 15: a mean of the two logarithms.
        share = (seen.variance + 1) / 2
        small, large = math.log(max(step.posterior_variance, 1e-20)), math.log(step.beta)
        return torch.exp(0.5 * (share * large + (1 - share) * small))
    if seen.variance is not None and step.kind == "learned":
        return seen.variance.clamp(min=0).sqrt()
    large_variance = step.kind in ("fixed_large", "fixed_large_log")
    return math.sqrt(step.beta if large_variance else step.posterior_variance)


def ddim_eta1(x: Tensor, seen: Prediction, step: Step, z: Tensor, previous: Tensor) -> Tensor:
    """DDIM with eta = 1 (Song et al. 2021, arXiv 2010.02502, equations 12 and 16)."""
    return _ddim(seen, step, z, eta=1.0)


def ddim_preview(x: Tensor, seen: Prediction, step: Step, z: Tensor, previous: Tensor) -> Tensor:
    """DDIM with eta = 0: deterministic, so that it draws no sample of p(x_0 | x_t); a preview."""
    return _ddim(seen, step, z, eta=0.0)


def _ddim(seen: Prediction, step: Step, z: Tensor, eta: float) -> Tensor:
    sigma = eta * math.sqrt(step.posterior_variance)
    along = math.sqrt(max(0.0, 1 - step.then - sigma**2))
    return math.sqrt(step.then) * seen.x0 + along * seen.noise + sigma * z


def dpm_sde(x: Tensor, seen: Prediction, step: Step, z: Tensor, previous: Tensor) -> Tensor:
    """SDE-DPM-Solver++ 2M, midpoint (Lu et al. 2022, arXiv 2211.01095, section 5 and appendix).

    ``previous`` is the x0 predicted one step before, or this one's own at the first step, which
    is then of first order.
    """
    if step.then == 1:  # half the log of the signal-to-noise ratio is infinite: x0 is what is left
        return seen.x0
    h = _half_log_snr(step.then) - _half_log_snr(step.now)
    change = 1 - math.exp(-2 * h)
    found = math.exp(-h) * math.sqrt((1 - step.then) / (1 - step.now)) * x
    found = found + math.sqrt(step.then) * change * seen.x0
    if step.before is not None:
        ratio = (_half_log_snr(step.now) - _half_log_snr(step.before)) / h
        slope = (seen.x0 - previous) / ratio
        found = found + 0.5 * math.sqrt(step.then) * change * slope
    return found + math.sqrt((1 - step.then) * change) * z


def _half_log_snr(alpha_bar: float) -> float:
    return 0.5 * (math.log(max(alpha_bar, 1e-12)) - math.log1p(-alpha_bar))


Sampler = Callable[[Tensor, Prediction, Step, Tensor, Tensor], Tensor]
SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim_eta1": ddim_eta1,
    "dpm_sde": dpm_sde,
    "ddim_preview": ddim_preview,
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name. Raises UnknownNameError."""
    if name not in SAMPLERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    return SAMPLERS[name]


def timestep_grid(trained: int, steps: int) -> list[int]:
    """The timesteps of ``steps`` even steps, rising: the last is ``trained - 1``, pure noise.

    Grid point k (1 to ``steps``) stands for the noise level k / steps. The spacing is diffusers'
    "trailing" (Lin et al. 2024, arXiv 2305.08891, section 3.2), the one that begins at the end.
    """
    return [math.floor(trained * k / steps + 0.5) - 1 for k in range(1, steps + 1)]
