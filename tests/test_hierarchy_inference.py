"""Belief propagation and exact sampling: equal to enumeration, whatever the evidence.

Equations: Sclocchi et al. 2024 (arXiv 2402.16991), belief propagation on the Random Hierarchy
Model, u_l(a) ~ sum_r prod_k u_{l+1}(R_l[a, r, k]) and its downward counterpart.
"""

import numpy as np
import pytest
import torch

import explorer as ex
from explorer.hierarchy.arithmetic import LOGARITHMIC
from explorer.hierarchy.inference import Beliefs, _ordered
from explorer.hierarchy.messages import compiled, marginals, node_order, upward

SMALL = [(4, 2, 2, 2), (3, 2, 2, 2), (3, 3, 2, 2), (2, 2, 2, 3), (3, 3, 3, 1)]
Grammar, posterior = ex.hierarchy.Grammar, ex.hierarchy.posterior


def every_tree(g):
    """All trees of a grammar, all equally likely: int64 (trees, nodes) a depth."""
    levels = [np.arange(g.n_classes)[:, None]]
    for table in g.rules:
        nodes = levels[-1].shape[1]
        for choice in range(nodes):  # the next node picks each of its m rules in turn
            levels = [np.repeat(level, g.m, axis=0) for level in levels]
            grown = table[levels[-1 if choice == 0 else -2][:, choice]]
            trees = len(grown) // g.m
            below = grown[np.arange(len(grown)), np.tile(np.arange(g.m), trees)]
            levels = [*levels, below] if choice == 0 else [*levels[:-1], _beside(levels[-1], below)]
    return levels


def _beside(left, right):
    return np.hstack([left, right])


def enumerated(g, likelihood):
    """Marginals of one likelihood (leaves, v), and the log evidence, by brute force."""
    trees = every_tree(g)
    weight = likelihood[np.arange(g.n_leaves), trees[-1]].prod(1)
    found = []
    for depth, level in enumerate(trees):
        marginal = np.zeros((level.shape[1], g.n_symbols(depth)))
        for node in range(level.shape[1]):
            np.add.at(marginal[node], level[:, node], weight)
        found.append(marginal / weight.sum())
    return found, np.log(weight.sum() / len(weight))


@pytest.mark.parametrize("size", SMALL, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_marginals_equal_enumeration_of_all_strings_to_1e_12(size, seed):
    g = Grammar.random(*size, seed=seed)
    likelihood = np.random.default_rng(seed).random((4, g.n_leaves, g.v))
    found = posterior(g, likelihood)
    assert len(found) == g.L + 1
    for i in range(4):
        exact, log_evidence = enumerated(g, likelihood[i])
        for depth in range(g.L + 1):
            assert found[depth].dtype == np.float64
            np.testing.assert_allclose(found[depth][i], exact[depth], atol=1e-12, rtol=0)
        assert found.log_evidence[i] == pytest.approx(log_evidence, abs=1e-12)


def test_enumeration_agrees_when_classes_are_fewer_or_more_than_symbols():
    for n_classes in (1, 2, 7):
        g = Grammar.random(4, 2, 2, 2, seed=1, n_classes=n_classes)
        likelihood = np.random.default_rng(1).random((g.n_leaves, g.v))
        for found, exact in zip(
            posterior(g, likelihood), enumerated(g, likelihood)[0], strict=True
        ):
            np.testing.assert_allclose(found, exact, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", SMALL, ids=str)
def test_logarithms_and_plain_numbers_give_the_same_marginals(size):
    g = Grammar.random(*size, seed=4)
    likelihood = torch.rand(3, g.n_leaves, g.v, dtype=torch.float64)
    likelihood[0, 0] = torch.nn.functional.one_hot(torch.tensor(g.sample(1)[-1][0, 0]), g.v)
    rules = compiled(g, torch.device("cpu"))
    up = upward(rules, _ordered(g, likelihood), LOGARITHMIC)
    in_logarithms, _ = marginals(rules, up, LOGARITHMIC)
    for found, plain in zip(in_logarithms, Beliefs.of(g, likelihood).marginals(), strict=True):
        torch.testing.assert_close(found.view(plain.shape), plain, atol=1e-12, rtol=0)


def test_samples_of_the_posterior_have_the_frequencies_of_enumeration():
    g = Grammar.random(3, 2, 2, 2, seed=0)
    likelihood = np.random.default_rng(3).random((g.n_leaves, g.v))
    trees = every_tree(g)
    weight = likelihood[np.arange(4), trees[-1]].prod(1)
    drawn = posterior(g, likelihood).sample(200_000, seed=1)
    place = 3 ** np.arange(4)
    exact = np.zeros(81)
    np.add.at(exact, trees[-1] @ place, weight / weight.sum())
    frequency = np.bincount(drawn[-1] @ place, minlength=81) / 200_000
    assert np.abs(frequency - exact).max() < 0.004
    for level, parsed in zip(drawn, g.parse(drawn[-1]), strict=True):
        np.testing.assert_array_equal(level, parsed)  # latent symbols belong to their string


def test_samples_are_legal_strings_and_do_not_depend_on_the_batch():
    g = Grammar.random(8, 3, 2, 4, seed=0)
    leaves = torch.tensor(g.sample(6, seed=2)[-1])
    likelihood = ex.hierarchy.epsilon_likelihood(leaves, 8, 0.8)
    together = posterior(g, likelihood).sample(20, seed=3)
    assert [level.shape for level in together] == [(6, 20, 2**depth) for depth in range(5)]
    assert (g.parse(together[-1].reshape(-1, 16).numpy())[0] >= 0).all()
    first = posterior(g, likelihood[:2]).sample(20, seed=3)
    torch.testing.assert_close(together[-1][:2], first[-1])


def test_certain_leaves_give_the_parse_and_unknown_leaves_the_prior():
    g = Grammar.random(8, 3, 2, 3, seed=0)
    tree = g.sample(5, seed=1)
    certain = posterior(g, np.eye(8)[tree[-1]])
    for symbols, marginal in zip(tree, certain, strict=True):
        np.testing.assert_array_equal(marginal, np.eye(8)[symbols])
    unknown = posterior(g, np.ones((8, 8)))
    np.testing.assert_allclose(unknown[0], 1 / 8, rtol=1e-12)
    assert unknown.log_evidence == pytest.approx(0, abs=1e-12)
    certain_log = posterior(g, np.eye(8)[tree[-1]]).log_evidence
    np.testing.assert_allclose(certain_log, -np.log(float(g.n_strings)), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e20])
def test_the_scale_of_a_likelihood_does_not_matter(scale):
    g = Grammar.random(8, 3, 3, 3, seed=0)
    likelihood = np.random.default_rng(0).random((27, 8)).astype(np.float32)
    for found, wanted in zip(
        posterior(g, likelihood * np.float32(scale)), posterior(g, likelihood), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("softness", [1e-6, 1e-12, 1e-25, 1e-37])
def test_evidence_far_below_the_number_range_is_solved_in_logarithms(dtype, softness):
    # Every second leaf is wrong, and each wrong leaf costs `softness`: the likeliest string of
    # 3^3 leaves has a likelihood near softness^13, about 1e-480 for the hardest.
    g = Grammar.random(6, 2, 3, 3, seed=0)
    leaves = g.sample(2, seed=1)[-1]
    wrong = np.where(np.arange(g.n_leaves) % 2, (leaves + 1) % 6, leaves)
    likelihood = np.where(np.eye(6)[wrong] > 0, 1, softness).astype(dtype)
    found = posterior(g, likelihood)
    exact = _in_exact_numbers(g, likelihood)
    for marginal, wanted in zip(found, exact, strict=True):
        assert np.isfinite(marginal).all()
        np.testing.assert_allclose(marginal, wanted, atol=1e-5 if dtype == np.float32 else 1e-12)
    drawn = found.sample(50, seed=0)
    assert (g.parse(drawn[-1].reshape(-1, g.n_leaves))[0] >= 0).all()


def _in_exact_numbers(g, likelihood):
    """Marginals by a plain recursion in rational numbers, of each string of a batch."""
    from fractions import Fraction

    found = []
    for one in likelihood:
        up = [[[Fraction(float(x)) for x in leaf] for leaf in one]]
        for table in reversed(g.rules):
            below = up[0]
            up.insert(0, [])
            for i in range(len(below) // g.s):
                children = below[i * g.s : (i + 1) * g.s]
                up[0].append([sum(_product(children, rule) for rule in r) for r in table])
        down = [[[Fraction(1)] * g.n_classes]]
        for depth, table in enumerate(g.rules):
            down.append([])
            for i, node in enumerate(down[depth]):
                children = up[depth + 1][i * g.s : (i + 1) * g.s]
                for k in range(g.s):
                    message = [Fraction(0)] * g.v
                    for a, r in np.ndindex(table.shape[:2]):
                        others = [j for j in range(g.s) if j != k]
                        rest = _product([children[j] for j in others], table[a, r, others])
                        message[table[a, r, k]] += node[a] * rest
                    down[-1].append(message)
        pairs = zip(up, down, strict=True)
        found.append([[_shares(*ud) for ud in zip(u, d, strict=True)] for u, d in pairs])
    return [np.array([string[depth] for string in found]) for depth in range(g.L + 1)]


def _product(children, symbols):
    total = 1
    for child, symbol in zip(children, symbols, strict=True):
        total *= child[symbol]
    return total


def _shares(u, d):
    products = [a * b for a, b in zip(u, d, strict=True)]
    return [float(x / sum(products)) for x in products]


def test_contradictory_evidence_is_an_error_or_a_flag_and_never_nan():
    g = Grammar.random(8, 2, 2, 3, seed=0)
    legal = g.sample(2, seed=1)[-1]
    illegal = next(
        x for x in np.random.default_rng(0).integers(8, size=(50, 8)) if g.parse(x)[0][0, 0] < 0
    )
    likelihood = np.eye(8)[np.stack([legal[0], illegal, legal[1]])]
    with pytest.raises(ex.GrammarError, match=r"No string .* fits .* number 1 of 3"):
        posterior(g, likelihood)
    flagged = posterior(g, likelihood, contradictory="flag")
    assert flagged.contradicted.tolist() == [False, True, False]
    assert flagged.log_evidence[1] == -np.inf
    for level in flagged:
        assert np.isfinite(level).all()
        assert (level[1] == 0).all()
        np.testing.assert_allclose(level[[0, 2]].sum(-1), 1)
    drawn = flagged.sample(4)
    assert (drawn[-1][1] == -1).all()
    np.testing.assert_array_equal(drawn[-1][0], np.tile(legal[0], (4, 1)))


def test_a_leaf_that_can_be_nothing_is_a_contradiction():
    g = Grammar.random(4, 2, 2, 2)
    likelihood = np.ones((4, 4))
    likelihood[2] = 0
    with pytest.raises(ex.GrammarError, match="No string"):
        posterior(g, likelihood)


@pytest.mark.parametrize(
    ("likelihood", "sentence"),
    [
        (np.ones((3, 4)), r"shape \(\.\.\., 4, 4\).*this one has \(3, 4\)"),
        (np.ones((2, 4, 5)), r"this one has \(2, 4, 5\)"),
        (np.ones(4), r"this one has \(4,\)"),
        (np.full((4, 4), np.nan), "finite numbers of 0 or more"),
        (np.full((4, 4), np.inf), "finite numbers of 0 or more"),
        (-np.ones((4, 4)), "finite numbers of 0 or more"),
    ],
)
def test_likelihoods_that_are_none_are_refused(likelihood, sentence):
    with pytest.raises(ex.GrammarError, match=sentence):
        posterior(Grammar.random(4, 2, 2, 2), likelihood)


def test_arrays_give_arrays_and_tensors_give_tensors_of_their_format():
    g = Grammar.random(4, 2, 2, 2)
    assert isinstance(posterior(g, np.ones((4, 4)))[0], np.ndarray)
    assert posterior(g, torch.ones(2, 3, 4, 4))[1].shape == (2, 3, 2, 4)
    assert posterior(g, torch.ones(4, 4))[-1].dtype == torch.float32
    assert posterior(g, np.ones((4, 4), int))[0].dtype == np.float32
    with pytest.raises(ex.GrammarError, match="contradictory"):
        posterior(g, np.ones((4, 4)), contradictory="ignore")


def test_many_strings_in_blocks_equal_each_alone():
    g = Grammar.random(32, 8, 2, 7, seed=0)
    leaves = torch.tensor(g.sample(300, seed=1)[-1])
    likelihood = ex.hierarchy.epsilon_likelihood(leaves, 32, 0.75)
    together = posterior(g, likelihood)
    for i in (0, 150, 299):
        for found, wanted in zip(posterior(g, likelihood[i]), together, strict=True):
            torch.testing.assert_close(found, wanted[i], atol=1e-6, rtol=1e-5)


def test_the_order_of_nodes_puts_the_kth_children_together():
    for s, depth in ((2, 3), (3, 2)):
        above, below = node_order(s, depth), node_order(s, depth + 1)
        for k in range(s):
            block = below[k * s**depth : (k + 1) * s**depth]
            np.testing.assert_array_equal(block, above * s + k)


def test_the_epsilon_likelihood_is_one_minus_eps_plus_eps_over_v():
    found = ex.hierarchy.epsilon_likelihood(torch.tensor([2]), 4, 0.6)
    torch.testing.assert_close(found, torch.tensor([[0.15, 0.15, 0.55, 0.15]]))


def test_the_masking_likelihood_is_certain_or_flat():
    found = ex.hierarchy.masking_likelihood(torch.tensor([1, 1]), 4, torch.tensor([False, True]))
    torch.testing.assert_close(found, torch.tensor([[0, 1, 0, 0], [0.25] * 4]))


def test_the_uniform_likelihood_is_peaked_on_what_is_seen():
    found = ex.hierarchy.uniform_likelihood(torch.tensor([0]), 2, 0.2)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1]]))


def test_the_gaussian_likelihood_is_that_of_the_noised_one_hot_vector():
    abar, x = 0.8, torch.randn(3, 5)
    distance = ((x[:, None] - abar**0.5 * torch.eye(5)) ** 2).sum(-1)
    wanted = torch.softmax(-distance / (2 * (1 - abar)), -1)
    torch.testing.assert_close(ex.hierarchy.gaussian_likelihood(x, abar), wanted)
    clear = ex.hierarchy.gaussian_likelihood(torch.eye(5), 1.0)
    torch.testing.assert_close(clear, torch.eye(5))


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan"), "much", None])
def test_noise_outside_zero_to_one_is_refused(level):
    leaves = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ex.GrammarError, match=r"epsilon must lie in \[0, 1\]"):
        ex.hierarchy.epsilon_likelihood(leaves, 4, level)
    with pytest.raises(ex.GrammarError, match=r"noise level must lie in \[0, 1\]"):
        ex.hierarchy.uniform_likelihood(leaves, 4, level)
    with pytest.raises(ex.GrammarError, match=r"alpha_bar must lie in \[0, 1\]"):
        ex.hierarchy.gaussian_likelihood(torch.zeros(1, 4), level)
