"""Forward-backward experiments: chunks counted as defined, the transition where theory has it.

Definitions: Sclocchi et al. 2025 (arXiv 2410.13770): C_ij = <s_i s_j> - <s_i><s_j> over
trajectories of one string, chi = sum_ij C_ij / sum_i C_ii after averaging over strings.
"""

import threading
import time

import numpy as np
import pytest
import torch
import xarray as xr

import explorer as ex
from explorer.hierarchy.evidence import PROCESSES
from explorer.hierarchy.mean_field_theory import susceptibility_of

Grammar, forward_backward = ex.hierarchy.Grammar, ex.hierarchy.forward_backward


@pytest.fixture(scope="module")
def curve():
    """The whole curve of 21 points of one grammar of (32, 8, 2), L = 7."""
    g = Grammar.random(32, 8, 2, 7, seed=0)
    return forward_backward(g, np.linspace(0.5, 1, 21)).result()


def naive_statistics(changed, s):
    """C by distance and chi from 0/1 changes (data, samples, leaf), pair by pair."""
    sigma = 2.0 * changed - 1
    data, samples, d = sigma.shape
    centred = sigma - sigma.mean(1, keepdims=True)
    C = np.einsum("tai,taj->ij", centred, centred) / (data * (samples - 1))
    distance = np.zeros((d, d), int)
    block = 1
    while block < d:
        index = np.arange(d) // block
        distance += index[:, None] != index[None]
        block *= s
    by_distance = [C[distance == level].mean() for level in range(distance.max() + 1)]
    return np.array(by_distance), C.sum() / np.trace(C)


@pytest.mark.parametrize("size", [(6, 2, 2, 4), (8, 4, 3, 3)], ids=str)
def test_correlations_and_chi_are_those_of_a_loop_over_all_pairs(size):
    g = Grammar.random(*size, seed=1)
    result = forward_backward(g, [0.8, 0.9], data=5, samples=20, changes=True).result()
    for level in result.level:
        one = result.sel(level=level)
        C, chi = naive_statistics(one.changed_leaf.values, g.s)
        np.testing.assert_allclose(one.correlation, C, rtol=1e-5, atol=1e-6)
        assert float(one.susceptibility) == pytest.approx(chi, rel=1e-5)
        assert float(one.changed[-1]) == pytest.approx(one.changed_leaf.values.mean(), rel=1e-6)


def test_the_correlation_length_is_that_of_a_walk_along_the_curve():
    g = Grammar.random(8, 2, 2, 5, seed=0)
    result = forward_backward(g, np.linspace(0, 1, 11), data=24, samples=32).result()
    for level in range(11):
        relative = result["correlation"].values[level]
        relative = relative / relative[0] if relative[0] > 0 else relative * np.nan
        wanted = np.nan
        for l in range(1, 6):  # noqa: E741
            if relative[l] < 1 / np.e:
                share = (relative[l - 1] - 1 / np.e) / (relative[l - 1] - relative[l])
                wanted = (2 ** (l - 1) - 1) + share * 2 ** (l - 1)
                break
        found = float(result["correlation_length"][level])
        assert found == pytest.approx(wanted, nan_ok=True)
    assert np.isfinite(result["correlation_length"].values[1:]).all()


def test_the_correlation_length_is_largest_near_the_threshold_and_not_in_a_control(curve):
    length = curve["correlation_length"]
    assert abs(float(length.idxmax()) - 0.7312) < 0.06
    flat = ex.hierarchy.flat_mixture(32, 8, 2, 7, [0.9, 0.96, 0.99]).result()
    assert float(flat["correlation_length"].max()) < 0.75 < 1.5 < float(length.max())


def test_a_chunk_is_all_leaves_that_changed_below_its_topmost_changed_node():
    g = Grammar.random(8, 3, 2, 4, seed=0)
    result = forward_backward(g, [0.9], data=6, samples=10, shown=6).result()
    changed = result.after[0] != result.before
    moved = np.zeros(5)
    for one in changed.transpose("shown", "sample", "node").values.reshape(-1, 31):
        for leaf in np.flatnonzero(one[15:]):
            node = 15 + leaf
            while node and one[(node - 1) // 2]:  # nodes are in heap order for s = 2
                node = (node - 1) // 2
            moved[int(np.log2(node + 1))] += 1
    np.testing.assert_allclose(result.moved_by[0], moved / moved.sum(), rtol=1e-6)


def test_shown_trees_are_strings_of_the_grammar_and_their_shares_add_up():
    g = Grammar.random(8, 3, 2, 3, seed=0)
    result = forward_backward(g, [0.0, 0.7], data=5, samples=8, shown=5).result()
    leaves = result.node_depth == 3
    for trees in (result.before, result.after[1]):
        flat = trees.values.reshape(-1, 15)
        for depth, level in enumerate(g.parse(flat[:, leaves])):
            np.testing.assert_array_equal(level, flat[:, result.node_depth == depth])
    for depth in range(4):
        at = result.node_depth == depth
        share = (result.after[1][..., at] != result.before[:, at]).mean()
        assert float(result.changed[1, depth]) == pytest.approx(float(share), rel=1e-6)
    assert (result.after[0] == result.before).all()  # no noise, no change
    np.testing.assert_array_equal(result.noised[0, :, 0], result.before[:, leaves])


def test_partials_are_complete_datasets_of_ever_more_levels():
    g = Grammar.random(6, 2, 2, 3, seed=0)
    run = forward_backward(g, np.linspace(0.5, 1, 5), data=4, samples=4)
    partials = list(run)
    assert [p.sizes["level"] for p in partials] == [1, 2, 3, 4, 5]
    assert partials[1].level.values.tolist() == [0.5, 1.0]
    assert [p.attrs["complete"] for p in partials] == [0, 0, 0, 0, 1]
    assert run.progress == 1
    for partial in partials:
        assert (np.diff(partial.level) > 0).all()
        assert set(partial.data_vars) == set(partials[-1].data_vars)
        shared = partials[-1].sel(level=partial.level)
        np.testing.assert_allclose(partial.susceptibility, shared.susceptibility)


def test_a_level_is_the_same_whatever_other_levels_are_asked_for():
    g = Grammar.random(6, 2, 2, 3, seed=0)
    for process in PROCESSES:
        few = {"data": 6, "samples": 4, "process": process, "seed": 3}
        alone = forward_backward(g, 0.6, **few).result()
        among = forward_backward(g, [0.2, 0.6, 0.9], **few).result().sel(level=[0.6])
        for name in ("susceptibility", "marginal", "after", "correlation", "moved_by"):
            np.testing.assert_array_equal(alone[name], among[name])


def test_a_string_moves_the_same_whatever_other_strings_are_there():
    g = Grammar.random(32, 8, 2, 7, seed=0)
    one = forward_backward(g, 0.7, data=3, samples=4, changes=True).result()
    many = forward_backward(g, 0.7, data=40, samples=4, changes=True).result()
    assert (one.changed_leaf[0] == many.changed_leaf[0, :3]).mean() == 1


def test_more_noise_redraws_more_leaves_from_the_same_numbers():
    g = Grammar.random(8, 3, 2, 4, seed=0)
    run = forward_backward(g, [0.2, 0.5, 0.8], 4, 4, "masking", shown=4)
    hidden = run.result().noised.values < 0
    assert (hidden[0] <= hidden[1]).all()
    assert (hidden[1] <= hidden[2]).all()
    np.testing.assert_allclose(hidden.mean((1, 2, 3)), [0.2, 0.5, 0.8], atol=0.12)


@pytest.mark.parametrize("process", sorted(PROCESSES))
def test_exact_marginals_are_the_frequencies_of_unchanged_samples(process):
    g = Grammar.random(8, 3, 2, 4, seed=0)
    result = forward_backward(g, [0.3, 0.8], data=20, samples=200, process=process).result()
    np.testing.assert_allclose(result.marginal, 1 - result.changed, atol=0.025)


@pytest.mark.parametrize("process", ["masking", "uniform", "gaussian"])
def test_the_truth_is_as_likely_as_a_draw_from_the_posterior_expects(process):
    # Bayes: x_0 given x_t is a posterior draw, so E p(x_0 | x_t) = E sum_x p(x | x_t)^2. It holds
    # only if the likelihood is that of the noise. (Epsilon is no noise: it does not hold there.)
    g = Grammar.random(8, 3, 2, 4, seed=0)
    trees = [torch.from_numpy(level) for level in g.sample(3000, seed=1)]
    numbers = PROCESSES[process].draw(np.random.default_rng(0), (3000, 16), 8)
    likelihood = PROCESSES[process].likelihood(trees[-1], 8, 0.4, torch.from_numpy(numbers))
    for symbols, beliefs in zip(trees, ex.hierarchy.posterior(g, likelihood), strict=True):
        truth = beliefs.gather(-1, symbols[..., None]).mean()
        assert float(truth) == pytest.approx(float((beliefs**2).sum(-1).mean()), abs=0.012)


def test_at_epsilon_one_the_root_is_drawn_at_chance(curve):
    assert float(curve.marginal[-1, 0]) == pytest.approx(1 / 32, abs=1e-6)
    assert float(curve.marginal[-1, -1]) > 1 / 32  # the true symbol is one that was drawn


def test_chi_peaks_within_three_hundredths_of_the_threshold(curve):
    threshold = ex.hierarchy.exponents(32, 8, 2).threshold
    peak = float(curve.level[int(curve.susceptibility.argmax("level"))])
    assert abs(peak - threshold) < 0.03
    assert 4.5 < float(curve.susceptibility.max()) < 7.5


def test_marginals_and_chi_of_one_grammar_follow_the_mean_field(curve):
    theory = ex.hierarchy.mean_field(32, 8, 2, 7, curve.level.values)
    # A single grammar: rules alone move the root by a tenth near the threshold.
    assert np.abs(curve.marginal.values - theory.marginal.values).max() < 0.15
    far = np.abs(curve.level.values - 0.73) > 0.05
    ratio = curve.susceptibility.values / theory.susceptibility.values
    np.testing.assert_allclose(ratio[far], 1, atol=0.15)


def test_correlations_fall_with_distance_and_reach_farthest_at_the_threshold(curve):
    C = curve.correlation / curve.correlation.isel(distance=0)
    at = {level: C.sel(level=level, method="nearest").values for level in (0.6, 0.725, 0.9)}
    assert (np.diff(at[0.725]) < 0).all()
    assert at[0.725][5] > 5 * max(at[0.6][5], at[0.9][5])


def test_the_bootstrap_error_is_that_of_other_strings():
    g = Grammar.random(8, 3, 2, 4, seed=0)
    runs = [forward_backward(g, 0.8, 32, 32, seed=seed).result() for seed in range(24)]
    spread = np.std([float(run.susceptibility[0]) for run in runs], ddof=1)
    errors = np.mean([float(run.susceptibility_error[0]) for run in runs])
    assert 0.6 < errors / spread < 1.6
    alone = forward_backward(g, 0.8, data=1, samples=8).result()
    assert np.isnan(alone.susceptibility_error).all()


def test_a_result_says_what_it_is_and_saves_to_netcdf(tmp_path):
    g = Grammar.random(6, 2, 2, 3, seed=4)
    result = forward_backward(g, [0.5, 0.9], 4, 4, process="masking", changes=True).result()
    assert result.attrs["grammar"] == "Grammar(v=6, m=2, s=2, L=3, seed=4)"
    assert result.attrs["process"] == "masking"
    assert result.level.attrs["long_name"] == "share of leaves masked, t / T"
    result.to_netcdf(tmp_path / "chunks.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "chunks.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)


def test_cancel_stops_within_one_batch():
    g = Grammar.random(32, 8, 2, 6, seed=0)
    run = forward_backward(g, np.linspace(0, 1, 200), data=64, samples=32, process="gaussian")
    thread = threading.Thread(target=lambda: list(run))
    thread.start()
    while run.progress == 0 and thread.is_alive():
        time.sleep(0.01)
    run.cancel()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert run.cancelled


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"levels": [0.5, 1.2]}, ex.GrammarError, r"noise level must lie in \[0, 1\], not 1.2"),
        ({"levels": -0.1}, ex.GrammarError, "noise level must lie in"),
        ({"levels": []}, ex.GrammarError, "At least one level"),
        ({"data": 0}, ex.GrammarError, "data must be a whole number of 1 or more"),
        ({"samples": 1}, ex.GrammarError, "at least two"),
        ({"process": "epsilom"}, ex.UnknownNameError, r"no process 'epsilom'.*'epsilon'"),
        ({"seed": -1}, ex.GrammarError, "The seed"),
        ({"shown": -1}, ex.GrammarError, "shown"),
        ({"g": "grammar"}, ex.GrammarError, "takes a Grammar, not str"),
        ({"device": "abacus"}, ex.ModelError, "'abacus' cannot be used"),
    ],
)
def test_experiments_that_are_none_are_refused_at_once(arguments, error, sentence):
    given = {"g": Grammar.random(4, 2, 2, 2), "levels": [0.5], **arguments}
    with pytest.raises(error, match=sentence):
        forward_backward(**given)


# --- the reference table, rules averaged over ---------------------------------------------------


def averaged(size, L, levels, process, grammars, data, samples):
    """chi (levels) with its standard error over grammars, and the root's mean marginal."""
    v, m, s = size
    C, roots = [], []
    for seed in range(grammars):
        g = Grammar.random(v, m, s, L, seed=seed)
        result = forward_backward(g, levels, data, samples, process, seed=100 + seed).result()
        C.append(result.correlation.values)
        roots.append(result.marginal.values[:, 0])
    chi = susceptibility_of(np.mean(C, axis=0), s)
    left_out = [susceptibility_of(np.delete(C, i, 0).mean(0), s) for i in range(grammars)]
    error = np.std(left_out, axis=0) * np.sqrt(grammars - 1)  # jackknife
    return chi, error, np.mean(roots, axis=0)


def assert_within_error_bars(found, error, wanted, wanted_error):
    combined = np.hypot(error, wanted_error)
    assert (np.abs(found - np.array(wanted)) < 3 * combined).all(), (found, error)


def test_chi_at_the_threshold_is_that_of_the_reference_table():
    chi, error, _ = averaged((32, 8, 2), 7, [0.6, 0.73, 0.85], "epsilon", 12, 8, 64)
    theory = ex.hierarchy.mean_field(32, 8, 2, 7, [0.6, 0.73, 0.85]).susceptibility.values
    assert_within_error_bars(chi[1], error[1], 5.93, 0.12)
    assert_within_error_bars(chi, error, theory, 0.06 * theory / 2)


CHI = {
    0.50: 1.73,
    0.60: 2.12,
    0.65: 2.54,
    0.70: 3.98,
    0.71: 5.01,
    0.72: 6.71,
    0.73: 7.99,
    0.74: 6.94,
    0.75: 5.53,
    0.76: 4.28,
    0.78: 3.18,
    0.80: 2.55,
    0.85: 1.78,
    0.90: 1.46,
}


@pytest.mark.slow
def test_the_chi_curve_of_the_reference_table_is_reproduced_within_its_errors():
    levels = sorted(CHI)
    chi, error, _ = averaged((32, 8, 2), 9, levels, "epsilon", 32, 4, 128)
    assert_within_error_bars(chi, error, [CHI[level] for level in levels], 0.12)
    theory = ex.hierarchy.mean_field(32, 8, 2, 9, levels)
    assert_within_error_bars(chi, error, theory.susceptibility.values, 0.06 * chi / 2)
    assert abs(levels[int(chi.argmax())] - float(theory.threshold)) < 0.03


# process, (v, m, s), L, level of noise, chi
PEAKS = [
    ("epsilon", (16, 4, 2), 7, 0.78, 4.32),
    ("epsilon", (8, 2, 2), 6, 0.87, 3.30),
    ("epsilon", (10, 3, 2), 7, 0.76, 3.28),
    ("masking", (32, 8, 2), 9, 0.28, 3.12),
    ("masking", (32, 8, 2), 7, 0.28, 2.80),
    ("masking", (16, 4, 2), 7, 0.45, 2.82),
    ("masking", (8, 2, 2), 6, 0.70, 2.86),
    ("uniform", (32, 8, 2), 7, 0.18, 3.50),
    ("uniform", (16, 4, 2), 7, 0.30, 3.50),
    ("gaussian", (32, 8, 2), 7, 0.13, 4.65),
    ("gaussian", (16, 4, 2), 7, 0.22, 4.04),
]


@pytest.mark.parametrize(("process", "size", "L", "level", "wanted"), PEAKS, ids=str)
def test_each_process_has_the_reference_chi_at_its_peak(process, size, L, level, wanted):
    chi, error, root = averaged(size, L, [level], process, 12, 4, 48)
    assert_within_error_bars(chi, error, [wanted], 0.12)
    if (process, size) == ("gaussian", (32, 8, 2)):
        assert root[0] == pytest.approx(0.55, abs=0.1)
    if (process, L) == ("masking", 9):
        assert root[0] == pytest.approx(0.44, abs=0.1)
