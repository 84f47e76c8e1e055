"""Many recipes tried on the same images: which ones they get right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explorer.compute.engine import ImageRange
from explorer.compute.run import Run
from explorer.errors import UnknownNameError
from explorer.measures.provenance import provenance
from explorer.recipe import Recipe
from explorer.tasks.task import Split, check_count

if TYPE_CHECKING:
    from explorer.compute.engine import Engine
    from explorer.models.model import Model


@dataclass(frozen=True)
class Trials:
    """The images of some tasks, and the engine that every recipe goes through.

    The first ``sizes[task]`` images of a split: as stored, or for a ``seed`` in its order.
    Recipes are computed in ``dtype``, references always in float32.
    """

    model: "Model"
    engine: "Engine"
    sizes: dict[str, int]
    split: Split
    space: str
    seed: int | None = None
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(
        cls,
        m: "Model",
        tasks: Sequence[str],
        split: Split,
        n: int | None,
        space: str = "weights",
        seed: int | None = None,
        engine: "Engine | None" = None,
        dtype: torch.dtype = torch.float32,
    ) -> "Trials":
        """Checked: raises UnknownNameError, ImageError, RecipeError for an unknown space."""
        if not tasks:
            raise UnknownNameError("task", "", m.all_tasks)
        sizes = {task: check_count(n, m.n_images(task, split), task) for task in tasks}
        Recipe(space=space)  # refuses an unknown space
        return cls(m, engine or m.engine(), sizes, split, space, seed, dtype)

    @property
    def tasks(self) -> list[str]:
        return list(self.sizes)

    def correct(self, recipe: Recipe, run: Run, progress: float | None = None) -> list[np.ndarray]:
        """Which images of each task a recipe gets right, bool (sizes[task],) each."""
        run.checkpoint(progress)
        ranges = [self._range(task) for task in self.sizes]
        features = self.engine.features(
            recipe, ranges, self.dtype, lambda n_images: run.checkpoint(progress)
        )
        return [self._right(r.task, f) for r, f in zip(ranges, features, strict=True)]

    def accuracies(self, recipe: Recipe, run: Run, progress: float | None = None) -> list[float]:
        """Accuracy of a recipe on each task."""
        return [float(np.mean(right)) for right in self.correct(recipe, run, progress)]

    def zero_shot(self, run: Run) -> list[np.ndarray]:
        """Which images of each task theta_0 gets right."""
        reference = self.model.references.zero_shot
        found = {
            task: reference(self._range(task), torch.float32, lambda n_images: run.checkpoint())
            for task in self.sizes
        }
        return [self._right(task, features) for task, features in found.items()]

    def fine_tuned(self, task: str, run: Run) -> np.ndarray:
        """Which images of a task theta_0 + tau_task gets right, in the space of the trials."""
        features = self.model.references.fine_tuned(
            self.space, self._range(task), torch.float32, lambda n_images: run.checkpoint()
        )
        return self._right(task, features)

    def attrs(self, complete: bool, **more: Any) -> dict[str, Any]:
        """Provenance of a result on these images."""
        return provenance(
            self.model,
            split=self.split,
            space=self.space,
            seed="images in stored order" if self.seed is None else self.seed,
            n_images=sum(self.sizes.values()),
            complete=complete,
            **more,
        )

    def _range(self, task: str) -> ImageRange:
        return ImageRange(task, self.split, 0, self.sizes[task], self.seed)

    def _right(self, task: str, features: Tensor) -> np.ndarray:
        places = self.model.task(task).order(self.split, self.seed)[: len(features)]
        labels = self.model.images(task, None, self.split)[1][places]
        return self.model.head(task).logits(features).argmax(-1).cpu().numpy() == labels


def relative(accuracy: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """accuracy / reference; nan where the reference is 0 or nan (it then says nothing)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reference > 0, accuracy / reference, np.nan)


def mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, nan left out; nan where there is nothing else."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known.any(-1), total / known.sum(-1), np.nan)
