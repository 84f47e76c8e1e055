"""The text tower in a file of a whole CLIP: its tensors by open_clip's names, and its sizes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from explorer.checkpoints.archives import read_contents
from explorer.checkpoints.checkpoint import check_finite
from explorer.checkpoints.collecting import collect
from explorer.checkpoints.families import count
from explorer.checkpoints.layout_tables import Layout, text_layouts
from explorer.checkpoints.layouts import Entry, entries_of
from explorer.checkpoints.stored import StoredTensor
from explorer.errors import CheckpointError

_OURS = re.compile(
    r"token_embedding\.weight|positional_embedding|transformer\.resblocks\.\d+\..+|"
    r"ln_final\.(weight|bias)|text_projection|logit_scale"
)
_HEAD_WIDTH = 64  # of every published CLIP's text tower; no shape tells it


def has_text(path: Path) -> bool:
    """Whether a file holds a whole CLIP's text tower; reads its names only."""
    return _entries(path) is not None


def read_text(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by open_clip's names, float32 on the CPU; open_clip's ``text_cfg``) of a whole CLIP.

    From an open_clip model or Hugging Face's CLIPModel. Raises CheckpointError for a file without a
    text tower, or with a damaged one.
    """
    found = _entries(path)
    if found is None:
        raise CheckpointError(f"{path.name} holds no text tower; give the file of a whole CLIP.")
    stored, entries = found
    tensors = {
        key: entry.of([stored[source].read() for source in entry.sources]).float().contiguous()
        for key, entry in entries.items()
    }
    check_finite(tensors, path.name)
    return tensors, _sizes(tensors, path)


def _sizes(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    try:
        vocabulary, width = shapes["token_embedding.weight"]
        hidden, _ = shapes["transformer.resblocks.0.mlp.c_fc.weight"]
        context, _ = shapes["positional_embedding"]
        layers = count(shapes, r"transformer\.resblocks\.(\d+)\.")
    except (KeyError, ValueError):
        raise CheckpointError(
            f"{path.name} holds a text tower with parts missing; download or copy it again."
        ) from None
    if width % _HEAD_WIDTH:
        raise CheckpointError(
            f"{path.name} has a text tower {width} wide, which is no multiple of {_HEAD_WIDTH}: "
            "nothing tells its number of heads. Give heads as files."
        )
    return {
        "width": width,
        "heads": width // _HEAD_WIDTH,
        "layers": layers,
        "mlp_ratio": hidden / width,
        "context_length": context,
        "vocab_size": vocabulary,
    }


def _entries(path: Path) -> tuple[Mapping[str, StoredTensor], dict[str, Entry]] | None:
    contents = read_contents(path)
    stored = collect(contents.data, contents.path).tensors
    for layout in text_layouts():
        prefix = _prefix(layout, stored)
        if prefix is not None:
            made = entries_of(layout, prefix, stored)
            return stored, {key: entry for key, entry in made.items() if _OURS.fullmatch(key)}
    return None


def _prefix(layout: Layout, names: Mapping[str, StoredTensor]) -> str | None:
    """What stands before the names of a text tower; None where it is not there, or twice."""
    first, *others = layout.signature
    found = [
        prefix
        for name in names
        if name.endswith(first) and (prefix := name.removesuffix(first))[-1:] in ("", ".")
        if all(prefix + other in names for other in others)
    ]
    return found[0] if len(found) == 1 else None
