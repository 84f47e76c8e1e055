"""A trained diffusion model learns the rules of the grammar from the leaves upwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from explorer.compute.run import Run
from explorer.hierarchy.learning.material import Checkpoint, Material, check_task, entropy
from explorer.hierarchy.learning.network import TreeNet, copies, generated, trained
from explorer.hierarchy.learning.staircase import first_above
from explorer.hierarchy.learning.sweep import (
    Sweep,
    check_examples,
    check_sweep,
    named,
    over_seeds,
    with_errors,
)

if TYPE_CHECKING:
    import xarray as xr

PATIENCE = 8
"""Looks without improvement after which training ends."""


def diffusion_learns(
    v: int = 8,
    m: int = 3,
    s: int = 2,
    L: int = 3,
    examples: ArrayLike | None = None,
    *,
    steps: int = 1500,
    strings: int = 512,
    seeds: int = 2,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """Share of legal subtrees in strings a diffusion model generates, by height, against P.

        run = ex.hierarchy.learning.diffusion_learns(8, 3, 2, 3, [64, 512])
        run.result().legal.to_pandas()

    A `TreeNet` is trained as a masked diffusion model on P strings, at most ``steps`` steps, and
    stopped where the validation loss is least (eight looks without improvement, see ``looked_at``);
    ``strings`` are then generated and parsed exactly. ``legal`` at ``height`` h is the share of
    nodes h levels above the leaves that have a parse; ``chance`` the same of uniform symbols,
    (m v / v^s)^(number of rules below). Law (arXiv 2502.12089): rules of height h need of the
    order of v m^(h+1) examples, the whole grammar v m^(L+1); a constant of order one is not
    predicted. That paper's noise on grammars is uniform; masking is the one used here, in which
    generating is exact a leaf at a time.

    ``examples`` (None: 16, 32 ... 2048). One grammar, network and data set a seed. Over (height,
    examples): legal with a standard error over seeds, and coordinate scaled (P / v m^(h+1)); over
    height: chance, needed (P at which legal first is half way from chance to 1; nan if never) and
    needed_law; over examples: validation (its least loss, nats a leaf), whose bound is the
    attribute ``entropy``, copied (share of generated strings that are examples) and stopped (the
    step). Raises GrammarError.
    """
    check_task(v, m, s, L, steps, strings)
    wanted = [2**k for k in range(4, 12)] if examples is None else examples
    points = tuple(check_examples(wanted, s, L))
    work = _Learning(v, m, s, L, points, steps, strings)
    return over_seeds("diffusion_learns", *check_sweep(seeds, seed), work.measure, work.dataset)


def looked_at(step: int) -> bool:
    """Whether the validation loss is looked at: more often while it changes fast."""
    return step % (5 if step < 60 else 20 if step < 300 else 50) == 0


@dataclass(frozen=True)
class _Learning(Sweep):
    steps: int
    strings: int

    def measure(self, seed: int, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
        found: dict[str, list] = {"legal": [], "validation": [], "copied": [], "stopped": []}
        for at, P in enumerate(self.examples):

            def share(part: float, at: int = at) -> None:
                checkpoint((at + part) / len(self.examples))

            material = Material.of(self.grammar(seed), P, seed)
            net, loss, step = self._best(material, seed, share)
            drawn = generated(net, self.strings, self.s**self.L, seed)
            parsed = material.g.parse(drawn)
            found["legal"].append([(nodes >= 0).mean() for nodes in parsed[-2::-1]])
            found["validation"].append(loss)
            found["copied"].append(copies(drawn, material.data.numpy()))
            found["stopped"].append(step)
        values = {name: np.array(rows, dtype=float).T for name, rows in found.items()}
        half = (1 + self.chance()) / 2
        pairs = zip(values["legal"], half, strict=True)
        values["needed"] = np.array([first_above(self.examples, *pair) for pair in pairs])
        return values

    def _best(
        self, material: Material, seed: int, checkpoint: Checkpoint
    ) -> tuple[TreeNet, float, int]:
        """The network at its least validation loss, that loss, and the step."""
        best: tuple[float, int, dict[str, Tensor]] | None = None
        waited = 0
        nets = trained(material.data, self.v, self.s, self.L, seed)
        for step, net in enumerate(nets):
            if looked_at(step) or step == self.steps:
                checkpoint(step / (self.steps + 1))
                loss, waited = material.loss(net, material.validation), waited + 1
                if best is None or loss < best[0]:
                    weights = {key: x.clone() for key, x in net.state_dict().items()}
                    best, waited = (loss, step, weights), 0
            if step == self.steps or waited == PATIENCE:
                break
        assert best is not None
        net.load_state_dict(best[2])
        return net, best[0], best[1]

    def chance(self) -> np.ndarray:
        """Share of legal subtrees of heights 1 ... L in strings of uniform symbols."""
        height = np.arange(1, self.L + 1)
        rules = (float(self.s) ** height - 1) / (self.s - 1)
        return (self.m * self.v / self.v**self.s) ** rules

    def dataset(self, values: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> "xr.Dataset":
        import xarray as xr

        P, height = self.P[1], np.arange(1, self.L + 1)
        law = self.v * float(self.m) ** (height + 1)
        names = {
            "legal": (("height", "examples"), "share of legal subtrees", "1"),
            "needed": (("height",), "P at which legal is half way to 1", "1"),
            "validation": (("examples",), "least validation loss", "nat / leaf"),
            "copied": (("examples",), "share of generated strings that are examples", "1"),
            "stopped": (("examples",), "training steps", "1"),
        }
        variables = with_errors(names, values)
        variables["chance"] = ("height", self.chance(), named("legal share of uniform symbols"))
        variables["needed_law"] = ("height", law, named("v m^(h+1)"))
        coordinates = {
            "height": ("height", height, named("levels above the leaves")),
            "examples": self.P,
            "scaled": (("height", "examples"), P / law[:, None], named("P / (v m^(h+1))")),
        }
        nats = entropy(self.v, self.m, self.s, self.L)
        more = {"steps": self.steps, "strings": self.strings, "entropy": nats}
        return xr.Dataset(variables, coordinates, {**attrs, **self.sizes, **more})
