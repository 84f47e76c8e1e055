"""Annealed mean field: closed forms, constants and identities; belief propagation stays near it.

Equations: Sclocchi et al. 2024 (arXiv 2402.16991), eqs. 22 and 28; Sclocchi et al. 2025 (arXiv
2410.13770), eq. 54. Constants were computed independently of this code.
"""

import numpy as np
import pytest
import torch
import xarray as xr

import explorer as ex
from explorer.hierarchy.mean_field_theory import link, upward_map, upward_slope

mean_field, exponents = ex.hierarchy.mean_field, ex.hierarchy.exponents

# v, m, s: eps*, p*, F'(p*), nu, a, F'^2 / s. The table of the notes has a = .725 of (16, 64, 4); by
# its own nu, a = 2 (1 - 1 / nu) is .7257.
THRESHOLDS = {
    (32, 8, 2): (0.7312, 0.2917, 1.4422, 1.893, 0.943, 1.040),
    (16, 4, 2): (0.8000, 0.2500, 1.3600, 2.254, 1.113, 0.925),
    (8, 2, 2): (0.9524, 0.1667, 1.1020, 7.134, 1.720, 0.607),
    (10, 3, 2): (0.7937, 0.2857, 1.2675, 2.924, 1.316, 0.803),
    (24, 6, 2): (0.7536, 0.2778, 1.4178, 1.986, 0.993, 1.005),
    (64, 16, 2): (0.6984, 0.3125, 1.4739, 1.787, 0.881, 1.086),
    (64, 8, 2): (0.8889, 0.1250, 1.6049, 1.465, 0.635, 1.288),
    (32, 4, 2): (0.9217, 0.1071, 1.4422, 1.893, 0.943, 1.040),
    (8, 4, 3): (0.9226, 0.1927, 1.3447, 3.710, 1.461, 0.603),
    (16, 16, 3): (0.8000, 0.2500, 1.8571, 1.775, 0.873, 1.150),
    (16, 64, 4): (0.8000, 0.2500, 2.4188, 1.569, 0.726, 1.463),
    (8, 16, 4): (0.8023, 0.2980, 1.9373, 2.096, 1.046, 0.938),
}

# Largest chi over epsilon at L = 6, 9, 12, each on a grid fine enough for its peak. The notes' grid
# was too coarse for the narrowest peaks: theirs are 47 for (64, 8, 2) at L = 12, and 20.1 and 24.6
# for (16, 16, 3) at L = 9 and 12.
LARGEST_CHI = {
    (32, 8, 2): (4.95, 7.98, 11.5),
    (16, 4, 2): (3.82, 4.91, 5.75),
    (8, 2, 2): (3.12, 3.34, 3.27),
    (10, 3, 2): (2.94, 3.36, 3.55),
    (24, 6, 2): (4.46, 6.57, 8.71),
    (64, 16, 2): (6.07, 11.95, 20.6),
    (64, 8, 2): (9.60, 22.36, 49.4),
    (32, 4, 2): (6.82, 10.9, 15.4),
    (8, 4, 3): (5.12, 4.72, 4.71),
    (16, 16, 3): (11.2, 20.5, 34.6),
}


@pytest.mark.parametrize("size", THRESHOLDS, ids=str)
def test_threshold_and_exponents_are_those_of_the_reference_table(size):
    found = exponents(*size)
    wanted = THRESHOLDS[size]
    assert found.threshold == pytest.approx(wanted[0], abs=6e-5)
    assert found.fixed_point == pytest.approx(wanted[1], abs=6e-5)
    assert found.slope == pytest.approx(wanted[2], abs=6e-5)
    assert found.nu == pytest.approx(wanted[3], abs=6e-4)
    assert found.decay == pytest.approx(wanted[4], abs=6e-4)
    assert found.growth == pytest.approx(wanted[5], abs=6e-4)


@pytest.mark.parametrize("size", [size for size in THRESHOLDS if size[2] == 2], ids=str)
def test_for_two_children_the_fixed_point_is_m_minus_1_over_v_minus_m(size):
    v, m, _ = size
    found = exponents(*size)
    assert found.fixed_point == pytest.approx((m - 1) / (v - m), rel=1e-10)
    assert found.threshold == pytest.approx(v * (v - 2 * m + 1) / ((v - 1) * (v - m)), rel=1e-10)


@pytest.mark.parametrize("size", THRESHOLDS, ids=str)
def test_chance_certainty_and_p_star_are_fixed_points_of_eq_22(size):
    points = np.array([1 / size[0], exponents(*size).fixed_point, 1.0])
    np.testing.assert_allclose(upward_map(points, *size), points, rtol=1e-9)


@pytest.mark.parametrize("size", THRESHOLDS, ids=str)
def test_slopes_at_the_ends_are_those_of_eq_28(size):
    v, m, s = size
    found = exponents(*size)
    assert found.slope_at_one == pytest.approx(s * m * (v - 1) / (v**s - 1), rel=1e-12)
    at_chance = s * v ** (s - 1) * (v - 1) / (m * (v**s - 1))
    assert found.slope_at_chance == pytest.approx(at_chance, rel=1e-12)
    p, step = found.fixed_point, 1e-6
    rise = upward_map(p + step, *size) - upward_map(p - step, *size)
    assert upward_slope(p, *size) == pytest.approx(rise / (2 * step), rel=1e-7)


def test_without_both_slopes_below_one_there_is_no_transition():
    for size in ((4, 4, 2), (32, 17, 2), (32, 1, 2)):
        found = exponents(*size)
        assert np.isnan([found.threshold, found.nu, found.growth]).all()
        assert max(found.slope_at_one, found.slope_at_chance) >= 1
    assert np.isfinite(exponents(32, 16, 2).threshold)  # m < (v + 1) / 2
    assert np.isfinite(exponents(32, 2, 2).threshold)  # m > 2 v / (v + 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(11, 6, 2), (33, 17, 2), (3, 2, 2)], ids=str)
def test_a_slope_of_exactly_one_is_no_transition_whatever_rounding_says(size):
    v, m, s = size
    assert s * m * (v - 1) == v**s - 1
    assert all(np.isnan(value) for value in list(vars(exponents(*size)).values())[:6])


def test_eq_22_has_the_reference_values():
    found = upward_map([0.5, 0.9, 1 / 32, 1], 32, 8, 2)
    np.testing.assert_allclose(found, [0.58389262, 0.94627628, 1 / 32, 1], atol=5e-9)
    slopes = [upward_slope(1, *size) for size in ((32, 8, 2), (16, 4, 2), (8, 4, 3))]
    np.testing.assert_allclose(slopes, [0.484848, 0.470588, 0.164384], atol=5e-7)


@pytest.mark.parametrize(
    ("eps", "wanted"),
    [
        (
            0.70,
            ".321875 .335541 .355493 .384590 .426691 .486235 .566244 .663871 .766292 .854989",
        ),
        (
            0.76,
            ".263750 .251851 .235234 .212507 .182551 .145613 .105212 .069247 .045894 .035617",
        ),
    ],
)
def test_upward_beliefs_iterate_eq_22_from_the_leaves(eps, wanted):
    found = mean_field(32, 8, 2, 9, eps).upward.values[::-1]
    np.testing.assert_allclose(found, [float(x) for x in wanted.split()], atol=6e-7)


def test_marginals_correlations_and_susceptibility_have_the_reference_values():
    found = mean_field(32, 8, 2, 9, 0.73)
    marginal = ".323194 .470149 .572256 .643437 .693166 .727960 .752330 .769413 .781396 .789806"
    np.testing.assert_allclose(found.marginal, [float(x) for x in marginal.split()], atol=6e-7)
    c = ".664050 .417860 .221801 .118390 .063522 .034165 .018270 .009521 .004594 .001731"
    np.testing.assert_allclose(found.correlation, [float(x) for x in c.split()], atol=6e-7)
    # 1 + sum of (s - 1) s^(l - 1) C(l) / C(0); the notes have 7.949760.
    assert float(found.susceptibility) == pytest.approx(7.949759, abs=6e-7)


@pytest.mark.parametrize("size", LARGEST_CHI, ids=str)
def test_the_largest_susceptibility_is_that_of_the_reference_table(size):
    for L, wanted in zip((6, 9, 12), LARGEST_CHI[size], strict=True):
        coarse = np.linspace(0.3, 1, 7001)
        top = coarse[int(mean_field(*size, L, coarse).susceptibility.values.argmax())]
        fine = np.linspace(top - 2e-4, top + 2e-4, 401)
        found = float(mean_field(*size, L, fine).susceptibility.max())
        assert found == pytest.approx(wanted, rel=3e-3)


@pytest.mark.parametrize("size", THRESHOLDS, ids=str)
def test_the_pair_chains_second_eigenvalue_at_p_star_is_the_slope_over_s(size):
    # The identity behind a = 2 (1 - 1 / nu) and behind growth by F'(p*)^2 / s a level.
    v, m, s = size
    p = exponents(*size).fixed_point
    assert link(np.array(p), v, m, s) == pytest.approx(exponents(*size).slope / s, rel=1e-9)


def test_the_susceptibility_grows_without_bound_only_where_slope_squared_exceeds_s():
    for size in ((32, 8, 2), (64, 8, 2), (8, 2, 2), (16, 4, 2)):
        found = exponents(*size)
        far = [float(mean_field(*size, L, found.threshold).susceptibility) for L in (20, 40, 60)]
        if found.growth > 1:
            assert far[2] - far[1] > far[1] - far[0]
        else:
            assert far[2] - far[1] < 0.5 * (far[1] - far[0]) + 1e-9


def test_at_the_threshold_correlations_fall_as_a_power_of_the_distance():
    found = exponents(32, 8, 2)
    C = mean_field(32, 8, 2, 40, found.threshold).correlation.values
    exponent = -np.log2(C[20] / C[19])  # r = s^l
    assert exponent == pytest.approx(found.decay, abs=5e-3)


def test_the_ends_are_certainty_and_chance():
    found = mean_field(32, 8, 2, 7, [0.0, 1.0])
    np.testing.assert_allclose(found.marginal[0], 1)
    assert np.isnan(found.susceptibility[0])  # nothing changes
    assert float(found.marginal[1, 0]) == pytest.approx(1 / 32, rel=1e-12)
    # The true symbol is one that was drawn, hence likelier than chance at the leaves.
    assert float(found.marginal[1, -1]) > 1 / 32


def test_an_array_of_epsilon_has_a_dimension_and_a_number_has_none():
    many = mean_field(8, 4, 3, 5, np.linspace(0.5, 1, 6))
    assert dict(many.sizes) == {"epsilon": 6, "depth": 6, "distance": 6}
    one = mean_field(8, 4, 3, 5, 0.7)
    xr.testing.assert_allclose(one, many.isel(epsilon=2))
    assert one.susceptibility.ndim == 0
    assert float(one.threshold) == exponents(8, 4, 3).threshold


def test_the_correlation_length_is_where_the_curve_crosses_one_over_e():
    theory = mean_field(32, 8, 2, 7, np.linspace(0, 1, 101))
    for i in range(1, 101):
        relative = theory["correlation"].values[i] / theory["correlation"].values[i, 0]
        r = 2.0 ** np.arange(8) - 1
        j = next(j for j in range(8) if relative[j] < np.exp(-1))
        wanted = np.interp(-np.exp(-1), -relative[[j - 1, j]], r[[j - 1, j]])
        assert float(theory["correlation_length"][i]) == pytest.approx(wanted)
    assert np.isnan(theory["correlation_length"][0])  # nothing changes
    assert abs(float(theory["correlation_length"].idxmax()) - 0.7312) < 0.03


def test_a_theory_of_very_deep_trees_needs_no_memory_for_their_leaves():
    assert np.isfinite(mean_field(32, 8, 2, 200, 0.7).susceptibility)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((4, 5, 2, 3, 0.5), "distinct tuples"),
        ((32, 8, 2, 0, 0.5), "L must be"),
        ((32, 8, 2, 7, 1.2), r"epsilon must lie in \[0, 1\], not .*1.2"),
        ((32, 8, 2, 7, [0.5, -0.1]), r"epsilon must lie in \[0, 1\]"),
        ((32, 8, 2, 7, [0.5, np.nan]), r"epsilon must lie in \[0, 1\]"),
    ],
)
def test_a_theory_of_nothing_is_refused(arguments, sentence):
    with pytest.raises(ex.GrammarError, match=sentence):
        mean_field(*arguments)


def averaged_marginals(size, L, epsilons, grammars=12, data=16):
    """Belief-propagation marginals of the truth, averaged over rules: (epsilon, depth)."""
    v, m, s = size
    total = np.zeros((len(epsilons), L + 1))
    for seed in range(grammars):
        g = ex.hierarchy.Grammar.random(v, m, s, L, seed=seed)
        trees = [torch.from_numpy(level) for level in g.sample(data, seed=1000 + seed)]
        mixed = [ex.hierarchy.epsilon_likelihood(trees[-1], v, eps) for eps in epsilons]
        beliefs = ex.hierarchy.posterior(g, torch.stack(mixed))
        for depth, symbols in enumerate(trees):
            at = symbols.expand(len(epsilons), -1, -1)[..., None]
            total[:, depth] += beliefs[depth].gather(-1, at).mean((1, 2, 3)).numpy() / grammars
    return total


# (v, m, s), L: for each epsilon, marginals at some depths, averaged over rules and strings.
MARGINALS = [
    (
        ((32, 8, 2), 8, (0, 4, 8)),
        {
            0.50: (0.992, 0.998, 0.980),
            0.65: (0.945, 0.985, 0.938),
            0.70: (0.779, 0.929, 0.886),
            0.72: (0.528, 0.816, 0.831),
            0.74: (0.176, 0.562, 0.724),
            0.76: (0.048, 0.323, 0.610),
            0.80: (0.032, 0.115, 0.442),
            1.00: (0.0312, 0.0343, 0.0345),
        },
    ),
    (
        ((16, 4, 2), 8, (0, 8)),
        {
            0.70: (0.954, 0.884),
            0.76: (0.766, 0.781),
            0.78: (0.550, 0.710),
            0.80: (0.280, 0.612),
            0.85: (0.073, 0.395),
        },
    ),
    (((8, 2, 2), 8, (0,)), {0.80: (0.960,), 0.85: (0.868,), 0.90: (0.506,), 0.95: (0.179,)}),
    (((8, 4, 3), 5, (0,)), {0.85: (0.948,), 0.90: (0.419,), 0.95: (0.144,)}),
]


@pytest.mark.parametrize(("what", "table"), MARGINALS, ids=[str(what[0]) for what, _ in MARGINALS])
def test_belief_propagation_stays_within_six_hundredths_of_the_mean_field(what, table):
    size, L, depths = what
    epsilons = sorted(table)
    found = averaged_marginals(size, L, epsilons)
    theory = mean_field(*size, L, epsilons).marginal.values
    assert np.abs(found - theory).max() <= 0.06
    # Two averages over 12 grammars, each with a standard error of at most 0.015.
    wanted = np.array([table[eps] for eps in epsilons])
    np.testing.assert_allclose(found[:, depths], wanted, atol=0.06)
    np.testing.assert_allclose(found[:, depths].mean(0), wanted.mean(0), atol=0.02)
