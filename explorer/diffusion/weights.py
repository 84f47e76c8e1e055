"""Weights of a diffusers network from its folder: safetensors, or pickles that are never run."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from explorer.checkpoints.archives import read_contents
from explorer.checkpoints.collecting import collect
from explorer.errors import CheckpointError

STEM = "diffusion_pytorch_model"


def safe_weights(where: Path) -> bool:
    """Whether a folder has weights as safetensors."""
    return any(where.glob(f"{STEM}*.safetensors"))


def read_network(kind: Any, where: Path) -> nn.Module:
    """The network of class ``kind`` in a folder in diffusers' layout, in float32, for inference.

    Pickled weights (.bin) are read by the reader of ``explorer.checkpoints``, which knows tensors
    and calls nothing, and handed to diffusers as safetensors, so that it converts the names of old
    versions in both. Raises CheckpointError.
    """
    if safe_weights(where):
        return _loaded(kind, where, where)
    pickled = where / f"{STEM}.bin"
    if not pickled.is_file():
        raise CheckpointError(f"{where} has neither {STEM}.safetensors nor {STEM}.bin.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        (copy / "config.json").write_bytes((where / "config.json").read_bytes())
        tensors = collect(read_contents(pickled).data, pickled).tensors
        weights = {name: tensor.read() for name, tensor in tensors.items()}
        save_file(weights, copy / f"{STEM}.safetensors", {"format": "pt"})
        return _loaded(kind, copy, where)


def _loaded(kind: Any, folder: Path, where: Path) -> nn.Module:
    try:
        network, told = kind.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,  # what it would otherwise use is not installed
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The weights in {where} cannot be read ({reason}).") from None
    if told["missing_keys"]:  # diffusers would draw them at random, with a warning
        raise CheckpointError(
            f"The weights in {where} lack {len(told['missing_keys'])} tensors of the network, "
            f"{sorted(told['missing_keys'])[0]!r} among them; they are of another configuration."
        )
    return network.requires_grad_(False).eval()
