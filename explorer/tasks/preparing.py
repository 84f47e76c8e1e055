"""Decode and preprocess a benchmark task's images into the image cache, a batch at a time."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.run import Run
from explorer.tasks.benchmark.frozen import BenchmarkTask, Names
from explorer.tasks.benchmark.sources import LabelledImages, open_source
from explorer.tasks.cached import CachedTask
from explorer.tasks.image_cache import ImageCache, ImageSet
from explorer.tasks.task import Split, Task, check_count

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 64
"""Images that are written, and shown, at once."""


@dataclass(frozen=True)
class Preparation:
    """What to prepare: ``n`` images of a split (all when None), drawn with ``seed``, at ``size``.

    ``folder`` is where the images are, or where ``download`` puts them.
    """

    task: BenchmarkTask
    n: int | None
    folder: Path
    split: Split
    size: int
    seed: int
    download: bool
    names: Names

    def steps(self, run: Run[Task]) -> Iterator[Task]:
        """The work of a Run: the task with the images there are so far, after every batch.

        Images come in the order of the seed, so that those of a smaller ``n`` are the first of a
        larger one, and what was prepared before is not decoded again.
        """
        source = open_source(
            self.task, self.split, self.folder, self.download, lambda: run.checkpoint(0.0)
        )
        wanted = check_count(self.n, source.n, self.task.name)
        cache = ImageCache()
        images = cache.set(self.task.name, self.split, self.size, self._digest(source))
        if images.count < wanted:
            cache.make_room(wanted * self.size**2 * 3, images)
            with images.writing(self._about(source)) as writer:
                done = images.count  # another program may have come first
                while done < wanted:
                    batch = self._order(source)[done : min(done + BATCH, wanted)]
                    writer.append(*self._decoded(source, batch, run, done / wanted, 1 / wanted))
                    done += len(batch)
                    yield self._opened(source, images, done)
        yield self._opened(source, images, wanted)

    def _order(self, source: LabelledImages) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(source.n)

    def _decoded(
        self, source: LabelledImages, batch: np.ndarray, run: Run[Task], start: float, step: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images at these places, preprocessed: uint8 (n, size, size, 3), int64 labels (n,)."""
        preprocess = preprocessing(self.size)
        pixels = np.empty((len(batch), self.size, self.size, 3), np.uint8)
        labels = np.empty(len(batch), np.int64)
        for row, place in enumerate(batch):
            run.checkpoint(start + row * step)
            image, labels[row] = source.read(int(place))
            pixels[row] = np.asarray(preprocess(image))
        return pixels, labels

    def _opened(self, source: LabelledImages, images: ImageSet, n: int) -> CachedTask:
        class_names, templates = self.task.prompts(self.names)
        return CachedTask(
            name=self.task.name,
            title=self.task.title,
            class_names=class_names,
            templates=templates,
            path=images.path,
            image_size=self.size,
            source=f"{n:,} of {source.n:,} {self.split} images of {source.what}, seed {self.seed}",
            limit=n,
            sets={self.split: images},
        )

    def _digest(self, source: LabelledImages) -> str:
        """What a set depends on beside task, split and size, which its folder is named by."""
        text = f"1 bicubic centre {self.seed} {source.n} {source.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _about(self, source: LabelledImages) -> dict[str, Any]:
        about = {"task": self.task.name, "split": self.split, "size": self.size, "seed": self.seed}
        return about | {"source": source.what, "fingerprint": source.fingerprint, "of": source.n}


def preprocessing(size: int) -> Callable[["Image"], "Image"]:
    """PIL image -> RGB image of size x size, as open_clip's towers see it before normalising.

    Shorter side resized to ``size`` (bicubic), then the middle cut out: Radford et al. 2021.
    """
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    def rgb(image: "Image") -> "Image":
        return image.convert("RGB")

    return Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size), rgb])
