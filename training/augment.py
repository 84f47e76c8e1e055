"""From rendered masks and colours (48 px) to the 32 px images that a model sees, by the batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32


def _warp(
    images: Tensor,
    g: torch.Generator,
    turn: float,
    zoom: tuple[float, float],
    shift: float,
    shear: float,
) -> Tensor:
    """Random affine resampling of (B, C, 48, 48) floats to (B, C, 32, 32); zero outside."""
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=g)

    angle, scale = math.radians(turn) * uniform(-1, 1), uniform(*zoom)
    aspect = 1 + 0.12 * (turn > 6) * uniform(-1, 1)
    cos, sin, lean = torch.cos(angle), torch.sin(angle), shear * uniform(-1, 1)
    theta = torch.stack(
        [
            torch.stack([cos / (scale * aspect), (lean - sin) / scale, shift * uniform(-1, 1)], 1),
            torch.stack([sin / scale, cos / scale, shift * uniform(-1, 1)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [n, images.shape[1], 40, 40], align_corners=False)
    warped = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    return F.interpolate(warped, (SIDE, SIDE), mode="bilinear", antialias=True)


def _stroke(masks: Tensor, g: torch.Generator, share: float) -> Tensor:
    """Thicken or thin the ink of a random ``share`` of the masks (each way)."""
    choice = torch.rand(len(masks), 1, 1, 1, generator=g)
    thick = F.max_pool2d(masks, 3, 1, 1)
    thin = -F.max_pool2d(-masks, 3, 1, 1)
    thin = torch.where(
        thin.sum((1, 2, 3), keepdim=True) > 0.35 * masks.sum((1, 2, 3), keepdim=True), thin, masks
    )
    return torch.where(choice < share, thick, torch.where(choice > 1 - share, thin, masks))


def _ground(n: int, g: torch.Generator, plain: float) -> tuple[Tensor, Tensor]:
    """Ink and background (n, 3, 1, 1) with enough contrast; a share ``plain`` black and white."""
    back = torch.rand(n, 3, generator=g)
    ink = torch.rand(n, 3, generator=g)
    luma = torch.tensor([0.3, 0.59, 0.11])
    close = ((ink - back) @ luma).abs() < 0.35
    ink = torch.where(
        close[:, None], ((back @ luma) < 0.5).float()[:, None] * 0.85 + 0.15 * ink, ink
    )
    bw = torch.rand(n, generator=g) < plain
    white = (torch.rand(n, generator=g) < 0.5).float()[:, None].expand(-1, 3)
    back, ink = torch.where(bw[:, None], white, back), torch.where(bw[:, None], 1 - white, ink)
    return ink[:, :, None, None], back[:, :, None, None]


def _finish(images: Tensor, g: torch.Generator, blur: float, noise: float) -> Tensor:
    n = len(images)
    soft = F.avg_pool2d(F.pad(images, [1, 1, 1, 1], mode="replicate"), 3, 1)
    images = torch.where(torch.rand(n, 1, 1, 1, generator=g) < blur, soft, images)
    sigma = noise * torch.rand(n, 1, 1, 1, generator=g)
    return (images + sigma * torch.randn(images.shape, generator=g)).clamp(0, 1)


def strong(masks: Tensor, g: torch.Generator) -> Tensor:
    """Pretraining views of (B, 48, 48) uint8 masks: (B, 3, 32, 32) in [0, 1], in all colours."""
    ink_map = _warp(_stroke(masks[:, None].float() / 255, g, 0.2), g, 15, (0.68, 1.08), 0.12, 0.2)
    ink, back = _ground(len(masks), g, 0.4)
    return _finish(ink_map * ink + (1 - ink_map) * back, g, 0.25, 0.10)


def strong_colour(rgba: Tensor, g: torch.Generator) -> Tensor:
    """Pretraining views of (B, 48, 48, 4) uint8 images over a random background."""
    x = rgba.permute(0, 3, 1, 2).float() / 255
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1)
    x = _warp(x, g, 12, (0.75, 1.1), 0.10, 0.12)
    _, back = _ground(len(rgba), g, 0.5)
    x = x[:, :3] + (1 - x[:, 3:]) * back
    gain = 1 + 0.25 * (torch.rand(len(rgba), 3, 1, 1, generator=g) - 0.5)
    return _finish((x * gain).clamp(0, 1), g, 0.15, 0.06)


def mild(masks: Tensor, g: torch.Generator, plain: float = 0.5) -> Tensor:
    """Task images of (B, 48, 48) masks: small rotations, ink and paper; uint8 (B, 32, 32, 3)."""
    ink_map = _warp(masks[:, None].float() / 255, g, 6, (0.85, 1.02), 0.05, 0.0)
    ink, back = _ground(len(masks), g, plain)
    return _bytes(_finish(ink_map * ink + (1 - ink_map) * back, g, 0.0, 0.03))


def street(masks: Tensor, g: torch.Generator, plain: float = 0.5) -> Tensor:
    """A glyph between two neighbours that reach into the frame; uint8 (B, 32, 32, 3)."""
    n, side = len(masks), masks.shape[1]
    wide = torch.zeros(n, 1, 3 * side, 3 * side)
    middle = slice(side, 2 * side)
    for shift in (-35, 35):
        other = masks[torch.randperm(n, generator=g)].float() / 255
        wide[:, 0, middle, side + shift : 2 * side + shift] = other
    wide[:, 0, middle, middle] = torch.maximum(wide[:, 0, middle, middle], masks.float() / 255)
    ink_map = _warp(wide, g, 8, (1.75, 2.2), 0.02, 0.1)
    ink, back = _ground(n, g, plain)
    return _bytes(_finish(ink_map * ink + (1 - ink_map) * back, g, 0.3, 0.10))


def crossed(masks: Tensor, g: torch.Generator, plain: float = 0.5, lines: int = 3) -> Tensor:
    """A glyph struck through by thin lines of the same ink; uint8 (B, 32, 32, 3)."""
    n, side = len(masks), masks.shape[1]
    ink_map = masks[:, None].float() / 255
    y, x = torch.meshgrid(
        torch.arange(side) - side / 2, torch.arange(side) - side / 2, indexing="ij"
    )
    for _ in range(lines):
        angle = math.pi * torch.rand(n, 1, 1, 1, generator=g)
        offset = 32 * (torch.rand(n, 1, 1, 1, generator=g) - 0.5)
        distance = (x * torch.cos(angle) + y * torch.sin(angle) - offset).abs()
        ink_map = torch.maximum(ink_map, (1.6 - distance).clamp(0, 1))
    ink_map = _warp(ink_map, g, 8, (0.85, 1.02), 0.05, 0.1)
    ink, back = _ground(n, g, plain)
    return _bytes(_finish(ink_map * ink + (1 - ink_map) * back, g, 0.2, 0.08))


def badge(masks: Tensor, g: torch.Generator, plain: float = 0.5) -> Tensor:
    """A picture, turned by up to 25 degrees, on a round or square badge; uint8 (B, 32, 32, 3)."""
    n, side = len(masks), masks.shape[1]
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    power = torch.where(torch.rand(n, 1, 1, 1, generator=g) < 0.5, 2.0, 6.0)
    disc = ((0.92 - (x.abs() ** power + y.abs() ** power) ** (1 / power)) * side / 2).clamp(0, 1)
    small = _warp(masks[:, None].float() / 255, g, 25, (0.68, 0.88), 0.08, 0.1)
    disc = _warp(disc, g, 0.0, (0.95, 1.0), 0.02, 0.0)
    ink, field = _ground(n, g, plain)
    back = torch.rand(n, 3, 1, 1, generator=g)
    face = small * ink + (1 - small) * field
    return _bytes(_finish(disc * face + (1 - disc) * back, g, 0.2, 0.08))


def mild_colour(rgba: Tensor, g: torch.Generator) -> Tensor:
    """Task images of (B, 48, 48, 4) pictures over black, white or grey; uint8 (B, 32, 32, 3)."""
    x = rgba.permute(0, 3, 1, 2).float() / 255
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1)
    x = _warp(x, g, 4, (0.88, 1.02), 0.04, 0.0)
    back = torch.rand(len(rgba), 1, 1, 1, generator=g).mul(3).floor() / 2
    return _bytes(_finish(x[:, :3] + (1 - x[:, 3:]) * back, g, 0.0, 0.02))


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def jitter(images: Tensor, g: torch.Generator) -> Tensor:
    """Fine-tuning view of uint8 (B, 32, 32, 3) images: (B, 3, 32, 32) in [0, 1].

    Shifted by up to 2 px, turned by up to 8 degrees, a little lighter or darker.
    """
    x = images.permute(0, 3, 1, 2).float() / 255
    n = len(x)
    theta = torch.eye(2, 3).repeat(n, 1, 1)
    theta[:, :, 2] = (torch.rand(n, 2, generator=g) - 0.5) * 4 * 2 / SIDE
    angle = math.radians(8) * (2 * torch.rand(n, generator=g) - 1)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle)
    theta[:, 0, 1], theta[:, 1, 0] = -torch.sin(angle), torch.sin(angle)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (x * (0.9 + 0.2 * torch.rand(n, 1, 1, 1, generator=g))).clamp(0, 1)
