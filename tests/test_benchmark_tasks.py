"""Claims about the benchmark: what is frozen, and that a label always means the same class."""

import dataclasses
import json
import shutil
import subprocess
import sys

import benchmark_files as files
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import explorer as ex
from explorer.models.towers import VisionTower
from explorer.tasks.benchmark import frozen
from explorer.tasks.benchmark.labels import check_order, class_map
from explorer.tasks.benchmark.sources import open_source, validation_part
from explorer.tasks.finding import task_images
from explorer.tasks.task import resized

# Classes and templates, as counted in the authors' programs.
COUNTS = {
    "sun397": (397, 2),
    "cars": (196, 8),
    "resisc45": (45, 18),
    "eurosat": (10, 3),
    "svhn": (10, 1),
    "gtsrb": (43, 3),
    "mnist": (10, 1),
    "dtd": (47, 8),
    "flowers102": (102, 1),
    "pcam": (2, 1),
    "fer2013": (7, 6),
    "oxfordiiitpet": (37, 1),
    "stl10": (10, 2),
    "cifar100": (100, 18),
    "cifar10": (10, 18),
    "food101": (101, 1),
    "fashionmnist": (10, 2),
    "emnist": (10, 1),
    "kmnist": (10, 1),
    "renderedsst2": (2, 1),
}
# The names of the sets on the hub, and those in the paths of TALL-masks.
FUSION_BENCH = [
    "sun397",
    "stanford-cars",
    "resisc45",
    "eurosat",
    "svhn",
    "gtsrb",
    "mnist",
    "dtd",
    "oxford_flowers102",
    "pcam",
    "fer2013",
    "oxford-iiit-pet",
    "stl10",
    "cifar100",
    "cifar10",
    "food101",
    "fashion_mnist",
    "emnist_letters",
    "kmnist",
    "rendered-sst2",
]
TALL = [
    "SUN397",
    "Cars",
    "RESISC45",
    "EuroSAT",
    "SVHN",
    "GTSRB",
    "MNIST",
    "DTD",
    "Flowers102",
    "PCAM",
    "FER2013",
    "OxfordIIITPet",
    "STL10",
    "CIFAR100",
    "CIFAR10",
    "Food101",
    "FashionMNIST",
    "EMNIST",
    "KMNIST",
    "RenderedSST2",
]


# --- what is frozen ------------------------------------------------------------------------------


def test_the_counts_of_classes_and_templates_are_those_of_the_authors():
    table = ex.benchmark_tasks(20)
    found = {name: (row["classes"], row["templates"]) for name, row in table.iterrows()}
    assert found == COUNTS
    assert list(ex.benchmark_tasks(14).index) == list(COUNTS)[:14]
    assert list(ex.benchmark_tasks(8).index) == list(COUNTS)[:8]


def test_the_eight_published_test_splits_sum_up():
    assert ex.benchmark_tasks(8)["test_images"].sum() == 87_433


def test_emnist_is_digits_in_one_family_and_letters_in_the_other():
    assert len(frozen.benchmark_task("emnist").class_names) == 10
    assert len(frozen.benchmark_task("emnist_letters").class_names) == 26
    assert "emnist" in ex.benchmark_tasks(20).index
    letters = ex.benchmark_tasks(20, names="fusion_bench").index
    assert "emnist_letters" in letters
    assert "emnist" not in letters
    assert len(letters) == 20


def test_the_names_of_the_published_sets_are_understood():
    assert [frozen.benchmark_task(n).name for n in TALL] == list(COUNTS)
    assert [frozen.benchmark_task(f"{n}Val").name for n in TALL] == list(COUNTS)
    names = frozen.group_names(20, "fusion_bench")
    assert [frozen.benchmark_task(n).name for n in FUSION_BENCH] == list(names)


@pytest.mark.parametrize("name", frozen.ALL)
def test_every_task_is_whole_and_names_its_source(name):
    task = frozen.benchmark_task(name)
    for classes in (task.class_names, task.fusion_bench_class_names, task.labels):
        assert len(classes) == len(set(classes)) == len(task.class_names)
        # however a class is written, it is the same one
        assert class_map(classes, task, "the list").tolist() == list(range(len(classes)))
    for template in (*task.templates, *task.fusion_bench_templates):
        assert template.count("{}") == 1
    assert {"class_names", "templates"} <= set(task.sources)
    assert all(source for source in task.sources.values())


def test_classes_are_where_the_published_heads_have_them():
    def place(task, name):
        return frozen.benchmark_task(task).class_names.index(name)

    assert place("eurosat", "lake or sea") == 9
    assert place("gtsrb", "stop") == 14
    assert place("flowers102", "air plant") == 92
    assert frozen.benchmark_task("flowers102").labels[92] == "ball moss"
    assert place("sun397", "youth hostel") == 396
    assert place("resisc45", "wetland") == 44
    assert place("fer2013", "neutral") == 6
    assert frozen.benchmark_task("kmnist").prompts("fusion_bench")[0][0] == "お"
    assert frozen.benchmark_task("kmnist").prompts("tall")[0][0] == "o"


def test_the_dtd_leak_is_recorded():
    assert "its test set" in ex.benchmark_tasks(8).loc["dtd", "caveats"]


def test_unknown_names_name_their_neighbours():
    with pytest.raises(ex.UnknownNameError, match="'fashionmnist'"):
        ex.open_task("fashon_mnist")
    with pytest.raises(ex.UnknownNameError, match="'glyphs/letters'"):
        ex.open_task("letters")
    with pytest.raises(ex.UnknownNameError, match="no benchmark '9'"):
        ex.benchmark_tasks(9)
    with pytest.raises(ex.UnknownNameError, match="family of class names"):
        ex.open_task("mnist", names="openai")
    with pytest.raises(ex.UnknownNameError, match="split 'train'"):
        ex.open_task("mnist", split="train")


# --- a label always means the same class ---------------------------------------------------------


def test_a_source_in_another_order_is_mapped_by_name():
    task = frozen.benchmark_task("fer2013")
    hub = ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"]
    assert class_map(hub, task, "the hub").tolist() == [0, 1, 2, 3, 6, 4, 5]


def test_a_wrong_a_missing_and_a_doubled_class_are_named():
    task = frozen.benchmark_task("cifar10")
    names = list(task.class_names)
    with pytest.raises(ex.ImageError, match=r"class 'automobil'.*did you mean 'automobile'"):
        class_map(["airplane", "automobil", *names[2:]], task, "here")
    with pytest.raises(ex.ImageError, match="lacks the class 'truck' of 'cifar10'"):
        class_map(names[:-1], task, "here")
    with pytest.raises(ex.ImageError, match="'airplane' twice: as 'airplane' and as 'Airplane'"):
        class_map([*names, "Airplane"], task, "here")


def test_an_order_that_is_not_the_frozen_one_is_refused_by_the_class():
    task = frozen.benchmark_task("cifar10")
    names = list(task.class_names)
    check_order(names, task, "here")
    names[3], names[5] = names[5], names[3]
    with pytest.raises(ex.ImageError, match="class 'dog' at place 3, and 'cifar10' has it at 5"):
        check_order(names, task, "here")


def test_folders_in_the_alphabet_of_another_language_still_get_the_frozen_labels(tmp_path):
    """EuroSAT's folders sort as the frozen names do not."""
    task = frozen.benchmark_task("eurosat")
    files.write_class_folders(tmp_path / "test", list(task.labels), each=2)
    opened = ex.open_task("eurosat", folder=tmp_path, size=16)
    images, labels, names = opened.images()
    assert images.shape == (20, 16, 16, 3)
    assert np.bincount(labels).tolist() == [2] * 10
    lake = np.asarray(Image.open(tmp_path / "test" / "SeaLake" / "0.png"))
    red = [images[i][..., 0].mean() for i in np.flatnonzero(labels == names.index("lake or sea"))]
    # the middle of the same picture: its mean is near
    assert min(abs(mean - lake[:, 4:44, 0].mean()) for mean in red) < 2


@pytest.mark.parametrize("inside", [".", "test", "eurosat", "eurosat/test"])
def test_class_folders_are_found_where_people_keep_them(tmp_path, inside):
    names = list(frozen.benchmark_task("eurosat").class_names)
    files.write_class_folders(tmp_path / inside, names, each=1)
    assert ex.open_task("EuroSAT", folder=tmp_path, size=8).n_images() == 10


def test_a_folder_with_a_foreign_class_is_refused_by_its_name(tmp_path):
    names = [*frozen.benchmark_task("eurosat").labels[:9], "Volcano"]
    files.write_class_folders(tmp_path / "test", names, each=1)
    with pytest.raises(ex.ImageError, match="class 'Volcano', which is none of 'eurosat'"):
        ex.open_task("eurosat", folder=tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    files.write_class_folders(tmp_path, list(frozen.benchmark_task("pcam").labels), each=1)
    bad = tmp_path / "1" / "0.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(ex.ImageError, match=r"0\.png is no readable image"):
        ex.open_task("pcam", folder=tmp_path, size=8)


# --- torchvision's own files ---------------------------------------------------------------------


def labels_of(name, folder, split="test"):
    source = open_source(frozen.benchmark_task(name), split, folder)
    return [source.read(i)[1] for i in range(source.n)]


def test_mnist_as_torchvision_keeps_it(tmp_path):
    written, labels = files.write_mnist(tmp_path)
    assert labels_of("mnist", tmp_path) == labels.tolist()
    images, found, names = ex.open_task("mnist", folder=tmp_path, size=28).images()
    assert names == list("0123456789")
    assert len(images) == 70
    by_bytes = {image.tobytes(): label for image, label in zip(written, labels, strict=True)}
    # at its own size nothing is resized: three equal colours of the file's bytes
    assert [by_bytes[image[..., 1].tobytes()] for image in images] == found.tolist()


def test_emnist_letters_begin_at_one_in_the_file_and_at_zero_here(tmp_path):
    _, labels = files.write_emnist_letters(tmp_path)
    assert labels_of("emnist_letters", tmp_path) == (labels.astype(int) - 1).tolist()


def test_dtd_gtsrb_pcam_and_food_as_torchvision_keeps_them(tmp_path):
    names = files.write_dtd(tmp_path)
    classes = frozen.benchmark_task("dtd").class_names
    assert [classes[i] for i in labels_of("dtd", tmp_path)] == names
    assert files.write_gtsrb(tmp_path) == labels_of("gtsrb", tmp_path)
    assert files.write_pcam(tmp_path).tolist() == labels_of("pcam", tmp_path)
    names = files.write_food(tmp_path)
    classes = frozen.benchmark_task("food101").class_names
    assert [classes[i] for i in labels_of("food101", tmp_path)] == names


def test_cars_are_mapped_by_the_names_in_the_datasets_own_file(tmp_path):
    names = list(frozen.benchmark_task("cars").class_names)
    written = files.write_cars(tmp_path / "frozen", names)
    assert labels_of("cars", tmp_path / "frozen") == written.tolist()
    files.write_cars(tmp_path / "sorted", sorted(names))
    found = labels_of("cars", tmp_path / "sorted")
    assert [names[i] for i in found] == sorted(names)[::-1][:6]
    files.write_cars(tmp_path / "other", [*names[:-1], "Trabant 601 1964"])
    with pytest.raises(ex.ImageError, match="'Trabant 601 1964', which is none of 'cars'"):
        labels_of("cars", tmp_path / "other")


def test_the_validation_split_is_the_published_one():
    """The first training image that is left over is asserted in the authors' program."""
    held_out = validation_part(60_000)
    assert len(held_out) == 5_000
    assert 36_044 not in held_out
    assert len(validation_part(40)) == 4
    with pytest.raises(ex.ImageError, match="there are 9"):
        validation_part(9)


def test_validation_images_come_from_the_training_files(tmp_path):
    files.write_mnist(tmp_path, n=20, n_train=40)
    opened = ex.open_task("mnist", folder=tmp_path, split="val", size=28)
    assert opened.n_images("val") == 4
    with pytest.raises(ex.ImageError, match="test images of 'mnist' are not prepared"):
        opened.n_images("test")


@pytest.mark.parametrize(
    ("name", "file"),
    [("svhn", "test_32x32.mat"), ("cifar10", "cifar-10-batches-py/test_batch")],
)
def test_files_that_fail_torchvisions_checksum_are_never_unpickled(tmp_path, name, file):
    trap = tmp_path / "trap"
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"cos\nsystem\n(S'touch {trap}'\ntR.".encode())
    with pytest.raises(ex.ImageError, match=rf"files of '{name}' that torchvision does not read"):
        ex.open_task(name, folder=tmp_path)
    assert not trap.exists()


# --- without a network ---------------------------------------------------------------------------


def test_nothing_is_downloaded_unless_asked_for(tmp_path):
    with pytest.raises(ex.ImageError, match=r"no test images of 'mnist'.*or download=True"):
        ex.open_task("mnist", folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["EXPLORER_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_a_download_is_refused_with_a_remedy(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ex.HubError, match=r"'mnist' are not on this machine.*MNIST/raw"):
        ex.open_task("mnist", folder=tmp_path, download=True)
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    import torchvision.datasets.mnist as module

    def unreachable(url, *arguments, **settings):
        raise OSError("<urlopen error no route to host>")

    for variable in ("EXPLORER_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(module, "download_and_extract_archive", unreachable)
    with pytest.raises(ex.HubError, match=r"could not be downloaded.*Try again with a network"):
        ex.open_task("mnist", folder=tmp_path, download=True)


@pytest.mark.parametrize("name", ["eurosat", "cars", "fer2013"])
def test_what_torchvision_does_not_download_says_so(tmp_path, name):
    with pytest.raises((ex.HubError, ex.ImageError), match=r"torchvision (cannot|does not have)"):
        ex.open_task(name, folder=tmp_path, download=True)


# --- embedded tasks at a tower's resolution ------------------------------------------------------


def test_an_embedded_task_opens_at_the_towers_size():
    small = ex.open_task("glyphs/hiragana", size=32)
    large = ex.open_task("glyphs/hiragana", n=3, size=224)
    images, labels, names = large.images()
    assert images.shape == (3, 224, 224, 3)
    assert images.dtype == np.uint8
    assert names == small.images(1)[2]
    assert labels.tolist() == small.images(3)[1].tolist()
    assert large.n_images() == 3
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_resizing_is_what_open_clip_does_before_it_normalises():
    from open_clip.transform import image_transform

    images = ex.open_task("glyphs/emoji", n=4, size=32).images()[0]
    reference = image_transform(224, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    expected = np.stack([reference(Image.fromarray(image)).numpy() for image in images])
    found = resized(images, 224).transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_model_of_another_size_is_measured_on_embedded_images(tmp_path, tiny_folder):
    """A tower of 64 pixels whose folder has no images, and tasks that the package has."""
    folder = larger_model(tmp_path / "larger", tiny_folder, size=64)
    m = ex.open_model(folder, device="cpu")
    images, labels, names = m.images("shapes", n=5)
    assert images.shape == (5, 64, 64, 3)
    stored = ex.open_task("glyphs/shapes", n=5, size=32).images()
    np.testing.assert_array_equal(images, resized(stored[0], 64))
    np.testing.assert_array_equal(labels, stored[1])
    assert names == stored[2]
    pixels = m.image_store.pixels("shapes", "val")[:2]
    normalised = m.image_store.normalised(pixels, dtype=pixels.float().dtype)
    first = m.images("shapes", 2, "val")[0].transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(m.card[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    np.testing.assert_allclose(normalised.numpy(), (first - mean) / std, atol=1e-5)


def larger_model(folder, tiny_folder, size):
    """The tiny model with a larger positional table, and the embedded tasks' names and classes."""
    shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns("tasks"))
    card = json.loads((folder / "model.json").read_text())
    info = json.loads((frozen_zoo() / "model.json").read_text())["task_info"]
    card["architecture"]["vision_cfg"]["image_size"] = size
    card |= {"name": folder.name, "control": None, "tasks": ["shapes"], "sha256": {}}
    card["task_info"] = {"shapes": info["shapes"]}
    base = load_file(folder / "base.safetensors")
    table = base["positional_embedding"]
    rows = (size // card["architecture"]["vision_cfg"]["patch_size"]) ** 2 + 1
    base["positional_embedding"] = table[np.arange(rows) % len(table)].contiguous()
    save_file(base, folder / "base.safetensors")
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def frozen_zoo():
    from explorer.checkpoints.zoo import embedded_root

    return embedded_root() / "glyphs"


def test_embedded_digits_are_prepared_with_the_frozen_labels():
    embedded = ex.open_task("glyphs/mnist", size=32).images()
    opened = ex.open_task("mnist", n=9, folder="embedded:glyphs", size=32)
    order = np.random.default_rng(0).permutation(len(embedded[1]))[:9]
    np.testing.assert_array_equal(opened.images()[0], embedded[0][order])
    spoken = [embedded[2][i] for i in embedded[1][order]]
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert [words[int(opened.class_names[i])] for i in opened.images()[1]] == spoken
    with pytest.raises(ex.UnknownNameError, match="embedded task 'glyphs/sun397'"):
        ex.open_task("sun397", folder="embedded:glyphs")


def test_a_folder_of_vits_at_224_is_measured_without_a_network(tmp_path):
    """Names and sizes of a ViT-B/32, but for width and depth; heads from their own files."""
    folder = tmp_path / "set"
    folder.mkdir()
    towers = {name: vit(seed) for seed, name in enumerate(("base", "MNIST", "letters"))}
    for name, tower in towers.items():
        save_file(dict(tower.state_dict()), folder / f"{name}.safetensors")
    weights = {"MNIST": torch.randn(10, 32), "letters": torch.randn(26, 32)}
    for name, weight in weights.items():
        save_file({"weight": weight}, folder / f"head_{name}.safetensors")
    ex.open_task("mnist", n=24, folder="embedded:glyphs")
    m = ex.open_model(folder, device="cpu", activation="gelu")
    assert m.missing == ""
    assert m.images("letters", n=2)[0].shape == (2, 224, 224, 3)
    assert len(m.task("letters").class_names) == 26
    recipe = ex.Recipe(base=m.name, coefficients={"MNIST": 1.0})
    found = ex.accuracy(m, recipe, tasks=["MNIST"], n=24)["edited"]
    images, labels, _ = m.images("MNIST")
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    pixels = (torch.tensor(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        logits = towers["MNIST"](pixels) @ weights["MNIST"].T
    right = (logits.argmax(-1) == torch.tensor(labels)).float().mean()
    assert float(found.sel(task="MNIST")) == pytest.approx(float(right))


def vit(seed):
    """A random tower of 7 x 7 patches of 32 pixels."""
    torch.manual_seed(seed)
    tower = VisionTower(32, layers=2, width=64, patch_size=32, image_size=224)
    for name, parameter in tower.named_parameters():
        torch.nn.init.normal_(parameter, std=0.02 if "ln_" not in name else 1.0)
    return tower.requires_grad_(False).eval()


def test_a_model_finds_the_images_that_were_prepared_for_its_size(tmp_path):
    files.write_mnist(tmp_path)
    info = {"class_names": list("0123456789"), "templates": ["{}"]}
    task = task_images(tmp_path / "model", "MNIST", info, 24)
    with pytest.raises(ex.ImageError, match=r"ex\.open_task\('mnist', split='test', size=24"):
        task.images()
    opened = ex.open_task("mnist", n=5, folder=tmp_path, size=24)
    np.testing.assert_array_equal(task.images()[0], opened.images()[0])


def test_a_model_whose_classes_are_in_another_order_is_refused(tmp_path):
    info = {"class_names": list("0123456798"), "templates": ["{}"]}
    with pytest.raises(ex.ImageError, match="class '9' at place 8, and 'mnist' has it at 9"):
        task_images(tmp_path, "mnist", info, 24)


def test_opening_an_embedded_model_imports_no_torchvision():
    code = (
        "import sys, explorer as ex; ex.benchmark_tasks(8); "
        "ex.open_model('glyphs').images('mnist'); print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_a_task_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.benchmark_task("mnist").title = "another"
