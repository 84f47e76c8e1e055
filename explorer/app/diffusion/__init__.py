"""The diffusion lens: a picture is noised and denoised many times, and one sees what changed
together."""

from explorer.app.diffusion.lens import DiffusionLens

__all__ = ["DiffusionLens"]
