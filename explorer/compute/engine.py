"""Engine: one session's evaluation of recipes. Weights and images are the model's, shared."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explorer.compute import turns
from explorer.compute.device import fast_dtype
from explorer.compute.resident import EditedWeights
from explorer.editing.interrupting import Check, checked_by
from explorer.editing.merging import check_tasks, combined_vector, with_edit
from explorer.editing.methods import find_method
from explorer.editing.task_vector import TaskVector
from explorer.errors import RecipeError
from explorer.models.towers import build_tower, load_weights
from explorer.recipe import Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    from explorer.models.model import Model

# Images of a forward on the CPU: cancelling waits for one of them (some 50 ms), and throughput no
# longer grows. A GPU needs more to be busy.
BATCH = {"cpu": 256, "cuda": 2048}


@dataclass(frozen=True)
class ImageRange:
    """Images ``start`` to ``stop`` of one task's split, in the order of ``Task.order(seed)``."""

    task: str
    split: Split
    start: int
    stop: int
    seed: int | None = None

    def __len__(self) -> int:
        return max(0, self.stop - self.start)


OnBatch = Callable[[int], None]


def ignore(n_images: int) -> None:
    """An ``on_batch`` that does nothing."""


class Engine:
    """Evaluates recipes of one model, in "weights" space through its own merged buffer.

    ``precision`` is the number format of previews ("auto", "float32" or "bfloat16"); complete
    results are float32 unless bfloat16 is asked for. Safe to use from several threads: they take
    turns batch by batch, each with its own recipe.
    """

    def __init__(self, model: "Model", precision: str = "auto") -> None:
        self.model = model
        self.precision = precision
        self.fast_dtype = fast_dtype(model.device, precision)
        self.batch = BATCH.get(model.device.type, BATCH["cpu"])
        self._lock = threading.RLock()
        self._weights: EditedWeights | None = None
        self._towers: dict[torch.dtype, torch.nn.Module] = {}
        self._flats: dict[torch.dtype, tuple[Tensor, int]] = {}
        self._recipe: Recipe | None = None
        self._merged: tuple[Recipe, TaskVector | None] | None = None

    def set_recipe(self, recipe: Recipe, check: Check | None = None) -> None:
        """Merge a recipe of the "weights" space into the buffer (an axpy where that is enough).

        ``check`` is called between the steps of a slow method; what it raises ends the merge.
        """
        if recipe.space != "weights":
            raise RecipeError(f"A recipe in the {recipe.space!r} space has no merged weights.")
        with turns.holding(self._lock):
            if recipe == self._recipe:
                return
            weights = self._edited()
            check_tasks(recipe, self.model.tasks)
            method = find_method(recipe.method)
            if method.one_pass:
                weights.set(method.factors(recipe.active), recipe.schedule)
            else:
                edit = self.combined(recipe, check)
                weights.load(with_edit(self.model.base, edit, recipe.schedule))
            self._recipe = recipe

    def combined(self, recipe: Recipe, check: Check | None = None) -> TaskVector | None:
        """What the recipe's method makes of the task vectors, before the schedule (on the CPU).

        The last one is kept, so that another schedule merges nothing anew. None without an edit.
        ``check`` is called between steps.
        """
        plain = recipe.replace(schedule=None)
        with turns.holding(self._lock):
            if self._merged is None or self._merged[0] != plain:
                vectors = {task: self.model.task_vector(task) for task in recipe.active}
                with checked_by(check):
                    self._merged = plain, combined_vector(vectors, plain, self.model.base)
            return self._merged[1]

    def named(self) -> dict[str, Tensor]:
        """The merged weights as named views into the buffer (float32, on the device)."""
        with turns.holding(self._lock):
            return self._edited().named()

    def features(
        self,
        recipe: Recipe,
        ranges: Sequence[ImageRange],
        dtype: torch.dtype = torch.float32,
        on_batch: OnBatch = ignore,
    ) -> list[Tensor]:
        """Features of the edited model: float32 (len(range), embed_dim) for every range.

        All tasks share the tower, so their images are concatenated into common batches.
        ``on_batch(n)`` is called before each with its number of images, and with 0 between the
        steps of a merge; what it raises ends the computation.
        """
        if recipe.space != "weights":
            linear = self.model.linear_features
            return [linear.features(recipe, r, on_batch) for r in ranges]
        lengths = [len(r) for r in ranges]
        pixels = [self.model.image_store.range(r) for r in ranges if len(r)]
        if not pixels:
            empty = torch.empty(0, self.model.embed_dim, device=self.model.device)
            return [empty for _ in ranges]
        together = pixels[0] if len(pixels) == 1 else torch.cat(pixels)
        done = []
        for batch in together.split(self.batch):
            on_batch(len(batch))
            done.append(self._forward(recipe, batch, dtype, on_batch))
        return list(torch.cat(done).split(lengths))

    def _forward(
        self, recipe: Recipe, pixels: Tensor, dtype: torch.dtype, on_batch: OnBatch
    ) -> Tensor:
        with turns.holding(self._lock), torch.inference_mode():
            self.set_recipe(recipe, lambda: on_batch(0))
            images = self.model.image_store.normalised(pixels, dtype)
            return self._tower(dtype)(images).float()

    def _edited(self) -> EditedWeights:
        if self._weights is None:
            with torch.inference_mode(False):  # buffers outlive the mode they are made in
                self._weights = EditedWeights(self.model.resident("weights"))
        return self._weights

    def _tower(self, dtype: torch.dtype) -> torch.nn.Module:
        """The tower whose parameters are views into the buffer of that number format."""
        weights = self._edited()
        if dtype not in self._towers:
            with torch.inference_mode(False):
                same = dtype == weights.flat.dtype
                flat = weights.flat if same else torch.empty_like(weights.flat, dtype=dtype)
                tower = build_tower(self.model.architecture)
                self._towers[dtype] = load_weights(tower, weights.resident.layout.views(flat))
                self._flats[dtype] = (flat, weights.version if same else -1)
        flat, version = self._flats[dtype]
        if flat is not weights.flat and version != weights.version:
            flat.copy_(weights.flat)
            self._flats[dtype] = (flat, weights.version)
        return self._towers[dtype]

    def __repr__(self) -> str:
        name = str(self.fast_dtype).removeprefix("torch.")
        return f"<Engine of {self.model.name!r} on {self.model.device}, previews in {name}>"
