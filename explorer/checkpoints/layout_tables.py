"""The tables of layouts: how each publisher calls a vision tower's parameters.

A layout is a table of rules. A rule pairs names of ours with theirs and, where the tensors differ
too, says how: query, key and value joined or split, a projection transposed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def same(tensors: Tensors) -> Tensors:
    return tensors


@dataclass(frozen=True)
class Rule:
    """Names of ours for names of theirs; {i} and {j} are numbers, {w} is "weight" or "bias"."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Callable[[Tensors], Tensors] = same
    to_theirs: Callable[[Tensors], Tensors] = same


@dataclass(frozen=True)
class Layout:
    """A way to name a tower's parameters.

    ``signature`` lists names that only this layout has, ``wrapper`` what published files put before
    every name. Without rules, names are ours already.
    """

    name: str
    title: str
    signature: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    wrapper: str = ""


# --- what differs besides names --------------------------------------------------------------


def _joined(tensors: Tensors) -> Tensors:
    return [torch.cat(list(tensors))]


def _in_three(tensors: Tensors) -> Tensors:
    return tensors[0].chunk(3)


def _transposed(tensors: Tensors) -> Tensors:
    return [tensors[0].T]


def _flattened(tensors: Tensors) -> Tensors:
    return [tensors[0].flatten()]


def _as_column(tensors: Tensors) -> Tensors:
    return [tensors[0].view(-1, 1, 1)]


def _with_registers(tensors: Tensors) -> Tensors:
    """DINOv2 adds no position to its registers; timm's tower adds one to every token: zeros."""
    positions, registers = tensors
    zeros = registers.new_zeros(registers.shape).to(positions.dtype)
    return [torch.cat([positions[:, :1], zeros, positions[:, 1:]], 1), registers]


def _without_registers(tensors: Tensors) -> Tensors:
    positions, registers = tensors
    n = registers.shape[1]
    kept = torch.cat([positions[:, :1], positions[:, 1 + n :]], 1)
    return [kept, registers + positions[:, 1 : 1 + n]]


def _rules(pairs: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(Rule((ours,), (theirs,)) for ours, theirs in pairs.items())


# --- the tables ------------------------------------------------------------------------------

_RES, _HF = "transformer.resblocks.{i}.", "encoder.layers.{i}."


def _hf_transformer(before: str, around: Mapping[str, str]) -> tuple[Rule, ...]:
    """The blocks, the same for images and texts, and what stands around them."""
    names = {
        **around,
        _RES + "ln_1.{w}": _HF + "layer_norm1.{w}",
        _RES + "attn.out_proj.{w}": _HF + "self_attn.out_proj.{w}",
        _RES + "ln_2.{w}": _HF + "layer_norm2.{w}",
        _RES + "mlp.c_fc.{w}": _HF + "mlp.fc1.{w}",
        _RES + "mlp.c_proj.{w}": _HF + "mlp.fc2.{w}",
    }
    three = tuple(f"{before}{_HF}self_attn.{part}_proj.{{w}}" for part in "qkv")
    return (
        *_rules({ours: before + theirs for ours, theirs in names.items()}),
        Rule((_RES + "attn.in_proj_{w}",), three, _joined, _in_three),
    )


def _hf(before: str) -> tuple[Rule, ...]:
    """Hugging Face's CLIPVisionModel; ``pre_layrnorm`` is its own spelling."""
    names = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "ln_pre.{w}": "pre_layrnorm.{w}",
        "ln_post.{w}": "post_layernorm.{w}",
    }
    return (
        *_hf_transformer(before, names),
        Rule(("proj",), ("visual_projection.weight",), _transposed, _transposed),
    )


def text_layouts() -> tuple[Layout, ...]:
    """A whole CLIP's text tower by open_clip's names and by Hugging Face's."""
    before = "text_model."
    names = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final.{w}": "final_layer_norm.{w}",
    }
    rules = (
        *_hf_transformer(before, names),
        Rule(("text_projection",), ("text_projection.weight",), _transposed, _transposed),
        Rule(("logit_scale",), ("logit_scale",)),
    )
    first = before + "embeddings.token_embedding.weight"
    return (
        Layout(
            "open_clip_text",
            "open_clip's text tower",
            ("token_embedding.weight", "transformer.resblocks.0.ln_1.weight", "text_projection"),
        ),
        Layout("hf_text", "Hugging Face's text tower", (first, "text_projection.weight"), rules),
    )


_VIT = (
    "cls_token",
    "patch_embed.proj.{w}",
    "norm_pre.{w}",
    "blocks.{i}.norm1.{w}",
    "blocks.{i}.attn.qkv.{w}",
    "blocks.{i}.attn.q_norm.{w}",
    "blocks.{i}.attn.k_norm.{w}",
    "blocks.{i}.attn.proj.{w}",
    "blocks.{i}.ls1.gamma",
    "blocks.{i}.norm2.{w}",
    "blocks.{i}.mlp.fc1.{w}",
    "blocks.{i}.mlp.fc2.{w}",
    "blocks.{i}.ls2.gamma",
    "norm.{w}",
    "fc_norm.{w}",
)
_TV = "encoder.layers.encoder_layer_{i}."


def _torchvision_vit(first: str, second: str) -> tuple[Rule, ...]:
    """``first`` and ``second`` are the linear layers of the MLP; version 1 files call them else."""
    names = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj.{w}": "conv_proj.{w}",
        "blocks.{i}.norm1.{w}": _TV + "ln_1.{w}",
        "blocks.{i}.attn.qkv.{w}": _TV + "self_attention.in_proj_{w}",
        "blocks.{i}.attn.proj.{w}": _TV + "self_attention.out_proj.{w}",
        "blocks.{i}.norm2.{w}": _TV + "ln_2.{w}",
        "blocks.{i}.mlp.fc1.{w}": f"{_TV}mlp.{first}.{{w}}",
        "blocks.{i}.mlp.fc2.{w}": f"{_TV}mlp.{second}.{{w}}",
        "norm.{w}": "encoder.ln.{w}",
    }
    return _rules({f"trunk.{ours}": theirs for ours, theirs in names.items()})


_CONVNEXT = (
    "stem.{i}.{w}",
    "stages.{i}.downsample.{j}.{w}",
    "stages.{i}.blocks.{j}.gamma",
    "stages.{i}.blocks.{j}.conv_dw.{w}",
    "stages.{i}.blocks.{j}.norm.{w}",
    "stages.{i}.blocks.{j}.mlp.fc1.{w}",
    "stages.{i}.blocks.{j}.mlp.fc2.{w}",
    "head.norm.{w}",
)


def _trunk(names: Iterable[str]) -> tuple[Rule, ...]:
    return _rules({f"trunk.{name}": name for name in names})


def _torchvision_convnext() -> tuple[Rule, ...]:
    """Stages and downsamplings in one list: 0 stem, 1 stage, 2 downsampling, 3 stage, ..."""
    rules = [*_rules({"trunk.stem.{i}.{w}": "features.0.{i}.{w}"})]
    for stage in range(4):
        ours, theirs = f"trunk.stages.{stage}.", f"features.{2 * stage + 1}.{{j}}."
        if stage:
            downsampling = f"features.{2 * stage}.{{j}}.{{w}}"
            rules += _rules({ours + "downsample.{j}.{w}": downsampling})
        gamma = (ours + "blocks.{j}.gamma",)
        rules.append(Rule(gamma, (theirs + "layer_scale",), _flattened, _as_column))
        parts = {"conv_dw": 0, "norm": 2, "mlp.fc1": 3, "mlp.fc2": 5}
        rules += _rules(
            {f"{ours}blocks.{{j}}.{a}.{{w}}": f"{theirs}block.{b}.{{w}}" for a, b in parts.items()}
        )
    return (*rules, *_rules({"trunk.head.norm.{w}": "classifier.0.{w}"}))


_CLIP = ("conv1.weight", "class_embedding", "ln_pre.weight")


def _dino(registers: bool, gated: bool) -> tuple[Rule, ...]:
    """DINOv2: timm's names but for the register tokens and for the giant's gated MLP."""
    ours, theirs = ("trunk.pos_embed", "trunk.reg_token"), ("pos_embed", "register_tokens")
    positions: tuple[Rule, ...]
    if registers:
        positions = (Rule(ours, theirs, _with_registers, _without_registers),)
    else:
        positions = _rules({"trunk.pos_embed": "pos_embed"})
    if not gated:
        return (*positions, *_trunk(_VIT))
    mlp = _rules(
        {
            f"trunk.blocks.{{i}}.mlp.{a}.{{w}}": f"blocks.{{i}}.mlp.{b}.{{w}}"
            for a, b in (("fc1", "w12"), ("fc2", "w3"))
        }
    )
    return (*positions, *_trunk(name for name in _VIT if ".mlp." not in name), *mlp)


_VIT_NAMES = ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "pos_embed")
_TV_NAMES = ("conv_proj.weight", "class_token", "encoder.pos_embedding")

LAYOUTS = (
    Layout("open_clip", "open_clip's image tower", _CLIP),
    Layout("open_clip_model", "a whole open_clip model", _CLIP, wrapper="visual."),
    Layout("image_encoder", "an ImageEncoder around open_clip", _CLIP, wrapper="model.visual."),
    Layout(
        "open_clip_vit", "open_clip's tower around a timm ViT", ("trunk.patch_embed.proj.weight",)
    ),
    Layout(
        "open_clip_convnext", "open_clip's tower around a timm ConvNeXt", ("trunk.stem.0.weight",)
    ),
    Layout(
        "hf",
        "Hugging Face CLIP",
        ("vision_model.embeddings.patch_embedding.weight", "vision_model.pre_layrnorm.weight"),
        _hf("vision_model."),
    ),
    Layout(
        "hf_unprefixed",
        "Hugging Face CLIPVisionModel of transformers 5",
        ("embeddings.patch_embedding.weight", "pre_layrnorm.weight"),
        _hf(""),
    ),
    Layout(
        "dinov2_giant_reg",
        "DINOv2 giant with registers",
        (*_VIT_NAMES, "blocks.0.mlp.w12.weight", "register_tokens"),
        _dino(registers=True, gated=True),
    ),
    Layout(
        "dinov2_giant",
        "DINOv2 giant",
        (*_VIT_NAMES, "blocks.0.mlp.w12.weight"),
        _dino(registers=False, gated=True),
    ),
    Layout(
        "dinov2_reg",
        "DINOv2 with registers",
        (*_VIT_NAMES, "register_tokens"),
        _dino(registers=True, gated=False),
    ),
    Layout("dinov2", "DINOv2", (*_VIT_NAMES, "mask_token"), _dino(registers=False, gated=False)),
    Layout("timm_vit", "timm ViT", _VIT_NAMES, _trunk((*_VIT, "pos_embed", "reg_token"))),
    Layout(
        "torchvision_vit",
        "torchvision ViT",
        (*_TV_NAMES, _TV.format(i=0) + "mlp.0.weight"),
        _torchvision_vit("0", "3"),
    ),
    Layout(
        "torchvision_vit_v1",
        "torchvision ViT as published",
        (*_TV_NAMES, _TV.format(i=0) + "mlp.linear_1.weight"),
        _torchvision_vit("linear_1", "linear_2"),
    ),
    Layout(
        "torchvision_convnext",
        "torchvision ConvNeXt",
        ("features.0.0.weight", "features.1.0.layer_scale"),
        _torchvision_convnext(),
    ),
    Layout(
        "timm_convnext",
        "timm ConvNeXt",
        ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight"),
        _trunk(_CONVNEXT),
    ),
)
