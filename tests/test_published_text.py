"""Published sets without heads: made of prompts by the text tower of the whole CLIP they are of."""

import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from checkpoint_families import CLIP, FAMILIES, image_encoder, linearised, randomised, timm_vit
from safetensors.torch import save_file
from torch import nn

import explorer as ex
from explorer.checkpoints import open_clip_list
from explorer.checkpoints.layouts import to_layout
from explorer.checkpoints.published import Part, Published
from explorer.checkpoints.text_side import has_text, read_text
from explorer.models import whole_clips
from explorer.tasks.benchmark.frozen import benchmark_task

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
QUICK = True


def whole_clip(seed: int = 0, **text: int) -> nn.Module:
    from open_clip.model import CLIP as Clip

    sizes = CLIP | {"text_cfg": TEXT | text}
    return randomised(Clip(**sizes, quick_gelu=QUICK), seed)


def as_hugging_face(model: nn.Module) -> dict[str, torch.Tensor]:
    """A whole open_clip model under the names of transformers' CLIPModel."""
    found = dict(to_layout(model.visual.state_dict(), "hf"))
    for key, tensor in model.state_dict().items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", key)
        if block:
            begin = f"text_model.encoder.layers.{block[1]}."
            names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1"}
            names |= {"mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
            part, _, last = block[2].rpartition(".")
            if part == "attn":
                for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                    kind = last.removeprefix("in_proj_")
                    found[f"{begin}self_attn.{letter}_proj.{kind}"] = third.contiguous()
            else:
                found[f"{begin}{names[part]}.{last}"] = tensor
    found["text_model.embeddings.token_embedding.weight"] = model.token_embedding.weight
    found["text_model.embeddings.position_embedding.weight"] = model.positional_embedding
    found["text_model.final_layer_norm.weight"] = model.ln_final.weight
    found["text_model.final_layer_norm.bias"] = model.ln_final.bias
    found["text_projection.weight"] = model.text_projection.T.contiguous()
    found["logit_scale"] = model.logit_scale
    return {key: tensor.detach().clone() for key, tensor in found.items()}


def fusion_bench(folder: Path, base: dict[str, torch.Tensor]) -> Path:
    """A base and one task's CLIPVisionModel without projection, as fusion_bench publishes them."""
    save_file(base, folder / "base.safetensors")
    (folder / "mnist").mkdir()
    tuned = {k: t + 0.01 for k, t in base.items() if k.startswith("vision_model.")}
    save_file(tuned, folder / "mnist" / "model.safetensors")
    return folder


def expected_head(model: nn.Module) -> torch.Tensor:
    """open_clip's own tokenizer and text tower on the benchmark's prompts."""
    from open_clip import SimpleTokenizer

    task = benchmark_task("mnist")
    names, templates = task.prompts("tall")
    tokens = SimpleTokenizer(context_length=TEXT["context_length"])
    rows = []
    with torch.no_grad():
        for name in names:
            texts = tokens([template.replace("{}", name) for template in templates])
            rows.append(F.normalize(model.encode_text(texts, normalize=True).mean(0), dim=-1))
        return torch.stack(rows) * model.logit_scale.exp()


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def test_heads_are_made_by_the_text_tower_in_the_bases_file(tmp_path):
    model = whole_clip()
    folder = fusion_bench(tmp_path, as_hugging_face(model))
    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    head = m.head("mnist")
    assert head.class_names == benchmark_task("mnist").prompts("tall")[0]
    assert (head.weight - expected_head(model)).abs().max() < 1e-4
    assert m.missing.startswith("The images of ")
    assert m.encode_text("a photo of a seven").shape == (1, 24)
    own = m.head("mnist", [f"digit {i}" for i in range(10)], ["a {}"])
    assert not torch.equal(own.weight, head.weight)
    made_of = m.heads_made_of(m.tasks)
    again = ex.open_model(folder, device="cpu", activation="quick_gelu")
    assert again.heads_made_of(again.tasks) == made_of


def test_a_whole_open_clip_model_has_its_text_tower_too(tmp_path):
    model = whole_clip(1)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "zeroshot.pt")
    tensors, sizes = read_text(tmp_path / "zeroshot.pt")
    expected = model.state_dict()
    assert all(torch.equal(tensors[key], expected[key]) for key in tensors)
    assert {k for k in expected if not k.startswith("visual.")} - tensors.keys() <= {"attn_mask"}
    assert sizes == TEXT | {"mlp_ratio": 4.0}


def test_other_prompts_make_other_results_of_maps(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = as_hugging_face(whole_clip()), as_hugging_face(whole_clip())
    second["text_projection.weight"] = second["text_projection.weight"] + 0.1
    opened = [
        ex.open_model(fusion_bench(tmp_path / name, base), "cpu", activation="quick_gelu")
        for name, base in (("a", first), ("b", second))
    ]
    made_of = [m.heads_made_of(m.tasks) for m in opened]
    assert made_of[0] != made_of[1]


def test_the_text_side_that_an_image_encoder_carries_is_no_tower(tmp_path):
    """Published ImageEncoders keep a token table without the blocks."""
    torch.save(image_encoder().state_dict(), tmp_path / "zeroshot.pt")
    assert not has_text(tmp_path / "zeroshot.pt")
    with pytest.raises(ex.CheckpointError, match=r"zeroshot\.pt holds no text tower"):
        read_text(tmp_path / "zeroshot.pt")


def test_without_a_text_tower_the_sentence_names_what_to_pull(tmp_path, monkeypatch, alone):
    tower = {k: t for k, t in as_hugging_face(whole_clip()).items() if "text" not in k}
    folder = fusion_bench(tmp_path, tower)
    monkeypatch.setattr(
        whole_clips, "open_clip_name", lambda *_, **__: "open_clip:ViT-B-32-quickgelu"
    )
    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    assert "images and heads" in m.missing
    sentence = r"explorer zoo pull open_clip:ViT-B-32-quickgelu/openai"
    with pytest.raises(ex.VocabularyError, match=sentence):
        m.head("mnist")
    with pytest.raises(ex.VocabularyError, match=sentence):
        m.encode_text("a photo")
    assert m.heads_made_of(m.tasks) == []


@pytest.fixture
def pulled(tmp_path, monkeypatch):
    """open_clip's list, of two whole CLIPs of this tower on this machine."""
    (tmp_path / "pulled").mkdir()
    sets = {}
    for seed, name in ((5, "other"), (0, "right")):
        torch.save(whole_clip(seed).state_dict(), tmp_path / "pulled" / f"{name}.pt")
        base = Part(None, (f"{name}.pt",))
        entry = Published(f"open_clip:tiny/{name}", name, "", base, folder=tmp_path / "pulled")
        sets[entry.name] = entry
    monkeypatch.setattr(open_clip_list, "open_clip_sets", lambda: sets)
    monkeypatch.setattr(whole_clips, "open_clip_name", lambda *_, **__: "open_clip:tiny")


def test_a_pulled_whole_clip_of_the_same_image_tower_makes_the_heads(tmp_path, pulled):
    model = whole_clip()
    tower = {k: t for k, t in as_hugging_face(model).items() if "text" not in k}
    (tmp_path / "set").mkdir()
    folder = fusion_bench(tmp_path / "set", tower)
    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    assert (m.head("mnist").weight - expected_head(model)).abs().max() < 1e-4


def test_a_whole_clip_of_another_image_tower_makes_none(tmp_path, pulled):
    tower = {k: t for k, t in as_hugging_face(whole_clip(9)).items() if "text" not in k}
    (tmp_path / "set").mkdir()
    m = ex.open_model(fusion_bench(tmp_path / "set", tower), "cpu", activation="quick_gelu")
    with pytest.raises(ex.VocabularyError, match="no text tower"):
        m.head("mnist")


def test_a_text_tower_with_another_tokenizer_is_refused(tmp_path):
    base = as_hugging_face(whole_clip(vocab_size=1000))
    m = ex.open_model(fusion_bench(tmp_path, base), device="cpu", activation="quick_gelu")
    with pytest.raises(ex.VocabularyError, match="has 1000 tokens"):
        m.head("mnist")


def test_a_text_tower_with_a_part_missing_is_refused(tmp_path):
    base = as_hugging_face(whole_clip())
    del base["text_model.final_layer_norm.bias"]
    m = ex.open_model(fusion_bench(tmp_path, base), device="cpu", activation="quick_gelu")
    with pytest.raises(ex.CheckpointError, match=r"(?i)base\.safetensors.*ln_final\.bias"):
        m.head("mnist")


# --- tangent fine-tunings --------------------------------------------------------------------


@pytest.fixture
def tangents(tmp_path) -> Path:
    """As tangent_task_arithmetic saves: both fine-tunings of one task, one of another."""
    made = tmp_path / "made"
    made.mkdir()
    file, start = linearised(made)
    folder = tmp_path / "ViT"
    for task in ("MNISTVal", "DTDVal"):
        (folder / task).mkdir(parents=True)
        (folder / task / "linear_finetuned.pt").write_bytes(file.path.read_bytes())
    torch.save(start.state_dict(), folder / "MNISTVal" / "nonlinear_zeroshot.pt")
    torch.save(image_encoder(3).state_dict(), folder / "MNISTVal" / "nonlinear_finetuned.pt")
    return folder


def test_a_linear_fine_tuning_beside_another_is_the_tangent_space(tangents):
    m = ex.open_model(tangents, device="cpu", activation="gelu")
    assert sorted(m.tasks) == ["DTD", "MNIST"]
    base, tuned = (image_encoder(i).model.visual.state_dict() for i in (9, 8))
    plain = image_encoder(3).model.visual.state_dict()
    for key in base:
        assert torch.equal(m.task_vector("MNIST")[key], plain[key] - base[key])
        assert torch.equal(m.task_vector("MNIST", "tangent")[key], tuned[key] - base[key])
        assert torch.equal(m.task_vector("DTD", "tangent")[key], tuned[key] - base[key])
    assert m.resident("tangent") is not m.resident("weights")
    assert ex.geometry(m, space="tangent")["cosine"].min() > 0.999


def test_a_tower_that_is_no_tangent_fine_tuning_is_refused_in_that_space(tangents):
    (tangents / "MNISTVal" / "linear_finetuned.pt").unlink()
    m = ex.open_model(tangents, device="cpu", activation="gelu")
    with pytest.raises(ex.CheckpointError, match=r"'MNIST'.* is no tangent fine-tuning"):
        m.task_vector("MNIST", "tangent")


def test_a_tangent_fine_tuning_around_other_weights_is_refused(tangents):
    base = tangents / "MNISTVal" / "nonlinear_zeroshot.pt"
    torch.save(image_encoder(4).state_dict(), base)
    m = ex.open_model(tangents, device="cpu", activation="gelu")
    with pytest.raises(ex.CheckpointError, match="linearised around other weights"):
        m.task_vector("DTD", "tangent")


def test_a_base_may_be_linearised_too(tangents):
    (tangents / "MNISTVal" / "nonlinear_zeroshot.pt").unlink()
    content = torch.load(tangents / "DTDVal" / "linear_finetuned.pt", weights_only=True)
    start = {k.replace("params0", "params"): t for k, t in content.items() if "params0" in k}
    torch.save(start, tangents / "MNISTVal" / "linear_zeroshot.pt")
    m = ex.open_model(tangents, device="cpu", activation="gelu")
    assert m.task_vector("DTD", "tangent").norm > 1


def test_a_catalogue_keeps_the_tangent_fine_tunings(tangents, tmp_path, monkeypatch):
    from explorer.checkpoints.user_catalogue import add_entry

    monkeypatch.setenv("EXPLORER_CATALOGUE", str(tmp_path / "catalogue.yml"))
    _, entry = add_entry("mine", {"title": "Mine", "folder": str(tangents), "activation": "gelu"})
    assert dict(entry.tangent.by_task) == {"MNIST": "MNISTVal/linear_finetuned.pt"}
    assert ex.open_model("mine", device="cpu").task_vector("MNIST", "tangent").norm > 1


# --- the normalisation of pixels -------------------------------------------------------------

CLIP_MEAN, IMAGENET_MEAN = 0.48145466, 0.485


@pytest.mark.parametrize(
    ("family", "mean"),
    [
        ("open_clip tall_masks", CLIP_MEAN),
        ("hf clip", CLIP_MEAN),
        ("dinov2", IMAGENET_MEAN),
        ("dinov2 registers", IMAGENET_MEAN),
        ("torchvision vit", IMAGENET_MEAN),
        ("torchvision vit as published", IMAGENET_MEAN),
        ("torchvision convnext", IMAGENET_MEAN),
        ("timm convnext", IMAGENET_MEAN),
        ("timm", 0.5),
        ("timm registers", IMAGENET_MEAN),
        ("timm pre-norm", CLIP_MEAN),
    ],
)
def test_pixels_are_normalised_as_the_family_was_trained(tmp_path, family, mean):
    path = FAMILIES[family](tmp_path).path
    m = ex.open_model(path, device="cpu", activation="gelu")
    assert m.card["mean"][0] == mean
    assert ("Nothing tells how the pixels" in m._repr_html_()) == (family == "timm")


def test_the_families_pixels_are_those_of_the_libraries_that_publish_them():
    import timm
    from open_clip import get_pretrained_cfg
    from torchvision.models import ConvNeXt_Tiny_Weights, ViT_B_16_Weights

    from explorer.checkpoints import pixels

    def timms(name):
        found = timm.get_pretrained_cfg(name)
        return list(found.mean), list(found.std)

    assert timms("vit_base_patch16_224.augreg_in21k") == pixels.HALVES
    assert timms("vit_base_patch16_224.orig_in21k") == pixels.HALVES
    assert timms("vit_small_patch14_dinov2.lvd142m") == pixels.IMAGENET
    assert timms("vit_small_patch14_reg4_dinov2.lvd142m") == pixels.IMAGENET
    assert timms("convnext_tiny.fb_in1k") == pixels.IMAGENET
    assert timms("vit_base_patch32_clip_224.openai") == pixels.CLIP
    assert get_pretrained_cfg("ViT-B-32-quickgelu", "openai")["mean"] == tuple(pixels.CLIP[0])
    for weights in (ViT_B_16_Weights.DEFAULT, ConvNeXt_Tiny_Weights.DEFAULT):
        transform = weights.transforms()
        assert (transform.mean, transform.std) == pixels.IMAGENET


def test_open_clips_list_says_where_its_pixels_differ():
    entry = open_clip_list.open_clip_set("open_clip:ViT-B-16-SigLIP/webli")
    assert entry.pixels == ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}),
        ("preprocessor_config.json", {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}),
        (
            "open_clip_config.json",
            {"preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}},
        ),
    ],
)
def test_a_configuration_beside_the_file_tells_its_pixels(tmp_path, name, content):
    path = timm_vit(tmp_path).path
    (tmp_path / name).write_text(json.dumps(content))
    m = ex.open_model(path, device="cpu")
    assert (m.card["mean"], m.card["std"]) == ([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    assert "pixels" not in " ".join(m.remarks)


@pytest.mark.parametrize("mean", [[0.1], "grey", [0.1, 0.2, None], [1, 2, float("inf")]])
def test_pixels_that_are_no_numbers_are_refused(tmp_path, mean):
    path = timm_vit(tmp_path).path
    content = {"pretrained_cfg": {"mean": mean, "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ex.CheckpointError, match=r"config\.json beside pytorch_model\.bin"):
        ex.open_model(path, device="cpu")
