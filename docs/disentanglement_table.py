"""Measure disentanglement of all pairs of tasks in each space; write the table in the model card.

python docs/disentanglement_table.py [--check] [-n IMAGES]

Takes some minutes the first time; the store keeps the maps, so that a second run is quick.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

import explorer as ex

CARD = Path(__file__).parent.parent / "explorer" / "zoo" / "glyphs" / "CARD.md"
BEGIN = "<!-- disentanglement: begin (written by python docs/disentanglement_table.py) -->\n"
END = "<!-- disentanglement: end -->\n"
REGION = np.linspace(0, 1, 11)
WIDE = 128  # images a task of the maps over [-3, 3]
SPACES = {
    "weights": "weights (fine-tuned)",
    "posthoc": "post-hoc (the same vectors, linearised)",
    "tangent": "tangent (fine-tuned linearised)",
}


@dataclass(frozen=True)
class Pair:
    """One pair of tasks in one space, over coefficients from 0 to 1."""

    error: np.ndarray  # (alpha1, alpha2), mean of the two terms
    single: np.ndarray  # (alpha,), mean accuracy of the two single-task edits, each on its task
    joint: float  # best mean accuracy of both tasks on the map

    @classmethod
    def of(cls, result: xr.Dataset) -> Pair:
        accuracy = result["accuracy"]
        first = accuracy.isel(task=0).sel(alpha2=0).values
        second = accuracy.isel(task=1).sel(alpha1=0).values
        return cls(
            result["error"].mean("task").values,
            (first + second) / 2,
            float(accuracy.mean("task").max()),
        )

    def mean_error(self, upto: int | None = None) -> float:
        """Mean error over the square of the first ``upto`` coefficients (all when None)."""
        return float(self.error[:upto, :upto].mean())

    def reaches(self, accuracy: float) -> int:
        """How many coefficients it takes to be as accurate on single tasks."""
        enough = np.flatnonzero(self.single >= accuracy)
        return int(enough[0]) + 1 if len(enough) else len(self.single)


def measure(model: ex.Model, n: int) -> dict[str, list[Pair]]:
    """Every pair of tasks in every space."""
    found: dict[str, list[Pair]] = {}
    for space in SPACES:
        maps = (
            ex.disentanglement(model, pair, REGION, n=n, space=space)
            for pair in itertools.combinations(model.tasks, 2)
        )
        found[space] = [Pair.of(run.result()) for run in maps]
    return found


def measure_wide(model: ex.Model) -> dict[str, float]:
    """Mean error over all pairs and over [-3, 3]^2, the paper's plane, in every space."""
    runs = {space: ex.disentanglement_pairs(model, n=WIDE, space=space) for space in SPACES}
    return {space: float(run.result()["mean_error"].mean()) for space, run in runs.items()}


def table(found: dict[str, list[Pair]], wide: dict[str, float], n: int) -> str:
    """The table and what it says, in Markdown."""
    weights, tangent = found["weights"], found["tangent"]
    rows = [
        "| space | single-task accuracy at 1 | mean error over [0, 1]^2 (lowest to highest pair) "
        "| less than in weights | over [-3, 3]^2 | best mean accuracy of a pair |",
        "|---|---|---|---|---|---|",
    ]
    for space, title in SPACES.items():
        pairs = found[space]
        errors = [pair.mean_error() for pair in pairs]
        fewer = sum(e < w.mean_error() for e, w in zip(errors, weights, strict=True))
        beside = "" if space == "weights" else f"{fewer} of {len(pairs)} pairs"
        rows.append(
            f"| {title} | {np.mean([p.single[-1] for p in pairs]):.3f} | {np.mean(errors):.3f} "
            f"({min(errors):.3f} to {max(errors):.3f}) | {beside} | {wide[space]:.3f} "
            f"| {np.mean([p.joint for p in pairs]):.3f} |"
        )
    return "\n".join([*rows, "", *_matched(weights, tangent), "", _how(n, len(weights))]) + "\n"


def _matched(weights: list[Pair], tangent: list[Pair]) -> list[str]:
    """The comparison at equal single-task accuracy, pair by pair."""
    upto = [w.reaches(t.single[-1]) for w, t in zip(weights, tangent, strict=True)]
    at = np.mean([REGION[k - 1] for k in upto])
    scaled = np.array([w.mean_error(k) for w, k in zip(weights, upto, strict=True)])
    linear = np.array([t.mean_error() for t in tangent])
    fewer = int((linear < scaled).sum())
    return [
        "At matched accuracy (the fine-tuned vectors up to the coefficient at which they are as "
        f"accurate on their own task as the tangent ones at 1, on average {at:.2f}) the mean error "
        f"is {scaled.mean():.3f} in weight space and {linear.mean():.3f} in the tangent space, "
        f"which has less in {fewer} of {len(tangent)} pairs."
    ]


def _how(n: int, pairs: int) -> str:
    return (
        f"{pairs} pairs; coefficients 0 to 1 in steps of 0.1 with at most {n} test images a task, "
        f"-3 to 3 in steps of 0.75 with {WIDE} (seed 0); the error is the mean of the two terms of "
        "Ortiz-Jimenez et al. 2023, eq. 2."
    )


def main() -> int:
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    parser.add_argument("-n", type=int, default=256, help="test images a task (256)")
    arguments = parser.parse_args()
    before, _, rest = CARD.read_text(encoding="utf-8").partition(BEGIN)
    written, _, after = rest.partition(END)
    model = ex.open_model("glyphs")
    text = table(measure(model, arguments.n), measure_wide(model), arguments.n)
    print(text, end="")
    if arguments.check:
        print("The card agrees." if written == text else "The card says otherwise.")
        return int(written != text)
    CARD.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
