"""Kernel localisation: the matrix-free kernel is the Gram matrix of per-sample gradients."""

import threading

import numpy as np
import pytest
import torch
from torch.func import functional_call

import explorer as ex
from explorer.compute.lanczos import lanczos
from explorer.models.towers import build_tower, load_weights

PAIR = ("letters", "hearts")


def jacobian(model, pair, n, seed):
    """Gradients of all projected outputs, (2n * classes, parameters), float64, one by one."""
    base = {k: t.double().requires_grad_() for k, t in model.base.items()}
    tower = load_weights(build_tower(model.architecture), {k: t.detach() for k, t in base.items()})
    weight = torch.cat([model.head(task).weight for task in pair]).double()
    mean, std = (torch.tensor(model.card[k]).double().view(3, 1, 1) for k in ("mean", "std"))
    rows = []
    for task in pair:
        images = model.images(task)[0][model.task(task).order("test", seed)[:n]]
        for image in images:
            x = ((torch.tensor(image).permute(2, 0, 1).double() / 255 - mean) / std)[None]
            feature = functional_call(tower, base, (x,))[0]
            outputs = weight @ feature / feature.norm().detach()
            for output in outputs:
                found = torch.autograd.grad(output, list(base.values()), retain_graph=True)
                rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows).numpy()


@pytest.fixture(scope="module")
def dense(tiny_model):
    """The Jacobian on 2 x 3 images."""
    return jacobian(tiny_model, PAIR, 3, 2)


@pytest.fixture(scope="module")
def found(tiny_model):
    return ex.kernel_localisation(tiny_model, PAIR, n=3, rank=6, seed=2).result()


def test_eigenvalues_and_energies_are_those_of_the_gram_matrix(dense, found):
    values, vectors = np.linalg.eigh(dense @ dense.T)
    values, vectors = values[::-1][:6], vectors[:, ::-1][:, :6]
    np.testing.assert_allclose(found["eigenvalue"], values, rtol=2e-3)
    squares = (vectors**2).reshape(2, -1, 6).sum(1)
    np.testing.assert_allclose(found["energy"], squares, atol=0.02)
    assert (found["residual"] <= 0.02 * found["eigenvalue"]).all()


def test_what_an_eigenfunction_carries_of_a_task_vector(tiny_model, dense, found):
    _, vectors = np.linalg.eigh(dense @ dense.T)
    vectors = vectors[:, ::-1][:, :6]
    for task in PAIR:
        named = tiny_model.task_vector(task)
        tau = torch.cat([named[key].flatten() for key in tiny_model.base]).double().numpy()
        edit = dense @ tau
        carried = (vectors.T @ edit) ** 2 / (edit @ edit)
        np.testing.assert_allclose(found["carried"].sel(task=task), carried, atol=0.02)


def test_the_energies_of_an_eigenfunction_sum_to_one(found):
    np.testing.assert_allclose(found["energy"].sum("task"), 1, rtol=1e-9)
    assert (np.diff(found["eigenvalue"]) <= 0).all()
    assert found["rank"].values.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.attrs["complete"] == 1


def test_lower_ranks_come_first_and_it_can_be_cancelled(tiny_model):
    ranks = [p.sizes["rank"] for p in ex.kernel_localisation(tiny_model, PAIR, n=6, rank=8)]
    assert ranks == sorted(set(ranks))
    assert len(ranks) > 1
    assert ranks[-1] == 8
    run = ex.kernel_localisation(tiny_model, PAIR, n=6, rank=8)
    next(run)
    run.cancel()
    assert run.cancelled


def test_without_memory_for_graphs_it_is_the_same(tiny_model, found, monkeypatch):
    from explorer.measures import kernel

    monkeypatch.setattr(kernel, "_KEPT", 0.0)
    monkeypatch.setattr(kernel, "_BATCH", 4)
    again = ex.kernel_localisation(tiny_model, PAIR, n=3, rank=6, seed=2).result()
    np.testing.assert_allclose(again["eigenvalue"], found["eigenvalue"], rtol=1e-5)
    np.testing.assert_allclose(again["energy"], found["energy"], atol=1e-5)


def test_a_cancelled_kernel_leaves_no_thread_running(tiny_model):
    before, threads = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = ex.kernel_localisation(tiny_model, PAIR, n=30, rank=8)
        next(run)
        run.cancel()
    finally:
        torch.set_num_threads(threads)
    assert run.cancelled
    assert set(threading.enumerate()) <= before


def test_lanczos_finds_the_largest_eigenpairs_and_ends_with_the_space():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((40, 12))
    matrix = factors @ factors.T  # rank 12
    *_, last = lanczos(lambda v: matrix @ v, rng.standard_normal(40), 100)
    pairs = last(5)
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(matrix)[::-1][:5], rtol=1e-9)
    np.testing.assert_allclose(matrix @ pairs.vectors, pairs.vectors * pairs.values, atol=1e-6)
    assert len(list(lanczos(lambda v: matrix @ v, rng.standard_normal(40), 100))) <= 14


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tasks": ("letters", "letters")}, ex.RecipeError),
        ({"tasks": ("letters", "harts")}, ex.UnknownNameError),
        ({"rank": 0}, ex.RecipeError),
        ({"rank": 2.5}, ex.RecipeError),
        ({"n": 0}, ex.ImageError),
        ({"seed": "x"}, ex.ImageError),
    ],
    ids=str,
)
def test_what_makes_no_kernel_is_refused_in_a_sentence(tiny_model, changes, error):
    with pytest.raises(error):
        ex.kernel_localisation(**{"model": tiny_model, "tasks": PAIR} | changes)
