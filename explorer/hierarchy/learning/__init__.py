"""Learning on the Random Hierarchy Model: how many examples each level of the tree needs.

    import explorer as ex

    ex.hierarchy.learning.cached("tuples_cluster").separation.plot(x="scaled")
    ex.hierarchy.learning.tuples_cluster(8, 8, 2, 2, [512, 4096]).result()

Each experiment is a Run of Datasets over the number of examples P, with the law beside what is
measured, averaged over grammars with standard errors. The first three only count; the last two
train a small network. Shipped curves are in ``curves``; ``python -m explorer.hierarchy.learning``
makes them again.
"""

from explorer.hierarchy.learning.cached import EXPERIMENTS, cached
from explorer.hierarchy.learning.diffusion import diffusion_learns
from explorer.hierarchy.learning.latents import latent_or_token
from explorer.hierarchy.learning.material import entropy
from explorer.hierarchy.learning.memorisation import memorisation_time
from explorer.hierarchy.learning.staircase import correlation_staircase
from explorer.hierarchy.learning.tuples import tuples_cluster

__all__ = [
    "EXPERIMENTS",
    "cached",
    "correlation_staircase",
    "diffusion_learns",
    "entropy",
    "latent_or_token",
    "memorisation_time",
    "tuples_cluster",
]
