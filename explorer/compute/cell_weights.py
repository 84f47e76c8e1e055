"""Weights of the cells of a plane theta_0 + a1 tau1 + a2 tau2, written into a tower."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explorer.compute.resident import ResidentWeights
from explorer.editing.merging import merge
from explorer.editing.methods import find_method
from explorer.editing.task_vector import TaskVector
from explorer.models.towers import build_tower, load_weights
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.models.model import Model


class CellWeights:
    """The merged weights of one cell at a time, and towers made of views into them.

    A cell is (theta_0 + a1 s tau1) + a2 s tau2, s the schedule's factor at each depth: the sum in
    brackets is kept while a1 stays, the rest is one fused pass over memory. Nothing is carried
    from cell to cell, so nothing drifts: each equals the same sum made from scratch, bit by bit.
    A method that is not linear merges every cell with ``explorer.editing.merging.merge``.
    """

    def __init__(self, model: "Model", recipe: Recipe) -> None:
        """``recipe`` names the two tasks (in this order), schedule, method and options."""
        self._model = model
        self._recipe = recipe
        self._resident: ResidentWeights = model.resident("weights")
        self.tasks = tuple(recipe.coefficients)
        self._tau = [self._resident.tau[self._resident.row(task)] for task in self.tasks]
        self._scales = self._resident.layout.scales(recipe.schedule)
        self._linear = find_method(recipe.method).linear
        named = {} if self._linear else {task: model.task_vector(task) for task in self.tasks}
        self._vectors: dict[str, TaskVector] = named
        with torch.inference_mode(False):
            self.flat = self._resident.theta0.clone()
            self._row = self._resident.theta0.clone()
        self._row_at: float | None = None
        self._flats: dict[torch.dtype, Tensor] = {self.flat.dtype: self.flat}
        self._towers: dict[torch.dtype, torch.nn.Module] = {}

    def set(self, a1: float, a2: float) -> None:
        """Write the weights of the cell (a1, a2), in every number format that has a tower."""
        if self._linear:
            if a1 != self._row_at:
                self._add(self._resident.theta0, self._tau[0], a1, self._row)
                self._row_at = a1
            self._add(self._row, self._tau[1], a2, self.flat)
        else:
            self._merge(a1, a2)
        for flat in self._flats.values():
            if flat is not self.flat:
                flat.copy_(self.flat)

    def named(self) -> dict[str, Tensor]:
        """The cell's weights as named views (float32)."""
        return self._resident.layout.views(self.flat)

    def tower(self, dtype: torch.dtype) -> torch.nn.Module:
        """The tower in a number format; it follows every ``set``."""
        if dtype not in self._towers:
            with torch.inference_mode(False):
                if dtype not in self._flats:
                    self._flats[dtype] = self.flat.to(dtype)
                tower = build_tower(self._model.architecture)
                views = self._resident.layout.views(self._flats[dtype])
                self._towers[dtype] = load_weights(tower, views)
        return self._towers[dtype]

    def _add(self, start: Tensor, tau: Tensor, a: float, out: Tensor) -> None:
        if len(set(self._scales)) == 1:
            torch.add(start, tau, alpha=a * self._scales[0], out=out)
            return
        for segment, scale in zip(self._resident.layout.segments, self._scales, strict=True):
            part = slice(segment.start, segment.stop)
            torch.add(start[part], tau[part], alpha=a * scale, out=out[part])

    def _merge(self, a1: float, a2: float) -> None:
        coefficients = dict(zip(self.tasks, (a1, a2), strict=True))
        recipe = self._recipe.replace(coefficients=coefficients)
        merged = merge(self._model.base, self._vectors, recipe)
        self._resident.layout.fill(self.flat, merged)
