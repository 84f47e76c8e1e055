"""LiNeS on merged models: the paper's alpha and beta, and the plane, equal brute force."""

import numpy as np
import pytest
import torch
import xarray as xr

import explorer as ex
from explorer.measures.lines_search import beta_grid, factor_grid, lines_alpha

ALPHAS, BETAS = (0.0, 0.4), (0.2, 0.6, 1.0)


def slow_alpha(model, tasks, method, options=()):
    """(1/N) ||sum tau||_1 / ||merged||_1, entry by entry in float64."""
    vectors = {task: model.task_vector(task) for task in tasks}
    recipe = ex.Recipe(coefficients=dict.fromkeys(tasks, 1.0), method=method, options=options)
    merged = ex.merge(model.base, vectors, recipe)
    above = below = 0.0
    for key, base in model.base.items():
        above += torch.stack([vectors[t][key].double() for t in tasks]).sum(0).abs().sum().item()
        below += (merged[key].double() - base.double()).abs().sum().item()
    return above / below / len(tasks)


def accuracies(model, recipe, tasks, n):
    return ex.accuracy(model, recipe, tasks, n=n, split="val")["edited"].values


@pytest.mark.parametrize(
    ("method", "options"),
    [("task_arithmetic", ()), ("ties", {"density": 0.3}), ("consensus", ()), ("iso_c", ())],
)
def test_alpha_is_the_ratio_of_l1_norms(tiny_model, method, options):
    run = ex.lines_search(tiny_model, method=method, options=options, alphas=(0.1,), n=4)
    alpha = next(run).attrs["paper_alpha"]
    run.cancel()
    assert alpha == pytest.approx(
        slow_alpha(tiny_model, tiny_model.tasks, method, options), rel=1e-4
    )


def test_alpha_is_one_over_n_for_task_arithmetic(tiny_model):
    for tasks in (["digits"], ["digits", "hearts"], None):
        run = ex.lines_search(tiny_model, tasks, n=4)
        n_tasks = len(tasks or tiny_model.tasks)
        assert next(run).attrs["paper_alpha"] == pytest.approx(1 / n_tasks, rel=1e-6)
        run.cancel()


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_every_cell_and_the_method_alone_equal_brute_force(tiny_model, method):
    tasks = ["digits", "hearts"]
    found = ex.lines_search(tiny_model, tasks, method, alphas=ALPHAS, betas=BETAS, n=12).result()
    paper = found.attrs["paper_alpha"]
    assert found["alpha"].values.tolist() == sorted({*ALPHAS, paper})
    tuned = np.array(
        [
            float(
                ex.accuracy(tiny_model, ex.Recipe(coefficients={t: 1.0}), [t], n=12, split="val")[
                    "edited"
                ].item()
            )
            for t in tasks
        ]
    )
    np.testing.assert_allclose(found["fine_tuned"], tuned)
    scores = {}
    for alpha in found["alpha"].values:
        for beta in BETAS:
            schedule = ex.lines(alpha, beta)
            recipe = ex.Recipe("tiny", dict.fromkeys(tasks, 1.0), schedule, method)
            expected = accuracies(tiny_model, recipe, tasks, 12)
            cell = found.sel(alpha=alpha, beta=beta)
            np.testing.assert_allclose(cell["accuracy"], expected)
            scores[alpha, beta] = np.mean(expected / tuned)
            assert float(cell["mean_normalized"]) == pytest.approx(scores[alpha, beta])
            assert float(cell["mean_accuracy"]) == pytest.approx(expected.mean())
    # Ties go to the smaller numbers, which come first here.
    best = max(scores, key=scores.__getitem__)
    assert (found.attrs["best_alpha"], found.attrs["best_beta"]) == best
    row = {beta: score for (alpha, beta), score in scores.items() if alpha == paper}
    assert found.attrs["paper_beta"] == max(row, key=row.__getitem__)

    alone = {}
    for factor in found["coefficient"].values:
        vectors = {t: tiny_model.task_vector(t) for t in tasks}
        whole = ex.Recipe("tiny", dict.fromkeys(tasks, 1.0), method=method)
        merged = ex.merge(tiny_model.base, vectors, whole)
        weights = {k: b + factor * (merged[k] - b) for k, b in tiny_model.base.items()}
        alone[factor] = np.mean(direct(tiny_model, weights, tasks, 12) / tuned)
    np.testing.assert_allclose(found["constant_normalized"], list(alone.values()), atol=0.06)
    expected = found["coefficient"].values[found["constant_normalized"].values.argmax()]
    assert found.attrs["constant_best"] == expected


def direct(model, weights, tasks, n):
    """Accuracy of named weights on validation images, without engine or recipe."""
    from explorer.models.towers import build_tower, load_weights

    tower = load_weights(build_tower(model.architecture), weights)
    found = []
    for task in tasks:
        images, labels, _ = model.images(task, n, "val")
        x = torch.tensor(images).permute(0, 3, 1, 2)
        with torch.no_grad():
            features = tower(model.image_store.normalised(x, torch.float32))
        found.append(np.mean(model.head(task).logits(features).argmax(1).numpy() == labels))
    return np.array(found)


def test_the_recipes_of_the_result_are_what_was_measured(tiny_model):
    found = ex.lines_search(tiny_model, method="ties", alphas=ALPHAS, betas=BETAS, n=12).result()
    for name, score in (
        (
            "paper",
            found["mean_accuracy"].sel(
                alpha=found.attrs["paper_alpha"], beta=found.attrs["paper_beta"]
            ),
        ),
        (
            "best",
            found["mean_accuracy"].sel(
                alpha=found.attrs["best_alpha"], beta=found.attrs["best_beta"]
            ),
        ),
        ("constant", found["constant_accuracy"].sel(coefficient=found.attrs["constant_best"])),
    ):
        recipe = ex.Recipe.from_json(found.attrs[f"{name}_recipe"])
        assert recipe.method == "ties"
        assert accuracies(tiny_model, recipe, tiny_model.tasks, 12).mean() == pytest.approx(
            float(score)
        )


def test_the_papers_row_comes_first_then_the_method_alone_then_the_plane(tiny_model):
    partials = list(ex.lines_search(tiny_model, alphas=ALPHAS, betas=BETAS, n=6))
    paper = partials[0].attrs["paper_alpha"]
    tried = [np.isfinite(p["mean_normalized"].values).sum() for p in partials]
    n_factors = len(factor_grid("task_arithmetic"))
    assert tried == [1, 2, 3, *[3] * n_factors, 4, 5, 6, 7, 8, 9]
    row = partials[2]["mean_normalized"].sel(alpha=paper)
    assert np.isfinite(row).all()
    assert np.isnan(partials[2].attrs["constant_best"])
    assert partials[2].attrs["constant_recipe"] == ""
    assert [p.attrs["complete"] for p in partials] == [0] * (len(partials) - 1) + [1]
    for partial in partials:
        assert partial["mean_normalized"].shape == (3, 3)
        np.testing.assert_array_equal(
            np.isnan(partial["accuracy"]).all("task"), np.isnan(partial["mean_normalized"])
        )


def test_by_default_seven_alphas_around_the_papers_and_the_methods_own_betas(tiny_model):
    run = ex.lines_search(tiny_model, method="ties", n=4)
    first = next(run)
    run.cancel()
    paper = first.attrs["paper_alpha"]
    np.testing.assert_allclose(first["alpha"], [paper * i / 2 for i in range(7)])
    np.testing.assert_allclose(first["beta"], np.arange(0.1, 1.55, 0.1))
    np.testing.assert_allclose(beta_grid("task_arithmetic"), np.linspace(0, 1, 11)[1:])


def test_a_merged_vector_of_zero_has_no_alpha(tiny_model):
    t = tiny_model.task_vector("digits")
    with pytest.raises(ex.RecipeError, match="zero"):
        lines_alpha({"a": t}, 0.0 * t)
    assert lines_alpha({"a": t, "b": -0.5 * t}, 2.0 * t) == pytest.approx(0.5 / 2 / 2)
    run = ex.lines_search(tiny_model, method="ties", options={"density": 0.0})
    with pytest.raises(ex.RecipeError, match="no alpha"):
        run.result()


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"tasks": ["digits", "leters"]}, ex.UnknownNameError, "'letters'"),
        ({"tasks": []}, ex.RecipeError, "at least one task"),
        ({"tasks": ["digits", "digits"]}, ex.RecipeError, "once"),
        ({"method": "tied"}, ex.UnknownNameError, "'ties'"),
        ({"method": "tall_masks", "options": {"task": "digits"}}, ex.RecipeError, "one task"),
        ({"options": {"density": 0.1}}, ex.RecipeError, "no such option"),
        ({"alphas": [float("inf")]}, ex.RecipeError, "alphas"),
        ({"betas": []}, ex.RecipeError, "betas"),
        ({"n": -1}, ex.ImageError, "1 or more"),
    ],
)
def test_nonsense_is_refused_before_anything_is_computed(tiny_model, change, error, sentence):
    with pytest.raises(error, match=sentence):
        ex.lines_search(tiny_model, **change)


def test_it_saves_to_netcdf_and_stops_within_a_batch(tiny_model, tmp_path):
    run = ex.lines_search(tiny_model, ["digits"], alphas=(0.5,), betas=(0.5,), n=4)
    result = run.result()
    result.to_netcdf(tmp_path / "lines.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "lines.nc", engine="h5netcdf") as saved:
        xr.testing.assert_equal(saved.load(), result)
    run = ex.lines_search(tiny_model, n=4)
    next(run)
    run.cancel()
    assert list(run) == []
    assert run.cancelled


def test_another_schedule_of_the_same_merge_is_not_merged_again(tiny_model, monkeypatch):
    from explorer.compute import engine as module

    calls = []
    merge = module.combined_vector
    monkeypatch.setattr(module, "combined_vector", lambda *a: calls.append(1) or merge(*a))
    engine = tiny_model.engine()
    whole = ex.Recipe(coefficients=dict.fromkeys(tiny_model.tasks, 1.0), method="ties")
    vectors = {task: tiny_model.task_vector(task) for task in tiny_model.tasks}
    for recipe in (
        whole,
        whole.replace(schedule=ex.lines(0.1, 0.9)),
        whole.replace(schedule=ex.constant(0.3)),
        whole.replace(options={"density": 0.5}),
        whole,
    ):
        engine.set_recipe(recipe)
        expected = ex.merge(tiny_model.base, vectors, recipe)
        assert all(torch.equal(engine.named()[key], expected[key]) for key in expected)
    assert len(calls) == 3
