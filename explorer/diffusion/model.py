"""Diffusion: a network that predicts noise, the schedule it was trained with, and its pictures."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.compute.device import fast_dtype, pick_device
from explorer.diffusion.samplers import FEWEST_STEPS_FOR_LARGE_VARIANCE, Prediction
from explorer.diffusion.tiles import Tiles
from explorer.errors import ModelError

_PREDICTIONS = ("epsilon", "sample", "v_prediction")


@dataclass(frozen=True, eq=False, repr=False)
class Diffusion:
    """An unconditional diffusion model, ready to noise and denoise; see ``open_diffusion``.

    ``unet`` is a diffusers ``UNet2DModel`` or ``DiTTransformer2DModel`` (its null class is used),
    ``scheduler`` any diffusers scheduler with ``alphas_cumprod``, ``vae`` an ``AutoencoderKL`` for
    models of latents, ``examples`` uint8 pictures (n, h, w, channels) that it was not trained on,
    ``tiles`` the grammar of its pictures where that is known. Raises ModelError for a network or
    a scheduler that does not fit.
    """

    name: str
    unet: Any
    scheduler: Any
    vae: Any = None
    examples: np.ndarray | None = None
    tiles: Tiles | None = None
    family: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_scheduler(self.name, self.scheduler)
        extra = self.unet.config.get("out_channels") or self.network_channels
        if extra not in (self.network_channels, 2 * self.network_channels):
            raise ModelError(
                f"The network of {self.name} takes {self.network_channels} channels and returns "
                f"{extra}; it must return as many, or twice as many with a learned variance."
            )
        if self.vae is None:
            check_pixels(self.name, self.network_channels)

    # --- what it is --------------------------------------------------------------------------

    @property
    def network_channels(self) -> int:
        """Channels of x: those of the picture, or of its latents."""
        return int(self.unet.config["in_channels"])

    @property
    def channels(self) -> int:
        """Channels of a picture: 3 (RGB) or 1 (grey)."""
        return self.network_channels if self.vae is None else 3

    @property
    def network_size(self) -> tuple[int, int]:
        """Height and width of x."""
        size = self.unet.config["sample_size"]
        if size is None:
            raise ModelError(f"The configuration of {self.name} does not say its sample_size.")
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a picture, pixels."""
        height, width = self.network_size
        return height * self._latent_stride, width * self._latent_stride

    @property
    def data_range(self) -> tuple[float, float]:
        """What black and white are to the network."""
        return (-1.0, 1.0)

    @property
    def prediction(self) -> str:
        """What the network predicts: "epsilon", "sample" or "v_prediction"."""
        return _prediction(self.scheduler)

    @cached_property
    def alpha_bar(self) -> np.ndarray:
        """Cumulative product of 1 - beta at every trained timestep, float64 (timesteps)."""
        return np.asarray(self.scheduler.alphas_cumprod.double().cpu())

    @property
    def timesteps(self) -> int:
        """How many timesteps it was trained with."""
        return len(self.alpha_bar)

    @property
    def n_parameters(self) -> int:
        """Numbers in the network."""
        return sum(p.numel() for p in self.unet.parameters())

    def variance_kind(self, steps: int) -> str:
        """The reverse variance used with that many steps: fixed_large is for full chains only."""
        kind = self.scheduler.config.get("variance_type") or "fixed_small"
        if kind.startswith("fixed_large") and steps < FEWEST_STEPS_FOR_LARGE_VARIANCE:
            return "fixed_small"
        return kind

    @property
    def _latent_stride(self) -> int:
        return 1 if self.vae is None else 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    # --- what it does ------------------------------------------------------------------------

    def to(self, device: str | torch.device) -> "Diffusion":
        """The same model on another device."""
        chosen = pick_device(str(device))
        vae = None if self.vae is None else self.vae.to(chosen)
        return replace(self, unet=self.unet.to(chosen), vae=vae, device=chosen)

    @torch.inference_mode()
    def predict(self, x: Tensor, timestep: int, dtype: torch.dtype = torch.float32) -> Prediction:
        """What the network says of x_t, float32 (n, c, h, w), at one trained timestep.

        The network computes in ``dtype``; everything after it is float32.
        """
        out = self._network(x, timestep, dtype).float()
        variance = None
        if out.shape[1] == 2 * x.shape[1]:
            out, variance = out.chunk(2, dim=1)
        abar = float(self.alpha_bar[timestep])
        signal, noise = math.sqrt(abar), math.sqrt(1 - abar)
        if self.prediction == "epsilon":
            predicted, x0 = out, (x - noise * out) / max(signal, 1e-12)
        elif self.prediction == "v_prediction":
            predicted, x0 = signal * out + noise * x, signal * x - noise * out
        else:
            predicted, x0 = (x - signal * out) / max(noise, 1e-12), out
        return Prediction(self._bounded(x0), predicted, variance)

    def _network(self, x: Tensor, timestep: int, dtype: torch.dtype) -> Tensor:
        t = torch.full((len(x),), timestep, dtype=torch.long, device=x.device)
        labels = {}
        classes = self.unet.config.get("num_embeds_ada_norm")
        if classes:  # a class-conditional transformer: its last label stands for no class
            labels = {"class_labels": torch.full_like(t, classes)}
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return self.unet(x, timestep=t, **labels).sample

    def _bounded(self, x0: Tensor) -> Tensor:
        config = self.scheduler.config
        if config.get("thresholding"):
            return self.scheduler._threshold_sample(x0)
        if config.get("clip_sample"):
            bound = config.get("clip_sample_range") or 1.0
            return x0.clamp(-bound, bound)
        return x0

    @torch.inference_mode()
    def encode(self, pictures: np.ndarray) -> Tensor:
        """uint8 pictures (n, h, w, channels) -> x_0, float32 (n, c, h, w) on the device."""
        pixels = torch.tensor(pictures).permute(0, 3, 1, 2)
        x = pixels.to(self.device).float() / 127.5 - 1
        if self.vae is None:
            return x
        return self.vae.encode(x).latent_dist.mode() * self.vae.config["scaling_factor"]

    @torch.inference_mode()
    def decode(self, x: Tensor) -> np.ndarray:
        """x (n, c, h, w) -> uint8 pictures (n, h, w, channels)."""
        if self.vae is not None:
            x = self.vae.decode(x / self.vae.config["scaling_factor"]).sample
        pixels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().numpy()

    def dtype_of(self, precision: str) -> torch.dtype:
        """The number format that the network computes in. Raises ModelError."""
        return fast_dtype(self.device, precision)

    def __repr__(self) -> str:
        height, width = self.image_size
        kind = "grey" if self.channels == 1 else "RGB"
        return (
            f"<Diffusion {self.name!r}: {height} x {width} {kind}, "
            f"{self.n_parameters / 1e6:.1f} million parameters, {self.device.type}>"
        )


def check_scheduler(name: str, scheduler: Any) -> None:
    """Raise ModelError unless a scheduler's noise is that of ``forward_backward``."""
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ModelError(
            f"The scheduler {type(scheduler).__name__} of {name} has no alphas_cumprod; models of "
            "another noise process cannot be opened."
        )
    if _prediction(scheduler) not in _PREDICTIONS:
        raise ModelError(
            f"{name} predicts {_prediction(scheduler)!r}; only {', '.join(_PREDICTIONS)} can be "
            "opened."
        )


def check_pixels(name: str, channels: int) -> None:
    """Raise ModelError for a network without a decoder that takes no pictures."""
    if channels not in (1, 3):
        raise ModelError(
            f"{name} is no model of pictures: its network takes {channels} channels, which are "
            "latents, and there is no vae folder to decode them. Give the whole pipeline's folder, "
            "or a model of pixels."
        )


def _prediction(scheduler: Any) -> str:
    return scheduler.config.get("prediction_type", "epsilon")
