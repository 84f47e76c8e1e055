"""Disentanglement maps at full size on a GPU: ViT-B/32 and ViT-L/14 with random weights.

Speed does not depend on the weights. The towers are run in the way that is fastest here, of batched
eager, CUDA graphs and torch.compile. Without a CUDA device all of it is a dry run on the CPU, with
a tiny tower: it shows that the code runs, and its numbers say nothing about a GPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch import Tensor

import explorer as ex
from benchmarks import Row, main
from benchmarks._forwards import Way, compare
from explorer.compute.cell_weights import CellWeights
from explorer.compute.device import fast_dtype
from explorer.compute.images import ImageStore
from explorer.compute.resident import ResidentWeights
from explorer.measures.grid import Grid
from explorer.measures.plane import Subset, WeightPlane
from explorer.models.heads import ZeroShotHead
from explorer.models.towers import build_tower

TASKS = ("one", "other")
CLASSES = 100
BATCH = 2048
# Features of two ways may be this far apart, in units of the largest: the width of a format's last
# digits, summed over the layers.
CLOSE = {torch.bfloat16: 0.05, torch.float32: 1e-3}


@dataclass(frozen=True)
class Size:
    """A tower, its map and its images."""

    vision: dict[str, int]
    embed_dim: int
    points: int
    n: int = 2048


TOWERS = {
    "ViT-B/32": Size({"layers": 12, "width": 768, "patch_size": 32, "image_size": 224}, 512, 21),
    "ViT-L/14": Size({"layers": 24, "width": 1024, "patch_size": 14, "image_size": 224}, 768, 9),
}
DRY = Size({"layers": 2, "width": 64, "patch_size": 8, "image_size": 32}, 32, 3, 24)


def measure(quick: bool = False) -> list[Row]:
    """Time maps of 2 x 2,048 images and give the rate that the device reaches."""
    if not torch.cuda.is_available():
        says = "no CUDA device here: a tiny tower on the CPU, its numbers say nothing about a GPU"
        return [Row("dry run", float("nan"), "", says), *_rows("dry run", DRY, "cpu", 3)]
    rows = []
    for name, size in TOWERS.items():
        small = replace(size, points=3, n=256) if quick else size
        rows += _rows(name, small, "cuda", 5 if quick else 20)
    return rows


def _rows(name: str, size: Size, device: str, repeats: int) -> list[Row]:
    n, points = size.n, size.points
    architecture = {"embed_dim": size.embed_dim, "vision_cfg": size.vision}
    model = random_model(architecture, n, torch.device(device))
    subset = Subset(model, TASKS, "test", 0, (n, n))
    recipe = ex.Recipe("random", dict.fromkeys(TASKS, 1.0))
    # On a CPU bfloat16 goes through operations that torch.compile does not take.
    precision = "float32" if device == "cpu" else "auto"
    rows, way = ways(name, model, subset, recipe, precision, repeats)
    plane = WeightPlane(subset, recipe, precision, way.forward)
    start = time.perf_counter()
    for cell in Grid.of([-3.0, -1.5, 0.0, 1.5, 3.0]).visits():
        plane.predict(cell, (min(48, n), min(48, n)))
    first = time.perf_counter() - start
    cells = Grid.of([-3 + 6 * i / (points - 1) for i in range(points)]).visits()
    start = time.perf_counter()
    for cell in cells:
        plane.predict(cell, (n, n))
    whole = time.perf_counter() - start
    plane.close()
    rate = len(cells) * 2 * n * operations(size.vision, size.embed_dim) / whole / 1e12
    said = f"{points} x {points}, 2 x {n} images, {plane.precision}, {way.name}"
    few = min(48, n)
    return [
        *rows,
        Row(f"map, {name}, 5 x 5 with {few} images", first, "s", "the first picture, cold"),
        Row(f"map, {name}, complete", whole, "s", said),
        Row(f"map, {name}, rate", rate, "TFLOP/s", "of one forward an image and cell"),
    ]


def ways(
    name: str,
    model: SimpleNamespace,
    subset: Subset,
    recipe: ex.Recipe,
    precision: str,
    repeats: int,
) -> tuple[list[Row], Way]:
    """The ways to run the tower on a batch of the map's images, and the one to take."""
    dtype = fast_dtype(model.device, precision)
    weights = CellWeights(model, recipe)
    tower = weights.tower(dtype)
    pixels = model.image_store.range(subset.range(0))[:BATCH]
    batch = model.image_store.normalised(pixels, dtype)
    cells = ((0.0, 0.0), (1.0, -1.0))
    prefix = f"forwards, {name}, "
    return compare(tower, lambda k: weights.set(*cells[k]), batch, repeats, prefix, CLOSE[dtype])


def operations(vision: dict[str, int], embed_dim: int) -> float:
    """Multiplications and additions of a forward of one image."""
    width, patch = vision["width"], vision["patch_size"]
    tokens = (vision["image_size"] // patch) ** 2 + 1
    block = 12 * width**2 * tokens + 2 * tokens**2 * width
    patches = 3 * patch**2 * width * (tokens - 1)
    return 2.0 * (vision["layers"] * block + patches + width * embed_dim)


def random_model(architecture: dict, n: int, device: torch.device) -> SimpleNamespace:
    """What a map needs of a model: random weights, two random vectors, random images."""
    generator = torch.Generator().manual_seed(0)
    shapes = {key: tensor.shape for key, tensor in build_tower(architecture).state_dict().items()}

    def draw(scale: float) -> dict[str, Tensor]:
        return {
            key: scale * torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5
            for key, shape in shapes.items()
        }

    resident = ResidentWeights(draw(1.0), {task: draw(0.01) for task in TASKS}, device)
    side = architecture["vision_cfg"]["image_size"]
    pixels = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=generator)
    names = tuple(map(str, range(CLASSES)))
    weight = torch.randn(CLASSES, architecture["embed_dim"], generator=generator)
    head = ZeroShotHead(100 * torch.nn.functional.normalize(weight).to(device), names, ("{}",))
    order = torch.randperm(n, generator=generator).numpy()
    store = ImageStore(
        lambda task, split: pixels.numpy(), [0.5] * 3, [0.25] * 3, device, lambda *which: order
    )
    return SimpleNamespace(
        device=device,
        architecture=architecture,
        image_store=store,
        resident=lambda space: resident,
        head=lambda task: head,
    )


if __name__ == "__main__":
    main(measure)
