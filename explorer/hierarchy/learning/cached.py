"""The curves that are shipped: how each was made, and reading and making them again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.compute.run import Run
from explorer.errors import GrammarError, UnknownNameError
from explorer.hierarchy.learning.diffusion import diffusion_learns
from explorer.hierarchy.learning.latents import latent_or_token
from explorer.hierarchy.learning.memorisation import memorisation_time
from explorer.hierarchy.learning.staircase import correlation_staircase
from explorer.hierarchy.learning.tuples import tuples_cluster

if TYPE_CHECKING:
    import xarray as xr

FOLDER = Path(__file__).parent / "curves"
Sizes = tuple[int, int, int, int]


@dataclass(frozen=True)
class Experiment:
    """An experiment on learning, and the grammars (v, m, s, L) its shipped curves are of.

    ``measure`` is the public function ``name``; ``seeds`` how many grammars a curve averages.
    """

    measure: Callable[..., "Run[xr.Dataset]"]
    sizes: Sequence[Sizes]
    seeds: int

    @property
    def name(self) -> str:
        """The name of the public function."""
        return self.measure.__name__

    @property
    def command(self) -> str:
        """What makes all its shipped curves again."""
        return f"python -m explorer.hierarchy.learning {self.name}"

    def run(self, sizes: Sizes, **changes: Any) -> "Run[xr.Dataset]":
        """The run behind a shipped curve; ``changes`` such as fewer examples make it another."""
        return self.measure(*sizes, **{"seeds": self.seeds, "seed": 0, **changes})

    def call(self, sizes: Sizes) -> str:
        """The run as Python."""
        numbers = ", ".join(map(str, sizes))
        return f"ex.hierarchy.learning.{self.name}({numbers}, seeds={self.seeds}, seed=0)"

    def path(self, sizes: Sizes, folder: Path = FOLDER) -> Path:
        """Where the curve of a grammar is kept."""
        return folder / f"{self.name}-{'-'.join(map(str, sizes))}.nc"


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            tuples_cluster,
            ((8, 8, 2, 2), (6, 6, 2, 2), (6, 6, 2, 3), (8, 4, 2, 3), (5, 5, 2, 4)),
            seeds=6,
        ),
        Experiment(latent_or_token, ((8, 3, 2, 5), (8, 3, 2, 4), (12, 4, 2, 4)), seeds=4),
        Experiment(correlation_staircase, ((16, 4, 2, 3), (32, 8, 2, 3)), seeds=4),
        Experiment(diffusion_learns, ((8, 3, 2, 3),), seeds=3),
        Experiment(memorisation_time, ((8, 3, 2, 3),), seeds=3),
    )
}


def find(name: str) -> Experiment:
    """The experiment of that name. Raises UnknownNameError."""
    if name not in EXPERIMENTS:
        raise UnknownNameError("experiment on learning", name, EXPERIMENTS)
    return EXPERIMENTS[name]


def cached(name: str, sizes: Sizes | None = None) -> "xr.Dataset":
    """A shipped curve, as the experiment's function returned it once.

        ex.hierarchy.learning.cached("tuples_cluster", (8, 8, 2, 2)).separation

    ``sizes`` (v, m, s, L), None for the first there is. The attributes ``command``, ``call`` and
    ``seed`` say how it was made. Raises UnknownNameError, and GrammarError for sizes without one.
    """
    import xarray as xr

    experiment = find(name)
    wanted = experiment.sizes[0] if sizes is None else sizes
    if tuple(wanted) not in experiment.sizes:
        raise GrammarError(
            f"There is no shipped curve of {name} for (v, m, s, L) = {wanted}, only for "
            f"{', '.join(map(str, experiment.sizes))}. Measure it: ex.hierarchy.learning.{name}."
        )
    return xr.load_dataset(experiment.path(wanted), engine="h5netcdf")


def regenerate(experiment: Experiment, sizes: Sizes, folder: Path = FOLDER) -> "xr.Dataset":
    """Measure a shipped curve again and write it to ``folder``."""
    made = experiment.run(sizes).result()
    made = made.assign_attrs(command=experiment.command, call=experiment.call(sizes))
    folder.mkdir(parents=True, exist_ok=True)
    made.to_netcdf(experiment.path(sizes, folder), engine="h5netcdf")
    return made
