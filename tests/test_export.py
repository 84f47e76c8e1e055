"""An exported model is the model: in open_clip, in Hugging Face's layout, and by its card."""

import errno
import hashlib
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

import explorer as ex
from explorer.checkpoints.exporting import huggingface_config, huggingface_tensors
from explorer.models.towers import build_tower, load_weights


@pytest.fixture
def recipe():
    return ex.Recipe(
        "tiny", {"digits": 0.6, "letters": 0.4}, ex.lines(0.3, 0.7), "ties", {"density": 0.5}
    )


@pytest.fixture
def written(tiny_model, recipe, tmp_path):
    measured = ex.accuracy(tiny_model, recipe, tasks=tiny_model.all_tasks)
    return ex.export(tiny_model, recipe, tmp_path / "edited.safetensors", accuracy=measured)


def pixels(model, task="digits", n=40):
    images = model.image_store.pixels(task, "test")[:n]
    return model.image_store.normalised(images, torch.float32)


def code_of(card):
    return re.findall(r"```python\n(.*?)```", card, re.S)


# open_clip


def test_plain_open_clip_loads_the_file_strictly_and_predicts_the_same(tiny_model, recipe, written):
    import open_clip

    config = json.loads(written.with_suffix(".config.json").read_text())
    model = open_clip.CLIP(**config).eval()
    tensors = load_file(written)
    assert model.load_state_dict(tensors, strict=True).missing_keys == []
    merged = ex.merge(
        tiny_model.base, {t: tiny_model.task_vector(t) for t in recipe.active}, recipe
    )
    for key, tensor in merged.items():
        assert torch.equal(tensors[f"visual.{key}"], tensor)

    # In float64, where the order of sums plays no part.
    exact = load_weights(
        build_tower(tiny_model.architecture), {key: x.double() for key, x in merged.items()}
    )
    for task in tiny_model.all_tasks:
        x, head = pixels(tiny_model, task), tiny_model.head(task)
        with torch.no_grad():
            predicted = head.predict(model.encode_image(x))[0].numpy()
            theirs = model.double().encode_image(x.double())
            model.float()
        torch.testing.assert_close(theirs, exact(x.double()), rtol=0, atol=1e-10)
        ours = ex.accuracy(tiny_model, recipe, [task], n=40)["predicted"].values[0]
        np.testing.assert_array_equal(predicted, ours)


def test_the_code_on_the_card_makes_and_opens_the_model(
    tiny_model, tiny_folder, recipe, written, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))
    making, opening, texts = code_of(written.with_suffix(".md").read_text())
    names: dict = {}
    exec(opening, names)
    exec(texts, names)
    with torch.no_grad():
        images = names["model"].encode_image(pixels(tiny_model))
    labels = tiny_model.images("digits", 40)[1]
    task = tiny_model.task("digits")
    prompts = [task.templates[0].replace("{}", name) for name in task.class_names[:2]]
    torch.testing.assert_close(names["text_features"], tiny_model.encode_text(prompts))
    one = ex.accuracy(tiny_model, recipe, ["digits"], n=40)
    right = tiny_model.head("digits").predict(images)[0].numpy() == labels
    assert right.mean() == pytest.approx(float(one["edited"].item()))
    assert list(names["preprocess"].transforms[-1].mean) == tiny_model.card["mean"]

    before = hashlib.sha256(written.read_bytes()).hexdigest()
    for file in tmp_path.glob("edited.*"):
        file.unlink()
    exec(making, {})
    assert hashlib.sha256(written.read_bytes()).hexdigest() == before


def test_what_was_exported_reads_back_as_the_same_tower(tiny_model, recipe, written):
    merged = ex.merge(
        tiny_model.base, {t: tiny_model.task_vector(t) for t in recipe.active}, recipe
    )
    again = ex.read_checkpoint(written)
    assert again.keys() == merged.keys()
    assert all(torch.equal(again[key], merged[key]) for key in merged)


def test_the_metadata_and_the_card_say_what_was_done(tiny_model, recipe, written):
    with safe_open(written, "pt") as file:
        metadata = file.metadata()
    assert ex.Recipe.from_json(metadata["recipe"]) == recipe
    assert metadata["base"] == "tiny"
    assert json.loads(metadata["preprocessing"])["mean"] == tiny_model.card["mean"]
    card = written.with_suffix(".md").read_text()
    (text,) = re.findall(r"```json\n(.*?)```", card, re.S)
    assert ex.Recipe.from_json(text) == recipe
    assert hashlib.sha256(written.read_bytes()).hexdigest() in card
    assert tiny_model.card["sha256"]["vectors/letters.safetensors"] in card
    assert tiny_model.card["sha256"]["base.safetensors"] in card
    assert "vectors/hearts.safetensors" not in card  # it takes no part
    assert "CC0-1.0" in card
    table = ex.accuracy(tiny_model, recipe, tasks=tiny_model.all_tasks)
    for task in tiny_model.all_tasks:
        edited = float(table["edited"].sel(task=task))
        assert re.search(rf"\| {task} \| \d+ \| .*\| {edited:.3f} \|", card), task
    assert "nan" not in card
    assert str(written.parent) not in card


def test_without_accuracies_the_card_says_so_and_without_a_card_there_is_none(
    tiny_model, recipe, tmp_path
):
    ex.export(tiny_model, recipe, tmp_path / "a.safetensors")
    assert "Not measured" in (tmp_path / "a.md").read_text()
    ex.export(tiny_model, recipe, tmp_path / "b.safetensors", card=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a.config.json",
        "a.md",
        "a.safetensors",
        "b.config.json",
        "b.safetensors",
    ]


def test_a_recipe_without_edits_is_the_base(tiny_model, tmp_path):
    path = ex.export(tiny_model, ex.Recipe("tiny"), tmp_path / "base.safetensors")
    again = ex.read_checkpoint(path)
    assert all(torch.equal(again[key], tensor) for key, tensor in tiny_model.base.items())
    assert "No task vector" in path.with_suffix(".md").read_text()


# Hugging Face's layout


def huggingface_forward(tensors, config, x):
    """CLIPVisionModelWithProjection written out from its parameters' names."""
    t, width, heads = tensors, config["hidden_size"], config["num_attention_heads"]

    def linear(x, name):
        return F.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])

    def norm(x, name):
        weight, bias = t[f"{name}.weight"], t[f"{name}.bias"]
        return F.layer_norm(x, (width,), weight, bias, config["layer_norm_eps"])

    at = "vision_model.embeddings"
    patches = F.conv2d(x, t[f"{at}.patch_embedding.weight"], stride=config["patch_size"])
    patches = patches.flatten(2).transpose(1, 2)
    tokens = torch.cat([t[f"{at}.class_embedding"].expand(len(x), 1, -1), patches], 1)
    h = norm(tokens + t[f"{at}.position_embedding.weight"], "vision_model.pre_layrnorm")
    for i in range(config["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{i}"
        y = norm(h, f"{at}.layer_norm1")
        q, k, v = (
            linear(y, f"{at}.self_attn.{part}_proj").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        weights = (q @ k.transpose(-1, -2) * (width // heads) ** -0.5).softmax(-1)
        h = h + linear((weights @ v).transpose(1, 2).flatten(2), f"{at}.self_attn.out_proj")
        y = norm(h, f"{at}.layer_norm2")
        assert config["hidden_act"] == "gelu"
        h = h + linear(F.gelu(linear(y, f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
    pooled = norm(h[:, 0], "vision_model.post_layernorm")
    return pooled @ t["visual_projection.weight"].T


def test_hugging_faces_forward_gives_the_same_features(tiny_model, recipe, tmp_path):
    path = ex.export(tiny_model, recipe, tmp_path / "hf.safetensors", layout="huggingface")
    config = json.loads(path.with_suffix(".config.json").read_text())
    assert config == huggingface_config(tiny_model)
    tensors = {key: tensor.double() for key, tensor in load_file(path).items()}
    theirs = huggingface_forward(tensors, config, pixels(tiny_model).double())
    vectors = {task: tiny_model.task_vector(task) for task in recipe.active}
    merged = ex.merge(tiny_model.base, vectors, recipe)
    exact = load_weights(
        build_tower(tiny_model.architecture), {key: x.double() for key, x in merged.items()}
    )
    ours = exact(pixels(tiny_model).double())
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-10)
    assert "CLIPVisionModelWithProjection" in path.with_suffix(".md").read_text()


def test_the_names_are_those_of_the_published_files(tiny_model):
    names = huggingface_tensors(tiny_model.base)
    blocks = {re.sub(r"layers\.\d+", "layers.i", name) for name in names}
    layer = "vision_model.encoder.layers.i"
    linear = [f"self_attn.{x}_proj" for x in ("q", "k", "v")] + ["self_attn.out_proj"]
    inside = [*linear, "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]
    norms = ["vision_model.pre_layrnorm", "vision_model.post_layernorm"]
    both = [*(f"{layer}.{part}" for part in inside), *norms]
    assert blocks == {f"{name}.{kind}" for name in both for kind in ("weight", "bias")} | {
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.patch_embedding.weight",
        "visual_projection.weight",
    }


def test_the_layout_can_be_turned_back(tiny_model):
    named = huggingface_tensors(tiny_model.base)
    for key, tensor in tiny_model.base.items():
        if key == "proj":
            back = named["visual_projection.weight"].T
        elif found := re.match(r"transformer\.resblocks\.(\d)\.attn\.in_proj_(\w+)", key):
            at = f"vision_model.encoder.layers.{found[1]}.self_attn"
            back = torch.cat([named[f"{at}.{x}_proj.{found[2]}"] for x in "qkv"])
        else:
            continue
        assert torch.equal(back, tensor)
    assert sum(x.numel() for x in named.values()) == sum(
        x.numel() for x in tiny_model.base.values()
    )


def test_a_tower_of_another_kind_has_no_such_layout():
    with pytest.raises(ex.ExportError, match=r"trunk\.blocks.*open_clip"):
        huggingface_tensors({"trunk.blocks.0.attn.qkv.weight": torch.zeros(3, 1)})


# What goes wrong


def test_files_that_are_there_are_kept_unless_told(tiny_model, recipe, tmp_path):
    path = tmp_path / "edited.safetensors"
    for name in ("edited.safetensors", "edited.config.json", "edited.md"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ex.ExportError, match=f"{name} exists.*overwrite=True"):
            ex.export(tiny_model, recipe, path)
        assert [file.name for file in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    ex.export(tiny_model, ex.Recipe("tiny"), path)
    ex.export(tiny_model, recipe, path, overwrite=True)
    with safe_open(path, "pt") as file:
        assert ex.Recipe.from_json(file.metadata()["recipe"]) == recipe


def test_a_full_disk_leaves_nothing_behind(tiny_model, recipe, tmp_path, monkeypatch):
    import safetensors.torch

    path = tmp_path / "edited.safetensors"
    path.write_text("mine")

    def full(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(ex.ExportError, match=r"edited\.safetensors.*No space left"):
        ex.export(tiny_model, recipe, path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["edited.safetensors"]
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "change", "error", "sentence"),
    [
        ("nowhere/x.safetensors", {}, ex.ExportError, "no folder"),
        ("x.pt", {}, ex.ExportError, r"x\.safetensors"),
        ("x.safetensors", {"layout": "hugging"}, ex.UnknownNameError, "'huggingface'"),
    ],
)
def test_a_wrong_place_or_layout_is_named(
    tiny_model, recipe, tmp_path, path, change, error, sentence
):
    with pytest.raises(error, match=sentence):
        ex.export(tiny_model, recipe, tmp_path / path, **change)
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_has_no_weights_is_refused(tiny_model, tmp_path):
    linear = ex.Recipe("tiny", {"digits": 1.0}, space="tangent")
    with pytest.raises(ex.RecipeError, match="no merged weights"):
        ex.export(tiny_model, linear, tmp_path / "x.safetensors")
    with pytest.raises(ex.UnknownNameError, match="'digits'"):
        ex.export(tiny_model, ex.Recipe("tiny", {"digit": 1.0}), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


# The command line


def test_explorer_merge_writes_the_same_file(tiny_folder, tmp_path, capsys):
    from explorer.cli import main

    recipe = ex.Recipe(str(tiny_folder), {"digits": 0.5}, ex.lines(0.2, 0.8))
    file = tmp_path / "recipe.json"
    file.write_text(recipe.to_json())
    output = tmp_path / "recipe.safetensors"
    command = ["merge", str(file), "-o", str(output), "--accuracy"]
    assert main(command) == 0
    assert file.read_text() == recipe.to_json()  # the architecture has another name
    assert "mean accuracy on 3 tasks" in capsys.readouterr().out
    assert "| digits | 70 |" in (tmp_path / "recipe.md").read_text()
    model = ex.open_model(tiny_folder)
    ex.export(model, recipe, tmp_path / "direct.safetensors")
    direct = load_file(tmp_path / "direct.safetensors")
    assert all(torch.equal(direct[key], x) for key, x in load_file(output).items())
    np.testing.assert_equal(main(command), 2)
    assert "--force" in capsys.readouterr().err
    hf = ["merge", str(file), "-o", str(tmp_path / "hf.safetensors"), "--layout", "huggingface"]
    assert main([*hf, "--no-card"]) == 0
    assert "visual_projection.weight" in load_file(tmp_path / "hf.safetensors")
    assert not (tmp_path / "hf.md").exists()
