"""The Random Hierarchy Model, exactly: grammars, belief propagation, mean-field theory, controls.

    import explorer as ex

    g = ex.hierarchy.Grammar.random(v=32, m=8, s=2, L=7, seed=0)
    result = ex.hierarchy.forward_backward(g, [0.5, 0.73, 0.9]).result()
    theory = ex.hierarchy.mean_field(32, 8, 2, 7, eps=result.level.values)

Nothing here is trained and nothing is approximated but the mean field: denoising a string of a
tree grammar is belief propagation. Levels of the tree are called ``depth`` (0 the root, L the
leaves), levels of noise ``level`` (0 none, 1 all).
"""

from explorer.hierarchy import learning
from explorer.hierarchy.controls import flat_mixture, gaussian_field
from explorer.hierarchy.evidence import (
    PROCESSES,
    epsilon_likelihood,
    gaussian_likelihood,
    masking_likelihood,
    uniform_likelihood,
)
from explorer.hierarchy.experiment import forward_backward
from explorer.hierarchy.grammar import Grammar
from explorer.hierarchy.inference import Posterior, posterior
from explorer.hierarchy.mean_field_theory import Exponents, exponents, mean_field

__all__ = [
    "PROCESSES",
    "Exponents",
    "Grammar",
    "Posterior",
    "epsilon_likelihood",
    "exponents",
    "flat_mixture",
    "forward_backward",
    "gaussian_field",
    "gaussian_likelihood",
    "learning",
    "masking_likelihood",
    "mean_field",
    "posterior",
    "uniform_likelihood",
]
