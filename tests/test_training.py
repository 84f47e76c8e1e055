"""Claims about the scripts that made the embedded zoo (no training happens here)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import explorer as ex
from explorer.checkpoints.zoo import model_folders
from explorer.models.towers import build_tower
from training import clip, closed, closed_finetune, pretrain, tangent


def _pairs(seed: int):
    """Six pictures of three captions, and a caption that is also true of a stranger's picture."""
    g = torch.Generator().manual_seed(seed)
    image = F.normalize(torch.randn(6, 5, generator=g, dtype=torch.float64), dim=-1)
    text = F.normalize(torch.randn(3, 5, generator=g, dtype=torch.float64), dim=-1)
    true = torch.zeros(6, 3, dtype=torch.bool)
    true[torch.arange(6), torch.arange(6) // pretrain.VIEWS] = True
    true[0, 2] = True
    return image, text, true


def test_contrastive_loss_equals_a_literal_double_loop():
    image, text, true = _pairs(0)
    scale = torch.tensor(7.0, dtype=torch.float64)
    logits = (scale * image @ text.T).tolist()
    total = 0.0
    for n in range(6):
        own = n // 2
        rivals = [logits[n][k] for k in range(3) if k != own and not true[n, k]]
        to_text = -math.log(
            math.exp(logits[n][own]) / sum(map(math.exp, [logits[n][own], *rivals]))
        )
        strangers = [logits[j][own] for j in range(6) if j // 2 != own and not true[j, own]]
        to_image = -math.log(
            math.exp(logits[n][own]) / sum(map(math.exp, [logits[n][own], *strangers]))
        )
        total += (to_text + to_image) / 12
    assert pretrain.contrastive_loss(image, text, scale, true).item() == pytest.approx(total)


def test_a_caption_true_of_a_strangers_picture_is_no_negative():
    image, text, true = _pairs(1)
    moved = image.clone()
    moved[0] = text[2]  # the picture now looks exactly like the other caption that is true of it
    scale = torch.tensor(50.0, dtype=torch.float64)
    unmasked = true.clone()
    unmasked[0, 2] = False
    with_mask = pretrain.contrastive_loss(moved, text, scale, true)
    without = pretrain.contrastive_loss(moved, text, scale, unmasked)
    assert with_mask < without - 1.0


SMALL = {
    "embed_dim": 8,
    "vision_cfg": {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32},
}


def test_one_tangent_step_follows_the_gradient_of_the_linearised_loss(monkeypatch):
    monkeypatch.setattr(clip, "ARCHITECTURE", SMALL)
    torch.manual_seed(0)
    tower = build_tower(SMALL).to_empty(device="cpu")
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tower.requires_grad_(False)
    head = F.normalize(torch.randn(4, 8), dim=-1)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    task = {"train_images": images, "train_labels": np.arange(64) % 4}
    moved = tangent.tune(tower, head, 5.0, task, steps=1, rate=1e-3, seed=3)

    (batch, labels), *_ = tangent.batches(task, 1, 3)
    parameters = {k: v.detach().clone().requires_grad_(True) for k, v in tower.named_parameters()}
    features = torch.func.functional_call(tower, parameters, (batch,), {"explicit": True})
    loss = F.cross_entropy(5.0 * F.normalize(features, dim=-1) @ head.T, labels)
    gradient = dict(
        zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)
    )
    # The first step of Adam moves every weight by the learning rate against the gradient's sign.
    for key, step in moved.items():
        sizeable = gradient[key].abs() > 1e-4
        assert torch.equal(step[sizeable].sign(), -gradient[key][sizeable].sign()), key


def test_tag_loss_equals_a_literal_loop():
    g = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(3, 5, generator=g, dtype=torch.float64)
    tags = torch.tensor([[0, 2], [4, -1], [1, 0]])  # -1: this picture has one tag only
    total = 0.0
    for row, own in zip(logits.tolist(), [[0, 2], [4], [1, 0]], strict=True):
        false = sum(math.exp(x) for k, x in enumerate(row) if k not in own)
        total += sum(math.log(math.exp(row[k]) + false) - row[k] for k in own) / len(own)
    assert closed.tag_loss(logits, tags).item() == pytest.approx(total / 3)


def test_the_base_from_scratch_is_what_its_seed_makes():
    made = {key: value.half() for key, value in closed.untrained(0).state_dict().items()}
    shipped = ex.open_model("glyphs-scratch", device="cpu").base
    assert all(torch.equal(made[key].float(), tensor) for key, tensor in shipped.items())
    other = closed.untrained(1).state_dict()
    assert not torch.equal(other["proj"].half().float(), shipped["proj"])


def test_fine_tuning_leaves_the_probe_and_the_base_as_they_are():
    base = closed.untrained(0).eval().requires_grad_(False)
    before = {key: value.clone() for key, value in base.state_dict().items()}
    head = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    task = {"train_images": images, "train_labels": np.arange(64) % 4}
    kept = head.clone()
    vector = closed_finetune.tune(base, head, 1.0, task, 2, 1e-3, 100)
    assert torch.equal(head, kept)
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    moved = closed_finetune.moved(base, vector)
    assert not torch.equal(moved.proj, base.proj)
    assert torch.allclose(moved.proj, base.proj + vector["proj"])


def test_rows_of_the_vocabulary_are_clip_tokens_with_the_end_last():
    vocabulary = clip.Vocabulary(["the letter a", "a heart icon"])
    rows = vocabulary(["a heart icon"])
    assert rows.shape == (1, clip.CONTEXT)
    assert rows[0].argmax() == 4
    assert vocabulary.ids[rows[0].max()] == 49407


@pytest.mark.skipif("glyphs" not in model_folders(), reason="the zoo is not packed yet")
@pytest.mark.parametrize(
    "task", ["mnist", "uci", "letters", "hiragana", "scripts", "emoji", "icons"]
)
def test_no_test_image_is_also_a_validation_image(task):
    model = ex.open_model("glyphs")
    test, validation = (model.images(task, split=split)[0] for split in ("test", "val"))
    seen = {image.tobytes() for image in validation}
    assert not any(image.tobytes() in seen for image in test)
