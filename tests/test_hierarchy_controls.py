"""Controls: chi peaks without a hierarchy too, but then C is flat, or chi only grows."""

import numpy as np
import pytest
import torch

import explorer as ex
from explorer.hierarchy.chunks import bootstrap_error, correlation, susceptibility
from explorer.hierarchy.controls import _Mixture

flat_mixture, gaussian_field = ex.hierarchy.flat_mixture, ex.hierarchy.gaussian_field


@pytest.fixture(scope="module")
def mixture():
    levels = [0.9, 0.965, 0.98, 0.99, 1.0]
    return flat_mixture(32, 8, 2, 7, levels, data=64, samples=128).result()


def test_the_susceptibility_of_a_flat_mixture_peaks_at_its_class_transition(mixture):
    chi = mixture.susceptibility
    assert float(chi.sel(level=0.99)) == pytest.approx(4.7, abs=0.25)
    assert float(chi[0]) == pytest.approx(1, abs=0.05)
    assert float(chi[-1]) < float(chi.sel(level=0.99))
    shorter = flat_mixture(32, 8, 2, 5, [0.965], data=64, samples=256).result()
    assert float(shorter.susceptibility[0]) == pytest.approx(2.5, abs=0.25)


def test_but_its_changes_are_as_correlated_far_away_as_nearby(mixture):
    at_peak = mixture.sel(level=0.99)
    apart = (at_peak.correlation - 0.0116) / at_peak.correlation_error
    assert (np.abs(apart[1:]) < 4).all()
    np.testing.assert_allclose(at_peak.correlation[1:], 0.0116, rtol=0.2)
    g = ex.hierarchy.Grammar.random(32, 8, 2, 7, seed=0)
    hierarchical = ex.hierarchy.forward_backward(g, 0.73, 32, 64).result().correlation[0]
    assert float(hierarchical[1] / hierarchical[6]) > 10


def test_at_epsilon_one_the_class_is_at_chance_and_without_noise_it_is_certain(mixture):
    assert float(mixture.marginal.sel(level=1.0, depth=0)) == pytest.approx(1 / 32, abs=0.006)
    clear = flat_mixture(32, 8, 2, 7, [0.0], data=4, samples=4).result()
    assert clear.depth.values.tolist() == [0, 7]
    assert float(clear.marginal.sel(depth=7)[0]) == pytest.approx(1)
    assert float(clear.changed.sel(depth=7)[0]) == 0
    assert np.isnan(clear.susceptibility[0])


def test_the_class_posterior_is_bayes_rule_over_the_leaves():
    emitted = np.array([[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 1], [1, 0, 0, 0, 1, 1]], bool)
    m = 3
    leaves, eps = np.array([0, 3, 3, 5]), 0.7
    likelihood = ex.hierarchy.epsilon_likelihood(torch.from_numpy(leaves), 6, eps).numpy()
    wanted = np.prod((emitted / m) @ likelihood.T, axis=1)
    found = _Mixture(emitted, m, 1, 2, 0, 2, 2)._class_posterior(leaves, eps)
    np.testing.assert_allclose(found, wanted / wanted.sum(), rtol=1e-5)


def test_the_susceptibility_of_a_gaussian_field_only_grows_with_the_noise():
    chi = gaussian_field(2, 8, np.linspace(0.1, 1, 10), data=64, samples=128).result()
    assert (np.diff(chi.susceptibility) > 0).all()
    assert float(chi.susceptibility[0]) == pytest.approx(1, abs=0.05)
    assert float(chi.susceptibility[-1]) == pytest.approx(1.8, abs=0.12)


def test_the_posterior_of_a_gaussian_field_gives_back_its_spectrum():
    # x_0' | x_t, averaged over x_t and x_0, has the prior's variance 1 at every level: then
    # <(x_0 - x_0')^2> = 2 (1 - abar kept) summed over modes.
    from explorer.hierarchy.controls import _Field

    field = _Field(0.6, 1, 400, 0, 2, 6)
    power, sites = field.spectrum(), 64
    twice = np.where((np.arange(33) == 0) | (np.arange(33) == 32), 1, 2)
    assert (power * twice).sum() / sites == pytest.approx(1)
    for level in (0.3, 0.8, 1.0):
        kept = (1 - level) * power / ((1 - level) * power + level)
        wanted = (2 * power * (1 - kept) * twice).sum() / sites
        found = np.mean([np.mean(field._changes(i, level) ** 2) for i in range(60)])
        assert found == pytest.approx(wanted, rel=0.05)


def test_controls_and_hierarchy_are_measured_on_equal_axes(mixture):
    g = ex.hierarchy.Grammar.random(8, 2, 2, 4, seed=0)
    tree = ex.hierarchy.forward_backward(g, [0.5, 0.9], 4, 4).result()
    field = gaussian_field(2, 4, [0.5, 0.9], data=4, samples=4).result()
    shared = {"susceptibility", "susceptibility_error", "correlation", "correlation_error"}
    for result in (tree, mixture, field):
        assert shared <= set(result.data_vars)
        assert {"level", "distance"} <= set(result.dims)
        assert result.attrs["complete"] == 1


def test_statistics_of_independent_and_of_identical_changes():
    d, s = 8, 2
    independent = np.array([d, d, d, d], float)  # variance of a sum = sum of variances
    together = np.array([8, 16, 32, 64], float)  # every block moves as one: s^l times as much
    assert susceptibility(independent, s) == pytest.approx(1)
    assert susceptibility(together, s) == pytest.approx(d)
    np.testing.assert_allclose(correlation(independent, s), [1, 0, 0, 0])
    np.testing.assert_allclose(correlation(together, s), [1, 1, 1, 1])


def test_the_bootstrap_error_of_a_mean_is_its_standard_error():
    table = np.random.default_rng(0).normal(size=(100, 1))
    found = bootstrap_error(table, lambda mean: mean, seed=0)
    assert found[0] == pytest.approx(table.std() / 10, rel=0.2)


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        (lambda: flat_mixture(4, 5, 2, 2, [0.5]), "at most the v = 4 symbols"),
        (lambda: flat_mixture(4, 2, 2, 0, [0.5]), "L must be"),
        (lambda: flat_mixture(4, 2, 2, 2, [1.5]), "noise level must lie"),
        (lambda: flat_mixture(4, 2, 2, 2, [0.5], samples=1), "at least two"),
        (lambda: gaussian_field(2, 60, [0.5]), "smaller L"),
        (lambda: gaussian_field(2, 4, []), "At least one level"),
        (lambda: gaussian_field(2, 4, [0.5], exponent=np.nan), "exponent"),
    ],
)
def test_controls_that_are_none_are_refused(control, sentence):
    with pytest.raises(ex.GrammarError, match=sentence):
        control()
