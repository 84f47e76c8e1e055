"""Every merging method equals a slow version written from its definition, awkward cases too."""

import math
import subprocess
import sys
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_merging import BASE, SHAPES, SLOW, slow_slerp, slow_sum

import explorer as ex
from explorer.editing import methods
from explorer.editing.methods import Option, find_method, larv, merging_methods
from explorer.editing.methods import pieces as pieces_module
from explorer.editing.methods.layerwise import read_factors, write_factors
from explorer.editing.methods.sparse import kth_magnitude

COEFFICIENTS = {"birds": 0.5, "cars": -1.25, "digits": 2.0}
NEEDED = {"tall_masks": {"task": "cars"}}  # options without which a method has no result


def vectors_of(tasks=("birds", "cars", "digits"), dtype=torch.float64, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {
        task: ex.TaskVector(
            {
                key: (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(
                    dtype
                )
                for key, shape in SHAPES.items()
            }
        )
        for task in tasks
    }


def arrays_of(vectors) -> dict[str, dict[str, np.ndarray]]:
    return {t: {k: x.double().numpy() for k, x in v.items()} for t, v in vectors.items()}


def assert_equals(found, expected, tolerance=1e-10):
    assert list(found) == list(SHAPES)
    for key, x in expected.items():
        np.testing.assert_allclose(
            found[key].double().numpy(), x, rtol=tolerance, atol=tolerance, err_msg=key
        )


def base_of(vectors):
    """The weights that the vectors change, in their number format."""
    like = next(iter(vectors.values()))
    return {key: torch.as_tensor(BASE[key]).to(x.dtype) for key, x in like.items()}


def merged(name, vectors, coefficients, **options):
    method = find_method(name)
    options = {**NEEDED.get(name, {}), **options}
    return method(vectors, coefficients, base_of(vectors), **options)


@pytest.mark.parametrize(("name", "slow", "options"), SLOW)
def test_a_method_equals_the_slow_version_of_its_definition(name, slow, options):
    vectors = vectors_of()
    # Vectors that agree in part: of independent ones Model Stock would keep nothing.
    common = vectors_of(("common",), seed=1)["common"]
    vectors = {
        task: v + (-1 if COEFFICIENTS[task] < 0 else 1) * common for task, v in vectors.items()
    }
    found = merged(name, vectors, COEFFICIENTS, **options)
    assert_equals(found, slow(arrays_of(vectors), COEFFICIENTS, **options))


@pytest.mark.parametrize(("name", "slow", "options"), SLOW)
def test_in_float32_too(name, slow, options):
    vectors = vectors_of(dtype=torch.float32)
    found = merged(name, vectors, COEFFICIENTS, **options)
    assert {x.dtype for x in found.values()} == {torch.float32}
    assert_equals(found, slow(arrays_of(vectors), COEFFICIENTS, **options), 2e-4)


@pytest.mark.parametrize("options", [{}, {"t": 0.2}, {"t": 0.9, "by": "tensor"}])
@pytest.mark.parametrize("c", [{"a": 1.0, "b": 1.0}, {"a": 0.5, "b": -2.0}])
def test_slerp_equals_the_slow_version(options, c):
    vectors = vectors_of(("a", "b"))
    assert_equals(
        merged("slerp", vectors, c, **options), slow_slerp(arrays_of(vectors), c, **options)
    )


def test_every_method_is_compared_with_a_slow_version():
    compared = {name for name, _, _ in SLOW} | {"slerp", "dare"}
    assert compared == set(merging_methods())


# --- DARE: what is random has claims of its own --------------------------------------------------


def test_dare_drops_entries_or_rescales_them():
    vectors = vectors_of(("a",), dtype=torch.float32)
    found = merged("dare", vectors, {"a": 1.0}, drop_rate=0.75)
    for key, tau in vectors["a"].items():
        kept = found[key] != 0
        torch.testing.assert_close(found[key][kept], 4 * tau[kept])


def test_dare_drops_the_share_it_says_and_keeps_the_expected_vector():
    big = {"a": ex.TaskVector({"proj": torch.ones(1000, 1000)})}
    found = merged("dare", big, {"a": 1.0}, drop_rate=0.9)["proj"]
    assert float((found == 0).float().mean()) == pytest.approx(0.9, abs=0.002)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)


def test_what_dare_drops_of_a_task_depends_on_the_seed_and_not_on_the_other_tasks():
    vectors = vectors_of(dtype=torch.float32)
    together = merged("dare", vectors, dict.fromkeys(vectors, 1.0), seed=3)
    alone = [merged("dare", {t: v}, {t: 1.0}, seed=3) for t, v in vectors.items()]
    for key, x in together.items():
        torch.testing.assert_close(x, sum(part[key] for part in alone))
    assert merged("dare", vectors, COEFFICIENTS, seed=3) != together
    assert merged("dare", vectors, dict.fromkeys(vectors, 1.0), seed=4) != together
    assert merged("dare", vectors, dict.fromkeys(vectors, 1.0), seed=3) == together


def test_dare_that_drops_nothing_is_task_arithmetic():
    vectors = vectors_of(dtype=torch.float64)
    assert_equals(
        merged("dare", vectors, COEFFICIENTS, drop_rate=0.0),
        slow_sum(arrays_of(vectors), COEFFICIENTS),
    )


# --- rules that hold for every method ------------------------------------------------------------

ALL = sorted(merging_methods())


def tasks_for(name):
    return ("birds", "cars") if name == "slerp" else ("birds", "cars", "digits")


@pytest.mark.parametrize("name", [name for name in ALL if name != "wudi"])
def test_a_common_coefficient_is_a_factor_after_merging(name):
    vectors = vectors_of(tasks_for(name))
    once = merged(name, vectors, dict.fromkeys(vectors, 1.0))
    twice = merged(name, vectors, dict.fromkeys(vectors, 2.0))
    assert_equals(twice, {key: 2 * x.numpy() for key, x in once.items()}, 1e-9)


# layer_directions takes lengths before the coefficients, as it says.
@pytest.mark.parametrize("name", [name for name in ALL if name != "layer_directions"])
def test_a_coefficient_scales_its_vector_before_the_method(name):
    vectors = vectors_of(tasks_for(name))
    c = {task: COEFFICIENTS[task] for task in vectors}
    scaled = {task: c[task] * v for task, v in vectors.items()}
    expected = merged(name, scaled, dict.fromkeys(vectors, 1.0))
    found = merged(name, vectors, c)
    assert_equals(found, {key: x.numpy() for key, x in expected.items()}, 1e-9)


@pytest.mark.parametrize("name", ALL)
def test_zero_vectors_give_a_zero_vector(name):
    vectors = {t: 0.0 * v for t, v in vectors_of(tasks_for(name)).items()}
    found = merged(name, vectors, dict.fromkeys(vectors, 1.0))
    assert all(not x.any() for x in found.values())


@pytest.mark.parametrize("name", ALL)
def test_one_zero_vector_among_others_gives_finite_numbers(name):
    vectors = vectors_of(tasks_for(name))
    vectors["birds"] = 0.0 * vectors["birds"]
    found = merged(name, vectors, dict.fromkeys(vectors, 1.0))
    assert all(x.isfinite().all() for x in found.values())


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("slerp", "dare")])
def test_one_task_alone_follows_its_definition(name):
    vectors = vectors_of(("cars",))
    found = merged(name, vectors, {"cars": 0.5})
    if name in ("ties", "breadcrumbs", "iso_c", "iso_cts", "wudi", "larv"):
        slow, options = next((slow, options) for n, slow, options in SLOW if n == name)
        expected = slow(arrays_of(vectors), {"cars": 0.5}, **options)
        found = merged(name, vectors, {"cars": 0.5}, **options)
        assert_equals(found, expected)
    else:
        assert_equals(found, {key: 0.5 * x.numpy() for key, x in vectors["cars"].items()})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_given_back(name, dtype):
    half = vectors_of(tasks_for(name), dtype=dtype)
    full = {t: ex.TaskVector({k: x.float() for k, x in v.items()}) for t, v in half.items()}
    c = dict.fromkeys(half, 0.3)
    found, expected = merged(name, half, c), merged(name, full, c)
    assert {x.dtype for x in found.values()} == {dtype}
    for key, x in expected.items():
        torch.testing.assert_close(found[key], x.to(dtype), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_lines_scales_what_the_method_made_and_buffers_stay(name):
    vectors = vectors_of(tasks_for(name), dtype=torch.float32)
    base = base_of(vectors)
    tuned = {key: x + vectors["cars"][key] for key, x in base.items()}
    base["num_batches_tracked"] = torch.tensor(7)
    tuned["num_batches_tracked"] = torch.tensor(9)
    vectors["cars"] = ex.TaskVector.between(base, tuned)
    recipe = ex.Recipe(
        coefficients=dict.fromkeys(vectors, 0.4),
        schedule=ex.lines(0.1, 0.9),
        method=name,
        options=NEEDED.get(name, {}),
    )
    found = ex.merge(base, vectors, recipe)
    plain = merged(name, vectors, dict.fromkeys(vectors, 0.4))
    assert int(found.pop("num_batches_tracked")) == 7
    for key, x in found.items():
        edit = ex.lines(0.1, 0.9).scale_of(key, 3) * plain[key]
        torch.testing.assert_close(x, base[key] + edit)


@pytest.mark.parametrize("name", ALL)
def test_a_method_leaves_its_vectors_alone(name):
    vectors = vectors_of(tasks_for(name))
    before = {task: 1.0 * v for task, v in vectors.items()}
    merged(name, vectors, dict.fromkeys(vectors, 0.7))
    assert vectors == before


@pytest.mark.parametrize("name", ["ties", "dare", "tall_masks", "consensus"])
def test_the_size_of_the_pieces_changes_nothing(name, monkeypatch):
    vectors = vectors_of(dtype=torch.float32)
    whole = merged(name, vectors, COEFFICIENTS)
    monkeypatch.setattr(pieces_module, "PIECE", 16)
    assert merged(name, vectors, COEFFICIENTS) == whole


# --- awkward cases of one method -----------------------------------------------------------------


def one_tensor(**rows):
    """A task vector of one tensor a keyword."""
    return {t: ex.TaskVector({"proj": torch.tensor(row)}) for t, row in rows.items()}


def test_ties_keeps_everything_as_large_as_the_last_entry_it_keeps():
    vectors = one_tensor(a=[3.0, -1.0, 1.0, 1.0, 0.5])
    found = merged("ties", vectors, {"a": 1.0}, density=0.4)
    assert found["proj"].tolist() == [3.0, -1.0, 1.0, 1.0, 0.0]


def test_ties_lets_the_majority_decide_where_the_signs_balance():
    vectors = one_tensor(a=[2.0, -1.0, -1.0], b=[-2.0, -1.0, -1.0])
    found = merged("ties", vectors, {"a": 1.0, "b": 1.0}, density=1.0)
    assert found["proj"].tolist() == [-2.0, -1.0, -1.0]
    vectors = one_tensor(a=[2.0, -1.0, 1.0], b=[-2.0, -1.0, 1.0])
    found = merged("ties", vectors, {"a": 1.0, "b": 1.0}, density=1.0)
    assert found["proj"].tolist() == [2.0, -1.0, 1.0]


def test_breadcrumbs_gives_equal_magnitudes_the_same_fate():
    vectors = one_tensor(a=[4.0, -4.0, 2.0, 2.0, -2.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    found = merged("breadcrumbs", vectors, {"a": 1.0}, density=0.2, outliers=0.1)
    assert found["proj"].tolist() == [0.0, 0.0, 2.0, 2.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_tall_masks_without_a_task_says_what_to_give():
    vectors = vectors_of()
    with pytest.raises(ex.RecipeError, match=r"one model a task.*'task': 'birds'"):
        find_method("tall_masks")(vectors, COEFFICIENTS)
    with pytest.raises(ex.UnknownNameError, match=r"'card'.*'cars'"):
        find_method("tall_masks")(vectors, COEFFICIENTS, task="card")
    assert find_method("tall_masks").per_task


@pytest.mark.parametrize("tasks", [("a",), ("a", "b", "c")])
def test_slerp_takes_exactly_two_tasks(tasks):
    with pytest.raises(ex.RecipeError, match=f"the recipe has {len(tasks)}.*exactly two"):
        find_method("slerp")(vectors_of(tasks), dict.fromkeys(tasks, 1.0))


def test_slerp_between_parallel_or_opposite_vectors_is_a_straight_line():
    v = vectors_of(("a",))["a"]
    for factor in (3.0, -1.0):
        found = merged("slerp", {"a": v, "b": factor * v}, {"a": 1.0, "b": 1.0}, t=0.25)
        assert_equals(found, {k: (0.75 + 0.25 * factor) * x.numpy() for k, x in v.items()})


def test_opposite_vectors_stay_at_the_base_in_model_stock():
    v = vectors_of(("a",))["a"]
    found = merged("model_stock", {"a": v, "b": -v}, {"a": 1.0, "b": 1.0})
    assert all(not x.any() for x in found.values())


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ("birds=1,2", "2 numbers, but this tower has 5 by layer"),
        ("birds=1,2,3,4,x", "finite numbers, unlike 'x'"),
        ("birds=1,2,3,4,inf", "finite numbers, unlike 'inf'"),
        ("birds", "unlike 'birds'"),
        ("birds=1;birds=2", "each task once"),
    ],
)
def test_factors_that_are_no_table_of_this_tower_are_refused(factors, sentence):
    with pytest.raises(ex.RecipeError, match=sentence):
        merged("layerwise", vectors_of(), COEFFICIENTS, factors=factors)


def test_factors_survive_their_text_whatever_the_names_of_tasks():
    table = {"a=b;c,d é": [0.25, -1.0], "plain": [1e-6, 3.0]}
    assert read_factors(write_factors(table)) == table


def test_larv_over_dare_drops_what_its_seed_says():
    vectors = vectors_of()
    first, again, other = (
        merged("larv", vectors, COEFFICIENTS, merger="dare", seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_larv_without_the_base_says_what_it_needs():
    with pytest.raises(ex.RecipeError, match="weights they belong to: give them as base="):
        find_method("larv")(vectors_of(), COEFFICIENTS)
    assert "base" not in find_method("larv").options


def test_larv_divides_twelve_blocks_into_three_tiers_of_four_and_leaves_one_block_alone():
    rising = {i: 0.1 * i for i in range(12)}
    assert list(larv.gated(rising).values()) == [0.5] * 4 + [1.0] * 4 + [1.5] * 4
    assert list(larv.gated(rising, "two tiers", 0.2, 1.2).values()) == [0.2] * 6 + [1.2] * 6
    assert larv.gated({0: 3.0}) == {0: 1.0}
    assert larv.gated({}) == {}


def test_the_effective_rank_counts_equal_directions():
    assert larv.effective_rank(3 * torch.eye(5)) == pytest.approx(5)
    assert larv.effective_rank(torch.ones(4, 7)) == pytest.approx(1)


def test_matrices_that_commute_on_both_sides_have_no_conflict():
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert larv.conflict(torch.eye(2), torch.eye(2)) == 0
    assert larv.conflict(torch.eye(2), turn) == pytest.approx(math.sqrt(2))


def test_a_block_that_a_task_left_alone_has_no_score():
    vector = vectors_of(("cars",))["cars"]
    still = {k: 0.0 * x if "resblocks.1." in k else x for k, x in vector.items()}
    assert set(larv.scores(base_of({"cars": vector}), ex.TaskVector(still))) == {0, 2}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0]),
        min_size=1,
    ),
    st.data(),
)
def test_the_kth_magnitude_is_exact(values, data):
    k = data.draw(st.integers(1, len(values)))
    expected = sorted(map(abs, values), reverse=True)[k - 1]
    half = len(values) // 2
    for dtype in (torch.float32, torch.float64):
        parts = {"a": values[:half], "b": values[half:]}
        vector = ex.TaskVector({key: torch.tensor(x, dtype=dtype) for key, x in parts.items()})
        assert kth_magnitude(vector, k) == expected


def test_ties_dare_and_consensus_hold_no_second_copy_of_the_operands():
    program = """
import resource, sys, torch, explorer as ex
from explorer.editing.methods import find_method
torch.set_num_threads(1)
n, tasks = 6_000_000, [f"task {i}" for i in range(8)]
shapes = {f"transformer.resblocks.{i}.mlp.c_fc.weight": (1000, n // 6000) for i in range(6)}
vectors = {t: ex.TaskVector({k: torch.randn(s) for k, s in shapes.items()}) for t in tasks}
small = {t: ex.TaskVector({"proj": torch.randn(4, 4)}) for t in tasks}
for name in ("ties", "dare", "consensus"):
    find_method(name)(small, dict.fromkeys(tasks, 0.3))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for name in ("ties", "dare", "consensus"):
    find_method(name)(vectors, dict.fromkeys(tasks, 0.3))
print((peak() - before) * 1024 / (8 * n * 4))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert float(done.stdout) < 0.5


# --- the registry --------------------------------------------------------------------------------


def test_every_method_has_a_reference_a_summary_and_options_with_defaults():
    for name, method in merging_methods().items():
        assert method.name == name
        assert len(method.reference) > 10
        assert method.summary.endswith(".")
        for option in method.options.values():
            assert option.text or option.choices, name
            assert option.complaint(option.default) == "", name
            if option.kind in (int, float):
                assert option.low < option.high, name
                assert option.step > 0, name


def test_a_signature_shows_types_and_defaults_without_the_bounds():
    assert str(find_method("ties").signature) == (
        "(density: float = 0.2, merge: Literal['mean', 'sum'] = 'mean')"
    )
    assert find_method("ties").options["merge"].choices == ("mean", "sum")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"density": 1.5}, "'density' of 'ties' lies between 0 and 1, not at 1.5"),
        ({"density": float("nan")}, "lies between 0 and 1"),
        ({"density": "many"}, "is a number, not 'many'"),
        ({"density": True}, "is a number, not True"),
        ({"merge": "max"}, "is one of 'mean', 'sum', not 'max'"),
        ({"k": 3}, "no such option"),
    ],
)
def test_a_wrong_option_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(ex.RecipeError, match=sentence):
        find_method("ties")(vectors_of(), COEFFICIENTS, **options)
    with pytest.raises(ex.RecipeError, match=r"a whole number, not 0\.5"):
        find_method("dare").check_options({"seed": 0.5})


def test_a_new_method_needs_one_function_with_its_options(monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))

    @ex.merging_method(reference="this test")
    def thinned(
        vectors,
        coefficients,
        keep: Annotated[float, Option("how much", 0.0, 1.0, 0.1)] = 0.5,
        how: Literal["up", "down"] = "up",
        plain: int = 3,
    ):
        """Some of it."""

    options = find_method("thinned").options
    assert (options["keep"].low, options["keep"].high, options["keep"].step) == (0.0, 1.0, 0.1)
    assert options["keep"].default == 0.5
    assert options["how"].choices == ("up", "down")
    assert options["plain"].kind is int


def test_weight_averaging_is_one_pass_and_the_mean_of_the_tasks_that_take_part(tiny_model):
    method = find_method("weight_averaging")
    assert method.one_pass
    assert not method.linear  # its weights are not the coefficients themselves
    assert method.factors({"a": 1.0, "b": 0.5}) == {"a": 0.5, "b": 0.25}
    with pytest.raises(ex.RecipeError, match="not a weighted sum"):
        find_method("ties").factors({"a": 1.0})
    recipe = ex.Recipe(
        coefficients={"digits": 1.0, "letters": 0.5, "hearts": 0.0},
        method="weight_averaging",
        schedule=ex.lines(0.2, 0.8),
    )
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    engine = tiny_model.engine()
    engine.set_recipe(recipe)
    for key, x in ex.merge(tiny_model.base, vectors, recipe).items():
        torch.testing.assert_close(engine.named()[key], x)
