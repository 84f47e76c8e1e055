"""The text tower that belongs to an image tower without one: found on this machine, or said how."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.checkpoints.checkpoint import Checkpoint
from explorer.checkpoints.families import open_clip_name
from explorer.checkpoints.pulled import locate
from explorer.checkpoints.reading import open_checkpoint
from explorer.checkpoints.text_side import has_text, read_text
from explorer.errors import VocabularyError
from explorer.models.tokens import N_TOKENS
from explorer.models.towers import TextTower, build_text_tower, check_tower, load_weights


def text_tower_of(
    path: Path, architecture: Mapping[str, Any], device: torch.device | str
) -> TextTower:
    """The text tower in a whole CLIP's file, float32. Raises CheckpointError, VocabularyError."""
    tensors, sizes = read_text(path)
    if sizes["vocab_size"] != N_TOKENS:
        raise VocabularyError(
            f"The text tower in {path.name} has {sizes['vocab_size']} tokens, and CLIP's tokenizer "
            f"{N_TOKENS}: its prompts are split otherwise. Give heads as files."
        )
    tower = build_text_tower({**architecture, "text_cfg": sizes})
    check_tower(tensors, tower, path.name)
    load_weights(tower, {key: tensor.to(device) for key, tensor in tensors.items()})
    return tower


def no_text(name: str, base: Checkpoint, architecture: Mapping[str, Any]) -> str:
    """Why a model has no text tower, and how it gets one."""
    remedy = _pretrained_name(base, architecture)
    how = (
        f"pull the whole CLIP that it is part of (`explorer zoo pull {remedy}`) and open it again"
        if remedy
        else "make the file of the whole CLIP its base"
    )
    return (
        f"{name} has no text tower here, so that no prompt can be encoded: {how}, or use heads "
        "from files (m.head(task) without prompts)."
    )


def whole_clips(
    file: Checkpoint, base: Mapping[str, Tensor], architecture: Mapping[str, Any]
) -> Iterator[Path]:
    """Files on this machine with the text tower that belongs to an image tower."""
    if has_text(file.path):
        yield file.path
    elif file.family is not None and file.family.kind == "clip" and "proj" in base:
        from explorer.checkpoints.open_clip_list import open_clip_sets

        plain = open_clip_name(file.family.title, bool(architecture.get("quick_gelu")))
        for name, entry in open_clip_sets().items():
            path = locate(entry).base if name.startswith(f"{plain}/") else None
            if path is not None and has_text(path) and _same_tower(path, base):
                yield path


def _same_tower(path: Path, base: Mapping[str, Tensor]) -> bool:
    """Whether a file's image tower is the base, told by three of its tensors."""
    other = open_checkpoint(path)
    return all(
        key in other
        and other.shapes[key] == base[key].shape
        and torch.allclose(other[key], base[key], rtol=1e-2, atol=1e-4)
        for key in ("proj", "conv1.weight", "ln_post.weight")
    )


def _pretrained_name(file: Checkpoint, architecture: Mapping[str, Any]) -> str:
    """What to pull for the text tower of OpenAI's CLIPs; empty where only its owner knows."""
    if file.family is None or file.family.kind != "clip" or not architecture.get("quick_gelu"):
        return ""
    return f"{open_clip_name(file.family.title, quick_gelu=True)}/openai"
