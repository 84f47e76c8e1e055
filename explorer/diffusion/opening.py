"""Opening diffusion models: embedded ones, folders in diffusers' layout, and the hub."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from explorer.checkpoints.reading import read_json
from explorer.checkpoints.zoo import diffusion_folders
from explorer.compute.device import limit_threads, pick_device
from explorer.diffusion.model import Diffusion, check_pixels, check_scheduler
from explorer.diffusion.tiles import Tiles
from explorer.diffusion.weights import STEM, read_network, safe_weights
from explorer.errors import CheckpointError, HubError, ModelError, UnknownNameError

NETWORKS = ("UNet2DModel", "DiTTransformer2DModel", "Transformer2DModel")
_NETWORK_FOLDERS = ("unet", "transformer", ".")
_DESCRIPTIONS = ["*.json"]
_OTHER_FORMS = ["*.fp16.*", "*.non_ema.*"]  # the same weights once more


def open_diffusion(name: str | Path, device: str = "auto") -> Diffusion:
    """An unconditional diffusion model, by the name of an embedded one, a folder or a hub id.

        p = ex.open_diffusion("tiles")
        p = ex.open_diffusion("google/ddpm-cifar10-32")     # downloaded with huggingface_hub
        p.image_size, p.channels, p.scheduler

    A folder is in diffusers' layout: ``unet`` (or ``transformer``) and ``scheduler``, or both at
    the top; ``vae`` for models of latents. Weights are safetensors, or pickles (.bin) where there
    are none: those are read without ever running what is in them. Class-conditional transformers
    (DiT) are used with their null class. A model that cannot be used is refused by its
    configuration, before its weights are downloaded. Raises UnknownNameError, CheckpointError or
    ModelError, and HubError when the hub does not answer.
    """
    limit_threads()
    chosen = pick_device(device)
    folder, family = _folder(name)
    described = _described(folder)
    opened = Diffusion(
        name=folder.name if family == "embedded" else str(name),
        unet=read_network(described.kind, described.network),
        scheduler=described.scheduler,
        vae=_read_vae(described.vae),
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
    """What is needed of a hub's repository on this machine.

    Its descriptions come first, a few kilobytes: by them most models that cannot be used are
    refused. Then the weights of its parts, as safetensors; pickles only where it has no others.
    """
    described = _described(_fetched(repository, _DESCRIPTIONS), repository)
    parts = [part for part in (described.network, described.vae) if part is not None]
    folder = described.folder
    places = ["" if part == folder else f"{part.name}/" for part in parts]
    folder = _fetched(repository, [f"{place}{STEM}*.safetensors" for place in places])
    pickled = [place for place in places if not safe_weights(folder / place)]
    if pickled:
        folder = _fetched(repository, [f"{place}{STEM}.bin" for place in pickled])
    return folder


def _fetched(repository: str, patterns: list[str]) -> Path:
    """The folder of the hub's files of these patterns, downloaded where they are not here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    unreachable: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, *_connection_errors())
    try:
        return Path(
            snapshot_download(repository, allow_patterns=patterns, ignore_patterns=_OTHER_FORMS)
        )
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


@dataclass(frozen=True)
class _Described:
    """A model by its JSON files alone: where its parts are, and of what class its network is."""

    folder: Path
    network: Path
    kind: Any
    vae: Path | None
    scheduler: Any


def _described(folder: Path, name: str = "") -> _Described:
    """What a folder's descriptions say, without its weights.

    Raises ModelError for a model that needs a prompt or a class, is of latents without a decoder,
    or has another noise process.
    """
    name = name or folder.name
    network = _part(folder, _NETWORK_FOLDERS, "config.json", NETWORKS)
    if network is None:
        raise ModelError(_no_network(folder, name))
    config = _config(network / "config.json")
    _check_unconditional(config, name)
    kind = config["_class_name"]
    if kind == "Transformer2DModel":  # what DiT was called in older versions of diffusers
        kind = "DiTTransformer2DModel"
    vae = folder / "vae" if (folder / "vae" / "config.json").is_file() else None
    channels = config.get("in_channels")
    if vae is None and isinstance(channels, int):
        check_pixels(name, channels)
    scheduler = _read_scheduler(folder, name)
    check_scheduler(name, scheduler)
    return _Described(folder, network, getattr(_diffusers(), kind), vae, scheduler)


def _no_network(folder: Path, name: str) -> str:
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
            f"{name} is a conditional model (UNet2DConditionModel): it needs a prompt. "
            "Open an unconditional one, such as google/ddpm-cifar10-32."
        )
    words = f"its network is a {other}" if other else "it has no unet/config.json"
    return (
        f"{name} holds no unconditional diffusion model of diffusers: {words}, where "
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


def _read_scheduler(folder: Path, name: str) -> Any:
    diffusers = _diffusers()
    for where in (folder / "scheduler", folder):
        if (where / "scheduler_config.json").is_file():
            config = _config(where / "scheduler_config.json")
            kind = getattr(diffusers, str(config.get("_class_name")), None)
            if kind is None or not hasattr(kind, "from_config"):
                raise ModelError(
                    f"{name} names the scheduler {config.get('_class_name')!r}, which this "
                    "version of diffusers does not have."
                )
            return kind.from_config(config)
    raise CheckpointError(
        f"{name} has no scheduler/scheduler_config.json, so that its noise is not known."
    )


def _read_vae(where: Path | None) -> nn.Module | None:
    return None if where is None else read_network(_diffusers().AutoencoderKL, where)


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
