"""AdaMerging: coefficients from unlabelled images."""

import math

import pytest
import torch

import explorer as ex
from explorer.compute.engine import ImageRange
from explorer.editing.adamerging import adamerged_recipe, entropy
from explorer.editing.layers import layer_name


def test_adamerging_makes_the_merged_model_surer_of_itself_without_labels(tiny_model):
    run = ex.adamerging(tiny_model, by="layer", steps=25, learning_rate=0.02, n=32, batch=32)
    found = run.result(show_progress=False)
    assert found.coefficient.dims == ("task", "group")
    assert list(found.task.values) == list(tiny_model.tasks)
    assert list(found.group.values) == ["input", "block 1", "block 2", "block 3", "output"]
    assert 0 <= float(found.coefficient.min()) <= float(found.coefficient.max()) <= 1
    assert float(found.entropy[-1]) < float(found.entropy[0])
    assert "unlabelled" in found.attrs["data"]
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    weights = ex.merge(tiny_model.base, vectors, adamerged_recipe(tiny_model, found))
    for key, group in [("proj", "output"), ("transformer.resblocks.1.ln_1.bias", "block 2")]:
        expected = tiny_model.base[key].clone()
        for task, vector in vectors.items():
            expected += float(found.coefficient.sel(task=task, group=group)) * vector[key]
        torch.testing.assert_close(weights[key], expected)


@pytest.mark.parametrize("by", ["tensor", "layer", "task"])
def test_what_adamerging_found_is_a_recipe_that_survives_its_forms(tiny_model, by):
    found = ex.adamerging(tiny_model, by=by, steps=3, learning_rate=0.05, n=8, batch=8).result()
    recipe = adamerged_recipe(tiny_model, found)
    assert ex.Recipe.from_json(recipe.to_json()) == recipe
    assert ex.Recipe.from_url(recipe.to_url()) == recipe
    assert eval(recipe.to_python(), {"ex": ex}) == recipe
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    weights = ex.merge(tiny_model.base, vectors, recipe)
    for key, base in tiny_model.base.items():
        group = {"tensor": key, "layer": layer_name(key, 3), "task": "all"}[by]
        expected = base.clone()
        for task, vector in vectors.items():
            expected += float(found["coefficient"].sel(task=task, group=group)) * vector[key]
        torch.testing.assert_close(weights[key], expected, rtol=1e-5, atol=1e-6)


def test_coefficients_of_another_tower_make_no_recipe(tiny_model):
    found = ex.adamerging(tiny_model, by="layer", steps=0, n=8).result()
    with pytest.raises(ex.RecipeError, match="other parameters"):
        adamerged_recipe(tiny_model, found.isel(group=slice(1, None)))


def test_the_first_step_of_adamerging_goes_down_the_slope_of_the_entropy(tiny_model):
    task, n = tiny_model.tasks[0], 16
    run = ex.adamerging(
        tiny_model, [task], by="task", steps=1, learning_rate=1e-3, n=n, batch=n, seed=0
    )
    found = run.result(show_progress=False)

    def loss(c):
        recipe = ex.Recipe(coefficients={task: c})
        features = tiny_model.engine().features(recipe, [ImageRange(task, "test", 0, n, 0)])[0]
        return float(entropy(tiny_model.head(task).logits(features).double()))

    assert float(found.entropy[0]) == pytest.approx(loss(0.3), rel=1e-4)
    slope = loss(0.301) - loss(0.299)
    # Adam's first step is as long as its learning rate.
    assert float(found.coefficient[0, 0]) == pytest.approx(
        0.3 - math.copysign(1e-3, slope), abs=1e-5
    )


def test_adamerging_refuses_what_makes_no_sense(tiny_model):
    with pytest.raises(ex.UnknownNameError, match="'digits'"):
        ex.adamerging(tiny_model, ["digit"])
    with pytest.raises(ex.RecipeError, match="by tensor, layer or task"):
        ex.adamerging(tiny_model, by="head")
    with pytest.raises(ex.RecipeError, match="at least one task"):
        ex.adamerging(tiny_model, [])
