"""Two controls without a hierarchy, measured exactly like the Random Hierarchy Model.

A susceptibility that peaks does not prove a hierarchy: with a flat mixture it peaks as well, but
the correlation of changes is the same at every distance. In a Gaussian random field it only
grows with the noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike

from explorer.compute.run import Run
from explorer.errors import GrammarError
from explorer.hierarchy.chunks import block_variance
from explorer.hierarchy.experiment import check_levels, streamed
from explorer.hierarchy.grammar import check_fits, check_seed, check_sizes, check_whole
from explorer.hierarchy.messages import node_order
from explorer.hierarchy.results import Experiment, Measured

if TYPE_CHECKING:
    import xarray as xr


def flat_mixture(
    v: int,
    m: int,
    s: int,
    L: int,
    levels: ArrayLike,
    data: int = 64,
    samples: int = 64,
    seed: int = 0,
    *,
    n_classes: int | None = None,
) -> "Run[xr.Dataset]":
    """Epsilon process of a mixture: one class, and s^L leaves drawn independently given it.

        ex.hierarchy.flat_mixture(32, 8, 2, 7, [0.9, 0.99]).result().correlation.plot(hue="level")

    Each of ``n_classes`` (None for v) classes emits m of the v symbols, drawn with ``seed``,
    equally likely. The posterior of the class is a product over leaves and is exact, as is the
    draw of every leaf given the class. The Dataset is that of ``forward_backward``, with depth 0
    (the class) and depth L (the leaves) only.
    """
    classes = v if n_classes is None else n_classes
    check_sizes(v, 1, s, L, classes)
    check_fits(v, s, L)
    if check_whole("m", m, 1) > v:
        raise GrammarError(f"A class can emit at most the v = {v} symbols, not m = {m}.")
    rng = np.random.default_rng([check_seed(seed), 3])
    emitted = np.zeros((classes, v), bool)
    for symbols in emitted:
        symbols[rng.choice(v, size=m, replace=False)] = True
    mixture = _Mixture(emitted, m, *_counts(data, samples), seed, s, L)
    attrs = {"v": v, "m": m, "n_classes": classes, "process": "epsilon"}
    experiment = _experiment("flat mixture", mixture, "belief mixing epsilon", attrs, (0, L))
    return streamed(check_levels(levels), mixture.measure, experiment)


def gaussian_field(
    s: int,
    L: int,
    levels: ArrayLike,
    exponent: float = 0.6,
    data: int = 64,
    samples: int = 64,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """Gaussian diffusion of a random field on a ring of s^L sites with spectrum k^-exponent.

        ex.hierarchy.gaussian_field(2, 8, [0.1, 0.5, 1.0]).result().susceptibility.plot()

    x_t = sqrt(abar) x_0 + sqrt(1 - abar) z with level = 1 - abar; the posterior of each Fourier
    mode is Gaussian, so that denoising is exact, and the change of a site is |x_0 - x_0'|
    (Sclocchi et al. 2025, arXiv 2410.13770, control). Sites have variance 1 and the ring has
    mean 0. The Dataset is that of ``forward_backward`` without depths.
    """
    check_sizes(2, 1, s, L)
    check_fits(2, s, L)
    if not np.isfinite(exponent):
        raise GrammarError(f"The exponent of the spectrum must be a number, not {exponent!r}.")
    field = _Field(float(exponent), *_counts(data, samples), check_seed(seed), s, L)
    attrs = {"exponent": field.exponent, "process": "gaussian"}
    experiment = _experiment("Gaussian field", field, "noise variance 1 - alpha_bar", attrs, ())
    return streamed(check_levels(levels), field.measure, experiment)


@dataclass(frozen=True)
class _Mixture:
    """A flat mixture: which symbols each class emits, bool (classes, v)."""

    emitted: np.ndarray
    m: int
    data: int
    samples: int
    seed: int
    s: int
    L: int

    def measure(self, eps: float, checkpoint: Callable[[float], None]) -> Measured:
        """All strings at one epsilon."""
        parts = []
        for datum in range(self.data):
            checkpoint(datum / self.data)
            parts.append(self._string(datum, eps))
        return Measured.joined(parts)

    def _string(self, datum: int, eps: float) -> Measured:
        rng = np.random.default_rng([self.seed, 4, datum])
        classes, v = self.emitted.shape
        truth = rng.integers(classes)
        leaves = rng.choice(np.flatnonzero(self.emitted[truth]), size=self.s**self.L)
        belief = self._class_posterior(leaves, eps)
        drawn = np.searchsorted(belief.cumsum(), rng.random(self.samples) * belief.sum(), "right")
        # Among a class' m symbols the true one has weight 1 - eps + eps / v, each other eps / v.
        keeps = (1 - eps + eps / v) / (1 - eps + self.m * eps / v)
        keep = keeps * self.emitted[:, leaves]
        changed = rng.random((self.samples, len(leaves))) >= keep[drawn]
        sigma = torch.from_numpy(2 * changed.T[:, None].astype(np.float32) - 1)
        return Measured(
            variance=block_variance(sigma, self.s, self.L).numpy(),
            marginal=np.array([[belief[truth], (belief @ keep).mean()]]),
            changed=np.array([[np.mean(drawn != truth), changed.mean()]]),
        )

    def _class_posterior(self, leaves: np.ndarray, eps: float) -> np.ndarray:
        """p(class | leaves) ~ prod_i sum_x p(x | class) lambda_i(x), (classes)."""
        v = self.emitted.shape[1]
        inside = self.emitted[:, leaves].sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            outside = (len(leaves) - inside) * np.log(eps / v)
            outside[inside == len(leaves)] = 0  # 0 log 0: no leaf is outside
        log = inside * np.log((1 - eps) / self.m + eps / v) + outside
        belief = np.exp(log - log.max())
        return belief / belief.sum()


@dataclass(frozen=True)
class _Field:
    """A Gaussian random field on a ring."""

    exponent: float
    data: int
    samples: int
    seed: int
    s: int
    L: int

    def spectrum(self) -> np.ndarray:
        """Variance of each of the s^L // 2 + 1 Fourier modes, so that a site has variance 1."""
        sites = self.s**self.L
        k = np.arange(sites // 2 + 1)
        power = np.zeros(len(k))
        power[1:] = k[1:] ** -self.exponent
        twice = np.where((k == 0) | (2 * k == sites), 1, 2)
        return power * sites / (power * twice).sum()

    def measure(self, level: float, checkpoint: Callable[[float], None]) -> Measured:
        """All fields at one level of noise."""
        order = node_order(self.s, self.L)
        parts = []
        for datum in range(self.data):
            checkpoint(datum / self.data)
            sigma = torch.from_numpy(self._changes(datum, level)[:, order].T[:, None].copy())
            parts.append(Measured(block_variance(sigma, self.s, self.L).numpy()))
        return Measured.joined(parts)

    def _changes(self, datum: int, level: float) -> np.ndarray:
        """|x_0 - x_0'|, (samples, sites), where x_0' is drawn from p(x_0 | x_t) mode by mode."""
        rng = np.random.default_rng([self.seed, 5, datum])
        sites, power, abar = self.s**self.L, self.spectrum(), 1 - level
        start = np.fft.rfft(rng.standard_normal(sites)) * np.sqrt(power)
        noise, draw = np.fft.rfft(rng.standard_normal((2, self.samples, sites)))
        seen = abar * power + level
        kept = np.divide(power, seen, out=np.zeros_like(power), where=seen > 0)
        x_t = np.sqrt(abar) * start + np.sqrt(level) * noise
        end = np.sqrt(abar) * kept * x_t + np.sqrt(level * kept) * draw
        return np.abs(np.fft.irfft(start - end, n=sites))


def _counts(data: int, samples: int) -> tuple[int, int]:
    least = "samples (a covariance is over at least two)"
    return check_whole("data", data, 1), check_whole(least, samples, 2)


def _experiment(
    title: str, model: _Mixture | _Field, level_name: str, attrs: dict, depths: tuple[int, ...]
) -> Experiment:
    common = {"control": title, "s": model.s, "L": model.L, "seed": model.seed}
    counts = {"data": model.data, "samples": model.samples}
    return Experiment(
        title, model.s, model.L, model.seed, level_name, {**common, **attrs, **counts}, None, depths
    )
