"""Features that recipes are compared with or built from, computed on demand and kept."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explorer.compute import turns
from explorer.compute.engine import Engine, ImageRange, OnBatch, ignore
from explorer.editing.merging import check_tasks
from explorer.editing.methods import find_method
from explorer.editing.patterns import EVERYWHERE, Pattern
from explorer.errors import RecipeError
from explorer.models.tangent import jacobian_product
from explorer.models.towers import build_tower, load_weights
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model

# Forward-mode holds primal and tangent of every layer, so its batches are smaller.
_JVP_BATCH = 64
# Every pair of a seed and a task has rows of its own, and people may type any seed.
_CACHE_BYTES = 256 * 2**20


class _Rows:
    """What is computed under one key, and the lock of whoever computes more."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.parts: list[Tensor] = []

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class PrefixCache:
    """key -> rows computed so far; asking for more computes only what is missing.

    Thread-safe: whoever comes second for a key waits, then reads. Rows survive a cancelled
    computation batch by batch. Above ``cap`` bytes the keys used longest ago are dropped.
    """

    def __init__(self, cap: int = _CACHE_BYTES) -> None:
        self.cap = cap
        self._rows: dict[Hashable, _Rows] = {}
        self._lock = threading.Lock()

    def get(
        self, key: Hashable, n: int, batch: int, compute: Callable[[int, int], Tensor]
    ) -> Tensor:
        """The first ``n`` rows; ``compute(start, stop)`` gives missing ones, ``batch`` at most."""
        with self._lock:
            rows = self._rows.pop(key) if key in self._rows else _Rows()
            self._rows[key] = rows  # the last is the last used
        # A computation gives way to other sessions between batches, with this lock held.
        with turns.holding(rows.lock):
            parts = rows.parts
            have = sum(len(part) for part in parts)
            if have < n:
                while have < n:
                    stop = min(n, have + batch)
                    parts.append(compute(have, stop))
                    have = stop
                self._shrink()
            if len(parts) > 1:
                parts[:] = [torch.cat(parts)]
            return parts[0][:n]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that are kept."""
        with self._lock:
            return sum(rows.nbytes for rows in self._rows.values())

    def _shrink(self) -> None:
        """Drop keys, but the last used. Whoever computes under a dropped one keeps what it has."""
        with self._lock:
            sizes = {key: rows.nbytes for key, rows in self._rows.items()}
            total = sum(sizes.values())
            for key in [*sizes][:-1]:
                if total <= self.cap:
                    return
                total -= sizes[key]
                del self._rows[key]


class References:
    """Zero-shot and fine-tuned features of every task, for whichever head looks at them."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._cache = PrefixCache()

    def zero_shot(
        self, images: ImageRange, dtype: torch.dtype, on_batch: OnBatch = ignore
    ) -> Tensor:
        """Features of theta_0 for images 0 to ``images.stop``."""
        return self._features(Recipe(base=self._model.name), images, dtype, on_batch)

    def fine_tuned(
        self, space: str, images: ImageRange, dtype: torch.dtype, on_batch: OnBatch = ignore
    ) -> Tensor:
        """Features of theta_0 + tau_task in ``space``, on the task's own images."""
        recipe = Recipe(base=self._model.name, coefficients={images.task: 1.0}, space=space)
        return self._features(recipe, images, dtype, on_batch)

    def _features(
        self, recipe: Recipe, images: ImageRange, dtype: torch.dtype, on_batch: OnBatch
    ) -> Tensor:
        if recipe.space != "weights":  # linear features have a cache of their own
            return self._model.linear_features.features(recipe, replace(images, start=0), on_batch)
        engine = self._own_engine()

        def compute(start: int, stop: int) -> Tensor:
            part = replace(images, start=start, stop=stop)
            return engine.features(recipe, [part], dtype)[0]

        key = (recipe, images.task, images.split, images.seed, dtype)
        return self._cache.get(key, images.stop, engine.batch, _announced(compute, on_batch))

    def _own_engine(self) -> Engine:
        # Not a session's engine: computing a reference must not undo the session's last merge.
        with self._lock:
            if self._engine is None:
                self._engine = Engine(self._model)
            return self._engine


class LinearFeatures:
    """Features in the linearised spaces: F0 + sum_t c_t sum_p w_p J[p * tau_t].

    The Jacobian products depend on neither coefficients nor the numbers of the schedule, only on
    its fixed depth patterns p: each is computed once an image and every later recipe is a
    weighted sum (float32).
    """

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._cache = PrefixCache()
        self._tower: torch.nn.Module | None = None
        self._base: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def features(self, recipe: Recipe, images: ImageRange, on_batch: OnBatch = ignore) -> Tensor:
        """Features (len(images), embed_dim). Raises RecipeError for a nonlinear method."""
        method = find_method(recipe.method)
        if not method.one_pass:
            raise RecipeError(
                f"The method {recipe.method!r} is not linear; the {recipe.space!r} space is made "
                "for task_arithmetic."
            )
        check_tasks(recipe, self._model.tasks)
        everything = replace(images, start=0)
        total = self._model.references.zero_shot(everything, torch.float32, on_batch)
        for task, c in method.factors(recipe.active).items():
            for pattern, w in self._terms(recipe):
                if c * w:
                    product = self._product(recipe, task, pattern, everything, on_batch)
                    total = torch.add(total, product, alpha=c * w)
        return total[images.start :]

    def derivative(
        self, recipe: Recipe, task: str, images: ImageRange, on_batch: OnBatch = ignore
    ) -> Tensor:
        """J s(depth) tau_task: what ``features`` gain a unit of the task's coefficient.

        (len(images), embed_dim); of ``recipe`` only the space and the schedule matter.
        """
        everything = replace(images, start=0)
        total = torch.zeros(images.stop, self._model.embed_dim, device=self._model.device)
        for pattern, w in self._terms(recipe):
            if w:
                product = self._product(recipe, task, pattern, everything, on_batch)
                total = torch.add(total, product, alpha=w)
        return total[images.start :]

    def _terms(self, recipe: Recipe) -> tuple[tuple[Pattern, float], ...]:
        if recipe.schedule is None:
            return ((EVERYWHERE, 1.0),)
        return recipe.schedule.terms(self._model.resident(recipe.space).layout.n_blocks)

    def _product(
        self, recipe: Recipe, task: str, pattern: Pattern, images: ImageRange, on_batch: OnBatch
    ) -> Tensor:
        key = (recipe.space, task, pattern, images.task, images.split, images.seed)
        delta: list[dict[str, Tensor]] = []

        def compute(start: int, stop: int) -> Tensor:
            if not delta:
                delta.append(self._delta(recipe.space, task, pattern))
            store = self._model.image_store
            tower, base = self._base_tower()
            pixels = store.range(replace(images, start=start, stop=stop))
            x = store.normalised(pixels, torch.float32)
            return jacobian_product(tower, base, delta[0], x)[1]

        return self._cache.get(key, images.stop, _JVP_BATCH, _announced(compute, on_batch))

    def _delta(self, space: str, task: str, pattern: Pattern) -> dict[str, Tensor]:
        """The task vector times the pattern, without the parameters that do not move."""
        resident = self._model.resident(space)
        named = resident.vector(task)
        if pattern == EVERYWHERE:
            return named
        values = {key: pattern.of(key, resident.layout.n_blocks) for key in named}
        moving = {key: value * named[key] for key, value in values.items() if value}
        # A pattern may move nothing (a tower of one block): some zero, so that a derivative exists.
        return moving or {key: torch.zeros_like(named[key]) for key in list(named)[:1]}

    def _base_tower(self) -> tuple[torch.nn.Module, dict[str, Tensor]]:
        with self._lock:
            if self._tower is None:
                resident = self._model.resident("weights")
                self._base = resident.layout.views(resident.theta0)
                self._tower = load_weights(build_tower(self._model.architecture), self._base)
            return self._tower, self._base


def _announced(
    compute: Callable[[int, int], Tensor], on_batch: OnBatch
) -> Callable[[int, int], Tensor]:
    """``compute`` with ``on_batch`` called before every batch, so that it can be cancelled."""

    def announced(start: int, stop: int) -> Tensor:
        on_batch(stop - start)
        return compute(start, stop)

    return announced
