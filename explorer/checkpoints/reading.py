"""Files of weights -> named tensors in the canonical layout. Never executes a file's code."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from explorer.checkpoints.archives import read_contents, read_json
from explorer.checkpoints.checkpoint import Checkpoint, check_finite
from explorer.checkpoints.collecting import Collected, collect
from explorer.checkpoints.families import Shapes, check_activation, check_family
from explorer.checkpoints.heads import read_head
from explorer.checkpoints.hints import activation_of
from explorer.checkpoints.layouts import Entry, detect, entries_of, linearised_names
from explorer.checkpoints.stored import StoredTensor
from explorer.errors import CheckpointError

__all__ = [
    "Checkpoint",
    "canonical_names",
    "check_finite",
    "open_checkpoint",
    "read_checkpoint",
    "read_head",
    "read_json",
    "read_safetensors",
]

# Prefixes of published wrappers; the tower of an open_clip model lies under "visual.".
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_VISUAL = "visual."


def read_checkpoint(
    path: str | Path,
    base: Mapping[str, Tensor] | None = None,
    architecture: Mapping[str, object] | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Checkpoint:
    """Read an image tower's weights as {canonical name: tensor on the CPU}.

        tuned = ex.read_checkpoint("nonlinear_finetuned.pt", base=m.base)

    Accepts safetensors (in shards too), PyTorch files of every age with state dictionaries, nested
    ones and pickled modules, and a hub's folder; the kind and the layout are told from the content,
    never from the name. Every value is checked, one tensor at a time; then tensors are read again
    when they are asked for, so that many files open in little memory. ``dtype`` is what half
    precisions become on asking (without loss); None keeps the file's own types.

    With ``base``, a file of another architecture is refused, and a file without ``proj`` (HF's
    CLIPVisionModel, whose projection was frozen) takes the base's. With ``architecture``
    (open_clip's configuration), a file that says it was trained with another activation is refused.

    Raises CheckpointError for a file that is missing, truncated, no checkpoint, of another
    architecture, that calls code, or has a tensor with NaN or infinity; the sentence names the file
    and the remedy.
    """
    checkpoint = open_checkpoint(path, dtype)
    if base is not None:
        _fit(checkpoint, base)
    if architecture is not None:
        quick = "quick_gelu" if architecture.get("quick_gelu") else "gelu"
        check_activation(checkpoint.activation, quick, checkpoint.name)
    checkpoint.check()
    return checkpoint


def open_checkpoint(
    path: str | Path, dtype: torch.dtype | None = torch.float32, part: str = "params"
) -> Checkpoint:
    """As ``read_checkpoint``, but the values are not checked before they are asked for.

    ``part`` chooses between a linearised checkpoint's weights ("params") and the weights that it is
    linearised around ("params0"). Raises CheckpointError.
    """
    contents = read_contents(path)
    collected = collect(contents.data, contents.path)
    stored, linearised = _named(collected, contents.path, part)
    try:
        found = detect(stored)
    except CheckpointError as error:
        raise CheckpointError(f"{contents.path.name}: {error}") from None
    if found is None:
        entries = {key: Entry((source,)) for key, source in _unknown(stored, contents.path).items()}
        layout = "unknown"
    else:
        layout = found[0].name
        entries = entries_of(*found, stored)
    floating = {
        key: entry
        for key, entry in entries.items()
        if all(stored[source].dtype.is_floating_point for source in entry.sources)
    }
    if not floating:
        raise CheckpointError(
            f"{contents.path.name} holds no floating-point weights; is it the right file?"
        )
    checkpoint = Checkpoint(contents, stored, floating, layout, dtype)
    used = {source for entry in floating.values() for source in entry.sources}
    checkpoint.left_out = sorted(stored.keys() - used)
    checkpoint.activation, checkpoint.notes = activation_of(
        contents, collected.classes, layout, checkpoint.shapes
    )
    checkpoint.linearised = linearised
    if linearised:
        checkpoint.notes.append(f"linearised: the weights are its {part!r}, named by their order")
    if collected.place:
        checkpoint.notes.append(f"the weights lie under {collected.place!r}")
    return checkpoint


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by its own names. Raises CheckpointError."""
    contents = read_contents(path)
    if not contents.kind.startswith("safetensors"):
        raise CheckpointError(f"{path.name} is not a whole safetensors file. Copy it again.")
    return {name: tensor.read() for name, tensor in contents.data.items()}


def canonical_names(names: list[str], path: Path) -> dict[str, str]:
    """Our name -> the file's, for layouts without a table: wrappers and "visual." are taken off.

    Raises CheckpointError for a text tower, and for one parameter under two prefixes.
    """
    ours = {_without_wrappers(name): name for name in names}
    if len(ours) != len(names):
        raise CheckpointError(f"{path.name} holds the same parameter under two prefixes.")
    if any(key.startswith(_VISUAL) for key in ours):
        return {k.removeprefix(_VISUAL): v for k, v in ours.items() if k.startswith(_VISUAL)}
    return ours


def _fit(checkpoint: Checkpoint, base: Mapping[str, Tensor]) -> None:
    shapes: Shapes = {key: tuple(tensor.shape) for key, tensor in base.items()}
    if "proj" in shapes and "proj" not in checkpoint and "conv1.weight" in checkpoint:
        checkpoint.fill({"proj": base["proj"]})
        checkpoint.notes.append("has no projection; the base's is used, as it was frozen")
    check_family(checkpoint.shapes, shapes, checkpoint.name)
    if isinstance(base, Checkpoint):
        check_activation(checkpoint.activation, base.activation, checkpoint.name)


def _unknown(stored: Mapping[str, StoredTensor], path: Path) -> dict[str, str]:
    names = canonical_names(list(stored), path)
    if "token_embedding.weight" in names:
        raise CheckpointError(
            f"{path.name} holds a text tower and no image tower; give a whole CLIP model or its "
            "image tower."
        )
    if names.keys() <= {"weight", "bias"}:
        raise CheckpointError(
            f"{path.name} holds one linear layer, a classification head perhaps, and no image "
            "tower: read it with read_head, or give the image encoder's state_dict()."
        )
    return names


def _named(collected: Collected, path: Path, part: str) -> tuple[Mapping[str, StoredTensor], bool]:
    """The tensors, a linearised checkpoint's by the names that their order gives them."""
    stored = collected.tensors
    last = next((name for name in stored if name.endswith(f"{part}.0")), None)
    if last is None or any("resblocks" in name or "blocks." in name for name in stored):
        return stored, False
    prefix = last.removesuffix("0")
    numbered = [stored.get(f"{prefix}{i}") for i in range(len(stored))]
    n = numbered.index(None) if None in numbered else len(numbered)
    tensors = [tensor for tensor in numbered[:n] if tensor is not None]
    names = linearised_names([tensor.shape for tensor in tensors])
    if names is None:
        raise CheckpointError(
            f"{path.name} is a linearised checkpoint, but its {n} parameters are not those of an "
            "open_clip image encoder in their order. Save it with names."
        )
    return {name: t for name, t in zip(names, tensors, strict=True) if name is not None}, True


def _without_wrappers(key: str) -> str:
    changed = True
    while changed:
        changed = False
        for prefix in _WRAPPERS:
            if key.startswith(prefix):
                key, changed = key.removeprefix(prefix), True
    return key
