"""Every family's files give the features of the model that wrote them, and go back without loss."""

import json

import pytest
import torch
from checkpoint_families import (
    FAMILIES,
    SIZE,
    Published,
    hugging_face,
    image_encoder,
    linearised,
    open_clip_model,
    pickled_head,
    pickled_module,
)
from safetensors.torch import load_file, save_file

import explorer as ex
from explorer.checkpoints import layouts
from explorer.checkpoints.families import family_of
from explorer.checkpoints.reading import open_checkpoint, read_head
from explorer.models.towers import load_weights
from explorer.models.trunks import tower_of

# torch's own remarks on formats that it has given up, and that files still have.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*source code", "ignore:Conv")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """name -> the file of that family, written when it is first asked for."""
    made: dict[str, Published] = {}

    def write(name: str) -> Published:
        if name not in made:
            made[name] = FAMILIES[name](tmp_path_factory.mktemp("family"))
        return made[name]

    return write


def images(size: int = SIZE) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def features(checkpoint, x):
    with torch.no_grad():
        return load_weights(tower_of(checkpoint.family), dict(checkpoint))(x)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_file_gives_the_features_of_the_model_that_wrote_it(written, name):
    file = written(name)
    found = ex.read_checkpoint(file.path)
    assert found.layout == file.layout
    assert str(found.family).startswith(file.title)
    x = images(file.image_size)
    with torch.no_grad():
        expected = file.features(x)
    assert expected.std() > 0.1
    assert (features(found, x) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tower_goes_to_its_layout_and_back_without_loss(written, name, tmp_path):
    found = dict(ex.read_checkpoint(written(name).path))
    there = layouts.to_layout(found, written(name).layout)
    save_file(there, tmp_path / "there.safetensors")
    again = ex.read_checkpoint(tmp_path / "there.safetensors")
    assert again.keys() == found.keys()
    assert all(torch.equal(again[key], found[key]) for key in found)


@pytest.mark.parametrize(
    "name", ["hf projection", "dinov2 giant registers", "timm", "torchvision convnext"]
)
def test_writing_a_layout_gives_back_the_tensors_of_the_file(written, name):
    """The other direction: the publisher's names and bits, but for what is not the tower's."""
    file = written(name)
    safe = file.path.suffix == ".safetensors"
    raw = load_file(file.path) if safe else torch.load(file.path, weights_only=True)
    found = ex.read_checkpoint(file.path)
    back = layouts.to_layout(found, file.layout)
    assert back.keys() == raw.keys() - set(found.left_out)
    assert all(torch.equal(back[key], raw[key]) for key in back)
    assert not any("blocks" in key or "layers" in key for key in found.left_out)


def test_a_tower_of_another_family_has_no_names_in_a_layout(written):
    with pytest.raises(ex.CheckpointError, match="another family"):
        layouts.to_layout(ex.read_checkpoint(written("dinov2").path), "hf")
    with pytest.raises(ex.UnknownNameError, match="torchvision_vit"):
        layouts.to_layout({}, "torchvison_vit")


@pytest.mark.parametrize("projection", [True, False])
def test_transformers_5_names_are_written_and_read_without_loss(written, tmp_path, projection):
    """CLIPVisionModel of transformers 5 writes neither a prefix nor a projection."""
    tower = dict(ex.read_checkpoint(written("hf projection").path))
    if not projection:
        del tower["proj"]
    there = layouts.to_layout(tower, "hf_unprefixed")
    assert {key.partition(".")[0] for key in there} == {
        "embeddings",
        "pre_layrnorm",
        "encoder",
        "post_layernorm",
        *(["visual_projection"] if projection else []),
    }
    save_file(there, tmp_path / "flat.safetensors")
    again = open_checkpoint(tmp_path / "flat.safetensors")
    assert again.layout == "hf_unprefixed"
    assert again.keys() == tower.keys()
    assert all(torch.equal(again[key], tower[key]) for key in tower)


@pytest.mark.parametrize(
    ("family", "layout"), [("timm", "open_clip_vit"), ("timm convnext", "open_clip_convnext")]
)
@pytest.mark.parametrize("wrapper", ["", "visual.", "model.visual.", "module.visual."])
def test_open_clips_towers_around_timms_go_there_and_back(
    written, tmp_path, family, layout, wrapper
):
    """A whole open_clip model keeps timm's tower under visual.trunk., beside its text side."""
    file = written(family)
    tower = dict(ex.read_checkpoint(file.path))
    outside = wrapper.removesuffix("visual.")
    text = {f"{outside}token_embedding.weight": torch.zeros(4, 2)} if wrapper else {}
    save_file(
        {wrapper + key: tensor for key, tensor in tower.items()} | text,
        tmp_path / "model.safetensors",
    )
    found = ex.read_checkpoint(tmp_path / "model.safetensors")
    assert found.layout == layout
    assert found.keys() == tower.keys()
    assert found.left_out == [*text]
    x = images(file.image_size)
    with torch.no_grad():
        assert (features(found, x) - file.features(x)).abs().max() <= 1e-5
    save_file(layouts.to_layout(found, layout), tmp_path / "there.safetensors")
    again = ex.read_checkpoint(tmp_path / "there.safetensors")
    assert again.layout == layout
    assert all(torch.equal(again[key], tower[key]) for key in tower)


def test_half_of_a_joined_attention_is_named(tmp_path):
    path = hugging_face(tmp_path, "projection").path
    tensors = load_file(path)
    del tensors["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, path)
    with pytest.raises(ex.CheckpointError, match=r"layers\.1\.self_attn\.k_proj\.weight"):
        ex.read_checkpoint(path)


def test_transformers_5_without_prefix_and_projection_takes_the_bases(tmp_path):
    """fusion_bench's files hold no projection: it was frozen, so it is the base's."""
    whole = hugging_face(tmp_path, "projection")
    base = ex.read_checkpoint(whole.path)
    tensors = {
        key.removeprefix("vision_model."): tensor
        for key, tensor in load_file(whole.path).items()
        if "projection" not in key
    }
    save_file(tensors, tmp_path / "flat.safetensors")
    alone = ex.read_checkpoint(tmp_path / "flat.safetensors")
    assert alone.layout == "hf_unprefixed"
    assert "proj" not in alone
    with pytest.raises(ex.ModelError, match="base="):
        tower_of(alone.family)
    filled = ex.read_checkpoint(tmp_path / "flat.safetensors", base=base)
    assert torch.equal(features(filled, images()), features(base, images()))
    assert ex.TaskVector.between(base, filled).norm == 0


def test_a_linearised_checkpoint_has_its_names_back_by_order(tmp_path):
    file, start = linearised(tmp_path)
    found = ex.read_checkpoint(file.path)
    around = open_checkpoint(file.path, part="params0")
    x = images()
    with torch.no_grad():
        assert (features(found, x) - file.features(x)).abs().max() <= 1e-5
        assert (features(around, x) - start(x)).abs().max() <= 1e-5
    assert not torch.equal(found["proj"], around["proj"])
    assert any("linearised" in note for note in found.notes)


def test_a_linearised_checkpoint_of_another_order_is_refused(tmp_path):
    encoder = image_encoder()
    parameters = list(encoder.parameters())[::-1]
    torch.save({f"model.params.{i}": p for i, p in enumerate(parameters)}, tmp_path / "odd.pt")
    with pytest.raises(ex.CheckpointError, match=r"odd\.pt is a linearised checkpoint"):
        ex.read_checkpoint(tmp_path / "odd.pt")


def test_a_pickled_head_is_read_as_two_tensors(tmp_path):
    weights = torch.randn(7, 24)
    path = pickled_head(tmp_path / "head_MNIST.pt", weights)
    weight, bias = read_head(path)
    assert torch.equal(weight, weights)
    assert torch.equal(bias, torch.zeros(7))
    with pytest.raises(ex.CheckpointError, match=r"head_MNIST\.pt .* read_head"):
        ex.read_checkpoint(path)


def test_a_classifiers_last_layer_is_a_head(written):
    weight, bias = read_head(written("timm").path)
    assert weight.shape == (5, 64)
    assert bias.shape == (5,)
    with pytest.raises(ex.CheckpointError, match="no classification head"):
        read_head(written("hf clip").path)


def test_the_same_tower_twice_is_refused_naming_both(tmp_path):
    tower = open_clip_model().visual.state_dict()
    twice = {f"{who}.{key}": t for who in ("teacher", "student") for key, t in tower.items()}
    torch.save(twice, tmp_path / "two.pt")
    with pytest.raises(ex.CheckpointError, match=r"two\.pt.*'student\.' and 'teacher\.'"):
        ex.read_checkpoint(tmp_path / "two.pt")


# --- which tower a file holds ----------------------------------------------------------------


def published_shapes(width, layers, patch, grid, dim):
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (grid * grid + 1, width),
        "conv1.weight": (width, 3, patch, patch),
        "ln_pre.weight": (width,),
        "ln_post.weight": (width,),
        "proj": (width, dim),
    }
    for i in range(layers):
        block = f"transformer.resblocks.{i}."
        shapes[block + "attn.in_proj_weight"] = (3 * width, width)
        shapes[block + "mlp.c_fc.weight"] = (4 * width, width)
    return shapes


def no_weights(shapes):
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("sizes", "title"),
    [
        ((768, 12, 32, 7, 512), "ViT-B/32"),
        ((768, 12, 16, 14, 512), "ViT-B/16"),
        ((1024, 24, 14, 16, 768), "ViT-L/14"),
        ((1024, 24, 14, 24, 768), "ViT-L/14@336"),
        ((1280, 32, 14, 16, 1024), "ViT-H/14"),
    ],
)
def test_published_sizes_have_their_published_names(sizes, title):
    family = family_of(published_shapes(*sizes))
    assert family.title == title
    assert family.n_blocks == sizes[1]
    assert family.architecture["embed_dim"] == sizes[4]


def test_a_file_of_another_family_is_refused_by_name(tmp_path):
    shapes = published_shapes(1024, 24, 14, 16, 768)
    one = torch.zeros(1, dtype=torch.float16)  # the shapes of a ViT-L/14, in one page of memory
    tensors = {key: one.expand(shape) for key, shape in shapes.items()}
    base = no_weights(published_shapes(768, 12, 32, 7, 512))
    small = {k: t if t.numel() < 1 << 20 else t.contiguous() for k, t in tensors.items()}
    torch.save(small, tmp_path / "large.pt")
    with pytest.raises(ex.CheckpointError) as caught:
        ex.read_checkpoint(tmp_path / "large.pt", base=base)
    assert str(caught.value).startswith("large.pt holds a ViT-L/14; the base is a ViT-B/32.")


def test_of_one_family_the_first_shape_that_differs_is_named(written, tmp_path):
    file = written("open_clip tower")
    base = dict(ex.read_checkpoint(file.path))
    other = {**base, "proj": base["proj"][:, :5].contiguous()}
    with pytest.raises(ex.CheckpointError, match=r"'proj' has shape \(64, 24\)"):
        ex.read_checkpoint(file.path, base=other)
    short = {key: tensor for key, tensor in base.items() if key != "ln_post.bias"}
    with pytest.raises(ex.CheckpointError, match=r"has 'ln_post\.bias', which the base lacks"):
        ex.read_checkpoint(file.path, base=short)


# --- QuickGELU -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["zip", "4"])
def test_a_pickled_module_tells_its_activation(tmp_path, how):
    assert ex.read_checkpoint(pickled_module(tmp_path, how).path).activation == "gelu"
    torch.save(image_encoder(quick_gelu=True), tmp_path / "quick.pt")
    assert ex.read_checkpoint(tmp_path / "quick.pt").activation == "quick_gelu"


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({"model_type": "clip_vision_model", "hidden_size": 64}, "quick_gelu"),
        (
            {"model_type": "clip", "vision_config": {"hidden_size": 64, "hidden_act": "gelu"}},
            "gelu",
        ),
        ({"model_type": "clip_vision_model", "hidden_size": 768}, None),
        ({"model_type": "bert"}, None),
    ],
)
def test_the_configuration_beside_an_hf_file_tells_its_activation(tmp_path, config, activation):
    path = hugging_face(tmp_path, "projection").path
    assert ex.read_checkpoint(path).activation is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = ex.read_checkpoint(path)
    assert found.activation == activation
    if activation is None:
        assert any("another model" in note for note in found.notes)


def test_quickgelu_weights_in_a_gelu_model_are_refused_with_the_remedy(tmp_path):
    torch.save(image_encoder(quick_gelu=True), tmp_path / "quick.pt")
    plain = {"embed_dim": 24, "vision_cfg": {}}
    with pytest.raises(
        ex.CheckpointError, match=r"quick\.pt was trained with QuickGELU.*-quickgelu"
    ):
        ex.read_checkpoint(tmp_path / "quick.pt", architecture=plain)
    ex.read_checkpoint(tmp_path / "quick.pt", architecture={**plain, "quick_gelu": True})
    torch.save(image_encoder(), tmp_path / "plain.pt")
    with pytest.raises(ex.CheckpointError, match="computes QuickGELU"):
        ex.read_checkpoint(tmp_path / "plain.pt", architecture={**plain, "quick_gelu": True})
    base = ex.read_checkpoint(tmp_path / "plain.pt")
    with pytest.raises(ex.CheckpointError, match="computes GELU"):
        ex.read_checkpoint(tmp_path / "quick.pt", base=base)


# --- memory ----------------------------------------------------------------------------------


def test_opening_reads_no_values_and_asking_reads_one(written, monkeypatch):
    from explorer.checkpoints.stored import Storage

    reads = []
    original = Storage.read

    def counting(self, start, n_bytes):
        reads.append(n_bytes)
        return original(self, start, n_bytes)

    monkeypatch.setattr(Storage, "read", counting)
    found = open_checkpoint(written("hf projection").path)
    assert found.shapes["proj"] == (64, 24)
    assert not reads
    assert found["proj"].shape == (64, 24)
    assert reads == [64 * 24 * 4]


def test_half_precision_stays_half_where_it_is_asked_to(tmp_path):
    half = {key: t.half() for key, t in open_clip_model().visual.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    kept = ex.read_checkpoint(tmp_path / "half.safetensors", dtype=None)
    assert all(torch.equal(kept[key], half[key]) for key in half)
    wide = ex.read_checkpoint(tmp_path / "half.safetensors")
    assert wide["proj"].dtype == torch.float32
    assert wide.dtypes["proj"] == torch.float16
