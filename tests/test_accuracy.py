"""Accuracy: equal to a naive loop, streamed coarse to fine, cancellable, saved with provenance."""

import json
import threading
import time

import numpy as np
import pytest
import torch
import xarray as xr

import explorer as ex
from explorer.models.towers import build_tower, load_weights

RECIPE = ex.Recipe(base="tiny", coefficients={"digits": 0.4, "letters": 0.3, "hearts": -0.2})
PER_IMAGE = ("label", "predicted", "zero_shot_predicted", "confidence")


def naive(model, task, weights, n, dtype=torch.float64):
    """Labels predicted one image at a time with a tower made of plain tensors."""
    tower = load_weights(
        build_tower(model.architecture), {k: v.to(dtype) for k, v in weights.items()}
    )
    images, labels, _ = model.images(task, n)
    mean, std = (torch.tensor(model.card[k], dtype=dtype).view(3, 1, 1) for k in ("mean", "std"))
    head = model.head(task).weight.to(dtype)
    predicted, confidence = [], []
    for image in images:
        x = torch.tensor(image.copy()).permute(2, 0, 1).to(dtype) / 255
        feature = tower(((x - mean) / std)[None], explicit=True)[0]
        logits = head @ (feature / feature.norm())
        predicted.append(int(logits.argmax()))
        confidence.append(float(logits.softmax(0).max()))
    return np.array(predicted), np.array(confidence), labels


@pytest.mark.parametrize("schedule", [None, ex.lines(0.5, 0.7)], ids=str)
def test_accuracy_equals_a_naive_loop_over_images_in_float64(tiny_model, schedule):
    recipe = RECIPE.replace(schedule=schedule)
    result = ex.accuracy(tiny_model, recipe, n=40)
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    merged = ex.merge(tiny_model.base, vectors, recipe)
    for task in tiny_model.tasks:
        predicted, confidence, labels = naive(tiny_model, task, merged, 40)
        found = result.sel(task=task)
        np.testing.assert_array_equal(found.predicted, predicted)
        np.testing.assert_allclose(found.confidence, confidence, atol=1e-4)
        assert float(found.edited) == np.mean(predicted == labels)
        zero, _, _ = naive(tiny_model, task, tiny_model.base, 40)
        assert float(found.zero_shot) == np.mean(zero == labels)
        np.testing.assert_array_equal(found.zero_shot_predicted, zero)
        tuned = vectors[task].apply_to(tiny_model.base)
        fine_tuned = np.mean(naive(tiny_model, task, tuned, 40)[0] == labels)
        assert float(found.fine_tuned) == fine_tuned
        assert float(found.normalized) == pytest.approx(float(found.edited) / fine_tuned)


def test_the_last_partial_equals_accuracy_on_all_images(tiny_model):
    last = ex.accuracy_run(tiny_model, RECIPE, stages=(8, 30, None)).result()
    xr.testing.assert_identical(last, ex.accuracy(tiny_model, RECIPE))


def test_partials_are_complete_labelled_datasets_from_coarse_to_fine(tiny_model):
    partials = list(ex.accuracy_run(tiny_model, RECIPE, stages=(8, 30, None)))
    assert [p.n.values.tolist() for p in partials] == [[8] * 3, [30] * 3, [70, 48, 60]]
    assert [p.attrs["complete"] for p in partials] == [0, 0, 1]
    assert partials[-1].attrs["precision"] == "float32"
    for partial in partials:
        assert set(partial.variables) >= {"edited", "zero_shot", "fine_tuned", "normalized", "n"}
        assert partial.task.values.tolist() == tiny_model.tasks
        used = (partial.label >= 0).sum("image")
        assert used.values.tolist() == partial.n.values.tolist()
        for name in ("predicted", "zero_shot_predicted"):
            assert ((partial[name] >= 0) == (partial.label >= 0)).all()
        assert (partial.confidence.notnull() == (partial.label >= 0)).all()


def test_stages_beyond_what_exists_are_not_repeated(tiny_model):
    run = ex.accuracy_run(tiny_model, RECIPE, tasks=["letters"], stages=(16, 48, 200, None))
    assert [int(p.n[0]) for p in run] == [16, 48]


def test_the_default_stages_begin_with_sixteen_images(tiny_model):
    assert next(ex.accuracy_run(tiny_model, RECIPE)).n.values.tolist() == [16] * 3


def test_previews_in_bfloat16_agree_with_float32_but_for_a_few_images(tiny_model):
    exact = ex.accuracy(tiny_model, RECIPE)
    fast = ex.accuracy(tiny_model, RECIPE, precision="bfloat16")
    assert fast.attrs["precision"] == "bfloat16"
    assert float((exact.predicted == fast.predicted).mean()) > 0.97


def test_without_an_edit_no_image_changes_its_label_in_any_partial(tiny_model):
    for partial in ex.accuracy_run(tiny_model, ex.Recipe(), stages=(8, 30, None)):
        np.testing.assert_array_equal(partial.predicted, partial.zero_shot_predicted)


def test_the_control_task_has_no_fine_tuned_reference(tiny_model):
    result = ex.accuracy(tiny_model, RECIPE, tasks=["shapes"], n=10)
    assert np.isnan(result.fine_tuned).all()
    assert np.isnan(result.normalized).all()
    assert not np.isnan(result.edited).any()


def test_a_head_of_ones_own_replaces_the_tasks(tiny_model):
    names = list(tiny_model.task("hearts").class_names)
    head = tiny_model.head("hearts", class_names=names[::-1])
    own = ex.accuracy(tiny_model, RECIPE, tasks=["hearts"])
    turned = ex.accuracy(tiny_model, RECIPE, tasks=["hearts"], heads={"hearts": head})
    np.testing.assert_array_equal(turned.predicted, len(names) - 1 - own.predicted)
    np.testing.assert_array_equal(turned.zero_shot_predicted, 2 - own.zero_shot_predicted)


def test_a_head_for_another_number_of_classes_is_refused(tiny_model):
    with pytest.raises(ex.ModelError, match="has 5 classes"):
        ex.accuracy(tiny_model, RECIPE, heads={"hearts": tiny_model.head("digits")})


@pytest.mark.parametrize("space", ["posthoc", "tangent"])
def test_normalised_accuracy_in_a_linear_space_is_relative_to_that_space(tiny_model, space):
    recipe = ex.Recipe(coefficients={"digits": 1.0}, space=space)
    result = ex.accuracy(tiny_model, recipe, tasks=["digits"], n=20)
    assert float(result.edited[0]) == float(result.fine_tuned[0])
    assert float(result.normalized[0]) == 1.0


def test_unknown_tasks_are_refused_at_once_with_the_nearest_names(tiny_model):
    with pytest.raises(ex.UnknownNameError, match=r"'digit'.*'digits'"):
        ex.accuracy_run(tiny_model, ex.Recipe(coefficients={"digit": 0.1}))
    with pytest.raises(ex.UnknownNameError, match=r"'leters'.*'letters'"):
        ex.accuracy_run(tiny_model, RECIPE, tasks=["leters"])
    with pytest.raises(ex.UnknownNameError, match="split"):
        ex.accuracy_run(tiny_model, RECIPE, split="train")
    with pytest.raises(ex.UnknownNameError):
        ex.accuracy_run(tiny_model, RECIPE, heads={"nothing": None})


@pytest.mark.parametrize("n", [0, -3, 2.5, True, "many"])
def test_a_number_of_images_that_is_none_is_refused(tiny_model, n):
    with pytest.raises(ex.ImageError, match="1 or more"):
        ex.accuracy(tiny_model, RECIPE, n=n)


def test_an_unknown_precision_is_refused(tiny_model):
    with pytest.raises(ex.ModelError, match="no precision"):
        ex.accuracy(tiny_model, RECIPE, precision="float8")


def test_a_result_says_what_it_is_and_saves_to_netcdf(tiny_model, tmp_path):
    result = ex.accuracy(tiny_model, RECIPE, n=10)
    assert ex.Recipe.from_json(result.attrs["recipe"]) == RECIPE
    assert result.attrs["family"] == tiny_model.family
    assert result.attrs["n"] == 10
    assert result.attrs["complete"] == 0
    assert "torch" in result.attrs["versions"]
    assert result.edited.attrs["units"] == "1"
    path = tmp_path / "accuracy.nc"
    result.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)
        assert json.loads(saved.attrs["recipe"]) == json.loads(result.attrs["recipe"])


def test_cancel_stops_within_one_batch(tiny_model):
    engine = tiny_model.engine()
    engine.batch = 1
    forwards = []
    forward = engine._forward
    engine._forward = lambda *a: (forwards.append(1), time.sleep(0.005), forward(*a))[2]
    run = ex.accuracy_run(tiny_model, RECIPE, stages=(None,), engine=engine)
    thread = threading.Thread(target=lambda: list(run))
    thread.start()
    while len(forwards) < 3:
        time.sleep(0.001)
    run.cancel()
    at_cancel = len(forwards)
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert run.cancelled
    assert len(forwards) <= at_cancel + 1


def test_two_runs_on_one_engine_from_two_threads_each_measure_their_own_recipe(tiny_model):
    engine = tiny_model.engine()
    engine.batch = 8
    recipes = [RECIPE, ex.Recipe(coefficients={"digits": 1.5}), ex.Recipe()]
    expected = [ex.accuracy(tiny_model, recipe) for recipe in recipes]
    results = [None] * 3

    def work(i):
        results[i] = ex.accuracy_run(tiny_model, recipes[i], stages=(None,), engine=engine).result()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    for found, wanted in zip(results, expected, strict=True):
        for name in PER_IMAGE[:3]:
            np.testing.assert_array_equal(found[name], wanted[name])


def test_an_engine_reused_over_many_moves_measures_what_a_fresh_one_does(tiny_model):
    engine = tiny_model.engine()
    for step in range(30):
        recipe = RECIPE.with_coefficient("digits", step / 20)
        moved = ex.accuracy_run(tiny_model, recipe, stages=(20,), engine=engine).result()
    fresh = ex.accuracy(tiny_model, recipe, n=20)
    np.testing.assert_array_equal(moved.predicted, fresh.predicted)
    np.testing.assert_allclose(moved.confidence, fresh.confidence, atol=1e-5)


def test_engines_share_weights_and_images_and_add_only_their_buffer(tiny_model):
    one, other = tiny_model.engine(), tiny_model.engine()
    one.set_recipe(RECIPE)
    other.set_recipe(ex.Recipe())
    assert one._weights.resident is other._weights.resident
    assert one._weights.flat.data_ptr() != other._weights.flat.data_ptr()
    tower = one._tower(torch.float32)
    flat = one._weights.flat
    ends = (flat.data_ptr(), flat.data_ptr() + flat.numel() * flat.element_size())
    assert all(ends[0] <= p.data_ptr() < ends[1] for p in tower.parameters())


def test_references_are_computed_once_and_only_extended(tiny_folder):
    model = ex.open_model(tiny_folder)
    ex.accuracy(model, RECIPE, n=10)
    engine = model.references._engine
    counted = []
    features = engine.features

    def counting(recipe, ranges, *more):
        counted.extend(map(len, ranges))
        return features(recipe, ranges, *more)

    engine.features = counting
    ex.accuracy(model, RECIPE.with_coefficient("digits", 1), n=10)
    assert counted == []
    ex.accuracy(model, RECIPE, n=25)
    assert counted == [15] * 6
