"""What the lens's tabs compute, as frozen data: everything that a result depends on, but the model.

Torch and the measures are imported where a run is made, in the worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.editing.schedule import Schedule, constant

if TYPE_CHECKING:
    from explorer.models.model import Model


@dataclass(frozen=True)
class ForgettingSpec:
    """Target against control accuracy of one task vector, over the paper's grid of alpha."""

    task: str
    coefficient: float
    n: int

    def run(self, model: Model) -> Any:
        """The paper's eleven schedules, on validation images."""
        from explorer.measures.forgetting import forgetting

        return forgetting(model, self.task, n=self.n, coefficient=self.coefficient)


@dataclass(frozen=True)
class TrialSpec:
    """The same of one schedule alone, which a person tried."""

    of: ForgettingSpec
    schedule: Schedule | None

    def run(self, model: Model) -> Any:
        from explorer.measures.forgetting import forgetting

        # No schedule is the factor 1 at every depth.
        tried = {"tried": self.schedule or constant(1.0)}
        return forgetting(model, self.of.task, tried, n=self.of.n, coefficient=self.of.coefficient)


@dataclass(frozen=True)
class SearchSpec:
    """LiNeS's alpha and beta for merged tasks."""

    tasks: tuple[str, ...]
    method: str
    options: tuple[tuple[str, Any], ...]
    n: int

    def run(self, model: Model) -> Any:
        from explorer.measures.lines_search import lines_search

        return lines_search(model, self.tasks, self.method, self.options, n=self.n)


@dataclass(frozen=True)
class CompareSpec:
    """Merging methods side by side, each with and without LiNeS, and AdaMerging if asked for."""

    tasks: tuple[str, ...]
    n: int
    seed: int
    adamerging: bool = False

    def run(self, model: Model) -> Any:
        from explorer.measures.comparison import compare

        return compare(
            model, tasks=self.tasks, n=self.n, seed=self.seed, adamerging=self.adamerging
        )


Spec = ForgettingSpec | SearchSpec | CompareSpec
