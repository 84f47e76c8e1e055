"""Linear probes: the fit is the optimum of its definition, a model of probes works everywhere."""

import asyncio
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import explorer as ex
from explorer.compute.engine import ImageRange
from explorer.models.probes import FOLDS, PENALTIES, _choose_penalty, _fit, _folds


@pytest.fixture
def clouds():
    """Three noisy directions in the plane of 6 dimensions: features (90, 6) and labels."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    x = np.eye(6)[labels] + 0.8 * random.standard_normal((90, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return torch.from_numpy(x), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def probed(tiny_model):
    return ex.with_probes(tiny_model)


def newton(x: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> np.ndarray:
    """The least mean cross-entropy + penalty / 2 |W|^2, by Newton steps on the whole Hessian."""
    n, d = x.shape
    w = np.zeros((classes, d))
    for _ in range(50):
        logits = x @ w.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = (p - np.eye(classes)[labels]).T @ x / n + penalty * w
        hessian = penalty * np.eye(classes * d)
        for i in range(n):
            block = np.diag(p[i]) - np.outer(p[i], p[i])
            hessian += np.kron(block, np.outer(x[i], x[i])) / n
        step = np.linalg.solve(hessian, gradient.ravel()).reshape(w.shape)
        w -= step
        if np.abs(step).max() < 1e-12:
            break
    return w


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_the_fit_is_the_optimum_that_newtons_method_finds(clouds, penalty):
    x, labels = clouds
    found = _fit(x, labels, penalty, x.new_zeros(3, 6)).numpy()
    np.testing.assert_allclose(found, newton(x.numpy(), labels.numpy(), 3, penalty), atol=1e-3)


def test_the_penalty_is_the_best_of_held_out_fifths(clouds):
    x, labels = clouds
    fold = _folds(labels.numpy(), 0)
    losses = {}
    for penalty in PENALTIES:
        losses[penalty] = 0.0
        for held in range(FOLDS):
            out = fold == held
            w = newton(x.numpy()[~out], labels.numpy()[~out], 3, penalty)
            log_p = torch.from_numpy(x.numpy()[out] @ w.T).log_softmax(1).numpy()
            losses[penalty] -= log_p[np.arange(out.sum()), labels.numpy()[out]].sum()
    assert _choose_penalty(x, labels, 3, 0)[0] == min(losses, key=losses.__getitem__)


def test_folds_hold_each_class_in_equal_shares():
    labels = np.repeat(np.arange(4), [50, 25, 10, 5])
    fold = _folds(labels, 3)
    for label, share in enumerate((10, 5, 2, 1)):
        assert np.bincount(fold[labels == label], minlength=FOLDS).tolist() == [share] * FOLDS


def test_a_probe_predicts_from_the_bases_features_as_its_weights_say(tiny_model):
    task = tiny_model.tasks[0]
    head = ex.linear_probe(tiny_model, task)
    n = tiny_model.n_images(task)
    features = tiny_model.references.zero_shot(ImageRange(task, "test", 0, n), torch.float32)
    wanted = (F.normalize(features.double(), dim=1) @ head.weight.double().T).argmax(1).numpy()
    found = ex.accuracy(tiny_model, ex.Recipe(base=tiny_model.name), [task], heads={task: head})
    np.testing.assert_array_equal(found["predicted"].values[0, :n], wanted)
    assert head.n == tiny_model.n_images(task, "val")
    assert (head.split, head.seed, head.templates) == ("val", 0, ())
    assert 0 <= head.held_out <= 1
    assert head.penalty in PENALTIES


def test_on_the_images_it_was_fitted_on_a_probe_beats_the_zero_shot_head(tiny_model, probed):
    recipe = ex.Recipe(base=tiny_model.name)
    texts = ex.accuracy(tiny_model, recipe, split="val")["zero_shot"].values
    probes = ex.accuracy(probed, recipe, split="val")["zero_shot"].values
    assert (probes > texts).all()


def test_a_probed_model_shares_weights_images_and_features(tiny_model, probed):
    mine, theirs = (m.task_vector(tiny_model.tasks[0]) for m in (probed, tiny_model))
    assert mine.cosine(theirs) == pytest.approx(1)
    assert probed.references is tiny_model.references
    assert probed.resident("weights") is tiny_model.resident("weights")
    assert probed.unprobed is tiny_model
    assert ex.with_probes(probed).unprobed is tiny_model


def test_the_cards_best_coefficient_is_not_that_of_probes(tiny_model, probed):
    assert tiny_model.best_shared_coefficient() is not None
    assert probed.best_shared_coefficient() is None
    with pytest.raises(ex.UnknownNameError):
        probed.best_shared_coefficient("wieghts")


def test_results_of_probes_say_so_and_are_kept_apart(tiny_model, probed):
    recipe = ex.Recipe(base=tiny_model.name)
    assert ex.accuracy(probed, recipe).attrs["heads"] == "linear probe"
    assert ex.accuracy(tiny_model, recipe).attrs["heads"] == "zero-shot"
    tasks = tiny_model.tasks
    assert probed.heads_made_of(tasks) != tiny_model.heads_made_of(tasks)
    assert probed.heads_made_of(tasks[:1]) != probed.heads_made_of(tasks[1:2])
    again = ex.with_probes(tiny_model, seed=1)
    assert probed.heads_made_of(tasks) != again.heads_made_of(tasks)


def test_a_map_of_a_probed_model_is_that_of_its_definition(probed):
    """xi at one cell from features, for both tasks (Ortiz-Jimenez et al. 2023, eq. 8)."""
    pair, point = probed.tasks[:2], (0.6, -0.4)
    found = ex.disentanglement(probed, pair, alphas=[-0.4, 0.6], n=12).result()
    engine = probed.engine("float32")
    for task in pair:
        order = probed.task(task).order("test", int(found.attrs["seed"]))
        images = ImageRange(task, "test", 0, len(order), int(found.attrs["seed"]))
        images = dataclasses.replace(images, stop=12)
        both = dict(zip(pair, point, strict=True))
        predicted = [
            probed.head(task)
            .logits(
                engine.features(
                    ex.Recipe(base=probed.name, coefficients=coefficients), [images], torch.float32
                )[0]
            )
            .argmax(1)
            for coefficients in (both, {task: both[task]})
        ]
        wanted = float((predicted[0] != predicted[1]).float().mean())
        cell = found["error"].sel(task=task, alpha1=point[0], alpha2=point[1])
        assert float(cell) == pytest.approx(wanted)


def test_the_lens_calls_the_base_by_its_name_and_gives_its_code(probed):
    lens = ex.ArithmeticLens(probed)

    async def shown():
        page = lens.page()
        lens.start()
        await lens.settled()
        return page

    asyncio.run(asyncio.wait_for(shown(), 60))
    (display,) = lens.drawing.displays
    assert "linear probe" in display.chart.figure.title.text
    assert lens.drawing.presets.base == lens.drawing.gallery.base == "linear probe"
    assert f"m = ex.with_probes(ex.open_model({probed.name!r}))" in lens.to_python()
    lens.close()


def test_a_published_set_without_heads_is_measured_with_probes(tiny_folder, tiny_model, tmp_path):
    """The tiny model's own files, as a folder of loose towers with images of embedded tasks."""
    shelf = tmp_path / "set"
    for task in ("letters", "scripts"):
        (shelf / task).mkdir(parents=True)
        tuned = tiny_model.task_vector("letters").apply_to(tiny_model.base)
        save_file(tuned, shelf / task / "finetuned.safetensors")
    save_file(dict(tiny_model.base), shelf / "zeroshot.safetensors")
    ours = ex.open_model(shelf, activation="gelu")
    assert "ex.with_probes(m)" in ours.missing
    closed = ex.with_probes(ours)
    assert closed.missing == ""
    found = ex.accuracy(closed, ex.Recipe(base=ours.name, coefficients={"letters": 1.0}), n=40)
    np.testing.assert_array_equal(found["edited"].sel(task="letters"), found["fine_tuned"][0])


@pytest.mark.parametrize(
    ("ask", "error", "sentence"),
    [
        (lambda m, p: ex.linear_probe(m, "mnits"), ex.UnknownNameError, "mnits"),
        (lambda m, p: ex.linear_probe(m, m.tasks[0], n=1), ex.ImageError, "none is of the class"),
        (lambda m, p: ex.linear_probe(m, m.tasks[0], n=0), ex.ImageError, "1 or more"),
        (lambda m, p: ex.linear_probe(m, m.tasks[0], seed=-1), ex.ImageError, "seed"),
        (lambda m, p: ex.with_probes("glyphs"), ex.ModelError, "takes a model, not str"),
        (lambda m, p: p.encode_text(["a"]), ex.VocabularyError, "linear probes"),
        (lambda m, p: p.vocabulary, ex.VocabularyError, "no words"),
        (
            lambda m, p: p.head(m.tasks[0], templates=["{}"]),
            ex.VocabularyError,
            "without ex.with_probes",
        ),
    ],
)
def test_what_a_probe_cannot_do_is_said(tiny_model, probed, ask, error, sentence):
    with pytest.raises(error, match=sentence):
        ask(tiny_model, probed)
