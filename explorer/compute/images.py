"""Images resident on the device, shared by every engine of a model."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from explorer.tasks.task import Split

if TYPE_CHECKING:
    from explorer.compute.engine import ImageRange


class ImageStore:
    """Decoded images of each task as uint8 (n, 3, h, w) on the device, loaded once.

    They stay in bytes, a quarter of float32's memory; normalising a batch costs less than one
    percent of its forward.
    """

    def __init__(
        self,
        read: Callable[[str, Split], np.ndarray],
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        order: Callable[[str, Split, int | None], np.ndarray],
    ) -> None:
        self._read = read
        self._order = order
        self._device = device
        # (x/255 - mean) / std = x * slope + offset
        self._slope = (1 / (255 * torch.tensor(std))).view(1, 3, 1, 1).to(device)
        self._offset = (-torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1).to(device)
        self._images: dict[tuple[str, Split], Tensor] = {}
        self._lock = threading.Lock()

    def pixels(self, task: str, split: Split) -> Tensor:
        """All images of a split, uint8 (n, 3, h, w)."""
        with self._lock:
            key = (task, split)
            if key not in self._images:
                images = torch.tensor(self._read(task, split))
                self._images[key] = images.permute(0, 3, 1, 2).contiguous().to(self._device)
            return self._images[key]

    def range(self, images: "ImageRange") -> Tensor:
        """The pixels of a range, uint8 (len(images), 3, h, w)."""
        pixels = self.pixels(images.task, images.split)
        if images.seed is None:
            return pixels[images.start : images.stop]
        order = self._order(images.task, images.split, images.seed)[images.start : images.stop]
        return pixels[torch.from_numpy(order).to(self._device)]

    def normalised(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 images as a tower takes them: (x/255 - mean)/std in ``dtype``."""
        return torch.addcmul(self._offset, pixels.float(), self._slope).to(dtype)
