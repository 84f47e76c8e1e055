"""Stage ``evaluate``: everything the model card says, measured with ``explorer`` itself.

Coefficients are chosen on the validation split; the test split is read once at the chosen ones.
Writes ``results.json``; each part is kept there as soon as it is known, so the stage can resume.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open

import explorer as ex
from explorer.errors import NothingFeasibleError

from . import pack

PAIRS = [("mnist", "uci"), ("letters", "hiragana"), ("mnist", "emoji"), ("icons", "scripts")]


def _at(model, recipe: ex.Recipe, tasks: list[str] | None = None) -> dict[str, float]:
    found = ex.accuracy(model, recipe, tasks=tasks or model.all_tasks)
    return {str(t): float(v) for t, v in zip(found.task.values, found.edited.values, strict=True)}


def _mean(values: dict[str, float], tasks: list[str]) -> float:
    return float(np.mean([values[t] for t in tasks]))


def additions(model, space: str) -> dict:
    """Single-task and summed accuracies in one space, at validation's best shared coefficient."""
    tasks = model.tasks
    tuned = {t: _at(model, ex.Recipe(coefficients={t: 1.0}, space=space), [t])[t] for t in tasks}
    search = ex.best_shared_coefficient(model, space=space).result()
    best = float(search.attrs["best_coefficient"])
    merged = _at(model, ex.Recipe(coefficients=dict.fromkeys(tasks, best), space=space))
    return {
        "fine_tuned": tuned,
        "fine_tuned_mean": _mean(tuned, tasks),
        "sum": {
            "coefficient": best,
            "accuracy": merged,
            "accuracy_mean": _mean(merged, tasks),
            "normalized_mean": float(np.mean([merged[t] / tuned[t] for t in tasks])),
        },
    }


def negations(model, zero_shot: dict[str, float]) -> dict:
    """Each task forgotten under the control rule.

    ``forgotten`` is the share of the above-chance accuracy that is removed.
    """
    out = {}
    for task in model.tasks:
        search = ex.negation(model, task).result()
        try:
            strength = ex.negation_coefficient(search)
        except NothingFeasibleError:
            strength = 0.0
        after = _at(model, ex.Recipe(coefficients={task: -strength}), [task, model.control])
        chance = 1 / len(model.task(task).class_names)
        forgotten = (zero_shot[task] - after[task]) / max(zero_shot[task] - chance, 1e-9)
        out[task] = {
            "coefficient": strength,
            "zero_shot": zero_shot[task],
            "target": after[task],
            "control": after[model.control],
            "control_zero_shot": zero_shot[model.control],
            "forgotten": forgotten,
        }
    return out


def disentanglement(model, pair: tuple[str, str], space: str, n: int = 300) -> float:
    """Mean disagreement of the joint edit with each single one, over a 4 x 4 grid of coefficients.

    Ortiz-Jimenez et al. 2023, eq. 2, halved: the mean of the two terms. The interactive map
    refines it.
    """
    grid = (0.25, 0.5, 0.75, 1.0)

    def predicted(recipe: ex.Recipe, task: str) -> np.ndarray:
        return ex.accuracy(model, recipe, tasks=[task], n=n).predicted.values[0]

    single = {
        (t, a): predicted(ex.Recipe(coefficients={t: a}, space=space), t)
        for t in pair
        for a in grid
    }
    errors = []
    for a in grid:
        for b in grid:
            joint = ex.Recipe(coefficients={pair[0]: a, pair[1]: b}, space=space)
            for task, alone in zip(pair, (a, b), strict=True):
                errors.append(np.mean(predicted(joint, task) != single[task, alone]))
    return float(np.mean(errors))


def _training_note(work: Path, kind: str) -> str:
    files = sorted((work / kind / "seed0").glob("*.safetensors"))
    notes = [safe_open(f, "np").metadata() for f in files]
    pairs = sorted({(n["steps"], n["rate"]) for n in notes})
    return (
        "; ".join(f"{steps} steps of 64 at rate {rate}" for steps, rate in pairs)
        + ", AdamW, cosine, gradients clipped at 1"
    )


def main(work: Path, options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m training evaluate")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--pretraining", required=True, help="one sentence for the card: samples, steps, hardware"
    )
    args = parser.parse_args(options)
    path = work / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {"by_seed": {}}
    found |= {
        "pretraining": args.pretraining,
        "finetuning": _training_note(work, "weights"),
        "tangent_finetuning": _training_note(work, "tangent"),
    }

    def keep() -> None:
        path.write_text(json.dumps(found, indent=1))

    for seed in args.seeds:
        if str(seed) in found["by_seed"] and not (seed == 0 and "disentanglement" not in found):
            continue
        pack.write_folder(work, work / "draft" / f"seed{seed}", seed)
        model = ex.open_model(work / "draft" / f"seed{seed}")
        if "zero_shot" not in found:
            found["zero_shot"] = _at(model, ex.Recipe())
            found["zero_shot_mean"] = _mean(found["zero_shot"], model.tasks)
        if str(seed) not in found["by_seed"]:
            part = additions(model, "weights")
            part["negation"] = negations(model, found["zero_shot"])
            found["by_seed"][str(seed)] = part
            print(
                f"seed {seed}:",
                json.dumps({k: v for k, v in part.items() if k != "negation"}),
                flush=True,
            )
            keep()
        if seed == 0:
            found["tangent"] = found.get("tangent") or additions(model, "tangent")
            keep()
            found["disentanglement"] = [
                {
                    "tasks": list(pair),
                    "weights": disentanglement(model, pair, "weights"),
                    "tangent": disentanglement(model, pair, "tangent"),
                }
                for pair in PAIRS
            ]
            keep()
    for row in pack.bar(found):
        print(row)
