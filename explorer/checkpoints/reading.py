"""Files of weights -> named tensors in the canonical layout. Never executes a file's code."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from explorer.errors import CheckpointError

_ZIP, _GZIP, _PICKLE = b"PK\x03\x04", b"\x1f\x8b", b"\x80"
# What torch.load meets a damaged file with.
_DAMAGED = (
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    IndexError,
    AssertionError,
    MemoryError,
)
_LARGEST_HEADER = 1 << 40  # bytes; the eight first bytes of a pickle read as far more
_NESTED = ("state_dict", "model_state_dict", "model", "module", "ema")
# Prefixes of published wrappers; the tower of an open_clip model lies under "visual.".
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_VISUAL = "visual."


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read an image tower's weights as {canonical name: tensor on the CPU}.

    Accepts safetensors, and PyTorch files holding only tensors (read with ``weights_only``);
    the kind is told from the content, not the suffix. Wrapper prefixes ("module.", "model.",
    "visual.") are removed, nested ``{"state_dict": ...}`` opened, text-side tensors and integer
    buffers dropped; half precisions become float32 (without loss).

    Raises CheckpointError for a file that is missing, truncated, not a checkpoint, holds pickled
    code, or has a tensor with NaN or infinity; the sentence names the file and the remedy.
    """
    path = Path(path).expanduser()
    tensors = canonical_names(_read_any(path), path)
    result = {key: _plain(tensor) for key, tensor in tensors.items() if tensor.is_floating_point()}
    if not result:
        raise CheckpointError(f"{path.name} holds no floating-point weights; is it the right file?")
    check_finite(result, path.name)
    return result


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by its own names. Raises CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise CheckpointError(
            f"{path.name} is not a whole safetensors file ({error}). Download or copy it again."
        ) from None


def canonical_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """open_clip's visual keys without "visual."; text-side keys of a full CLIP model dropped."""
    names = {_without_wrappers(key): tensor for key, tensor in tensors.items()}
    if len(names) != len(tensors):
        raise CheckpointError(f"{path.name} holds the same parameter under two prefixes.")
    if any(key.startswith(_VISUAL) for key in names):
        return {
            key.removeprefix(_VISUAL): tensor
            for key, tensor in names.items()
            if key.startswith(_VISUAL)
        }
    if "token_embedding.weight" in names:
        raise CheckpointError(
            f"{path.name} holds a text tower and no image tower; give a whole CLIP model or its "
            "image tower."
        )
    return names


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise CheckpointError naming the first tensor with NaN or infinity."""
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite values"
            raise CheckpointError(
                f"{name} has {what} in {key!r}: its training diverged or the file is damaged. "
                "Use another checkpoint."
            )


def _read_any(path: Path) -> dict[str, Tensor]:
    head = _head(path)
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer, not the weights. Fetch them with 'git lfs pull'."
        )
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path.name} is a web page, not a checkpoint: the download went wrong. Fetch it again."
        )
    # Before pickles: a safetensors header's length may well begin with a pickle's first byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LARGEST_HEADER:
        return read_safetensors(path)
    if head.startswith((_ZIP, _PICKLE)):
        return _read_torch(path)
    if head.startswith(_GZIP):
        raise CheckpointError(f"{path.name} is compressed with gzip; unpack it first.")
    raise CheckpointError(
        f"{path.name} is neither a safetensors nor a PyTorch file, or it is damaged at the start."
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise CheckpointError(
            f"{path} is a folder; give a file, or open it with ex.open_model."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not head:
        raise CheckpointError(f"{path.name} is empty. Download or copy it again.")
    return head


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:  # given a path, torch trusts its suffix
            data = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise _damaged(path, error) from None
        raise CheckpointError(
            f"{path.name} holds pickled Python objects besides tensors, and opening them would run "
            "the file's code. Nothing was run. Save its state_dict() as safetensors, and open that."
        ) from None
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    return _state_dict(data, path)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
    return CheckpointError(
        f"{path.name} is truncated or damaged ({reason}). Download or copy it again."
    )


def _state_dict(data: object, path: Path) -> dict[str, Tensor]:
    for _ in range(4):  # Lightning and training scripts nest a few levels at most
        if not isinstance(data, Mapping):
            break
        tensors = {str(key): value for key, value in data.items() if isinstance(value, Tensor)}
        inner = next((data[key] for key in _NESTED if isinstance(data.get(key), Mapping)), None)
        if inner is None or len(tensors) > 1:
            if tensors:
                return tensors
            break
        data = inner
    raise CheckpointError(
        f"{path.name} is a PyTorch file, but it holds no dictionary of named tensors. "
        "Save the model's state_dict()."
    )


def _without_wrappers(key: str) -> str:
    changed = True
    while changed:
        changed = False
        for prefix in _WRAPPERS:
            if key.startswith(prefix):
                key, changed = key.removeprefix(prefix), True
    return key


def _plain(tensor: Tensor) -> Tensor:
    dtype = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
    return tensor.detach().to(dtype).contiguous()


def read_json(path: Path) -> object:
    """Data of a JSON file. Raises CheckpointError."""
    try:
        return json.loads(_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not readable as JSON: {error}.") from None
