"""Grammars of the Random Hierarchy Model: distinct rules, strings, parses, legality."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import explorer as ex

Grammar = ex.hierarchy.Grammar


@st.composite
def sizes(draw):
    v, s, L = draw(st.integers(2, 6)), draw(st.integers(2, 3)), draw(st.integers(1, 3))
    m = draw(st.integers(1, v ** (s - 1)))
    return v, m, s, L, draw(st.integers(1, v))


@settings(max_examples=60, deadline=None)
@given(sizes(), st.integers(0, 1000))
def test_rules_are_distinct_tuples_of_symbols_one_table_a_depth(size, seed):
    v, m, s, L, n_classes = size
    g = Grammar.random(v, m, s, L, seed, n_classes=n_classes)
    assert [r.shape for r in g.rules] == [(n_classes, m, s)] + [(v, m, s)] * (L - 1)
    for table in g.rules:
        assert len(np.unique(table.reshape(-1, s), axis=0)) == table.shape[0] * m
        assert table.min() >= 0
        assert table.max() < v


@settings(max_examples=60, deadline=None)
@given(sizes(), st.integers(0, 1000))
def test_a_sampled_string_parses_to_the_tree_it_was_made_from(size, seed):
    v, m, s, L, n_classes = size
    g = Grammar.random(v, m, s, L, seed, n_classes=n_classes)
    tree = g.sample(5, seed)
    assert [level.shape for level in tree] == [(5, s**depth) for depth in range(L + 1)]
    for made, parsed in zip(tree, g.parse(tree[-1]), strict=True):
        np.testing.assert_array_equal(made, parsed)


def test_the_number_of_strings_is_n_c_times_m_to_the_number_of_inner_nodes():
    g = Grammar.random(v=3, m=2, s=2, L=2, seed=0)
    every = np.stack(np.unravel_index(np.arange(3**4), (3,) * 4), -1)
    legal = (g.parse(every)[0] >= 0).sum()
    assert legal == g.n_strings == 3 * 2 ** ((2**2 - 1) // (2 - 1))
    assert Grammar.random(32, 8, 2, 7).n_strings == 32 * 8**127


def test_in_the_maximal_case_every_string_is_legal():
    g = Grammar.random(v=4, m=4, s=2, L=2, seed=3)
    every = np.stack(np.unravel_index(np.arange(4**4), (4,) * 4), -1)
    assert (g.parse(every)[0] >= 0).all()


def test_an_illegal_tuple_is_marked_and_so_is_everything_above_it_and_nothing_else():
    g = Grammar.random(v=8, m=2, s=2, L=3, seed=0)
    tree = g.sample(1, 1)
    legal = {tuple(t) for t in g.rules[-1].reshape(-1, 2)}
    illegal = next((a, b) for a in range(8) for b in range(8) if (a, b) not in legal)
    leaves = tree[-1].copy()
    leaves[0, 2:4] = illegal
    parsed = g.parse(leaves)
    assert parsed[2].tolist() == [[tree[2][0, 0], -1, tree[2][0, 2], tree[2][0, 3]]]
    assert parsed[1].tolist() == [[-1, tree[1][0, 1]]]
    assert parsed[0].tolist() == [[-1]]
    np.testing.assert_array_equal(g.parse(tree[-1][0])[0], tree[0])  # one string without a batch


def test_classes_and_rules_are_drawn_uniformly():
    g = Grammar.random(v=4, m=2, s=2, L=2, seed=0)
    tree = g.sample(40_000, seed=1)
    np.testing.assert_allclose(np.bincount(tree[0][:, 0]) / 40_000, 1 / 4, atol=0.01)
    rules = g.rules[0][tree[0][:, 0]]
    first = (tree[1][:, None] == rules).all(-1)[:, 0].mean()
    assert first == pytest.approx(1 / 2, abs=0.01)


def test_the_same_seed_gives_the_same_grammar_and_the_same_strings():
    one, other = (Grammar.random(8, 3, 2, 3, seed=5) for _ in range(2))
    for a, b in zip(one.rules + one.sample(4, 7), other.rules + other.sample(4, 7), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.rules[0] != Grammar.random(8, 3, 2, 3, seed=6).rules[0]).any()
    assert repr(one) == "Grammar(v=8, m=3, s=2, L=3, seed=5)"


def test_rules_cannot_be_changed():
    g = Grammar.random(4, 2, 2, 2)
    with pytest.raises(ValueError, match="read-only"):
        g.rules[0][0] = 0
    with pytest.raises(AttributeError):
        g.v = 5


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((4, 5, 2, 2), r"need 20 distinct tuples, but there are only v\^s = 16"),
        ((4, 2, 2, 0), "L must be a whole number of 1 or more, not 0"),
        ((4, 0, 2, 2), "m must be a whole number of 1 or more, not 0"),
        ((4, 2, 1, 2), "s must be a whole number of 2 or more, not 1"),
        ((1, 1, 2, 2), "v must be a whole number of 2 or more, not 1"),
        ((4.0, 2, 2, 2), "v must be a whole number of 2 or more, not 4.0"),
        ((4, True, 2, 2), "m must be a whole number"),
        ((32, 8, 2, 60), r"s\^L = 2\^60 leaves .* GB of memory.*choose a smaller L"),
        ((32, 8, 2, 10**7), "choose a smaller L"),
        ((100, 8, 20, 1), "too many to number"),
    ],
    ids=str,
)
def test_a_grammar_that_cannot_exist_is_refused_in_a_sentence(size, sentence):
    with pytest.raises(ex.GrammarError, match=sentence):
        Grammar.random(*size)


def test_more_classes_than_tuples_are_refused():
    with pytest.raises(ex.GrammarError, match=r"9 symbols with m = 2 rules each need 18"):
        Grammar.random(4, 2, 2, 1, n_classes=9)
    with pytest.raises(ex.GrammarError, match="n_classes"):
        Grammar.random(4, 2, 2, 1, n_classes=0)
    with pytest.raises(ex.GrammarError, match="The seed"):
        Grammar.random(4, 2, 2, 1, seed=-1)


def test_rules_of_ones_own_are_checked():
    rules = Grammar.random(4, 2, 2, 2).rules
    Grammar(4, tuple(rules))
    twice = rules[1].copy()
    twice[3, 1] = twice[0, 0]
    with pytest.raises(ex.GrammarError, match="depth 1 are ambiguous: 1 of 8 tuples"):
        Grammar(4, (rules[0], twice))
    with pytest.raises(ex.GrammarError, match="beyond 0 to 2"):
        Grammar(3, (rules[0][:3],))
    with pytest.raises(ex.GrammarError, match=r"depth 1 have shape \(4, 1, 2\)"):
        Grammar(4, (rules[0], rules[1][:, :1]))
    with pytest.raises(ex.GrammarError, match="whole numbers of shape"):
        Grammar(4, (rules[0] / 2,))
    with pytest.raises(ex.GrammarError, match="at least one level"):
        Grammar(4, ())


@pytest.mark.parametrize(
    "leaves", [np.zeros((2, 3), int), np.zeros((2, 4)), np.full((1, 4), 4), np.full((1, 4), -1)]
)
def test_strings_that_are_none_are_refused(leaves):
    with pytest.raises(ex.GrammarError, match=r"Strings of this grammar|symbols of a string"):
        Grammar.random(4, 2, 2, 2).parse(leaves)


def test_the_room_is_there_by_name_and_costs_nothing_before():
    code = (
        "import sys, explorer as ex; before = {'torch', 'numpy'} & set(sys.modules); "
        "g = ex.hierarchy.Grammar.random(4, 2, 2, 2); print(before, g.L, 'panel' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set() 2 False", done.stderr
