"""Annealed mean field of the Random Hierarchy Model under the epsilon process.

The recursion of beliefs in the true symbol, averaged over the random rules: Sclocchi et al. 2024
(arXiv 2402.16991), eqs. 22 to 28; pairs of leaves and exponents as in Sclocchi et al. 2025
(arXiv 2410.13770), eq. 54. With f = (m v - 1) / (v^s - 1) and g = (m - 1) / (v^s - 1).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from explorer.hierarchy.evidence import check_level
from explorer.hierarchy.grammar import check_sizes
from explorer.measures.crossing import first_below

if TYPE_CHECKING:
    import xarray as xr

CORRELATION_LENGTH = "distance at which the correlation has fallen to 1/e"


@dataclass(frozen=True)
class Exponents:
    """Where the transition of (v, m, s) is, and how sharp.

    ``threshold`` eps* = (1 - p*) / (1 - 1/v), ``fixed_point`` p* between 1/v and 1, ``slope``
    F'(p*), ``nu`` = ln s / ln F'(p*), ``decay`` a = 2 (1 - 1/nu) of C(r) ~ r^-a at the threshold,
    ``growth`` F'(p*)^2 / s of the susceptibility a level: chi diverges with L only above 1.
    All nan where there is no transition. ``slope_at_one`` F'(1) and ``slope_at_chance`` F'(1/v)
    must both be below 1 for one.
    """

    threshold: float
    fixed_point: float
    slope: float
    nu: float
    decay: float
    growth: float
    slope_at_one: float
    slope_at_chance: float


def exponents(v: int, m: int, s: int) -> Exponents:
    """Threshold and exponents of the annealed mean field; see ``Exponents``.

        ex.hierarchy.exponents(32, 8, 2).threshold     # 0.7312

    For s = 2, p* = (m - 1) / (v - m). Raises GrammarError for a grammar that cannot exist.
    """
    check_sizes(v, m, s, 1)
    at_one, at_chance = upward_slope(1.0, v, m, s), upward_slope(1 / v, v, m, s)
    # F'(1) < 1 in whole numbers: rounding would find a transition where it is 1.
    if s * m * (v - 1) >= v**s - 1 or at_chance >= 1:
        nan = float("nan")
        return Exponents(nan, nan, nan, nan, nan, nan, at_one, at_chance)
    p = _inner_fixed_point(v, m, s)
    slope = upward_slope(p, v, m, s)
    nu = float(np.log(s) / np.log(slope))
    threshold = (1 - p) / (1 - 1 / v)
    return Exponents(threshold, p, slope, nu, 2 * (1 - 1 / nu), slope**2 / s, at_one, at_chance)


def upward_map(p: ArrayLike, v: int, m: int, s: int) -> np.ndarray:
    """F(p) = [p^s + g (1 - p^s)] / [p^s + f (1 - p^s)] (arXiv 2402.16991, eq. 22)."""
    f, g = (m * v - 1) / (v**s - 1), (m - 1) / (v**s - 1)
    ps = np.asarray(p, float) ** s
    return (ps + g * (1 - ps)) / (ps + f * (1 - ps))


def upward_slope(p: float, v: int, m: int, s: int) -> float:
    """F'(p); at 1 it is s m (v - 1) / (v^s - 1) (arXiv 2402.16991, eq. 28)."""
    f, g = (m * v - 1) / (v**s - 1), (m - 1) / (v**s - 1)
    ps = p**s
    return float(s * p ** (s - 1) * (f - g) / (ps + f * (1 - ps)) ** 2)


def mean_field(v: int, m: int, s: int, L: int, eps: ArrayLike) -> "xr.Dataset":
    """Marginals, correlations and susceptibility of the epsilon process at finite L.

        theory = ex.hierarchy.mean_field(32, 8, 2, 7, eps=np.linspace(0, 1, 201))
        theory.susceptibility.plot()

    Over epsilon (no dimension for a single number) and depth (0 the root ... L the leaves):
    upward and downward beliefs in the true symbol, and marginal, the probability that a node
    keeps its symbol. Over epsilon and distance (levels up to the lowest common ancestor, 0 the
    leaf itself): correlation C of changes (+1 changed, -1 kept). Over epsilon: susceptibility
    chi = 1 + sum_l (s - 1) s^(l - 1) C(l) / C(0), and correlation_length, in leaves, at which C
    has fallen to C(0) / e. Without dimension: the ``Exponents``.
    Raises GrammarError for a grammar that cannot exist or an epsilon outside [0, 1].
    """
    check_sizes(v, m, s, L)
    points = np.array([check_level(e, "epsilon") for e in np.ravel(eps)])
    up = _upward(points, v, m, s, L)
    down = _downward(up, v, m, s)
    marginal = up * down / (up * down + (1 - up) * (1 - down) / (v - 1))
    correlation = _correlation(up, down, marginal[:, -1], v, m, s)
    return _dataset((v, m, s, L), np.ndim(eps) == 0, points, up, down, marginal, correlation)


def susceptibility_of(correlation: np.ndarray, s: int) -> np.ndarray:
    """chi = sum over ordered pairs of C / sum of variances, from C (..., distance)."""
    distance = np.arange(1, correlation.shape[-1])
    partners = (s - 1) * float(s) ** (distance - 1)
    variance = correlation[..., 0]
    safe = np.where(variance > 0, variance, 1.0)
    chi = 1 + (correlation[..., 1:] * partners).sum(-1) / safe
    return np.where(variance > 0, chi, np.nan)


def correlation_length_of(correlation: np.ndarray, s: int) -> np.ndarray:
    """Distance in leaves at which C(r) has fallen to C(0) / e, from C (..., distance): (...).

    Two leaves whose common ancestor is l levels up are r = s^l - 1 apart; linear between those.
    nan where nothing changes, and where all leaves change together.
    """
    start = correlation[..., :1]
    relative = np.divide(
        correlation, start, out=np.full(correlation.shape, np.nan), where=start > 0
    )
    return first_below(relative, float(s) ** np.arange(correlation.shape[-1]) - 1, np.exp(-1))


def _inner_fixed_point(v: int, m: int, s: int) -> float:
    # F(p) = p is a polynomial with the roots 1 and 1/v, which are divided out.
    f, g = (m * v - 1) / (v**s - 1), (m - 1) / (v**s - 1)
    polynomial = np.zeros(s + 2)
    polynomial[[0, 1, -2, -1]] += [f - 1, 1 - g, -f, g]
    rest = np.polydiv(np.polydiv(polynomial, [1, -1])[0], [1, -1 / v])[0]
    roots = np.roots(rest)
    inside = [r.real for r in roots if abs(r.imag) < 1e-9 and 1 / v < r.real < 1]
    return float(inside[0])


def _upward(eps: np.ndarray, v: int, m: int, s: int, L: int) -> np.ndarray:
    """p_l, (epsilon, depth): 1 - eps + eps / v at the leaves, F of the depth below above them."""
    p = [1 - eps + eps / v]
    for _ in range(L):
        p.append(upward_map(p[-1], v, m, s))
    return np.stack(p[::-1], axis=-1)


def _downward(up: np.ndarray, v: int, m: int, s: int) -> np.ndarray:
    """q_l, (epsilon, depth): 1/v at the root, then G with w = (m - q) / (v^s - 1)."""
    q = [np.full(len(up), 1 / v)]
    for depth in range(1, up.shape[1]):
        siblings = up[:, depth] ** (s - 1)
        w = (m - q[-1]) / (v**s - 1)
        kept = q[-1] * siblings + w * (1 - siblings)
        q.append(kept / (kept + (v - 1) * w))
    return np.stack(q, axis=-1)


def _correlation(
    up: np.ndarray, down: np.ndarray, leaf: np.ndarray, v: int, m: int, s: int
) -> np.ndarray:
    """C = 4 cov(leaf i kept, leaf j kept), (epsilon, distance).

    The covariance of two children of the common ancestor, passed down to a leaf on each side.
    """
    L = up.shape[1] - 1
    C = [4 * leaf * (1 - leaf)]
    passed = np.ones(len(leaf))
    for distance in range(1, L + 1):
        depth = L - distance  # of the lowest common ancestor
        children = _covariance_of_children(down[:, depth], up[:, depth + 1], v, m, s)
        C.append(4 * children * passed**2)
        passed = passed * link(up[:, depth + 1], v, m, s)
    return np.stack(C, axis=-1)


def _covariance_of_children(q: np.ndarray, p: np.ndarray, v: int, m: int, s: int) -> np.ndarray:
    """cov(kept, kept) of two children of a node with downward belief q, upward beliefs p.

    Their joint weights are J(kept, kept) = q p^s + w p^2 (1 - p^(s-2)), J(kept, lost) =
    w p (1 - p), J(lost, lost) = w (1 - p)^2 with w = (m - q) / (v^s - 1); the covariance is the
    determinant of J, w (q - w) p^s (1 - p)^2, over its squared total. Written so, nothing cancels
    at large distances.
    """
    w = (m - q) / (v**s - 1)
    total = q * p**s + w * (1 - p**s)
    return w * (q - w) * p**s * (1 - p) ** 2 / total**2


def link(p: np.ndarray, v: int, m: int, s: int) -> np.ndarray:
    """P(child kept | parent kept) - P(child kept | parent lost), for upward belief p of the child.

    The second eigenvalue of the chain from a node to a leaf below it; at p* it is F'(p*) / s.
    """
    w = (m - 1) / (v**s - 1)
    others = p ** (s - 1)
    a = p * (others + w * (1 - others))
    return a / (a + (1 - p) * w) - _lost_to_kept(p, s)


def _lost_to_kept(p: np.ndarray, s: int) -> np.ndarray:
    """p (1 - p^(s-1)) / (1 - p^s), whose limit at p = 1 is (s - 1) / s."""
    below = p < 1
    return np.where(below, p * (1 - p ** (s - 1)) / np.where(below, 1 - p**s, 1.0), (s - 1) / s)


def _dataset(
    sizes: tuple[int, int, int, int],
    single: bool,
    eps: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    marginal: np.ndarray,
    correlation: np.ndarray,
) -> "xr.Dataset":
    import xarray as xr

    v, m, s, L = sizes
    by_depth, by_distance = ("epsilon", "depth"), ("epsilon", "distance")
    found = exponents(v, m, s)
    result = xr.Dataset(
        {
            "upward": (by_depth, up, {"long_name": "upward belief in the true symbol"}),
            "downward": (by_depth, down, {"long_name": "downward belief in the true symbol"}),
            "marginal": (by_depth, marginal, {"long_name": "probability of the true symbol"}),
            "correlation": (by_distance, correlation, {"long_name": "correlation of changes"}),
            "susceptibility": (
                "epsilon",
                susceptibility_of(correlation, s),
                {"long_name": "susceptibility chi"},
            ),
            "correlation_length": (
                "epsilon",
                correlation_length_of(correlation, s),
                {"units": "leaves", "long_name": CORRELATION_LENGTH},
            ),
            **{name: ((), value) for name, value in vars(found).items()},
        },
        coords={
            "epsilon": ("epsilon", eps, {"long_name": "belief mixing epsilon"}),
            "depth": ("depth", np.arange(L + 1), {"long_name": "depth, 0 the root"}),
            "distance": ("distance", np.arange(L + 1), {"long_name": "tree distance"}),
        },
        attrs={"v": v, "m": m, "s": s, "L": L, "theory": "annealed mean field"},
    )
    return result.isel(epsilon=0) if single else result
