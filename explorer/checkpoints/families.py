"""Which tower a file's tensors are: told by names and shapes, never by the file's name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from explorer.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

# (width, blocks) of the vision transformers that have a letter.
_LETTERS = {
    (192, 12): "Ti",
    (384, 12): "S",
    (768, 12): "B",
    (1024, 24): "L",
    (1152, 27): "SO400M",
    (1280, 32): "H",
    (1408, 40): "g",
    (1536, 40): "g",
    (1664, 48): "bigG",
}
# Where heads are not 64 wide.
_HEAD_WIDTHS = {1152: 72, 1280: 80, 1408: 88, 1664: 104}
_CONVNEXT_LETTERS = {
    (96, 9): "T",
    (96, 27): "S",
    (128, 27): "B",
    (192, 27): "L",
    (256, 27): "XL",
}


@dataclass(frozen=True)
class Family:
    """A tower's kind ("clip", "vit" or "convnext"), name and architecture.

    ``architecture`` is open_clip's model configuration for CLIP's tower; for the others it holds
    the settings of timm's class. The number of heads is told by no shape: it is the published one
    for the width.
    """

    kind: str
    title: str
    n_blocks: int
    image_size: int
    architecture: Mapping[str, Any]

    def __str__(self) -> str:
        return self.title


def family_of(shapes: Shapes) -> Family | None:
    """The family that a tower's names and shapes (ours) belong to; None for an unknown one."""
    try:
        if "conv1.weight" in shapes and "class_embedding" in shapes:
            return _clip(shapes)
        if "trunk.patch_embed.proj.weight" in shapes:
            return _vit(shapes)
        if "trunk.stem.0.weight" in shapes:
            return _convnext(shapes)
    except (KeyError, IndexError, ValueError):  # names of a family, shapes of none
        return None
    return None


def check_family(shapes: Shapes, base: Shapes, name: str) -> None:
    """Raise CheckpointError when a file's tower is another than the base's, naming both."""
    found, wanted = family_of(shapes), family_of(base)
    if found is not None and wanted is not None and found.title != wanted.title:
        raise CheckpointError(
            f"{name} holds {article(found.title)}; the base is {article(wanted.title)}. "
            "Choose a checkpoint of the base's architecture, or the base of this one."
        )
    missing, extra = sorted(base.keys() - shapes.keys()), sorted(shapes.keys() - base.keys())
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}"
        others = len(missing or extra) - 1
        more = f" and {others} more" if others else ""
        rest = "which the base has" if missing else "which the base lacks"
        raise CheckpointError(f"{name} {what}{more}, {rest}: both must be of one architecture.")
    for key, shape in base.items():
        if tuple(shapes[key]) != tuple(shape):
            raise CheckpointError(
                f"{key!r} has shape {tuple(shapes[key])} in {name} and {tuple(shape)} in the base: "
                "both must be of one architecture."
            )


def check_activation(found: str | None, wanted: str | None, name: str) -> None:
    """Raise CheckpointError when a file says that it was trained with another activation.

    Shapes do not tell QuickGELU (OpenAI's weights) from GELU; loaded into the wrong one, a tower
    silently loses accuracy (open_clip#771).
    """
    if found is None or wanted is None or found == wanted:
        return
    remedy = (
        "Open it in the architecture whose name ends in -quickgelu, such as ViT-B-32-quickgelu "
        '(in a configuration: "quick_gelu": true).'
        if found == "quick_gelu"
        else "Open it in the architecture without -quickgelu, such as ViT-B-32 "
        '(in a configuration: no "quick_gelu").'
    )
    titles = {"quick_gelu": "QuickGELU", "gelu": "GELU"}
    raise CheckpointError(
        f"{name} was trained with {titles.get(found, found)}, and this model computes "
        f"{titles.get(wanted, wanted)}: its features would be wrong. {remedy}"
    )


def article(title: str) -> str:
    """A title with its indefinite article."""
    return f"{'an' if title[:1] in 'AEIO' else 'a'} {title}"


def count(shapes: Shapes, pattern: str) -> int:
    """How many blocks or stages names number by ``pattern``, from 0 on. Raises ValueError."""
    numbered = re.compile(pattern)
    found = {int(match.group(1)) for name in shapes if (match := numbered.match(name))}
    if found != set(range(len(found))) or not found:
        raise ValueError("blocks are missing")
    return len(found)


def _clip(shapes: Shapes) -> Family:
    width, _, _, patch = shapes["conv1.weight"]
    layers = count(shapes, r"transformer\.resblocks\.(\d+)\.")
    size = patch * _side(shapes["positional_embedding"][0] - 1)
    hidden = shapes["transformer.resblocks.0.mlp.c_fc.weight"][0]
    vision: dict[str, Any] = {
        "image_size": size,
        "patch_size": patch,
        "width": width,
        "layers": layers,
        "head_width": head_width(width),
        "mlp_ratio": _ratio(hidden, width),
    }
    architecture: dict[str, Any] = {"vision_cfg": vision}
    if "proj" in shapes:
        architecture["embed_dim"] = shapes["proj"][1]
    return Family("clip", _vit_title(width, layers, patch, size), layers, size, architecture)


def _vit(shapes: Shapes) -> Family:
    width, _, _, patch = shapes["trunk.patch_embed.proj.weight"]
    layers = count(shapes, r"trunk\.blocks\.(\d+)\.")
    registers = shapes["trunk.reg_token"][1] if "trunk.reg_token" in shapes else 0
    first = "trunk.cls_token" in shapes
    positions = shapes["trunk.pos_embed"][1]
    try:
        size, covered = patch * _side(positions - first - registers), True
    except ValueError:  # timm's other way: positions for the patches only
        size, covered = patch * _side(positions), not (first or registers)
    up, down = (shapes[f"trunk.blocks.0.mlp.fc{i}.weight"] for i in (1, 2))
    architecture = {
        "timm": "VisionTransformer",
        "img_size": size,
        "patch_size": patch,
        "embed_dim": width,
        "depth": layers,
        "num_heads": width // head_width(width),
        "mlp_ratio": _ratio(up[0], width),
        "gated": up[0] == 2 * down[1],
        "layer_scale": "trunk.blocks.0.ls1.gamma" in shapes,
        "qkv_bias": "trunk.blocks.0.attn.qkv.bias" in shapes,
        "qk_norm": "trunk.blocks.0.attn.q_norm.weight" in shapes,
        "pre_norm": "trunk.norm_pre.weight" in shapes,
        "class_token": first,
        "reg_tokens": registers,
        "no_embed_class": not covered,
        "pool": "avg" if "trunk.fc_norm.weight" in shapes or not first else "token",
        "fc_norm": "trunk.fc_norm.weight" in shapes,
    }
    kind = "DINOv2 " if architecture["layer_scale"] and patch == 14 else "plain "
    title = kind + _vit_title(width, layers, patch, size, usual=518 if patch == 14 else 224)
    if registers:
        title += f" with {registers} registers"
    return Family("vit", title, layers, size, architecture)


def _convnext(shapes: Shapes) -> Family:
    stages = count(shapes, r"trunk\.stages\.(\d+)\.")
    depths = tuple(count(shapes, rf"trunk\.stages\.{i}\.blocks\.(\d+)\.") for i in range(stages))
    dims = tuple(shapes[f"trunk.stages.{i}.blocks.0.conv_dw.weight"][0] for i in range(stages))
    letter = _CONVNEXT_LETTERS.get((dims[0], max(depths)))
    sizes = "-".join(map(str, dims))
    title = f"ConvNeXt-{letter}" if letter else f"ConvNeXt of widths {sizes}"
    architecture = {
        "timm": "ConvNeXt",
        "depths": depths,
        "dims": dims,
        "layer_scale": "trunk.stages.0.blocks.0.gamma" in shapes,
    }
    return Family("convnext", title, sum(depths), 224, architecture)


def _vit_title(width: int, layers: int, patch: int, size: int, usual: int = 224) -> str:
    letter = _LETTERS.get((width, layers))
    title = (
        f"ViT-{letter}/{patch}" if letter else f"ViT of width {width}, {layers} blocks, /{patch}"
    )
    return title if size == usual else f"{title}@{size}"


def _ratio(hidden: int, width: int) -> float:
    """The number that times the width, rounded down, is ``hidden``."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def tower_title(architecture: Mapping[str, Any]) -> str:
    """The name of open_clip's configuration of a vision transformer; empty for another tower."""
    vision = architecture.get("vision_cfg", {})
    sizes = [vision.get(key) for key in ("width", "layers", "patch_size", "image_size")]
    if not all(isinstance(size, int) for size in sizes):
        return ""
    return _vit_title(*sizes)


def open_clip_name(title: str, quick_gelu: bool) -> str:
    """How open_clip's list names an architecture: "ViT-B/32" as "open_clip:ViT-B-32-quickgelu"."""
    plain = title.partition("@")
    name = plain[0].replace("/", "-") + (f"-{plain[2]}" if plain[1] else "")
    return f"open_clip:{name}{'-quickgelu' if quick_gelu else ''}"


def head_width(width: int) -> int:
    """The width of a head in published towers of this width."""
    return _HEAD_WIDTHS.get(width, 64 if width % 64 == 0 else width)


def _side(tokens: int) -> int:
    side = isqrt(tokens) if tokens > 0 else 0
    if not side or side * side != tokens:
        raise ValueError("the patches make no square")
    return side
