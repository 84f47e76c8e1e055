"""Compare the merging methods with and without LiNeS; write the tables in the model card.

python docs/comparison_table.py [--check] [-n IMAGES] [--validation IMAGES] [--seeds SEEDS]
                                [--adamerging [STEPS]]

Some five minutes on two idle cores, and five more a seed with AdaMerging. With --keep FOLDER
every seed is kept there, and one that is there already is not measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

import explorer as ex
from explorer.measures.forgetting import default_schedules

CARD = Path(__file__).parent.parent / "explorer" / "zoo" / "glyphs" / "CARD.md"
BEGIN = "<!-- merging methods: begin (written by python docs/comparison_table.py) -->\n"
END = "<!-- merging methods: end -->\n"
CONSTANTS = {f"constant {c:.1f}": ex.constant(c) for c in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)}
_VERDICT = {"a": "better", "b": "worse", "undecided": "undecided"}


@dataclass(frozen=True)
class Forgetting:
    """One task vector on test images: as it is, under LiNeS, times a constant."""

    target: tuple[float, float, float]
    control: tuple[float, float, float]


def measure(
    model: ex.Model, n: int, validation: int, seeds: int, steps: int, keep: Path | None
) -> list[xr.Dataset]:
    """One comparison a seed: other images, and other entries dropped by DARE."""
    found = []
    for seed in range(seeds):
        name = f"n{n}-validation{validation}-adamerging{steps}-seed{seed}.nc"
        file = keep / name if keep else None
        if file and file.exists():
            with xr.open_dataset(file, engine="h5netcdf") as kept:
                found.append(kept.load())
            continue
        more = {"options": {"adamerging": {"steps": steps}}} if steps else {}
        run = ex.compare(
            model, n=n, n_validation=validation, seed=seed, adamerging=bool(steps), **more
        )
        found.append(run.result())
        print(f"seed {seed} is measured", file=sys.stderr, flush=True)
        if file:
            found[-1].to_netcdf(file, engine="h5netcdf")
    return found


def measure_forgetting(model: ex.Model, n: int, validation: int) -> list[Forgetting]:
    """Every task vector with the schedules that the paper's rule chooses on validation images."""
    families = (default_schedules(), CONSTANTS)
    found = []
    for task in model.tasks:
        chosen = {"as it is": ex.lines(1.0, 0.0)}
        for name, family in zip(("LiNeS", "constant"), families, strict=True):
            searched = ex.forgetting(model, task, family, n=validation).result()
            chosen[name] = family[searched.attrs["best"]]
        tested = ex.forgetting(model, task, chosen, n=n, split="test").result()
        found.append(Forgetting(tuple(tested["target"].values), tuple(tested["control"].values)))
    print("forgetting is measured", file=sys.stderr, flush=True)
    return found


def table(found: list[xr.Dataset]) -> str:
    """Mean accuracies over the seeds, and whether LiNeS is better, in Markdown."""
    rows = [
        "| method | mean accuracy (lowest to highest seed) | normalized | with LiNeS | normalized "
        "| difference by LiNeS | says the bootstrap |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {name} | {_spread(found, name)} | {_normalized(found, name)} | | | | |"
        for name in map(str, found[0]["row"].values)
        if name in ("zero-shot", "fine-tuned")
    ]
    for method in _methods(found):
        other = f"{method} + LiNeS"
        apart = _means(found, other).mean() - _means(found, method).mean()
        rows.append(
            f"| {method} | {_spread(found, method)} | {_normalized(found, method)} "
            f"| {_spread(found, other)} | {_normalized(found, other)} | {apart:+.3f} "
            f"| {_verdicts(found, method)} |"
        )
    rows += [
        f"| {name}: optimised upper reference | {_spread(found, name)} "
        f"| {_normalized(found, name)} | | | | |"
        for name in map(str, found[0]["row"].values)
        if name.startswith("adamerging")
    ]
    return "\n".join(rows) + "\n"


def conclusion(found: list[xr.Dataset]) -> str:
    """Where LiNeS helps and where it does not, in words that follow from the numbers."""
    clear: dict[str, list[str]] = {"better": [], "worse": []}
    for method in _methods(found):
        kinds = {_verdict(result, method) for result in found}
        if len(kinds) == 1 and (kind := kinds.pop()) in clear:
            clear[kind].append(method)
    undecided = len(_methods(found)) - len(clear["better"]) - len(clear["worse"])
    base = "task_arithmetic"
    by_task = xr.concat(
        [r["accuracy"].sel(row=f"{base} + LiNeS") - r["accuracy"].sel(row=base) for r in found],
        "seed",
    ).mean("seed")
    tasks = ", ".join(f"{t} {float(by_task.sel(task=t)):+.3f}" for t in by_task["task"].values)
    return (
        f"In every seed LiNeS is better for {_named(clear['better'])} and worse for "
        f"{_named(clear['worse'])}; for the other {undecided} the intervals hold 0 in some seed or "
        f"the seeds disagree. By task, for {base}: {tasks}.{_learned(found, base)}\n"
    )


def _learned(found: list[xr.Dataset], base: str) -> str:
    """AdaMerging against the method that has the same for all tensors; nothing without it."""
    rows = [row for row in map(str, found[0]["row"].values) if row.startswith("adamerging")]
    if not rows:
        return ""
    apart = _means(found, rows[0]).mean() - _means(found, base).mean()
    counts = Counter(_VERDICT[ex.bootstrap_difference(r, rows[0], base)["better"]] for r in found)
    said = ", ".join(f"{kind} in {n} of {len(found)}" for kind, n in counts.most_common())
    above = [m for m in _methods(found) if _means(found, m).mean() > _means(found, rows[0]).mean()]
    return (
        f" AdaMerging against {base}: {apart:+.3f} ({said}); without LiNeS, of higher mean than "
        f"AdaMerging: {_named(above)}."
    )


def forgetting_table(model: ex.Model, found: list[Forgetting]) -> str:
    """Target and control of one task vector, as it is and scaled, in Markdown."""
    head = "target and control as it is | under LiNeS | times a constant"
    rows = [f"| task vector | {head} |", "|---|---|---|---|"]
    for task, one in zip(model.tasks, found, strict=True):
        cells = zip(one.target, one.control, strict=True)
        rows.append(f"| {task} | {' | '.join(f'{t:.3f}, {c:.3f}' for t, c in cells)} |")
    target = np.mean([one.target for one in found], axis=0)
    control = np.mean([one.control for one in found], axis=0)
    means = " | ".join(f"{t:.3f}, {c:.3f}" for t, c in zip(target, control, strict=True))
    return "\n".join([*rows, f"| mean | {means} |"]) + "\n"


def _methods(found: list[xr.Dataset]) -> list[str]:
    rows = [str(row) for row in found[0]["row"].values]
    return [row for row in rows if f"{row} + LiNeS" in rows]


def _means(found: list[xr.Dataset], row: str) -> np.ndarray:
    return np.array([float(result["mean_accuracy"].sel(row=row)) for result in found])


def _spread(found: list[xr.Dataset], row: str) -> str:
    means = _means(found, row)
    return f"{means.mean():.3f} ({means.min():.3f} to {means.max():.3f})"


def _normalized(found: list[xr.Dataset], row: str) -> str:
    return f"{np.mean([float(r['mean_normalized'].sel(row=row)) for r in found]):.3f}"


def _verdict(result: xr.Dataset, method: str) -> str:
    return _VERDICT[ex.bootstrap_difference(result, f"{method} + LiNeS", method)["better"]]


def _verdicts(found: list[xr.Dataset], method: str) -> str:
    counts = Counter(_verdict(result, method) for result in found)
    return ", ".join(f"{kind} in {n} of {len(found)}" for kind, n in counts.most_common())


def _named(methods: list[str]) -> str:
    return ", ".join(methods) or "none"


def _how(found: list[xr.Dataset], validation: int) -> str:
    images = found[0]["n"].values
    return (
        f"{len(found)} seeds (which images are used; which entries DARE drops; the task vectors "
        f"are the same). Each seed: the factor, or LiNeS's beta, is chosen on at most {validation} "
        f"validation images a task and measured once on {images.min()} test images a task. "
        "A difference is called better or worse where the 95 % interval of a paired bootstrap over "
        "images leaves out 0. Averaging, Model Stock and WUDI have no factor to choose without "
        "LiNeS: they are taken as they are. LARV is over task arithmetic."
        + (
            f" AdaMerging is no competitor of the others but an upper reference: it learns a "
            f"coefficient a task and tensor in {learned}."
            if (learned := found[0].attrs.get("adamerging"))
            else ""
        )
    )


def _how_forgetting(n: int, validation: int) -> str:
    return (
        "One task vector at coefficient 1: accuracy on its task over the fine-tuned one, and mean "
        "accuracy on the eight other tasks, control included, over zero-shot. Schedules by the "
        f"paper's rule (2 x target + control) on at most {validation} validation images a task, "
        f"measured on at most {n} test images a task."
    )


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    parser.add_argument("-n", type=int, default=128, help="test images a task (128)")
    parser.add_argument("--validation", type=int, default=64, help="validation images a task (64)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (3)")
    parser.add_argument(
        "--adamerging",
        type=int,
        nargs="?",
        const=500,
        default=0,
        metavar="STEPS",
        help="with AdaMerging, an upper reference, and its steps (500; left out unless given)",
    )
    parser.add_argument("--keep", type=Path, help="folder where finished seeds are kept")
    arguments = parser.parse_args()
    n, validation = arguments.n, arguments.validation
    before, _, rest = CARD.read_text(encoding="utf-8").partition(BEGIN)
    written, _, after = rest.partition(END)
    model = ex.open_model("glyphs")
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    found = measure(model, n, validation, arguments.seeds, arguments.adamerging, arguments.keep)
    kept = measure_forgetting(model, n, validation // 2)
    parts = [
        table(found),
        conclusion(found),
        _how(found, validation) + "\n",
        forgetting_table(model, kept),
        _how_forgetting(n, validation // 2) + "\n",
    ]
    text = "\n".join(parts)
    print(text, end="")
    if arguments.check:
        print("The card agrees." if written == text else "The card says otherwise.")
        return int(written != text)
    if not rest:
        print(f"{CARD.name} has no place for the tables: put the two marks there.", file=sys.stderr)
        return 1
    # Read again: minutes have passed.
    before, _, rest = CARD.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    CARD.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
