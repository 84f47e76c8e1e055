"""Disentanglement maps at full size on a GPU: ViT-B/32 and ViT-L/14 with random weights.

Speed does not depend on the weights. Without a CUDA device there is one row that says so.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import torch
from torch import Tensor

import explorer as ex
from benchmarks import Row, main
from explorer.compute.images import ImageStore
from explorer.compute.resident import ResidentWeights
from explorer.measures.grid import Grid
from explorer.measures.plane import Subset, WeightPlane
from explorer.models.heads import ZeroShotHead
from explorer.models.towers import build_tower

TASKS = ("one", "other")
CLASSES = 100
TOWERS = {
    "ViT-B/32": ({"layers": 12, "width": 768, "patch_size": 32}, 512, 21),
    "ViT-L/14": ({"layers": 24, "width": 1024, "patch_size": 14}, 768, 9),
}


def measure(quick: bool = False) -> list[Row]:
    """Time maps of 2 x 2,048 images and give the rate that the device reaches."""
    if not torch.cuda.is_available():
        return [Row("maps on a GPU", float("nan"), "", "skipped: there is no CUDA device here")]
    rows = []
    for name, (vision, embed_dim, points) in TOWERS.items():
        rows += _rows(name, vision, embed_dim, 3 if quick else points, 256 if quick else 2048)
    return rows


def _rows(name: str, vision: dict, embed_dim: int, points: int, n: int) -> list[Row]:
    architecture = {"embed_dim": embed_dim, "vision_cfg": vision | {"image_size": 224}}
    model = random_model(architecture, n)
    subset = Subset(model, TASKS, "test", 0, (n, n))
    plane = WeightPlane(subset, ex.Recipe("random", dict.fromkeys(TASKS, 1.0)))
    start = time.perf_counter()
    for cell in Grid.of([-3.0, -1.5, 0.0, 1.5, 3.0]).visits():
        plane.predict(cell, (48, 48))
    first = time.perf_counter() - start
    cells = Grid.of([-3 + 6 * i / (points - 1) for i in range(points)]).visits()
    start = time.perf_counter()
    for cell in cells:
        plane.predict(cell, (n, n))
    whole = time.perf_counter() - start
    plane.close()
    rate = len(cells) * 2 * n * operations(vision, embed_dim) / whole / 1e12
    size = f"{points} x {points}, 2 x {n} images, {plane.precision}"
    return [
        Row(f"map, {name}, 5 x 5 with 48 images", first, "s", "the first picture, cold"),
        Row(f"map, {name}, complete", whole, "s", size),
        Row(f"map, {name}, rate", rate, "TFLOP/s", "of one forward an image and cell"),
    ]


def operations(vision: dict, embed_dim: int) -> float:
    """Multiplications and additions of a forward of one image of 224 x 224."""
    width, patch = vision["width"], vision["patch_size"]
    tokens = (224 // patch) ** 2 + 1
    block = 12 * width**2 * tokens + 2 * tokens**2 * width
    patches = 3 * patch**2 * width * (tokens - 1)
    return 2.0 * (vision["layers"] * block + patches + width * embed_dim)


def random_model(architecture: dict, n: int) -> SimpleNamespace:
    """What a map needs of a model: random weights, two random vectors, random images."""
    device = torch.device("cuda")
    generator = torch.Generator().manual_seed(0)
    shapes = {key: tensor.shape for key, tensor in build_tower(architecture).state_dict().items()}

    def draw(scale: float) -> dict[str, Tensor]:
        return {
            key: scale * torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5
            for key, shape in shapes.items()
        }

    resident = ResidentWeights(draw(1.0), {task: draw(0.01) for task in TASKS}, device)
    pixels = torch.randint(0, 256, (n, 224, 224, 3), dtype=torch.uint8, generator=generator)
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
