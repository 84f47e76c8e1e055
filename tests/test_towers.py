"""Our towers, tokens and heads are open_clip's, number for number."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import explorer as ex
from explorer.models import blocks
from explorer.models.heads import zero_shot_head
from explorer.models.tokens import END, START, Vocabulary, byte_pairs
from explorer.models.towers import VisionTower, build_text_tower, build_tower, load_weights

open_clip = pytest.importorskip("open_clip")

SMALL = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 48,
        "layers": 3,
        "head_width": 12,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {
        "context_length": 10,
        "vocab_size": 40,
        "width": 32,
        "heads": 4,
        "layers": 2,
    },
}
OBLONG = SMALL | {"vision_cfg": SMALL["vision_cfg"] | {"image_size": (32, 48)}}
ARCHITECTURES = {"gelu": SMALL, "quick": SMALL | {"quick_gelu": True}, "oblong": OBLONG}


def reference(architecture) -> torch.nn.Module:
    torch.manual_seed(0)
    model = open_clip.CLIP(**architecture).double().eval().requires_grad_(False)
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which hides mistakes
        parameter += 0.05 * torch.randn_like(parameter)
    return model


def image_weights(clip) -> dict[str, torch.Tensor]:
    return dict(clip.visual.state_dict())


def text_weights(clip) -> dict[str, torch.Tensor]:
    return {k: v for k, v in clip.state_dict().items() if not k.startswith("visual.")}


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.mark.parametrize("explicit", [False, True])
def test_the_image_tower_equals_open_clips(architecture, explicit):
    clip = reference(architecture)
    tower = load_weights(build_tower(architecture), image_weights(clip))
    assert isinstance(tower, VisionTower)
    images = torch.randn(5, 3, *tower.image_size, dtype=torch.double)
    torch.testing.assert_close(
        tower(images, explicit=explicit), clip.encode_image(images), rtol=1e-9, atol=1e-9
    )


def test_the_image_tower_has_open_clips_names_in_open_clips_shapes(architecture):
    ours = {k: v.shape for k, v in build_tower(architecture).state_dict().items()}
    assert ours == {k: v.shape for k, v in image_weights(reference(architecture)).items()}


def test_the_text_tower_equals_open_clips(architecture):
    clip = reference(architecture)
    tower = load_weights(build_text_tower(architecture), text_weights(clip))
    tokens = torch.zeros(4, 10, dtype=torch.long)
    for i, row in enumerate(([38, 5, 39], [38, 1, 2, 3, 39], [38, 39], [38, *range(1, 9), 39])):
        tokens[i, : len(row)] = torch.tensor(row)
    torch.testing.assert_close(tower(tokens), clip.encode_text(tokens), rtol=1e-9, atol=1e-9)


def test_the_zero_shot_head_equals_open_clips_classifier(architecture):
    clip = reference(architecture).float()
    tower = load_weights(build_text_tower(architecture), text_weights(clip))
    names, templates = ["ab", "c", "def"], ["x {}", "{} y", "z {} z"]

    def rows(texts) -> torch.Tensor:
        """One token a letter, between start (38) and end (39)."""
        out = torch.zeros(len(texts), 10, dtype=torch.long)
        for i, text in enumerate(texts):
            row = [38, *(1 + ord(c) % 37 for c in text), 39]
            out[i, : len(row)] = torch.tensor(row)
        return out

    scale = float(clip.logit_scale)
    head = zero_shot_head(lambda texts: tower(rows(texts)), scale, names, templates)
    expected = open_clip.build_zero_shot_classifier(clip, rows, names, templates)
    torch.testing.assert_close(head.weight, expected.T * clip.logit_scale.exp())


def test_image_logits_equal_those_of_the_whole_clip(tiny_model):
    """Our split model against open_clip's CLIP with the same files, tokens and prompts."""
    architecture = json.loads((tiny_model.folder.path / "model.json").read_text())["architecture"]
    clip = open_clip.CLIP(**architecture).eval()
    tensors = load_file(tiny_model.folder.path / "text.safetensors")
    tensors |= {f"visual.{k}": v for k, v in tiny_model.base.items()}
    clip.load_state_dict(tensors, strict=True)
    task = tiny_model.task("digits")
    images = torch.tensor(tiny_model.images("digits", 8)[0].copy()).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(tiny_model.card[k]).view(3, 1, 1) for k in ("mean", "std"))
    prompts = [task.templates[0].format(name) for name in task.class_names]
    tokens = tiny_model.vocabulary.rows_of(prompts)
    with torch.no_grad():
        expected, _ = clip.get_logits((images - mean) / std, tokens)
    head = tiny_model.head("digits", templates=task.templates[:1])
    features = tiny_model.engine().features(ex.Recipe(), [image_range("digits", 8)])[0]
    torch.testing.assert_close(head.logits(features), expected, rtol=1e-4, atol=1e-4)


def image_range(task, n):
    from explorer.compute.engine import ImageRange

    return ImageRange(task, "test", 0, n)


def test_towers_that_are_not_plain_are_built_by_open_clip():
    vision = SMALL["vision_cfg"] | {"ls_init_value": 0.1, "pool_type": "avg"}
    architecture = SMALL | {"vision_cfg": vision}
    clip = reference(architecture)
    tower = load_weights(build_tower(architecture), image_weights(clip))
    assert not isinstance(tower, VisionTower)
    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    torch.testing.assert_close(tower(images), clip.encode_image(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": None}, "no 'vision_cfg'"),
        ({"vision_cfg": SMALL["vision_cfg"] | {"width": 50}}, "no multiple"),
        ({"vision_cfg": SMALL["vision_cfg"] | {"layers": 0}}, "no layers"),
        ({"vision_cfg": SMALL["vision_cfg"] | {"width": "wide"}}, "no image tower"),
        ({"vision_cfg": SMALL["vision_cfg"] | {"nonsense": 3}}, "nonsense"),
        ({"embed_dim": None}, "no image tower"),
    ],
)
def test_an_architecture_that_makes_no_tower_is_a_model_error(change, message):
    with pytest.raises(ex.ModelError, match=message):
        build_tower(SMALL | change)


# --- tokens ----------------------------------------------------------------------------------

TOKENIZER = open_clip.SimpleTokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "a photo of the digit zero.",
        "Don't  STOP\tme now!!  3,14 & caf\u00e9 &amp;amp; na\u00efve",
        "\u3042\u308a\u304c\u3068\u3046 \U0001f600 \u0416\u0443\u043a",
        "<start_of_text> inside <END_OF_TEXT>",
        "mojibake \u00c3\u00a9 \u201cquotes\u201d \ufb01 ligature",
        "   ",
        "",
        "internationalization-antidisestablishmentarianism",
    ],
)
def test_tokens_equal_open_clips(text):
    pairs = byte_pairs()
    ours = [token for word in pairs.words(text) for token in pairs.ids(word)]
    assert ours == TOKENIZER.encode(text)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_tokens_equal_open_clips_for_any_text(text):
    pairs = byte_pairs()
    ours = [token for word in pairs.words(text) for token in pairs.ids(word)]
    assert ours == TOKENIZER.encode(text)


def test_a_whole_vocabulary_gives_open_clips_rows_cut_and_padded_alike():
    vocabulary = Vocabulary(range(49408), 12)
    texts = ["a photo of a cat", "", "one two three four five six seven eight nine ten eleven"]
    expected = TOKENIZER(texts, context_length=12)
    assert torch.equal(vocabulary.rows_of(texts), expected)


def test_a_trimmed_vocabulary_maps_tokens_to_its_rows(tiny_model):
    tokens = json.loads((tiny_model.folder.path / "vocabulary.json").read_text())["tokens"]
    rows = tiny_model.vocabulary.rows_of(["the letter a."])[0]
    assert [tokens[row] for row in rows][:2] == [START, TOKENIZER.encode("the")[0]]
    assert END in [tokens[row] for row in rows]
    expected = TOKENIZER(["the letter a."], context_length=16)[0]
    assert [tokens[row] for row in rows] == expected.tolist()


def test_an_unknown_word_is_named_with_the_nearest_known_words(tiny_model):
    with pytest.raises(ex.VocabularyError, match=r"'digitt'.*'digit'"):
        tiny_model.encode_text(["a photo of the digitt zero"])
    with pytest.raises(ex.VocabularyError, match="A prompt is text"):
        tiny_model.encode_text([3])


@pytest.mark.parametrize(
    "tokens", [[], [0, 5], [0, START], [5, 0, START, END], [0, 0, START, END], [0, START, 99999]]
)
def test_a_vocabulary_that_is_none_is_a_model_error(tokens):
    with pytest.raises(ex.ModelError, match="vocabulary"):
        Vocabulary(tokens, 8)


@pytest.mark.parametrize("size", [1, 300])  # large scores overflow where no maximum is taken off
@pytest.mark.parametrize("sign", [1, -1])  # and very negative ones leave nothing to divide by
def test_short_attention_is_softmax_attention(size, sign):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 5, 4, 17, 8, generator=generator, dtype=torch.float64).unbind()
    q, k = (size * q, k) if sign > 0 else (size * q.abs(), -k.abs())
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(blocks._short_attention(q, k, v), expected)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_fused_layers_round_less_and_agree_with_float32(monkeypatch, quick_gelu):
    architecture = SMALL | {"quick_gelu": quick_gelu}
    weights = {k: v.float() for k, v in image_weights(reference(architecture)).items()}
    float32 = load_weights(build_tower(architecture), weights)
    half = {key: tensor.bfloat16() for key, tensor in weights.items()}
    tower = load_weights(build_tower(architecture), half)
    images = torch.randn(6, 3, *tower.image_size)

    def error() -> float:
        with torch.inference_mode():
            expected = float32(images)
            found = tower(images.bfloat16()).float()
            return float((found - expected).norm() / expected.norm())

    fused = error()
    monkeypatch.setattr(blocks, "_onednn_linear", lambda: None)  # a torch without such layers
    assert fused < 0.02
    assert error() < 0.02
    assert fused <= 1.1 * error()


def test_a_bfloat16_tower_agrees_with_float32_however_it_attends(monkeypatch, tiny_model):
    images = tiny_model.image_store.normalised(
        tiny_model.image_store.pixels("digits", "test"), torch.float32
    )
    float32 = tiny_model.engine()._tower(torch.float32)(images)
    tower = tiny_model.engine(precision="bfloat16")._tower(torch.bfloat16)
    for tokens in (0, 32):  # the fused kernel, then attention spelled out
        monkeypatch.setattr(blocks, "_SHORT", tokens)
        features = tower(images.bfloat16()).float()
        assert (features - float32).norm() / float32.norm() < 0.02
