"""`explorer doctor FILE` says what a file is, what is odd about it, and what to do."""

import json
import os

import pytest
import torch
from checkpoint_families import FAMILIES, image_encoder, open_clip_model, pickled_head
from safetensors.torch import save_file

from explorer import cli


def doctor(capsys, path):
    """(exit status, the report with its lines unwrapped)."""
    status = cli.main(["doctor", str(path)])
    return status, " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "hf projection",
            (
                "model.safetensors, safetensors,",
                "ViT of width 64, 2 blocks, /8@32",
                "features of 24",
                "Hugging Face CLIP",
                "32 of the image tower, 0.12 M parameters, all float32",
                "not told",
                "position_ids",
                "all finite",
            ),
        ),
        ("pickled zip", ("torch zip archive", "an ImageEncoder around open_clip", "GELU")),
        ("open_clip training", ("'state_dict'", "a whole open_clip model", "left out")),
        ("dinov2 registers", ("DINOv2 with registers", "with 4 registers", "mask_token")),
        ("torchvision convnext", ("torch file before 1.6", "ConvNeXt", "widths (8, 16, 24, 32)")),
    ],
)
def test_a_file_is_told_by_its_content(capsys, tmp_path, name, said):
    file = FAMILIES[name](tmp_path)
    status, report = doctor(capsys, file.path)
    assert status == 0
    for words in said:
        assert words in report


def test_quickgelu_weights_say_which_architecture_they_need(capsys, tmp_path):
    torch.save(image_encoder(quick_gelu=True), tmp_path / "quick.pt")
    status, report = doctor(capsys, tmp_path / "quick.pt")
    assert status == 0
    assert "ok activation QuickGELU" in report
    assert "-> Use the architecture whose name ends in -quickgelu." in report


def test_a_head_is_a_head(capsys, tmp_path):
    path = pickled_head(tmp_path / "head_MNIST.pt", torch.randn(10, 24))
    status, report = doctor(capsys, path)
    assert status == 0
    assert "a classification head of 10 classes on features of 24, without bias" in report


def test_what_is_odd_is_said(capsys, tmp_path):
    tower = {key: t.clone() for key, t in open_clip_model().visual.state_dict().items()}
    odd = {**tower, "proj": tower["proj"].half(), "conv1.weight": 0 * tower["conv1.weight"]}
    save_file(odd, tmp_path / "odd.safetensors")
    status, report = doctor(capsys, tmp_path / "odd.safetensors")
    assert status == 0
    assert "M float32, 0.00 M float16" in report
    assert "'conv1.weight' is zero" in report
    tower["proj"][0, 0] = float("nan")
    save_file(tower, tmp_path / "nan.safetensors")
    status, report = doctor(capsys, tmp_path / "nan.safetensors")
    assert status == 1
    assert "fail values nan.safetensors has NaN in 'proj'" in report


def test_another_models_configuration_is_noticed(capsys, tmp_path):
    path = FAMILIES["hf projection"](tmp_path).path
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {}}))
    assert "describes another model (width 768)" in doctor(capsys, path)[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>", "is a web page"),
        (b"", "is empty"),
        (b"cos\nsystem\n(S'touch marker'\ntR.", "calls os.system"),
    ],
)
def test_a_file_that_does_not_open_says_why_and_what_to_do(
    capsys, tmp_path, monkeypatch, content, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_bytes(content)
    status, report = doctor(capsys, tmp_path / "weights.pt")
    assert status == 1
    assert said in report
    assert "->" in report
    assert os.listdir(tmp_path) == ["weights.pt"]
