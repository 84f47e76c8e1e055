"""AdaMerging: coefficients from unlabelled images."""

import math

import pytest
import torch

import explorer as ex
from explorer.compute.engine import ImageRange
from explorer.editing.adamerging import adamerged_weights, entropy


def test_adamerging_makes_the_merged_model_surer_of_itself_without_labels(tiny_model):
    run = ex.adamerging(tiny_model, by="layer", steps=25, learning_rate=0.02, n=32, batch=32)
    found = run.result(show_progress=False)
    assert found.coefficient.dims == ("task", "group")
    assert list(found.task.values) == list(tiny_model.tasks)
    assert list(found.group.values) == ["input", "block 1", "block 2", "block 3", "output"]
    assert 0 <= float(found.coefficient.min()) <= float(found.coefficient.max()) <= 1
    assert float(found.entropy[-1]) < float(found.entropy[0])
    assert "unlabelled" in found.attrs["data"]
    weights = adamerged_weights(tiny_model, found)
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    for key, group in [("proj", "output"), ("transformer.resblocks.1.ln_1.bias", "block 2")]:
        expected = tiny_model.base[key].clone()
        for task, vector in vectors.items():
            expected += float(found.coefficient.sel(task=task, group=group)) * vector[key]
        torch.testing.assert_close(weights[key], expected)


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
