"""Task vectors: a strict difference of towers with the algebra of vectors."""

import math
import pickle

import numpy as np
import pytest
import torch

import explorer as ex


def tower(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "class_embedding": torch.randn(4),
        "conv1.weight": torch.randn(4, 3, 2, 2),
        "transformer.resblocks.0.ln_1.weight": torch.randn(4),
        "transformer.resblocks.1.ln_1.weight": torch.randn(4),
        "transformer.resblocks.2.ln_1.weight": torch.randn(4),
        "ln_post.bias": torch.randn(4),
        "proj": torch.randn(4, 2),
    }


def flat(vector) -> np.ndarray:
    return np.concatenate([vector[key].double().numpy().ravel() for key in tower(0)])


base, a, b = tower(0), ex.TaskVector(tower(1)), ex.TaskVector(tower(2))


def test_between_is_tuned_minus_base_and_apply_to_undoes_it():
    tuned = tower(3)
    vector = ex.TaskVector.between(base, tuned)
    for key, tensor in vector.apply_to(base).items():
        torch.testing.assert_close(tensor, tuned[key])
        torch.testing.assert_close(vector[key], tuned[key] - base[key])


def test_integer_buffers_are_skipped_and_kept_when_applied():
    with_buffer = base | {"position_ids": torch.arange(3)}
    vector = ex.TaskVector.between(with_buffer, tower(1) | {"position_ids": torch.arange(3)})
    assert "position_ids" not in vector
    assert torch.equal(vector.apply_to(with_buffer)["position_ids"], torch.arange(3))


def test_a_key_missing_on_either_side_is_an_error_that_names_it():
    less = {key: tensor for key, tensor in base.items() if key != "proj"}
    with pytest.raises(ex.CheckpointError, match=r"The fine-tuned checkpoint has no 'proj'"):
        ex.TaskVector.between(base, less)
    with pytest.raises(ex.CheckpointError, match=r"The base has no 'proj'"):
        ex.TaskVector.between(less, base)


def test_another_shape_is_an_error_that_names_key_and_shapes():
    other = base | {"proj": torch.zeros(4, 3)}
    with pytest.raises(ex.CheckpointError, match=r"'proj' has shape \(4, 2\).*\(4, 3\)"):
        ex.TaskVector.between(base, other)


def test_the_algebra_is_that_of_vectors():
    for vector, expected in [
        (a + b, flat(a) + flat(b)),
        (a - b, flat(a) - flat(b)),
        (-a, -flat(a)),
        (2.5 * a, 2.5 * flat(a)),
        (a * np.float32(0.5), 0.5 * flat(a)),
        (a * torch.tensor(3), 3 * flat(a)),
        (a / 4, flat(a) / 4),
        (sum([a, b, a]), 2 * flat(a) + flat(b)),
        (a + (b - a), flat(b)),
    ]:
        np.testing.assert_allclose(flat(vector), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", ["0.5", None, [1], {"x": 1}])
def test_a_product_with_something_that_is_no_number_is_a_type_error(wrong):
    with pytest.raises(TypeError):
        a * wrong
    with pytest.raises(TypeError):
        a + wrong


def test_sums_of_different_architectures_are_refused():
    with pytest.raises(ex.CheckpointError, match="same architecture"):
        a + ex.TaskVector({"proj": torch.zeros(4, 2)})


def test_norm_dot_cosine_and_l1_agree_with_numpy():
    assert a.norm == pytest.approx(np.linalg.norm(flat(a)), rel=1e-12)
    assert a.dot(b) == pytest.approx(flat(a) @ flat(b), rel=1e-12)
    assert a.l1 == pytest.approx(np.abs(flat(a)).sum(), rel=1e-12)
    cosine = flat(a) @ flat(b) / np.linalg.norm(flat(a)) / np.linalg.norm(flat(b))
    assert a.cosine(b) == pytest.approx(cosine, rel=1e-12)
    assert math.isnan(a.cosine(0 * b))


def test_scaled_multiplies_each_block_by_the_schedule():
    scaled = a.scaled(ex.lines(0.1, 0.9))
    expected = {"resblocks.0": 0.1, "resblocks.1": 0.55, "resblocks.2": 1.0}
    for key, tensor in scaled.items():
        factor = next((x for part, x in expected.items() if part in key), 0.1)
        torch.testing.assert_close(tensor, factor * a[key])
    assert a.scaled(None) is a


def test_norms_by_layer_add_up_to_the_norm():
    by_layer = a.by_layer()
    assert list(by_layer) == ["input", "block 1", "block 2", "block 3", "output"]
    assert math.hypot(*by_layer.values()) == pytest.approx(a.norm)
    assert by_layer["output"] == pytest.approx(
        math.hypot(a["proj"].norm().item(), a["ln_post.bias"].norm().item()), rel=1e-6
    )


def test_a_task_vector_is_frozen_and_pickles():
    with pytest.raises(TypeError):
        a["proj"] = torch.zeros(4, 2)
    with pytest.raises(AttributeError, match="frozen"):
        a.tensors = {}
    assert pickle.loads(pickle.dumps(a)) == a
    assert a != b


def test_a_task_vector_holds_floating_tensors_only():
    with pytest.raises(ex.CheckpointError, match="'ids'"):
        ex.TaskVector({"ids": torch.arange(3)})
