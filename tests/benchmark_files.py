"""Writes small datasets as torchvision keeps them on disk, and as one folder a class."""

import csv
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from explorer.tasks.benchmark.frozen import benchmark_task


def picture(rng: np.random.Generator, height: int = 40, width: int = 48) -> Image.Image:
    """Coarse random colours, so that resizing has something to do."""
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def write_class_folders(folder: Path, names: list[str], each: int = 3) -> Path:
    """FOLDER/NAME/0.png, ... ; every image another."""
    rng = np.random.default_rng(1)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            picture(rng).save(folder / name / f"{i}.png")
    return folder


def write_mnist(folder: Path, n: int = 70, n_train: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """MNIST/raw with the four idx files; returns the test images (n, 28, 28) and labels."""
    rng = np.random.default_rng(2)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    _write_idx(raw, "train", rng, n_train, 10)
    return _write_idx(raw, "t10k", rng, n, 10)


def write_emnist_letters(folder: Path, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """EMNIST/raw with the split 'letters', whose labels go from 1 to 26; returns the test part."""
    rng = np.random.default_rng(3)
    raw = folder / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    _write_idx(raw, "emnist-letters-train", rng, 5, 26, first=1)
    return _write_idx(raw, "emnist-letters-test", rng, n, 26, first=1)


def _write_idx(
    raw: Path, stem: str, rng: np.random.Generator, n: int, classes: int, first: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Yann LeCun's idx format: a big-endian magic number, the sizes, the bytes."""
    images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = (np.arange(n) % classes + first).astype(np.uint8)
    header = struct.pack(">iiii", 0x803, n, 28, 28)
    (raw / f"{stem}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, n) + labels.tobytes())
    return images, labels


def write_dtd(folder: Path) -> list[str]:
    """dtd/dtd with one test image a class, listed from the last class to the first."""
    rng = np.random.default_rng(4)
    names = list(benchmark_task("dtd").class_names)[::-1]
    data = folder / "dtd" / "dtd"
    (data / "labels").mkdir(parents=True)
    for name in names:
        (data / "images" / name).mkdir(parents=True)
        picture(rng).save(data / "images" / name / f"{name}_0001.jpg")
    listed = "".join(f"{name}/{name}_0001.jpg\n" for name in names)
    (data / "labels" / "test1.txt").write_text(listed)
    return names


def write_gtsrb(folder: Path, n: int = 43) -> list[int]:
    """gtsrb with PPM images and the list of the test split; returns the class of each."""
    rng = np.random.default_rng(5)
    images = folder / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True)
    classes = [(7 * i) % 43 for i in range(n)]
    with (folder / "gtsrb" / "GT-final_test.csv").open("w", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["Filename", "Width", "Height", "ClassId"])
        for i, label in enumerate(classes):
            picture(rng, 30, 30).save(images / f"{i:05d}.ppm")
            rows.writerow([f"{i:05d}.ppm", 30, 30, label])
    return classes


def write_pcam(folder: Path, n: int = 12) -> np.ndarray:
    """pcam with two HDF5 files of the test split; returns the labels."""
    import h5py

    (folder / "pcam").mkdir(parents=True)
    labels = np.arange(n) % 2
    images = np.random.default_rng(6).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
    for kind, array in (("x", images), ("y", labels.reshape(n, 1, 1, 1))):
        name = f"camelyonpatch_level_2_split_test_{kind}.h5"
        with h5py.File(folder / "pcam" / name, "w") as file:
            file[kind] = array
    return labels


def write_cars(folder: Path, names: list[str]) -> np.ndarray:
    """stanford_cars with Matlab's files naming the classes in this order; returns the classes."""
    from scipy.io import savemat

    rng = np.random.default_rng(7)
    base = folder / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    (base / "cars_test").mkdir()
    classes = np.arange(len(names))[::-1][:6]
    rows = np.zeros(len(classes), dtype=[("fname", object), ("class", object)])
    for i, label in enumerate(classes):
        picture(rng).save(base / "cars_test" / f"{i:05d}.jpg")
        rows[i] = (f"{i:05d}.jpg", int(label) + 1)
    savemat(base / "cars_test_annos_withlabels.mat", {"annotations": rows})
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(names, dtype=object)})
    return classes


def write_food(folder: Path) -> list[str]:
    """food-101 with one test image a class; returns the classes as the dataset lists them."""
    rng = np.random.default_rng(8)
    names = sorted(benchmark_task("food101").class_names)
    (folder / "food-101" / "meta").mkdir(parents=True)
    for name in names:
        (folder / "food-101" / "images" / name).mkdir(parents=True)
        picture(rng, 20, 20).save(folder / "food-101" / "images" / name / "1.jpg")
    listed = json.dumps({name: [f"{name}/1"] for name in names})
    (folder / "food-101" / "meta" / "test.json").write_text(listed)
    return names
