"""The comparison of methods, its table, and the bootstrap that says what is better."""

import csv
import io
import json

import numpy as np
import pytest
import scipy.stats
import torch
import xarray as xr

import explorer as ex
from explorer.measures.bootstrap import paired_differences
from explorer.measures.comparison import default_methods
from explorer.measures.lines_search import factor_grid

METHODS = ["task_arithmetic", "ties", "dare"]


@pytest.fixture(scope="module")
def partials(tiny_folder):
    model = ex.open_model(tiny_folder, device="cpu")
    return list(ex.compare(model, METHODS, n=30, n_validation=10, seed=3, precision="float32"))


@pytest.fixture(scope="module")
def result(partials):
    return partials[-1]


def of_images(*counts, n=200, seed=0):
    """A result with a row for each share of images that are right, the same images for all."""
    rng = np.random.default_rng(seed)
    correct = np.full((len(counts), 2, n), -1, np.int8)
    for i, share in enumerate(counts):
        correct[i, 0] = rng.random(n) < share
        correct[i, 1, : n // 2] = rng.random(n // 2) < share
    rows = [f"row {i}" for i in range(len(counts))]
    return xr.Dataset(
        {"correct": (("row", "task", "image"), correct)}, {"row": rows, "task": ["a", "b"]}
    )


# Rows


def test_the_rows_are_the_references_and_every_method_without_and_with_lines(result):
    methods = [name for m in METHODS for name in (m, f"{m} + LiNeS")]
    assert result["row"].values.tolist() == ["zero-shot", "fine-tuned", *methods]
    assert result["with_lines"].values.tolist() == [False] * 2 + [False, True] * 3
    assert (result["seconds"] > 0).all()


def test_partials_have_one_row_more_each_and_are_whole(partials):
    assert [p.sizes["row"] for p in partials] == list(range(2, 9))
    assert [p.attrs["complete"] for p in partials] == [0] * 6 + [1]
    for partial in partials:
        rows = partial["row"].values
        again = partials[-1].sel(row=rows)
        for name in ("accuracy", "correct", "recipe", "mean_normalized"):
            xr.testing.assert_equal(partial[name], again[name])


def test_the_recipe_of_a_row_gets_the_same_images_right(tiny_model, result):
    from explorer.compute.engine import ImageRange

    engine = tiny_model.engine()
    for row in result["row"].values:
        text = str(result["recipe"].sel(row=row).values)
        if row == "fine-tuned":
            assert text == ""
            continue
        recipe = ex.Recipe.from_json(text)
        for task in tiny_model.tasks:
            (features,) = engine.features(recipe, [ImageRange(task, "test", 0, 30, 3)])
            places = tiny_model.task(task).order("test", 3)[:30]
            labels = tiny_model.images(task)[1][places]
            right = tiny_model.head(task).logits(features).argmax(1).numpy() == labels
            np.testing.assert_array_equal(result["correct"].sel(row=row, task=task), right)
            accuracy = float(result["accuracy"].sel(row=row, task=task))
            assert accuracy == pytest.approx(right.mean())


def test_the_fine_tuned_row_is_each_tasks_own_model(tiny_model, result):
    for task in tiny_model.tasks:
        own = ex.Recipe(coefficients={task: 1.0})
        whole = ex.accuracy(tiny_model, own, [task])
        places = tiny_model.task(task).order("test", 3)[:30]
        right = (whole["predicted"] == whole["label"]).values[0][places]
        np.testing.assert_array_equal(result["correct"].sel(row="fine-tuned", task=task), right)
    np.testing.assert_allclose(result["normalized"].sel(row="fine-tuned"), 1)


def test_the_choice_is_made_on_validation_images_alone(tiny_model, result):
    """Task arithmetic and its LiNeS by brute force over the grids."""
    tasks = tiny_model.tasks

    def score(recipe):
        shares = []
        for task in tasks:
            places = tiny_model.task(task).order("val", 3)[:10]
            right = []
            for edit in (recipe, ex.Recipe(coefficients={task: 1.0})):
                table = ex.accuracy(tiny_model, edit, [task], split="val")
                right.append((table["predicted"] == table["label"]).values[0][places].mean())
            shares.append(right[0] / right[1])
        return np.mean(shares)

    grid = factor_grid("task_arithmetic")
    alone = [score(ex.Recipe(coefficients=dict.fromkeys(tasks, c))) for c in grid]
    assert result["chosen"].sel(row="task_arithmetic") == grid[int(np.argmax(alone))]
    whole = ex.Recipe(coefficients=dict.fromkeys(tasks, 1.0))
    lines = [score(whole.replace(schedule=ex.lines(1 / 3, beta))) for beta in grid]
    assert result["chosen"].sel(row="task_arithmetic + LiNeS") == grid[int(np.argmax(lines))]
    assert float(result["alpha"].sel(row="task_arithmetic + LiNeS")) == pytest.approx(1 / 3)
    assert json.loads(result.attrs["n_validation"]) == dict.fromkeys(tasks, 10)


def test_methods_that_draw_numbers_take_the_seed(result):
    recipe = ex.Recipe.from_json(str(result["recipe"].sel(row="dare").values))
    assert dict(recipe.options) == {"seed": 3}


def test_larv_takes_the_seed_where_the_method_underneath_draws_numbers(tiny_model):
    def options(merger):
        run = ex.compare(
            tiny_model, ["larv"], (False,), n=4, seed=5, options={"larv": {"merger": merger}}
        )
        recipe = ex.Recipe.from_json(str(run.result()["recipe"].sel(row="larv").item()))
        return dict(recipe.options)

    assert options("dare") == {"merger": "dare", "seed": 5}
    assert options("ties") == {"merger": "ties"}


def test_a_row_with_lines_has_its_interval_against_the_method_without(result):
    for row in map(str, result["row"].values):
        found = [float(result[f"lines_{x}"].sel(row=row)) for x in ("difference", "low", "high")]
        if row.endswith(" + LiNeS"):
            against = ex.bootstrap_difference(result, row, row.removesuffix(" + LiNeS"))
            assert found == [against["difference"], against["low"], against["high"]]
        else:
            assert np.isnan(found).all()


def test_tasks_with_fewer_images_are_filled_with_minus_one(tiny_model):
    found = ex.compare(tiny_model, ["weight_averaging"], (False,), n_validation=5).result()
    counts = (found["correct"] >= 0).sum("image")
    assert counts.sel(row="weight_averaging").values.tolist() == [70, 48, 60]
    assert set(np.unique(found["correct"])) == {-1, 0, 1}


def test_every_method_that_makes_one_model_is_compared_by_default():
    assert "tall_masks" not in default_methods(8)
    assert "slerp" not in default_methods(8)
    assert "slerp" in default_methods(2)
    assert "layerwise" not in default_methods(8)  # without numbers it is task arithmetic
    assert len(default_methods(8)) == len(ex.merging_methods()) - 3


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"methods": ["tis"]}, ex.UnknownNameError, "'ties'"),
        ({"methods": []}, ex.RecipeError, "at least one method"),
        ({"lines": ()}, ex.RecipeError, "at least one method"),
        ({"methods": ["tall_masks"]}, ex.RecipeError, "one task"),
        ({"tasks": ["digit"]}, ex.UnknownNameError, "'digits'"),
        ({"options": {"tie": {}}}, ex.UnknownNameError, "'ties'"),
        ({"options": {"ties": {"density": 2}}}, ex.RecipeError, "between 0 and 1"),
        ({"seed": -1}, ex.ImageError, "seed"),
        ({"n": 0}, ex.ImageError, "1 or more"),
        ({"split": "train"}, ex.UnknownNameError, "split"),
    ],
)
def test_nonsense_is_refused_before_anything_is_computed(tiny_model, change, error, sentence):
    with pytest.raises(error, match=sentence):
        ex.compare(tiny_model, **change)


def test_it_saves_to_netcdf_and_stops_within_a_batch(tiny_model, result, tmp_path):
    result.to_netcdf(tmp_path / "comparison.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "comparison.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)
    run = ex.compare(tiny_model, ["ties"], n=4)
    next(run)
    run.cancel()
    assert list(run) == []
    assert run.cancelled


# AdaMerging


QUICKLY = {"adamerging": {"steps": 12, "learning_rate": 0.02, "by": "layer"}}


def test_adamerging_is_the_last_row_and_says_that_it_saw_the_images_without_labels(tiny_model):
    from explorer.editing.adamerging import adamerged_recipe

    run = ex.compare(tiny_model, ["ties"], (False,), n=30, seed=3, options=QUICKLY, adamerging=True)
    partials = list(run)
    assert [p.attrs["complete"] for p in partials] == [0, 0, 1]
    result = partials[-1]
    label = "adamerging (unlabelled test images)"
    assert result["row"].values.tolist() == ["zero-shot", "fine-tuned", "ties", label]
    found = ex.adamerging(
        tiny_model, by="layer", steps=12, learning_rate=0.02, n=30, seed=3
    ).result()
    recipe = adamerged_recipe(tiny_model, found)
    assert ex.Recipe.from_json(str(result["recipe"].sel(row=label).item())) == recipe
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    weights = ex.merge(tiny_model.base, vectors, recipe)
    tower = ex.models.towers.load_weights(
        ex.models.towers.build_tower(tiny_model.architecture), weights
    )
    for task in tiny_model.tasks:
        places = tiny_model.task(task).order("test", 3)[:30]
        images, labels, _ = tiny_model.images(task)
        store = tiny_model.image_store
        pixels = torch.as_tensor(images[places]).permute(0, 3, 1, 2)
        with torch.no_grad():
            features = tower(store.normalised(pixels, torch.float32))
        right = tiny_model.head(task).logits(features).argmax(1).numpy() == labels[places]
        np.testing.assert_array_equal(result["correct"].sel(row=label, task=task), right)
    for format in ("markdown", "latex", "html"):
        text = ex.comparison_table(result, format, baseline="ties")
        assert "12 steps on unlabelled test images" in text


def test_adamerging_is_there_where_all_methods_are_and_can_be_left_out(tiny_model):
    run = ex.compare(tiny_model, n=4)
    assert "500 steps" in next(run).attrs["adamerging"]
    run.cancel()
    run = ex.compare(tiny_model, n=4, adamerging=False)
    assert next(run).attrs["adamerging"] == ""
    run.cancel()


def test_adamerging_stops_within_one_batch(tiny_model, monkeypatch):
    from explorer.editing.adamerging import Learning

    run = ex.compare(tiny_model, ["ties"], (False,), n=4, adamerging=True)
    for partial in run:
        if partial.sizes["row"] == 3:
            break
    batches, batch = [], Learning._batch

    def counted(self, task, step):
        batches.append(task)
        if len(batches) == 2:
            run.cancel()
        return batch(self, task, step)

    monkeypatch.setattr(Learning, "_batch", counted)
    assert list(run) == []
    assert run.cancelled
    assert len(batches) == 2


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"step": 3}, ex.UnknownNameError, "'steps'"),
        ({"by": "head"}, ex.RecipeError, "by tensor, layer or task"),
    ],
)
def test_wrong_options_of_adamerging_are_refused(tiny_model, options, error, sentence):
    with pytest.raises(error, match=sentence):
        ex.compare(tiny_model, options={"adamerging": options})


# A long merge


@pytest.mark.parametrize(
    "method",
    ["wudi", "tsv_m", "iso_c", "iso_cts", "larv", "ties", "dare", "breadcrumbs", "consensus"],
)
def test_a_single_merge_stops_between_two_of_its_steps(tiny_model, method):
    recipe = ex.Recipe(coefficients=dict.fromkeys(tiny_model.tasks, 1.0), method=method)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise ex.RunCancelled("enough")

    engine = tiny_model.engine()
    with pytest.raises(ex.RunCancelled):
        engine.combined(recipe, check)
    assert len(calls) == 3
    # Nothing is left half done: the same engine merges the same recipe as a new one does.
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    engine.set_recipe(recipe)
    for key, x in ex.merge(tiny_model.base, vectors, recipe).items():
        torch.testing.assert_close(engine.named()[key], x)
    assert len(calls) == 3


def test_a_measurement_is_cancelled_while_its_weights_are_merged(tiny_model, monkeypatch):
    from explorer.editing.methods import wudi

    recipe = ex.Recipe(
        coefficients=dict.fromkeys(tiny_model.tasks, 1.0),
        method="wudi",
        options={"steps": 1000},
    )
    from explorer.measures.accuracy import accuracy_run

    run = accuracy_run(tiny_model, recipe, stages=(4,))
    steps, step = [], wudi.step

    def counted():
        steps.append(1)
        if len(steps) == 5:
            run.cancel()
        step()

    monkeypatch.setattr(wudi, "step", counted)
    assert list(run) == []
    assert run.cancelled
    assert len(steps) == 5


def test_a_map_is_cancelled_while_the_weights_of_a_cell_are_merged(tiny_model, monkeypatch):
    from explorer.editing.methods import wudi

    run = ex.disentanglement(
        tiny_model, ("digits", "letters"), alphas=[0.0, 0.5, 1.0], n=8, method="wudi", store=False
    )
    steps, step = [], wudi.step

    def counted():
        steps.append(1)
        if len(steps) == 5:
            run.cancel()
        step()

    monkeypatch.setattr(wudi, "step", counted)
    for partial in run:
        assert not partial.attrs["complete"]
    assert run.cancelled
    assert len(steps) < 300  # one merge has that many for a single matrix


# The bootstrap


def test_the_interval_is_scipys():
    result = of_images(0.8, 0.7)
    found = ex.bootstrap_difference(result, "row 0", "row 1", resamples=20000)
    differences = paired_differences(result, "row 0", "row 1")

    def statistic(*tasks, axis):
        return sum(task.mean(axis=axis) for task in tasks) / len(tasks)

    expected = scipy.stats.bootstrap(
        differences, statistic, n_resamples=20000, method="percentile", rng=1, vectorized=True
    ).confidence_interval
    assert found["low"] == pytest.approx(expected.low, abs=0.004)
    assert found["high"] == pytest.approx(expected.high, abs=0.004)
    assert found["difference"] == pytest.approx(np.mean([d.mean() for d in differences]))


def test_the_interval_is_that_of_a_slow_loop_over_images():
    result = of_images(0.6, 0.75, n=40, seed=5)
    found = ex.bootstrap_difference(result, "row 0", "row 1", resamples=4000)
    correct, rng = result["correct"].values, np.random.default_rng(7)
    means = []
    for _ in range(4000):
        shares = []
        for task, n in ((0, 40), (1, 20)):
            places = rng.integers(0, n, n)
            first, second = correct[:, task, places].astype(float)
            shares.append((first - second).mean())
        means.append(np.mean(shares))
    low, high = np.percentile(means, [2.5, 97.5])
    assert found["low"] == pytest.approx(low, abs=0.015)
    assert found["high"] == pytest.approx(high, abs=0.015)


def test_better_is_only_said_when_it_is():
    result = of_images(0.9, 0.5, 0.5, n=400)
    assert ex.bootstrap_difference(result, "row 0", "row 1")["better"] == "a"
    assert ex.bootstrap_difference(result, "row 1", "row 0")["better"] == "b"
    same = ex.bootstrap_difference(result, "row 1", "row 1")
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    assert same["better"] == "undecided"


def test_of_two_equal_methods_one_is_called_better_in_about_one_of_twenty():
    said = 0
    for seed in range(300):
        result = of_images(0.7, 0.7, n=200, seed=seed)
        found = ex.bootstrap_difference(result, "row 0", "row 1", resamples=400)
        said += found["better"] != "undecided"
    assert 4 <= said <= 32  # 15 expected


def test_the_bootstrap_repeats_itself_and_refuses_nonsense():
    result = of_images(0.8, 0.7)
    first, second = (ex.bootstrap_difference(result, "row 0", "row 1", seed=4) for _ in range(2))
    assert first == second
    with pytest.raises(ex.UnknownNameError, match="'row 0'"):
        ex.bootstrap_difference(result, "row", "row 1")
    with pytest.raises(ex.RecipeError, match="at least 100"):
        ex.bootstrap_difference(result, "row 0", "row 1", resamples=5)


# The table


def test_the_table_says_better_only_where_the_bootstrap_does(result):
    rows = list(csv.DictReader(io.StringIO(ex.comparison_table(result, "csv"))))
    assert [row["method"] for row in rows] == result["row"].values.tolist()
    words = {"a": "better", "b": "worse", "undecided": "undecided"}
    for row in rows:
        if row["method"] == "task_arithmetic":
            assert row["verdict"] == "baseline"
            continue
        found = ex.bootstrap_difference(result, row["method"], "task_arithmetic")
        assert row["verdict"] == words[found["better"]]
        assert float(row["low"]) == found["low"]
        mean = float(result["mean_accuracy"].sel(row=row["method"]))
        assert float(row["mean"]) == pytest.approx(mean)


def test_the_markdown_table_is_one_with_its_numbers_of_images(result):
    text = ex.comparison_table(result, "markdown", baseline="ties")
    lines = text.splitlines()
    assert len({line.count("|") for line in lines[:10]}) == 1
    assert lines[0].startswith("| method | digits | letters | hearts | mean | normalized |")
    assert "90 test images (30 to 30 a task)" in text
    assert "30 validation images, seed 3" in text


def test_every_form_of_the_table_says_how_many_images_and_which_seed(result):
    for row in csv.DictReader(io.StringIO(ex.comparison_table(result, "csv"))):
        assert (row["split"], row["seed"], row["validation_images"]) == ("test", "3", "30")
        assert row["n"] == "90"
        assert [row[f"n {task}"] for task in ("digits", "letters", "hearts")] == ["30"] * 3
    for form in ("latex", "html", "markdown"):
        text = ex.comparison_table(result, form)
        assert "90 test images (30 to 30 a task)" in text, form
        assert "seed 3" in text, form


def test_the_csv_holds_what_was_chosen_and_every_recipe(result):
    for row in csv.DictReader(io.StringIO(ex.comparison_table(result, "csv"))):
        found = result.sel(row=row["method"])
        assert row["recipe"] == str(found["recipe"].item())
        for name in ("alpha", "chosen", "lines_difference", "lines_low", "lines_high"):
            value = float(found[name])
            assert row[name] == "" if np.isnan(value) else float(row[name]) == value


def test_latex_and_html_escape_what_they_must(result):
    latex = ex.comparison_table(result, "latex")
    assert "task\\_arithmetic" in latex
    assert latex.count("\\\\\n") == 9
    odd = result.assign_attrs(family="50 % of a_b & {c} \\d~e^f#1$")
    caption = ex.comparison_table(odd, "latex").partition("\\caption{")[2].partition("\n")[0]
    assert caption.startswith(
        r"50 \% of a\_b \& \{c\} \textbackslash{}d\textasciitilde{}e\textasciicircum{}f\#1\$:"
    )
    assert caption.endswith(r"95 \%, paired bootstrap over images, against task\_arithmetic.}")
    odd = result.assign_attrs(family="a <b> & c").assign_coords(
        row=[str(r).replace("dare", "<script>") for r in result["row"].values]
    )
    html = ex.comparison_table(odd, "html")
    assert "<script>" not in html
    assert "a &lt;b&gt; &amp; c" in html


def test_a_table_of_what_is_not_there_is_refused(result):
    with pytest.raises(ex.UnknownNameError, match="'markdown'"):
        ex.comparison_table(result, "markdwn")
    with pytest.raises(ex.UnknownNameError, match="row"):
        ex.comparison_table(result, baseline="iso_c")
