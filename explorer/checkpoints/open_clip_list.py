"""open_clip's list of pretrained models, asked from open_clip itself: nothing of it is copied.

Importing open_clip takes seconds and some 200 MB, so this happens only when it is asked for.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from explorer.checkpoints.published import Part, Published
from explorer.errors import CatalogueError, UnknownNameError

PREFIX = "open_clip:"
_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)


@cache
def open_clip_sets() -> dict[str, Published]:
    """Name -> entry of every pretrained open_clip model on a hub, with its own activation."""
    found = {}
    for architecture, tag in _pairs():
        try:
            entry = open_clip_set(f"{PREFIX}{architecture}/{tag}")
        except CatalogueError:  # on no hub, or in the architecture of the other activation
            continue
        found[entry.name] = entry
    return found


def open_clip_set(name: str) -> Published:
    """The entry of "open_clip:ViT-B-32-quickgelu/openai".

    Raises UnknownNameError with the nearest names; CatalogueError for weights on no hub, and for
    an architecture with another activation than the weights were trained with.
    """
    import open_clip

    architecture, _, tag = name.removeprefix(PREFIX).rpartition("/")
    if (architecture, tag) not in _pairs():
        raise UnknownNameError("model", name, [f"{PREFIX}{a}/{t}" for a, t in _pairs()])
    settings = open_clip.get_pretrained_cfg(architecture, tag)
    config = open_clip.get_model_config(architecture) or {}
    _check_activation(name, architecture, tag, bool(settings.get("quick_gelu")), config)
    place = PurePosixPath(settings.get("hf_hub") or "")
    if len(place.parts) < 2:
        raise CatalogueError(
            f"{name} is on no hub: let open_clip download it (open_clip.create_model), save its "
            "state_dict as safetensors, and open that file."
        )
    files = ("/".join(place.parts[2:]),) if len(place.parts) > 2 else _FILES
    return Published(
        name=name,
        title=f"{architecture}, pretrained as {tag}",
        family=_family(architecture),
        base=Part("/".join(place.parts[:2]), files),
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        architecture=config,
        pixels=_pixels(settings),
        licence="as the hub states",
        origin="open_clip",
    )


@cache
def _pairs() -> frozenset[tuple[str, str]]:
    import open_clip

    return frozenset((str(a), str(t)) for a, t in open_clip.list_pretrained())


def _check_activation(
    name: str, architecture: str, tag: str, trained_with_quick: bool, config: dict
) -> None:
    """open_clip builds whichever is asked for, and only warns (open_clip#771)."""
    quick = bool(config.get("quick_gelu"))
    if quick == trained_with_quick:
        return
    plain = architecture.removesuffix("-quickgelu")
    right = f"{plain}-quickgelu" if trained_with_quick else plain
    words = ("QuickGELU", "GELU") if trained_with_quick else ("GELU", "QuickGELU")
    remedy = f"{PREFIX}{right}/{tag}" if (right, tag) in _pairs() - {(architecture, tag)} else ""
    raise CatalogueError(
        f"{name}: these weights were trained with {words[0]}, and {architecture} computes "
        f"{words[1]}, so that its features would be wrong. Open {remedy or 'another model'}."
    )


def _pixels(settings: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    """SigLIP's weights, among others, are not normalised as CLIP's."""
    mean, std = settings.get("mean"), settings.get("std")
    return (list(mean), list(std)) if mean and std else None


def _family(architecture: str) -> str:
    """ "ViT-B-32-quickgelu" as ViT-B/32, as towers are called everywhere else."""
    plain = architecture.removesuffix("-quickgelu")
    return re.sub(r"^(ViT-[A-Za-z]+)-(\d+)$", r"\1/\2", plain)
