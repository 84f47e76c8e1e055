"""Merging: flat buffers ordered by depth against the dictionary loop that every peer uses."""

from __future__ import annotations

import torch

import explorer as ex
from benchmarks import Row, main, median_row, seconds
from explorer.compute.resident import EditedWeights, ResidentWeights


def dictionary_merge(base, vectors, coefficients):
    """theta = theta_0 + sum_t lambda_t tau_t, tensor by tensor: the form published code has."""
    merged = {key: tensor.clone() for key, tensor in base.items()}
    for task, coefficient in coefficients.items():
        for key, delta in vectors[task].items():
            merged[key] += coefficient * delta
    return merged


def measure(quick: bool = False) -> list[Row]:
    """Time one merge of all tasks, and the move of one slider, of the embedded model."""
    model = ex.open_model("glyphs", device="cpu")
    vectors = {task: model.task_vector(task) for task in model.tasks}
    coefficients = {task: 0.3 + 0.01 * i for i, task in enumerate(model.tasks)}
    edited = EditedWeights(ResidentWeights(model.base, vectors, torch.device("cpu")))
    repeats = 10 if quick else 100

    loop = seconds(lambda: dictionary_merge(model.base, vectors, coefficients), repeats)
    fused = seconds(lambda: edited.merge(coefficients), repeats)
    move = seconds(lambda: edited.move(model.tasks[0], 0.01), repeats)
    edited.merge(coefficients)
    plain = dictionary_merge(model.base, vectors, coefficients)
    apart = max(float((plain[key] - t).abs().max()) for key, t in edited.named().items())
    n = sum(tensor.numel() for tensor in model.base.values())
    size = f"{len(vectors)} tasks, {n / 1e6:.2f} M parameters"
    return [
        median_row("merge, dictionary loop", loop, note=size),
        median_row("merge, flat buffers", fused, note=size),
        median_row("merge, one slider moved", move, note="one axpy"),
        Row("largest difference of a weight", apart, "", "dictionary loop against flat buffers"),
    ]


if __name__ == "__main__":
    main(measure)
