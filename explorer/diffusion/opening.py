"""Opening diffusion models: embedded ones, folders in diffusers' layout, and the hub."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from explorer.checkpoints.reading import read_json
from explorer.checkpoints.zoo import diffusion_folders
from explorer.compute.device import limit_threads, pick_device
from explorer.diffusion.model import Diffusion
from explorer.diffusion.tiles import Tiles
from explorer.errors import CheckpointError, HubError, ModelError, UnknownNameError

NETWORKS = ("UNet2DModel", "DiTTransformer2DModel", "Transformer2DModel")
_NETWORK_FOLDERS = ("unet", "transformer", ".")
_WANTED_FILES = ["*.json", "*.safetensors"]


def open_diffusion(name: str | Path, device: str = "auto") -> Diffusion:
    """An unconditional diffusion model, by the name of an embedded one, a folder or a hub id.

        p = ex.open_diffusion("tiles")
        p = ex.open_diffusion("google/ddpm-cifar10-32")     # downloaded with huggingface_hub
        p.image_size, p.channels, p.scheduler

    A folder is in diffusers' layout: ``unet`` (or ``transformer``) and ``scheduler``, or both at
    the top; ``vae`` for models of latents. Only safetensors are read: pickled weights (.bin) can
    run code. Class-conditional transformers (DiT) are used with their null class. Raises
    UnknownNameError, CheckpointError or ModelError, and HubError when the hub does not answer.
    """
    limit_threads()
    chosen = pick_device(device)
    folder, family = _folder(name)
    network = _read_network(folder)
    scheduler = _read_scheduler(folder)
    opened = Diffusion(
        name=folder.name if family == "embedded" else str(name),
        unet=network,
        scheduler=scheduler,
        vae=_read_vae(folder),
        examples=_read_examples(folder),
        tiles=_read_tiles(folder),
        family=f"{folder.name} ({family})",
    )
    return opened.to(chosen)


def embedded_diffusion() -> list[str]:
    """Names of the diffusion models that come with the package."""
    return sorted(diffusion_folders())


def _folder(name: str | Path) -> tuple[Path, str]:
    text = str(name)
    if text in (embedded := diffusion_folders()):
        return embedded[text], "embedded"
    path = Path(text.removeprefix("hub:")).expanduser()
    if path.is_dir() and not text.startswith("hub:"):
        return path, "local"
    parts = text.removeprefix("hub:").split("/")
    if isinstance(name, Path) or len(parts) > 2 or text.startswith((".", "~")):
        raise CheckpointError(f"There is no folder {text}.")
    if len(parts) == 2 and all(parts):
        return _download("/".join(parts)), "hub"
    raise UnknownNameError("diffusion model", text, embedded_diffusion())


def _download(repository: str) -> Path:
    """The hub's repository on this machine; only its JSON and safetensors files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    unreachable: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, *_connection_errors())
    try:
        return Path(snapshot_download(repository, allow_patterns=_WANTED_FILES))
    except LocalEntryNotFoundError:
        raise HubError(
            f"The hub does not answer, and {repository!r} has not been downloaded to this machine "
            "before. Download it where there is a network and give its folder, or open an embedded "
            f"model ({', '.join(embedded_diffusion()) or 'none here'})."
        ) from None
    except HFValidationError:
        raise HubError(f"{repository!r} is no name of a repository of the hub.") from None
    except unreachable as error:
        reason = str(error).strip().partition("\n")[0]
        raise HubError(
            f"{repository!r} cannot be had from the hub ({reason}). Check the name, or give the "
            "folder of a copy."
        ) from None


def _connection_errors() -> tuple[type[Exception], ...]:
    try:
        import httpx
    except ImportError:  # huggingface_hub before 1.0 uses requests, whose errors are OSErrors
        return ()
    return (httpx.HTTPError,)


def _diffusers() -> Any:
    """The library, also while another thread imports it.

    At the end of its import diffusers puts another module in its own place; ``import`` in a thread
    that waited for that gives the one that was replaced, which is empty.
    """
    importlib.import_module("diffusers")
    return sys.modules["diffusers"]


def _read_network(folder: Path) -> nn.Module:
    where = _part(folder, _NETWORK_FOLDERS, "config.json", NETWORKS)
    if where is None:
        raise ModelError(_no_network(folder))
    config = _config(where / "config.json")
    _check_unconditional(config, folder.name)
    _check_safe(where, "diffusion_pytorch_model")
    kind = config["_class_name"]
    if kind == "Transformer2DModel":  # what DiT was called in older versions of diffusers
        kind = "DiTTransformer2DModel"
    return _loaded(getattr(_diffusers(), kind), where)


def _no_network(folder: Path) -> str:
    other = next(
        (
            str(found.get("_class_name"))
            for name in _NETWORK_FOLDERS
            if isinstance(found := _config_or_none(folder / name / "config.json"), Mapping)
        ),
        None,
    )
    if other == "UNet2DConditionModel":
        return (
            f"{folder.name} is a conditional model (UNet2DConditionModel): it needs a prompt. "
            "Open an unconditional one, such as google/ddpm-cifar10-32."
        )
    words = f"its network is a {other}" if other else "it has no unet/config.json"
    return (
        f"{folder.name} holds no unconditional diffusion model of diffusers: {words}, where "
        "UNet2DModel or DiTTransformer2DModel is expected."
    )


def _check_unconditional(config: Mapping[str, Any], name: str) -> None:
    if config.get("class_embed_type") or (
        config.get("num_class_embeds") and config["_class_name"] == "UNet2DModel"
    ):
        raise ModelError(
            f"{name} is conditional: its UNet wants a class with every picture, and has none that "
            "stands for no class. Open an unconditional model."
        )


def _read_scheduler(folder: Path) -> Any:
    diffusers = _diffusers()
    for where in (folder / "scheduler", folder):
        if (where / "scheduler_config.json").is_file():
            config = _config(where / "scheduler_config.json")
            kind = getattr(diffusers, str(config.get("_class_name")), None)
            if kind is None or not hasattr(kind, "from_config"):
                raise ModelError(
                    f"{folder.name} names the scheduler {config.get('_class_name')!r}, which this "
                    "version of diffusers does not have."
                )
            return kind.from_config(config)
    raise CheckpointError(
        f"{folder.name} has no scheduler/scheduler_config.json, so that its noise is not known."
    )


def _read_vae(folder: Path) -> nn.Module | None:
    if not (folder / "vae" / "config.json").is_file():
        return None
    _check_safe(folder / "vae", "diffusion_pytorch_model")
    return _loaded(_diffusers().AutoencoderKL, folder / "vae")


def _loaded(kind: Any, where: Path) -> nn.Module:
    import torch

    try:
        network = kind.from_pretrained(
            where,
            use_safetensors=True,
            local_files_only=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,  # what it would otherwise use is not installed
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The weights in {where} cannot be read ({reason}).") from None
    return network.requires_grad_(False).eval()


def _check_safe(where: Path, stem: str) -> None:
    if any(where.glob(f"{stem}*.safetensors")):
        return
    if any(where.glob("*.bin")):
        raise CheckpointError(
            f"The weights in {where} are pickled (.bin), which can run code when read. Convert "
            "them to safetensors where you trust them, or use a repository that has both."
        )
    raise CheckpointError(f"{where} has no {stem}.safetensors.")


def _read_examples(folder: Path) -> np.ndarray | None:
    path = folder / "examples.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as saved:
        return saved["images"]


def _read_tiles(folder: Path) -> Tiles | None:
    path = folder / "tiles.json"
    return Tiles.from_json(_config(path)) if path.is_file() else None


def _part(folder: Path, names: tuple[str, ...], file: str, kinds: tuple[str, ...]) -> Path | None:
    """The first sub-folder whose configuration names one of the classes."""
    for name in names:
        config = _config_or_none(folder / name / file)
        if config is not None and config.get("_class_name") in kinds:
            return folder / name
    return None


def _config_or_none(path: Path) -> Mapping[str, Any] | None:
    return _config(path) if path.is_file() else None


def _config(path: Path) -> Mapping[str, Any]:
    config = read_json(path)
    if not isinstance(config, Mapping):
        raise CheckpointError(f"{path} must hold an object.")
    return config
