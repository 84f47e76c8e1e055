"""The tangent model: the derivative is right, and features are linear in the edit."""

import threading

import pytest
import torch

import explorer as ex
from explorer.compute.engine import ImageRange
from explorer.models.tangent import Linearisation, jacobian_product, linearised_features
from explorer.models.towers import build_tower, load_weights


@pytest.fixture(scope="module")
def double(tiny_model):
    """Tower, base, two task vectors and images in float64."""
    base = {key: tensor.double() for key, tensor in tiny_model.base.items()}
    tower = load_weights(build_tower(tiny_model.architecture), base)
    deltas = [
        {key: tensor.double() for key, tensor in tiny_model.task_vector(task).items()}
        for task in ("digits", "letters")
    ]
    torch.manual_seed(0)
    return tower, base, deltas, torch.randn(4, 3, 32, 32, dtype=torch.double)


def forward(tower, weights, images):
    with torch.no_grad():
        return torch.func.functional_call(tower, weights, (images,))


def test_the_derivative_equals_a_central_difference(double):
    tower, base, (delta, _), images = double
    features, derivative = jacobian_product(tower, base, delta, images)
    h = 1e-5
    ahead = forward(tower, {k: v + h * delta[k] for k, v in base.items()}, images)
    behind = forward(tower, {k: v - h * delta[k] for k, v in base.items()}, images)
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(features, forward(tower, base, images))


def test_features_are_linear_in_the_edit(double):
    tower, base, (a, b), images = double
    both = {key: 0.3 * a[key] - 1.7 * b[key] for key in base}
    joint = linearised_features(tower, base, both, images)
    features, along_a = jacobian_product(tower, base, a, images)
    _, along_b = jacobian_product(tower, base, b, images)
    torch.testing.assert_close(
        joint, features + 0.3 * along_a - 1.7 * along_b, rtol=1e-10, atol=1e-10
    )


def test_an_edit_of_some_parameters_equals_one_with_zeros_elsewhere(double):
    tower, base, (a, _), images = double
    part = {key: a[key] for key in ("proj", "transformer.resblocks.1.mlp.c_fc.weight")}
    padded = {key: part.get(key, torch.zeros_like(v)) for key, v in base.items()}
    torch.testing.assert_close(
        linearised_features(tower, base, part, images),
        linearised_features(tower, base, padded, images),
    )


def check_both_ways(tower, base, delta, images):
    """A kept linearisation against forward mode and a fresh backward pass."""
    features, along = jacobian_product(tower, base, delta, images)
    kept = Linearisation(tower, base, images)
    torch.testing.assert_close(kept.features, features)
    vector = torch.randn_like(features)
    leaves = {key: tensor.clone().requires_grad_() for key, tensor in base.items()}
    output = torch.func.functional_call(tower, leaves, (images,))
    back = dict(zip(leaves, torch.autograd.grad(output, [*leaves.values()], vector), strict=True))
    for _ in range(2):  # a product uses nothing up
        torch.testing.assert_close(kept.product(delta), along, rtol=1e-8, atol=1e-9)
        found = kept.transposed_product(vector)
        torch.testing.assert_close(found, back, rtol=1e-8, atol=1e-9)
    both = sum(float((found[key] * delta[key]).sum()) for key in base)
    assert both == pytest.approx(float((vector * along).sum()), rel=1e-8)
    assert kept.nbytes > images.nbytes


def test_a_kept_linearisation_gives_products_both_ways(double):
    tower, base, (delta, _), images = double
    check_both_ways(tower, base, delta, images)


def test_linearisations_are_made_by_several_threads_at_once(double):
    from concurrent.futures import ThreadPoolExecutor

    tower, base, (delta, _), images = double
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda i: Linearisation(tower, base, images[i : i + 1]), range(4))
    rows = torch.cat([one.product(delta) for one in made])
    torch.testing.assert_close(rows, jacobian_product(tower, base, delta, images)[1])


def test_open_clips_own_towers_linearise_too():
    pytest.importorskip("open_clip")
    vision = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8}
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    tower = build_tower(
        {"embed_dim": 8, "vision_cfg": vision | {"ls_init_value": 0.5}, "text_cfg": text}
    )
    torch.manual_seed(0)
    shapes = tower.state_dict()
    base = {k: torch.randn(v.shape, dtype=torch.double) / 4 for k, v in shapes.items()}
    delta = {k: torch.randn(v.shape, dtype=torch.double) for k, v in shapes.items()}
    load_weights(tower, base)
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)
    before = torch.backends.mha.get_fastpath_enabled()
    _, derivative = jacobian_product(tower, base, delta, images)
    assert torch.backends.mha.get_fastpath_enabled() == before
    h = 1e-6
    ahead = forward(tower, {k: v + h * delta[k] for k, v in base.items()}, images)
    behind = forward(tower, {k: v - h * delta[k] for k, v in base.items()}, images)
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6)
    check_both_ways(tower, base, delta, images)
    assert torch.backends.mha.get_fastpath_enabled() == before


@pytest.mark.parametrize("space", ["posthoc", "tangent"])
@pytest.mark.parametrize(
    "schedule", [None, ex.constant(0.5), ex.lines(0.2, 0.6), ex.lines(0.2, 0.6, outside="depth")],
    ids=str,
)  # fmt: skip
def test_cached_products_give_the_features_of_a_fresh_one(tiny_model, space, schedule):
    coefficients = {"digits": 0.7, "hearts": -0.4}
    recipe = ex.Recipe(coefficients=coefficients, space=space, schedule=schedule)
    images = ImageRange("letters", "test", 3, 9)
    found = tiny_model.engine().features(recipe, [images])[0]
    edit = sum(c * tiny_model.task_vector(t, space) for t, c in coefficients.items())
    tower = load_weights(build_tower(tiny_model.architecture), tiny_model.base)
    store = tiny_model.image_store
    x = store.normalised(store.pixels("letters", "test")[3:9], torch.float32)
    expected = linearised_features(tower, tiny_model.base, edit.scaled(schedule), x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_zero_coefficients_give_the_base_in_every_space(tiny_model):
    images = ImageRange("digits", "test", 0, 8)
    results = [
        tiny_model.engine().features(ex.Recipe(space=space), [images])[0]
        for space in ("weights", "posthoc", "tangent")
    ]
    assert torch.equal(results[1], results[2])
    torch.testing.assert_close(results[0], results[1])


def test_the_linear_spaces_refuse_a_method_that_is_not_linear(tiny_model, monkeypatch):
    from explorer.editing import methods

    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))

    @ex.merging_method(reference="this test")
    def strange(vectors, coefficients):
        """Anything."""

    recipe = ex.Recipe(coefficients={"digits": 1}, method="strange", space="tangent")
    with pytest.raises(ex.RecipeError, match="not linear"):
        ex.accuracy(tiny_model, recipe, n=4)


def test_products_from_several_threads_do_not_disturb_each_other(double):
    tower, base, (a, b), images = double
    expected = {i: jacobian_product(tower, base, d, images)[1] for i, d in enumerate((a, b))}
    wrong = []

    def work(i, delta):
        results = [jacobian_product(tower, base, delta, images)[1] for _ in range(5)]
        wrong.extend(i for result in results if not torch.equal(result, expected[i]))

    threads = [threading.Thread(target=work, args=item) for item in enumerate((a, b))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert wrong == []
