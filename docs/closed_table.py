"""Is disentanglement a consequence of pre-training? Three embedded bases side by side, as Markdown.

    python docs/closed_table.py

Hazimeh et al. 2025 (arXiv 2511.14569) edit towers without text, with linear probes as heads, and
find that pre-training, not text, makes task vectors disentangle. The bases: ``glyphs``, trained
with text, with zero-shot heads; ``glyphs-closed``, trained on classes; ``glyphs-scratch``, random
weights. For each the test accuracy of the base, of each task's own fine-tuned tower, and of the sum
of the eight vectors at the shared coefficient that is best on validation images; then the
disentanglement error of pairs of tasks.
"""

import argparse
import itertools

import numpy as np
from probe_table import table

import explorer as ex

MODELS = {"text": "glyphs", "closed": "glyphs-closed", "scratch": "glyphs-scratch"}
REACH = (0.3, 1.0)  # of the coefficients in a map


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description="Three bases side by side.")
    arguments.add_argument("--images", type=int, default=100, help="of each task in a map")
    arguments.add_argument("--pairs", type=int, default=8, help="pairs of tasks, in a fixed order")
    arguments.add_argument(
        "--models", nargs="+", metavar="TITLE=NAME", help="others than the three"
    )
    given = arguments.parse_args()
    named = dict(text.split("=", 1) for text in given.models) if given.models else MODELS
    models = {title: ex.open_model(name) for title, name in named.items()}
    print(accuracies(models))
    print()
    print(errors(models, given.images, given.pairs))


def accuracies(models: dict[str, ex.Model]) -> str:
    """Base, fine-tuned and summed accuracy a task and base, and what became of the sum."""
    columns: dict[str, np.ndarray] = {}
    summaries = []
    for title, m in models.items():
        alpha = float(ex.best_shared_coefficient(m).result().attrs["best_coefficient"])
        recipe = ex.Recipe(base=m.name, coefficients=dict.fromkeys(m.tasks, alpha))
        found = ex.accuracy(m, recipe)
        base, tuned, edited = (found[k].values for k in ("zero_shot", "fine_tuned", "edited"))
        columns |= {f"{title}: base": base, f"{title}: fine-tuned": tuned, f"{title}: sum": edited}
        sizes = [m.task_vector(task).norm for task in m.tasks]
        whole = float(np.sqrt(sum(float(x.square().sum()) for x in m.base.values())))
        angles = [
            m.task_vector(one).cosine(m.task_vector(other))
            for one, other in itertools.combinations(m.tasks, 2)
        ]
        summaries.append(
            [
                title,
                m.base_title,
                f"{alpha:.2f}",
                f"{base.mean():.3f}",
                f"{tuned.mean():.3f}",
                f"{edited.mean():.3f}",
                f"{(edited / tuned).mean():.3f}",
                f"{edited.mean() - base.mean():+.3f}",
                f"{np.mean(sizes) / whole:.2f}",
                f"{np.mean(angles):.2f}",
            ]
        )
    tasks = next(iter(models.values())).tasks
    rows = [
        [task, *(f"{values[i]:.3f}" for values in columns.values())] for i, task in enumerate(tasks)
    ]
    rows.append(["**mean**", *(f"**{values.mean():.3f}**" for values in columns.values())])
    head = ["base", "its heads", "coefficient", "base alone", "fine-tuned", "sum of eight"]
    head += ["normalized", "gain", "vector / base", "cosine"]
    return (
        f"{table(['task', *columns], rows)}\n\n{table(head, summaries)}\n\n"
        "Coefficient: of all eight vectors, the best of 21 on validation images. Normalized: sum "
        "over fine-tuned, the mean over tasks. Gain: sum less base. Vector / base: mean length of "
        "the vectors over that of the base's weights. Cosine: between two vectors, mean of 28."
    )


def errors(models: dict[str, ex.Model], images: int, pairs: int) -> str:
    """Mean disentanglement error of pairs over [0, r]^2 for each r of REACH and each base."""
    every = [*itertools.combinations(next(iter(models.values())).tasks, 2)]
    chosen = [every[i] for i in np.linspace(0, len(every) - 1, pairs).round().astype(int)]
    rows, means = [], []
    for pair in chosen:
        values = []
        for m in models.values():
            for reach in REACH:
                found = ex.disentanglement(m, pair, np.linspace(0, reach, 5), n=images).result()
                values.append(float(found["error"].sum("task").mean()))
        means.append(values)
        rows.append([" and ".join(pair), *(f"{value:.3f}" for value in values)])
    rows.append(["**mean**", *(f"**{value:.3f}**" for value in np.mean(means, 0))])
    head = ["pair", *(f"{title}: to {reach:g}" for title in models for reach in REACH)]
    return (
        f"{table(head, rows)}\n\nMean of the error xi (both tasks' terms) over [0, r]^2, 5 x 5 "
        f"cells, {images} test images a task, seed 0; {pairs} of {len(every)} pairs."
    )


if __name__ == "__main__":
    main()
