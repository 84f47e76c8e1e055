"""Linear probes beside zero-shot heads on the embedded model, as Markdown.

    python docs/probe_table.py

Hazimeh et al. 2025 (arXiv 2511.14569) hold linear probing beside task addition: the backbone stays
as it is and only heads are fitted. For both kinds of head: the base, each task's own fine-tuned
tower, and the sum of all task vectors at the best shared coefficient; test accuracy. That is chosen
on validation images with zero-shot heads, for both: the probes were fitted on the same images,
which they know by heart. Then the disentanglement error of pairs of tasks. The vectors were
fine-tuned with zero-shot heads, which the probes are not.
"""

import argparse
import itertools
import time

import numpy as np

import explorer as ex


def main() -> None:
    """Print both tables."""
    arguments = argparse.ArgumentParser(description="Linear probes beside zero-shot heads.")
    arguments.add_argument("--images", type=int, default=100, help="of each task in a map")
    arguments.add_argument("--pairs", type=int, default=8, help="pairs of tasks, in a fixed order")
    given = arguments.parse_args()
    texts = ex.open_model("glyphs")
    began = time.monotonic()
    probes = ex.with_probes(texts, texts.tasks)
    fitted = time.monotonic() - began
    print(accuracies({"zero-shot": texts, "linear probe": probes}))
    print(f"\nAll {len(texts.tasks)} probes were fitted in {fitted:.0f} s.\n")
    print(errors(texts, probes, given.images, given.pairs))


def accuracies(models: dict[str, ex.Model]) -> str:
    """Base, fine-tuned and summed accuracy a task with each kind of head."""
    columns: dict[str, np.ndarray] = {}
    first = next(iter(models.values()))
    alpha = ex.best_shared_coefficient(first).result().attrs["best_coefficient"]
    for name, m in models.items():
        recipe = ex.Recipe(base=m.name, coefficients=dict.fromkeys(m.tasks, alpha))
        found = ex.accuracy(m, recipe)
        columns[f"{name}: base"] = found["zero_shot"].values
        columns[f"{name}: fine-tuned"] = found["fine_tuned"].values
        columns[f"{name}: sum"] = found["edited"].values
    tasks = first.tasks
    rows = [
        [task, *(f"{values[i]:.3f}" for values in columns.values())] for i, task in enumerate(tasks)
    ]
    rows.append(["**mean**", *(f"**{values.mean():.3f}**" for values in columns.values())])
    return f"{table(['task', *columns], rows)}\n\nShared coefficient of the sum: {alpha:.2f}."


def errors(texts: ex.Model, probes: ex.Model, images: int, pairs: int) -> str:
    """Mean disentanglement error of pairs of tasks over [0, 1]^2 with each kind of head."""
    every = [*itertools.combinations(texts.tasks, 2)]
    chosen = [every[i] for i in np.linspace(0, len(every) - 1, pairs).round().astype(int)]
    alphas = np.linspace(0, 1, 5)
    rows, means = [], []
    for pair in chosen:
        maps = [ex.disentanglement(m, pair, alphas, n=images).result() for m in (texts, probes)]
        values = [float(found["error"].sum("task").mean()) for found in maps]
        means.append(values)
        rows.append([" and ".join(pair), *(f"{value:.3f}" for value in values)])
    rows.append(["**mean**", *(f"**{value:.3f}**" for value in np.mean(means, 0))])
    head = ["pair", "zero-shot heads", "linear probes"]
    return (
        f"{table(head, rows)}\n\nMean of the error xi (both tasks' terms) over [0, 1]^2, 5 x 5 "
        f"cells, {images} test images a task, seed 0; {pairs} of {len(every)} pairs."
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
