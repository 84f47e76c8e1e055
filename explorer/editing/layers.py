"""The depth of a parameter by its name: which block or stage, or before or after all of them."""

import re

from explorer.errors import RecipeError

_PREFIX = r"^(?:model\.)?(?:visual\.|vision_model\.)?"
# How towers number what follows each other, and from which number on. The names are anchored at
# their start, so that a digit deeper in a name ("mlp.1.", "stages.0.blocks.1.") is never a layer.
_NUMBERED = (
    (re.compile(r"(?:^|\.)resblocks\.(\d+)\."), 0),  # open_clip's and OpenAI's ViT
    (re.compile(_PREFIX + r"encoder\.layers\.(\d+)\."), 0),  # HF CLIPVisionModel
    (re.compile(_PREFIX + r"trunk\.blocks\.(\d+)\."), 0),  # timm: ViT, EVA, SigLIP, ViTamin
    (re.compile(_PREFIX + r"trunk\.stages\.(\d+)\."), 0),  # timm: ConvNeXt, FastViT
    (re.compile(_PREFIX + r"trunk\.layers\.(\d+)\."), 0),  # timm: Swin
    (re.compile(_PREFIX + r"(?:trunk\.)?layer([1-9]\d*)\."), 1),  # ResNet: layer1 ... layer4
)
# Where a tower continues after its last block; everything else outside the blocks precedes them.
_AFTER_BLOCKS = re.compile(
    _PREFIX + r"(?:ln_post\.|proj$|attn_?pool\.|head\.|post_layernorm\.|visual_projection\."
    r"|trunk\.(?:norm|fc_norm|head|attn_pool|final_conv)\.)"
)


def layer_of(key: str, n_blocks: int) -> int | None:
    """The block that a name belongs to: 0 ... n_blocks-1, or None outside the blocks.

    Understands open_clip's ViTs (``transformer.resblocks.<i>.``), timm towers in open_clip
    (``trunk.blocks.<i>.``; by stages ``trunk.stages.<i>.`` and ``trunk.layers.<i>.``), ResNets by
    stages (``layer<i>.``, from 1) and HF's layout (``encoder.layers.<i>.``).
    Raises RecipeError when the name lies in a block that the tower does not have.
    """
    for pattern, first in _NUMBERED:
        found = pattern.search(key)
        if found is None:
            continue
        layer = int(found.group(1)) - first
        if not 0 <= layer < n_blocks:
            raise RecipeError(
                f"The parameter {key!r} lies in block {layer + 1}, "
                f"but the tower has {n_blocks} blocks."
            )
        return layer
    return None


def lies_after_blocks(key: str) -> bool:
    """True for the names outside the blocks that come after the last one (ln_post, proj)."""
    return layer_of(key, 10**9) is None and _AFTER_BLOCKS.search(key) is not None


def layer_names(n_blocks: int) -> list[str]:
    """Names of the depths in order: "input", "block 1" ... "block L", "output"."""
    return ["input", *(f"block {i + 1}" for i in range(n_blocks)), "output"]


def layer_name(key: str, n_blocks: int) -> str:
    """The depth that a name belongs to, as in ``layer_names``."""
    return depth_name(layer_of(key, n_blocks), lies_after_blocks(key))


def depth_name(layer: int | None, after: bool) -> str:
    """The name of a depth: of block ``layer``, or for None of what lies before or ``after``."""
    if layer is not None:
        return f"block {layer + 1}"
    return "output" if after else "input"
