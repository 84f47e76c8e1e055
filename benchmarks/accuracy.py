"""Evaluation: eight tasks of 200 images, against the loop that published code runs.

The loop merges the dictionary, builds the network and preprocesses the images anew for every task,
in float32. (Published code also reads checkpoints and data sets from disk and rebuilds the heads
each time; that is left out here.)
"""

from __future__ import annotations

import torch
from open_clip.model import CLIP

import explorer as ex
from benchmarks import Row, main, median_row, seconds
from benchmarks.merge import dictionary_merge

IMAGES = 200
BATCH = 64


@torch.inference_mode()
def loop_accuracies(model, vectors, recipe) -> dict[str, float]:
    """Accuracy of each task, one task after the other, nothing kept between them."""
    accuracies = {}
    for task in model.tasks:
        merged = dictionary_merge(model.base, vectors, recipe.coefficients)
        tower = CLIP(**model.card["architecture"]).visual.eval()
        tower.load_state_dict(merged)
        images, labels, _ = model.images(task, n=IMAGES)
        mean, std = (torch.tensor(model.card[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        pixels = (torch.tensor(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        head = model.head(task).weight.float().cpu()
        features = torch.cat([tower(batch) for batch in pixels.split(BATCH)])
        logits = torch.nn.functional.normalize(features, dim=-1) @ head.T
        hits = logits.argmax(1) == torch.tensor(labels)
        accuracies[task] = hits.float().mean().item()
    return accuracies


def measure(quick: bool = False) -> list[Row]:
    """Time the accuracies of one recipe after another, as dragging a slider asks for them."""
    model = ex.open_model("glyphs", device="cpu")
    vectors = {task: model.task_vector(task) for task in model.tasks}
    repeats = 2 if quick else 10
    step = iter(range(10_000))

    def next_recipe() -> ex.Recipe:
        shared = 0.2 + 0.001 * next(step)
        return ex.Recipe(base="glyphs", coefficients=dict.fromkeys(model.tasks, shared))

    engine = model.engine()

    def partial_of(stage: int) -> None:
        """What a slider shows: stages of 16, 200 and all images, left at one of them."""
        run = ex.accuracy_run(model, next_recipe(), stages=(16, IMAGES, None), engine=engine)
        for i, _ in enumerate(run):
            if i == stage:
                run.cancel()
                break

    loop = seconds(lambda: loop_accuracies(model, vectors, next_recipe()), repeats)
    whole = seconds(lambda: ex.accuracy(model, next_recipe(), n=IMAGES), repeats)
    preview = seconds(lambda: partial_of(0), repeats)
    refined = seconds(lambda: partial_of(1), repeats)
    recipe = next_recipe()
    plain = loop_accuracies(model, vectors, recipe)
    edited = ex.accuracy(model, recipe, n=IMAGES)["edited"]
    apart = max(abs(plain[task] - float(edited.sel(task=task))) for task in model.tasks)
    size = f"{len(model.tasks)} tasks of {IMAGES} images"
    kept = str(engine.fast_dtype).removeprefix("torch.")
    return [
        median_row("accuracy, loop that rebuilds the model", loop, note=f"{size}, float32"),
        median_row("accuracy, ex.accuracy", whole, note=f"{size}, float32"),
        median_row("slider, first picture", preview, note=f"16 images a task, {kept}"),
        median_row("slider, refined", refined, note=f"the same, then {IMAGES} a task, {kept}"),
        Row("largest difference of an accuracy", apart, "", "ex.accuracy against the loop"),
    ]


if __name__ == "__main__":
    main(measure)
