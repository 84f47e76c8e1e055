"""Disentanglement maps: time to the first picture, whole maps, linear spaces, kernel, and a ratio.

The scheme compared with is the one that public repositories draw such maps by: every cell reads
the checkpoints, builds its networks and data loaders anew, and passes over each task's images
twice, for the joint and for the single-task edit. Both run on the same images in this process.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, TensorDataset

import explorer as ex
from benchmarks import Row, main, median_row, seconds
from benchmarks.merge import dictionary_merge
from explorer.compute.store import Store

PAIR = ("mnist", "letters")
IMAGES = 400


def measure(quick: bool = False) -> list[Row]:
    """Time maps of two tasks of the embedded model, in the three spaces."""
    model = ex.open_model("glyphs", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows = streamed(model, Store(folder), 9 if quick else 21)
    rows += agreement(model, 3 if quick else 7)
    with tempfile.TemporaryDirectory() as folder:
        rows += linear(model, Store(folder))
    rows += kernel(model, 12 if quick else 24)
    return rows + ratio(model, 3 if quick else 5)


def streamed(model: ex.Model, store: Store, points: int) -> list[Row]:
    """A map in weight space from the call to its end, and once more from the store."""
    alphas = np.linspace(-3, 3, points)
    start, busy = time.perf_counter(), time.process_time()
    run = ex.disentanglement(model, PAIR, alphas, n=IMAGES, store=store)
    first = next(run)
    first_after = time.perf_counter() - start
    last = run.result(show_progress=False)
    whole, busy = time.perf_counter() - start, time.process_time() - busy
    start = time.perf_counter()
    next(ex.disentanglement(model, PAIR, alphas, n=IMAGES, store=store))
    again = time.perf_counter() - start
    size = f"{points} x {points}, 2 x {IMAGES} images, {last.attrs['precision']}"
    n_images = points**2 * int(last["n"].sum())
    return [
        Row("map, first picture", first_after, "s", f"{first.attrs['n']} images a task, cold"),
        Row("map, complete", whole, "s", size),
        Row("map, time of all processors", busy, "s", "half of it on two idle cores"),
        Row("map, images a second", n_images / whole, "/s", size),
        Row("map, from the store", again, "s", size),
    ]


def agreement(model: ex.Model, points: int) -> list[Row]:
    """Predictions that differ from those of float32 alone."""
    maps = [
        ex.disentanglement(
            model, PAIR, np.linspace(-3, 3, points), n=IMAGES, precision=precision, store=False
        ).result(show_progress=False)["predicted"]
        for precision in ("auto", "float32")
    ]
    differ = int((maps[0] != maps[1]).sum())
    return [Row("predictions unlike float32's", differ, "", f"of {maps[0].size:,}")]


def linear(model: ex.Model, store: Store) -> list[Row]:
    """A linearised space: the derivatives once, then maps and sliders, and a map from the store."""
    rows = []
    for space in ("posthoc", "tangent"):

        def draw(shift: float, space: str = space, model: ex.Model = model) -> None:
            alphas = np.linspace(-3 + shift, 3 + shift, 21)
            run = ex.disentanglement(model, PAIR, alphas, n=IMAGES, space=space, store=store)
            run.result(False)

        start = time.perf_counter()
        draw(0.0)
        prepared = time.perf_counter() - start
        step = iter(range(100))
        again = seconds(lambda draw=draw, step=step: draw(0.01 * next(step)), 7)
        rows += [
            Row(f"map, {space}, the first", prepared, "s", f"21 x 21, 2 x {IMAGES} images"),
            median_row(f"map, {space}, every later one", again, note="another range each"),
        ]
        opened = ex.open_model("glyphs", device="cpu")
        start = time.perf_counter()
        draw(0.0, model=opened)
        reopened = time.perf_counter() - start
        note = "in a model just opened, its weights read anew"
        rows.append(Row(f"map, {space}, from the store", reopened, "s", note))
    return rows


def kernel(model: ex.Model, rank: int) -> list[Row]:
    """Eigenfunctions of the tangent kernel on 2 x 100 images."""
    start, busy = time.perf_counter(), time.process_time()
    run = ex.kernel_localisation(model, PAIR, n=100, rank=rank)
    next(run)
    first = time.perf_counter() - start
    found = run.result(show_progress=False)
    whole, busy = time.perf_counter() - start, time.process_time() - busy
    note = f"2 x 100 images, rank {rank}, {found.attrs['products']} products"
    return [
        Row("kernel, first ranks", first, "s", note),
        Row("kernel, complete", whole, "s", note),
        Row("kernel, time of all processors", busy, "s", "half of it on two idle cores"),
    ]


def ratio(model: ex.Model, points: int) -> list[Row]:
    """A small map by the public repositories' scheme and by ours."""
    alphas = np.linspace(-1, 1, points)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(model, Path(folder))
        start = time.perf_counter()
        theirs = np.array([[public_cell(model, files, a, b) for b in alphas] for a in alphas])
        public = time.perf_counter() - start
    start = time.perf_counter()
    run = ex.disentanglement(model, PAIR, alphas, n=IMAGES, store=False)
    ours = run.result(show_progress=False)
    own = time.perf_counter() - start
    apart = float(np.abs(theirs.transpose(2, 0, 1) - ours["error"].values).max())
    size = f"{points} x {points}, 2 x {IMAGES} images"
    return [
        Row("map, scheme of public repositories", public, "s", f"{size}, float32"),
        Row("map, ex.disentanglement", own, "s", f"{size}, axes and preview included"),
        Row("map, ratio", public / own, "x", "the same images, one run"),
        Row("largest difference of an error", apart, "", "the scheme against ex.disentanglement"),
    ]


def write_files(model: ex.Model, folder: Path) -> dict[str, Path]:
    """The images and labels of each task's subset as a file that a data loader reads."""
    files = {}
    for task in PAIR:
        images, labels, _ = model.images(task)
        chosen = model.task(task).order("test", 0)[:IMAGES]
        files[task] = folder / f"{task}.npz"
        np.savez_compressed(files[task], images=images[chosen], labels=labels[chosen])
    return files


def public_cell(model: ex.Model, files: dict[str, Path], a: float, b: float) -> list[float]:
    """Both terms at a cell: per task two networks, each over a loader of its own."""
    errors = []
    for task, single in zip(PAIR, ({PAIR[0]: a}, {PAIR[1]: b}), strict=True):
        joint = {PAIR[0]: a, PAIR[1]: b}
        one, both = (predictions(model, files[task], task, c) for c in (single, joint))
        errors.append(float((one != both).float().mean()))
    return errors


@torch.inference_mode()
def predictions(model: ex.Model, file: Path, task: str, coefficients: dict[str, float]):
    """Classes predicted by a network built for this pass, from a loader made for this pass."""
    where = model.folder.path
    base = {k: t.float() for k, t in load_file(where / "base.safetensors").items()}
    vectors = {
        name: {k: t.float() for k, t in load_file(where / f"vectors/{name}.safetensors").items()}
        for name in coefficients
    }
    tower = CLIP(**model.card["architecture"]).visual.eval()
    tower.load_state_dict(dictionary_merge(base, vectors, coefficients))
    data = np.load(file)
    mean, std = (torch.tensor(model.card[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = torch.from_numpy(data["images"]).permute(0, 3, 1, 2)
    loader = DataLoader(TensorDataset(pixels, torch.from_numpy(data["labels"])), batch_size=128)
    head = model.head(task).weight
    logits = [normalize(tower((x / 255 - mean) / std), dim=-1) @ head.T for x, _ in loader]
    return torch.cat(logits).argmax(1)


if __name__ == "__main__":
    main(measure)
