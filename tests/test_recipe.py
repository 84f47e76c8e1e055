"""Recipes: pure data, equal by meaning, and the same after every round trip."""

import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import explorer as ex

FULL = ex.Recipe(
    base="glyphs",
    coefficients={"mnist": 0.4, "letters": -0.3, "emoji": 0.0},
    schedule=ex.lines(0.1, 0.9),
    options={"k": 20},
    space="tangent",
)

names = st.text(min_size=1, max_size=12)
schedules = st.one_of(
    st.none(),
    st.builds(ex.constant, st.floats(-3, 3)),
    st.builds(ex.lines, st.floats(-3, 3), st.floats(-3, 3), st.sampled_from(["alpha", "depth"])),
)
recipes = st.builds(
    ex.Recipe,
    base=names,
    coefficients=st.dictionaries(names, st.floats(-1, 2), max_size=5),
    schedule=schedules,
    method=names,
    options=st.dictionaries(names, st.one_of(st.integers(), st.booleans(), names), max_size=2),
    space=st.sampled_from(["weights", "posthoc", "tangent"]),
)


@given(recipes)
@settings(max_examples=150, deadline=None)
def test_json_gives_back_an_equal_recipe(recipe):
    assert ex.Recipe.from_json(recipe.to_json()) == recipe


@given(recipes)
@settings(max_examples=150, deadline=None)
def test_a_link_gives_back_an_equal_recipe(recipe):
    assert ex.Recipe.from_url(recipe.to_url()) == recipe
    assert ex.Recipe.from_url("http://localhost:5006/app?" + recipe.to_url()) == recipe


@given(recipes)
@settings(max_examples=100, deadline=None)
def test_the_python_snippet_gives_back_an_equal_recipe(recipe):
    assert eval(recipe.to_python(), {"ex": ex}) == recipe


def test_the_link_is_readable():
    recipe = FULL.replace(options=(), space="weights")
    assert recipe.to_url() == "base=glyphs&letters=-0.3&mnist=0.4&schedule=lines:0.1,0.9"


def test_a_link_has_one_form_whatever_the_order_of_the_coefficients():
    one = ex.Recipe(coefficients={"a": 1, "b": 2, "c": 0})
    other = ex.Recipe(coefficients={"b": 2, "a": 1})
    assert one.to_url() == other.to_url()


def test_order_and_zeros_play_no_part_in_equality():
    one = ex.Recipe(coefficients={"a": 0.5, "b": -0.5, "c": 0})
    other = ex.Recipe(coefficients={"b": -0.5, "a": 0.5})
    assert one == other
    assert hash(one) == hash(other)
    assert one != other.with_coefficient("a", 0.6)
    assert one != other.replace(schedule=ex.constant(0.5))


def test_a_recipe_is_frozen():
    with pytest.raises(AttributeError):
        FULL.base = "other"
    with pytest.raises(TypeError):
        FULL.coefficients["mnist"] = 1.0


def test_a_recipe_pickles():
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_with_coefficient_changes_one_and_leaves_the_rest():
    changed = FULL.with_coefficient("mnist", 1.0)
    assert changed.coefficient("mnist") == 1.0
    assert changed.coefficient("letters") == FULL.coefficient("letters")
    assert FULL.coefficient("mnist") == 0.4
    assert changed.schedule == FULL.schedule
    assert FULL.coefficient("never named") == 0.0


def test_a_recipe_takes_any_finite_coefficient_but_a_link_only_the_usual_range():
    wide = ex.Recipe(coefficients={"mnist": 3.0})
    with pytest.raises(ex.RecipeError, match="between -1 and 2"):
        ex.Recipe.from_url(wide.to_url())


@pytest.mark.parametrize("value", ["2.01", "-1.5", "nan", "inf", "1e999", "-inf"])
def test_a_link_with_a_coefficient_out_of_range_is_refused_naming_it(value):
    with pytest.raises(ex.RecipeError, match=f"mnist={value}.*between -1 and 2"):
        ex.Recipe.from_url(f"base=glyphs&mnist={value}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("mnist=much", "no number"),
        ("mnist=", "no number"),
        ("mnist", "no recipe"),
        ("mnist=0.1&mnist=0.2", "twice"),
        ("schedule=lines:0.1", "takes 2 numbers"),
        ("schedule=lines:0.1,inf", "finite"),
        ("schedule=spline:1,2", "no schedule"),
        ("space=outer", "no space"),
        ("option.k={", "no value"),
        ("mnist=%ff%fe", "no"),
        (None, "A link is text"),
    ],
)
def test_a_malformed_link_is_refused_in_a_sentence(query, message):
    with pytest.raises(ex.RecipeError, match=message):
        ex.Recipe.from_url(query)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"glyphs"',
        '{"coefficients": [1]}',
        '{"coefficients": {"mnist": "high"}}',
        '{"coefficients": {"mnist": NaN}}',
        '{"coefficients": {"mnist": true}}',
        '{"coefficients": {"": 1}}',
        '{"base": 3}',
        '{"colour": "red"}',
        '{"schedule": {"kind": "lines", "alpha": 1}}',
        '{"schedule": {"kind": "lines", "alpha": 1, "beta": 1, "gamma": 1}}',
        '{"schedule": "lines"}',
        '{"space": "tangential"}',
        '{"options": 3}',
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
def test_malformed_json_is_refused_in_a_sentence(text):
    with pytest.raises(ex.RecipeError) as caught:
        ex.Recipe.from_json(text)
    assert str(caught.value).endswith((".", ")."))


def test_a_task_named_like_a_field_survives_a_link():
    recipe = ex.Recipe(coefficients={"space": 0.5, "base": 0.25, "task.x": 0.1})
    assert ex.Recipe.from_url(recipe.to_url()) == recipe


def test_recipes_need_no_torch():
    code = "import sys, explorer.recipe; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"
