"""Towers for the files of other families than CLIP's plain transformer, and for any file's family.

Their parts are timm's, put together by the sizes that ``explorer.checkpoints.families`` tells from
a file's shapes, under the names that open_clip gives them ("trunk.").
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from explorer.checkpoints.families import Family
from explorer.errors import ModelError
from explorer.models.towers import build_tower


class TrunkTower(nn.Module):
    """A timm model without its classifier: normalised images (n, 3, h, w) -> features (n, dim)."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images)


def tower_of(family: Family) -> nn.Module:
    """The tower of a family, without weights (on the meta device). Raises ModelError.

    A CLIP tower needs its projection's width, which a checkpoint without ``proj`` does not tell:
    read such a file with its base.
    """
    settings = dict(family.architecture)
    if family.kind != "clip":
        return trunk_tower(settings)
    if "embed_dim" not in settings:
        raise ModelError(
            "This tower has no projection, so its features have no width; read the file "
            "with its base: ex.read_checkpoint(path, base=...)."
        )
    return build_tower(settings)


def trunk_tower(architecture: Mapping[str, Any]) -> nn.Module:
    """The tower of a timm architecture as families tell it, without weights."""
    settings = dict(architecture)
    kind = settings.pop("timm")
    with torch.device("meta"):
        return TrunkTower(_vit(settings) if kind == "VisionTransformer" else _convnext(settings))


def _vit(settings: dict[str, Any]) -> nn.Module:
    from timm.layers import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    gated, scaled = settings.pop("gated"), settings.pop("layer_scale")
    if gated:
        settings |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    return VisionTransformer(
        num_classes=0,
        global_pool=settings.pop("pool"),
        init_values=1.0 if scaled else None,
        weight_init="skip",
        **settings,
    )


def _convnext(settings: dict[str, Any]) -> nn.Module:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(
        depths=settings["depths"],
        dims=settings["dims"],
        ls_init_value=1.0 if settings["layer_scale"] else None,
        num_classes=0,
    )
