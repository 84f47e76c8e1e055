"""An edited model as files that other tools open: open_clip's layout, or Hugging Face's."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from explorer import __version__
from explorer.checkpoints.card import model_card
from explorer.checkpoints.layouts import to_layout
from explorer.checkpoints.reading import read_json, read_safetensors
from explorer.editing.merging import check_tasks, merge
from explorer.errors import CheckpointError, ExportError, UnknownNameError

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model
    from explorer.recipe import Recipe

Layout = Literal["open_clip", "huggingface"]
LAYOUTS: tuple[str, ...] = ("open_clip", "huggingface")


def export(
    m: "Model",
    recipe: "Recipe",
    path: str | Path,
    layout: Layout = "open_clip",
    overwrite: bool = False,
    card: bool = True,
    accuracy: "xr.Dataset | None" = None,
) -> Path:
    """Write the model that a recipe describes as safetensors, with a card; returns its path.

        ex.export(m, recipe, "edited.safetensors", accuracy=ex.accuracy(m, recipe))

    Beside the weights, float32, lie the architecture (``edited.config.json``) and the model card
    (``edited.md``: recipe, code that makes and opens the file, hashes, licences, and the
    ``accuracy`` given). In layout "open_clip" the file is a whole CLIP, text tower included where
    the model has one: open_clip loads it strictly with the architecture as its model
    configuration. The metadata hold the recipe and, for a trimmed token table, which token each
    row is. Layout "huggingface" is transformers' CLIPVisionModelWithProjection: query, key and
    value apart, the projection transposed; plain vision transformers only.

    Files appear whole or not at all. Raises ExportError where one exists (unless ``overwrite``),
    cannot be written, or has another suffix; RecipeError for a recipe in a linear space, which
    has no weights; UnknownNameError for a task without a vector, or another layout.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    path = Path(path).expanduser()
    files = _checked(path, overwrite, card)
    check_tasks(recipe, m.tasks)
    vectors = {task: m.task_vector(task) for task in recipe.active}
    edited = merge(m.base, vectors, recipe)
    if layout == "open_clip":
        tensors, architecture = open_clip_tensors(m, edited), open_clip_config(m)
    else:
        tensors, architecture = huggingface_tensors(edited), huggingface_config(m)
    metadata = {"format": "pt", "recipe": recipe.to_json(), "explorer": __version__}
    metadata |= {"base": m.name, "family": m.family, "layout": layout}
    metadata |= {"preprocessing": json.dumps({"mean": m.card["mean"], "std": m.card["std"]})}
    tokens = _tokens(m) if layout == "open_clip" else None
    if tokens is not None:
        metadata["tokens"] = json.dumps(tokens)
    parts: dict[Path, Callable[[Path], object]] = {
        files[0]: lambda target: _save(tensors, target, metadata),
        files[1]: lambda target: target.write_text(json.dumps(architecture, indent=1) + "\n"),
    }
    if card:
        parts[files[2]] = lambda target: target.write_text(
            model_card(
                m, recipe, path, layout, _sha256(_temporary(files[0])), accuracy, tokens is not None
            ),
            encoding="utf-8",
        )
    _write(parts)
    return path


def open_clip_tensors(m: "Model", edited: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole CLIP by open_clip's names: the image tower under ``visual.``, and the text tower."""
    named = {f"visual.{key}": tensor for key, tensor in edited.items()}
    text = m.folder.path / "text.safetensors"
    if text.is_file():
        # A CustomTextCLIP keeps its text tower apart; logit_scale is the model's in both.
        prefix = "text." if m.architecture.get("custom_text") else ""
        for key, tensor in read_safetensors(text).items():
            named[key if key == "logit_scale" else f"{prefix}{key}"] = tensor.float()
    return named


def open_clip_config(m: "Model") -> dict[str, Any]:
    """The model's architecture as open_clip's configuration, which must have a text tower.

    A tower without text gets the smallest, which is never filled.
    """
    config = dict(m.architecture)
    if "vision_cfg" in config:
        config.setdefault("text_cfg", {"layers": 1, "width": 64, "heads": 1})
    return config


def huggingface_tensors(edited: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A plain image tower by the names of transformers' CLIPVisionModelWithProjection.

    Raises ExportError naming a parameter that this layout has no place for.
    """
    try:
        return to_layout(edited, "hf")
    except CheckpointError as error:
        raise ExportError(
            f"{error} Only plain vision transformers have Hugging Face's CLIP layout; export with "
            "layout='open_clip'."
        ) from error


def huggingface_config(m: "Model") -> dict[str, Any]:
    """The settings of transformers' CLIPVisionConfig for a model's image tower."""
    vision = m.architecture["vision_cfg"]
    width = vision.get("width", 768)
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
        "num_hidden_layers": vision.get("layers", 12),
        "num_attention_heads": width // vision.get("head_width", 64),
        "image_size": vision.get("image_size", 224),
        "patch_size": vision.get("patch_size", 16),
        "projection_dim": m.embed_dim,
        "hidden_act": "quick_gelu" if m.architecture.get("quick_gelu") else "gelu",
        "layer_norm_eps": 1e-5,
    }


def _tokens(m: "Model") -> list[int] | None:
    """Which of CLIP's tokens each row of a trimmed token table is; None for a whole table."""
    path = m.folder.path / "vocabulary.json"
    data = read_json(path) if path.is_file() else None
    return data.get("tokens") if isinstance(data, dict) else None


def files_beside(path: Path, card: bool = True) -> list[Path]:
    """The files of an export: weights, architecture and card."""
    return [path, path.with_suffix(".config.json"), *([path.with_suffix(".md")] if card else [])]


def _checked(path: Path, overwrite: bool, card: bool) -> list[Path]:
    """The files to write, weights first. Raises ExportError where that cannot go well."""
    if path.suffix != ".safetensors":
        raise ExportError(f"The weights are a safetensors file: give it as {path.stem}.safetensors")
    if not path.parent.is_dir():
        raise ExportError(f"There is no folder {path.parent} to write {path.name} to.")
    files = files_beside(path, card)
    for file in files:
        if file.is_dir():
            raise ExportError(f"{file} is a folder; choose another name.")
        if file.exists() and not overwrite:
            raise ExportError(
                f"{file} exists; choose another name, or write over it with overwrite=True."
            )
    return files


def _write(parts: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write every file beside its place first, then move all of them there."""
    from safetensors import SafetensorError

    current = next(iter(parts))
    try:
        for current, write in parts.items():
            write(_temporary(current))
        for current in parts:
            os.replace(_temporary(current), current)
    except (OSError, SafetensorError) as error:  # a full disk, a folder one may not write to
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{current} could not be written: {reason}.") from error
    finally:
        for file in parts:
            _temporary(file).unlink(missing_ok=True)


def _temporary(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.part")


def _save(tensors: Mapping[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    """Write safetensors whose bytes, and so whose hash, depend on nothing but the arguments."""
    from safetensors.torch import save_file

    save_file({key: x.detach().cpu().contiguous() for key, x in tensors.items()}, target, metadata)
    with target.open("r+b") as file:  # the library writes the metadata in an order of chance
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= length:  # spaces after the header belong to the format
            file.seek(8)
            file.write(ordered.ljust(length))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
