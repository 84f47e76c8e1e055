"""CachedTask: a task whose images lie preprocessed in the image cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from explorer.errors import ImageError, UnknownNameError
from explorer.tasks.image_cache import ImageCache, ImageSet
from explorer.tasks.task import SPLITS, Task


@dataclass(frozen=True)
class CachedTask(Task):
    """A task of the benchmark at ``image_size`` pixels, its images memory-mapped from disk.

    ``sets`` are the prepared sets a split; a split that is not among them is the one that was used
    last at this size. ``cached_as`` is the benchmark's name where ``name`` is a model's own. The
    images are in a random order, so that the first n are a random subset.
    """

    sets: Mapping[str, ImageSet] = field(default_factory=dict, repr=False, compare=False)
    cached_as: str = ""

    def _load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        name = self.cached_as or self.name
        found = self.sets.get(split) or ImageCache().latest(name, split, self.image_size)
        if found is None:
            raise ImageError(
                f"The {split} images of {name!r} are not prepared at {self.image_size} "
                f"pixels: do it once with ex.open_task({name!r}, split={split!r}, "
                f"size={self.image_size}, folder=...)."
            )
        images, labels = found.open()
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise ImageError(
                f"The prepared images {found.path} have labels up to {labels.max()}, and "
                f"{self.name!r} has {len(self.class_names)} classes. Delete the folder."
            )
        labels.flags.writeable = False
        return images, labels
