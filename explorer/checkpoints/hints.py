"""What a file says of its tower besides its weights: which activation it was trained with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.checkpoints.archives import Contents, file_within, read_json
from explorer.checkpoints.families import Shapes
from explorer.errors import CheckpointError

_ACTIVATIONS = {"quick_gelu": "quick_gelu", "quickgelu": "quick_gelu", "gelu": "gelu"}


def activation_of(
    contents: Contents, classes: Mapping[str, str], layout: str, shapes: Shapes
) -> tuple[str | None, list[str]]:
    """("quick_gelu", "gelu" or None, remarks): told by the classes that a pickled module names,
    the file's metadata, or the configuration beside it (config.json, open_clip_config.json)."""
    kinds = set(classes.values())
    if any(kind.endswith(".QuickGELU") for kind in kinds):
        return "quick_gelu", []
    if any(kind == "torch.nn.modules.activation.GELU" for kind in kinds):
        return "gelu", []
    written = str(contents.metadata.get("activation", "")).lower()
    if written in _ACTIVATIONS:
        return _ACTIVATIONS[written], []
    folder = contents.path.parent
    if layout.startswith("hf"):
        return _of_config(folder, "config.json", _hugging_face, shapes)
    if layout.startswith("open_clip"):
        return _of_config(folder, "open_clip_config.json", _open_clip, shapes)
    return None, []


def _of_config(folder: Path, name: str, read: Any, shapes: Shapes) -> tuple[str | None, list[str]]:
    """What a configuration says. One that cannot be read, or is another model's, is a remark."""
    if not (folder / name).is_file():
        return None, []
    try:
        config = read_json(file_within(folder, name))
        width, activation = read(config if isinstance(config, dict) else {})
    except CheckpointError as error:
        return None, [str(error)]
    own = shapes.get("conv1.weight", (None,))[0]
    if activation is None or width != own:
        return None, [f"the {name} beside it describes another model (width {width})"]
    return activation, []


def _hugging_face(config: Mapping[str, Any]) -> tuple[object, str | None]:
    """(width, activation) of transformers' CLIPConfig or CLIPVisionConfig, and their defaults."""
    vision = config.get("vision_config", config)
    if not isinstance(vision, Mapping) or not str(config.get("model_type", "")).startswith("clip"):
        return None, None
    activation = _ACTIVATIONS.get(str(vision.get("hidden_act", "quick_gelu")))
    return vision.get("hidden_size", 768), activation


def _open_clip(config: Mapping[str, Any]) -> tuple[object, str | None]:
    """(width, activation) of open_clip's configuration, as the hub has it or a model's own."""
    model = config.get("model_cfg", config)
    vision = model.get("vision_cfg") if isinstance(model, Mapping) else None
    if not isinstance(vision, Mapping):
        return None, None
    quick = "quick_gelu" if model.get("quick_gelu") else "gelu"
    return vision.get("width", 768), quick
