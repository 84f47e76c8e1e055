"""How a tower's pixels were normalised: told by files beside it, by open_clip, or by its family."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from explorer.checkpoints.archives import file_within, read_json
from explorer.checkpoints.checkpoint import Checkpoint
from explorer.checkpoints.recognised import recognised
from explorer.errors import CheckpointError

Pixels = tuple[list[float], list[float]]
"""Mean and standard deviation of red, green and blue, of pixels between 0 and 1."""

CLIP: Pixels = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
IMAGENET: Pixels = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALVES: Pixels = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])

# File beside the weights -> where it keeps the two (None: at its top).
_BESIDE = (
    ("open_clip_config.json", "preprocess_cfg", "mean", "std"),
    ("preprocessor_config.json", None, "image_mean", "image_std"),
    ("config.json", "pretrained_cfg", "mean", "std"),  # timm's
)


def pixels_of(base: Checkpoint) -> tuple[Pixels, str]:
    """(mean and standard deviation, a remark where nothing tells them for certain).

    A configuration beside the file decides. Otherwise: CLIP's for CLIP and for open_clip's towers
    around timm's; ImageNet's for DINOv2, torchvision and ConvNeXt. timm's plain ViTs have all three
    (its AugReg and the first ViTs 0.5, DeiT and DINO ImageNet's, CLIP's towers CLIP's): a norm
    before the blocks is CLIP's, layer scale DINOv2's, and the others are taken for AugReg's. A CLIP
    tower with all shapes of a model that comes with the package is normalised as its card says.
    """
    told = _beside(base)
    if told is not None:
        return told, ""
    layout = base.layout
    if layout.startswith(("open_clip", "image_encoder", "hf")):
        known = recognised(base)
        return CLIP if known is None else (list(known.mean), list(known.std)), ""
    if layout != "timm_vit":
        return IMAGENET, ""
    if "trunk.norm_pre.weight" in base.shapes:
        return CLIP, ""
    if "trunk.blocks.0.ls1.gamma" in base.shapes:
        return IMAGENET, ""
    return HALVES, (
        f"Nothing tells how the pixels for {base.name} were normalised: 0.5, as for timm's AugReg "
        "ViTs, is taken (DeiT and DINO have ImageNet's). Copy its config.json beside it to be sure."
    )


def _beside(base: Checkpoint) -> Pixels | None:
    folder = base.path.parent
    for name, part, mean, std in _BESIDE:
        if not (folder / name).is_file():
            continue
        data: Any = read_json(file_within(folder, name))
        data = data.get(part) if part is not None and isinstance(data, Mapping) else data
        if isinstance(data, Mapping) and mean in data and std in data:
            found = data[mean], data[std]
            if not all(map(_three, found)) or min(data[std]) <= 0:
                raise CheckpointError(
                    f"{name} beside {base.name} gives {mean!r} and {std!r} that are not three "
                    "numbers each, one a colour; correct it or take it away."
                )
            return list(map(float, data[mean])), list(map(float, data[std]))
    return None


def _three(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 3
        and all(isinstance(x, int | float) and isfinite(x) for x in values)
    )
