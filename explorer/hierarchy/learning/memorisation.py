"""A diffusion model that is trained on begins to copy its examples: when, against their number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from explorer.compute.run import Run
from explorer.errors import GrammarError
from explorer.hierarchy.learning.material import Checkpoint, Material, check_task, entropy
from explorer.hierarchy.learning.network import copies, generated, trained
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

GAP = 0.1
"""Validation loss minus training loss, in nats a leaf, from which a network memorises."""
COPIED = 0.05
"""Share of generated strings that are training strings, beyond chance, from which it copies."""


def memorisation_time(
    v: int = 8,
    m: int = 3,
    s: int = 2,
    L: int = 3,
    examples: ArrayLike | None = None,
    *,
    epochs: float = 320.0,
    strings: int = 512,
    seeds: int = 2,
    seed: int = 0,
) -> "Run[xr.Dataset]":
    """When a diffusion model trained on P strings begins to copy them, against P.

        run = ex.hierarchy.learning.memorisation_time(8, 3, 2, 3, [128, 256])
        run.result().gap.plot(hue="examples", x="scaled")

    The model of ``diffusion_learns`` is trained on, past the best validation loss, for ``epochs``
    passes over its P strings in batches of 128, and looked at 16 times: ``training`` and
    ``validation`` loss (nats a leaf), their ``gap``, and ``copied``, the share of ``strings``
    generated strings that are examples, less the same for as many strings never trained on.
    Law (arXiv 2505.16959): the time tau to memorise is proportional to P, so that curves of what
    is copied against step / P collapse. The gap opens earlier, and not in proportion to P at these
    sizes: with more examples the network also learns more of the rules before it memorises.

    ``examples`` (None: 128, 256, 512, 1024). One grammar, network and data set a seed. Over
    (examples, look): the four, with standard errors over seeds, and coordinates step and scaled
    (step / P); over examples: tau_gap (gap reaches 0.1) and tau_copied (copied reaches 0.05), nan
    if never, and tau_law, the straight line through 0 and the mean of tau_copied / P. Raises
    GrammarError.
    """
    check_task(v, m, s, L, 1, strings)
    if not np.isfinite(epochs) or not 1 <= epochs <= 10_000:
        raise GrammarError(f"epochs must be a number from 1 to 10,000, not {epochs!r}.")
    wanted = [128, 256, 512, 1024] if examples is None else examples
    work = _Memorising(v, m, s, L, tuple(check_examples(wanted, s, L)), float(epochs), int(strings))
    return over_seeds("memorisation_time", *check_sweep(seeds, seed), work.measure, work.dataset)


@dataclass(frozen=True)
class _Memorising(Sweep):
    epochs: float
    strings: int

    def looks(self, P: int) -> list[int]:
        """The steps at which a network is looked at: 16, evenly in step / P, from 0."""
        last = self.epochs * P / 128
        return [round(x) for x in np.linspace(0, last, 16).tolist()]

    def measure(self, seed: int, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
        found: dict[str, list[list[float]]] = {"training": [], "validation": [], "copied": []}
        total, done = sum(self.looks(P)[-1] for P in self.examples), 0
        for P in self.examples:

            def share(step: int, done: int = done) -> None:
                checkpoint((done + step) / max(total, 1))

            for name, line in self._one(P, seed, share).items():
                found[name].append(line)
            done += self.looks(P)[-1]
        values = {name: np.array(rows) for name, rows in found.items()}
        values["gap"] = values["validation"] - values["training"]
        for name, threshold in (("gap", GAP), ("copied", COPIED)):
            lines = zip(self.examples, values[name], strict=True)
            times = [reached(self.looks(P), line, threshold) for P, line in lines]
            values[f"tau_{name}"] = np.array(times)
        return values

    def _one(self, P: int, seed: int, checkpoint: Callable[[int], None]) -> dict[str, list[float]]:
        material = Material.of(self.grammar(seed), P, seed)
        data, looks = material.data.numpy(), self.looks(P)
        lines: dict[str, list[float]] = {"training": [], "validation": [], "copied": []}
        for step, net in enumerate(trained(material.data, self.v, self.s, self.L, seed)):
            if step % 10 == 0:
                checkpoint(step)
            for _ in range(looks.count(step)):
                lines["training"].append(material.loss(net, material.data))
                lines["validation"].append(material.loss(net, material.validation))
                drawn = generated(net, self.strings, data.shape[1], seed)
                lines["copied"].append(copies(drawn, data) - copies(drawn, material.other))
            if step == looks[-1]:
                return lines
        raise AssertionError("training never ends by itself")

    def dataset(self, values: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> "xr.Dataset":
        import xarray as xr

        P, over = self.P[1], ("examples", "look")
        steps = np.array([self.looks(int(n)) for n in P])
        names = {
            "training": (over, "training loss", "nat / leaf"),
            "validation": (over, "validation loss", "nat / leaf"),
            "gap": (over, "validation loss - training loss", "nat / leaf"),
            "copied": (over, "share of generated strings copied, beyond chance", "1"),
            "tau_gap": (("examples",), "steps until the gap is 0.1 nat a leaf", "step"),
            "tau_copied": (("examples",), "steps until a share of 0.05 is copied", "step"),
        }
        variables = with_errors(names, values)
        slope = values["tau_copied"] / P
        slope = slope[np.isfinite(slope)].mean() if np.isfinite(slope).any() else np.nan
        variables["tau_law"] = ("examples", slope * P, named("proportional to P", "step"))
        coordinates = {
            "examples": self.P,
            "step": (over, steps, named("training steps", "step")),
            "scaled": (over, steps / P[:, None], named("training steps / P", "step")),
        }
        nats = entropy(self.v, self.m, self.s, self.L)
        more = {"epochs": self.epochs, "strings": self.strings, "entropy": nats}
        return xr.Dataset(variables, coordinates, {**attrs, **self.sizes, **more})


def reached(steps: list[int], line: np.ndarray, threshold: float) -> float:
    """The step at which a line first reaches a threshold, between looks linearly; nan if never."""
    above = np.flatnonzero(line >= threshold)
    if not len(above):
        return float("nan")
    at = int(above[0])
    if at == 0:
        return float(steps[0])
    return float(np.interp(threshold, line[at - 1 : at + 1], steps[at - 1 : at + 1]))
