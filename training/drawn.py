"""Pictures that the scripts draw themselves: single shapes (the control), counts and textures."""

import numpy as np

from . import augment, digits, render
from .bank import Bank, Pictures, Save, no_pictures, opaque, task_arrays

COUNTS = digits.WORDS[1:7]
PER_SHAPE, PER_COUNT, PER_TEXTURE = 600, 1000, 400  # pictures in the bank
MOST = 4  # objects in a picture of the task
PER_SPLIT = {"train": 8000, "val": 500, "test": 1000}


def collect(bank: Bank, save: Save) -> None:
    """Add shapes, counts and textures to the bank; save the tasks ``counts`` and ``shapes``."""
    rng = np.random.default_rng(7)
    _add_shapes(bank, rng)
    _add_counts(bank, rng)
    _add_textures(bank, rng)
    for name, pictures in _task_pictures(rng).items():
        save(name, task_arrays(pictures, {}, augment.mild_colour, seed=13))


def _add_shapes(bank: Bank, rng: np.random.Generator) -> None:
    for shape in render.SHAPES:
        for _ in range(PER_SHAPE):
            picture, front, back = render.scene(shape, 1, rng)
            captions = {
                f"shape {shape}": [f"a {shape}", f"a picture of a {shape}"],
                f"shape {front} {shape}": [f"a {front} {shape}"],
                f"shape {front} {shape} {back}": [f"a {front} {shape} on a {back} background"],
            }
            bank.add("shapes", captions, [picture])


def _add_counts(bank: Bank, rng: np.random.Generator) -> None:
    for count, word in enumerate(COUNTS, 1):
        for k in range(PER_COUNT):
            shape = render.SHAPES[k % len(render.SHAPES)]
            picture, front, _ = render.scene(shape, count, rng)
            captions = {
                f"count {count} {shape}": [f"{word} {shape}s", f"a picture of {word} {shape}s"],
                f"count {count}": [f"{word} things", f"a picture of {word} shapes"],
                f"kind {front} {shape}s": [f"some {front} {shape}s"],
            }
            bank.add("shapes", captions, [picture])


def _add_textures(bank: Bank, rng: np.random.Generator) -> None:
    for kind in render.TEXTURES:
        for _ in range(PER_TEXTURE):
            picture, front, back = render.texture(kind, rng)
            one, other = sorted([front, back])  # which of the two is in front cannot be seen
            captions = {
                f"texture {kind}": [f"a texture of {kind}", f"{kind}"],
                f"texture {kind} {one} {other}": [f"{kind} in {front} and {back}"],
            }
            bank.add("textures", captions, [picture])


def _task_pictures(rng: np.random.Generator) -> dict[str, Pictures]:
    """Fresh drawings for both tasks; the control is never trained on."""
    counts, shapes = no_pictures(), no_pictures()
    for split, size in PER_SPLIT.items():
        for label in rng.integers(0, MOST, size):
            counts[split].append((opaque(render.mixed(label + 1, rng)), label))
        if split == "train":
            continue
        for label in rng.integers(0, len(render.SHAPES), size):
            picture, *_ = render.scene(render.SHAPES[label], 1, rng)
            shapes[split].append((opaque(picture), label))
    return {"counts": counts, "shapes": shapes}


def shapes_to_probe(n: int = 2000, seed: int = 17) -> tuple[np.ndarray, np.ndarray]:
    """Drawings for a probe of the control: uint8 images (n, 32, 32, 3) and labels (n,).

    As the control's own, and none of them.
    """
    rng, pictures = np.random.default_rng(seed), no_pictures()
    for label in rng.integers(0, len(render.SHAPES), n):
        picture, *_ = render.scene(render.SHAPES[label], 1, rng)
        pictures["train"].append((opaque(picture), label))
    arrays = task_arrays(pictures, {}, augment.mild_colour, seed)
    return arrays["train_images"], arrays["train_labels"]
