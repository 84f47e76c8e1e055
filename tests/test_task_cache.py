"""Claims about the image cache: nothing is decoded twice, nothing half-written is read."""

import os
import sqlite3

import benchmark_files as files
import numpy as np
import pytest
from PIL import Image

import explorer as ex
from explorer.tasks import preparing
from explorer.tasks.benchmark.frozen import benchmark_task
from explorer.tasks.image_cache import ImageCache, ImageSet
from explorer.tasks.preparing import preprocessing

SIZE = 28


@pytest.fixture
def mnist(tmp_path):
    """A folder with 70 test images of MNIST as torchvision keeps them."""
    files.write_mnist(tmp_path / "data", n=70)
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch):
    """The places that were decoded, in order."""
    places: list[int] = []
    real = preparing.open_source

    def counting(*arguments):
        source = real(*arguments)

        def read(i):
            places.append(i)
            return source.read(i)

        return preparing.LabelledImages(source.what, source.n, read, source.fingerprint)

    monkeypatch.setattr(preparing, "open_source", counting)
    return places


def open_mnist(folder, n=None, **settings):
    return ex.open_task("mnist", n=n, folder=folder, size=SIZE, **settings)


# --- a random subset first -----------------------------------------------------------------------


def test_only_as_many_images_are_decoded_as_are_asked_for(mnist, decoded):
    task = open_mnist(mnist, n=7)
    assert task.n_images() == 7
    assert len(decoded) == 7
    assert "7 of 70 test images" in task.source


def test_the_subset_is_drawn_by_the_seed_and_grows(mnist, decoded):
    few, more = open_mnist(mnist, n=5).images(), open_mnist(mnist, n=12).images()
    assert decoded == np.random.default_rng(0).permutation(70)[:12].tolist()
    np.testing.assert_array_equal(few[0], more[0][:5])
    np.testing.assert_array_equal(few[1], more[1][:5])
    other = open_mnist(mnist, n=5, seed=1).images()[0]
    assert not np.array_equal(few[0], other)
    np.testing.assert_array_equal(few[0], open_mnist(mnist, n=5, seed=0).images()[0])


def test_what_is_there_is_not_decoded_again(mnist, decoded):
    open_mnist(mnist, n=20)
    decoded.clear()
    assert open_mnist(mnist, n=20).n_images() == 20
    assert open_mnist(mnist, n=3).n_images() == 3
    assert decoded == []


def test_all_images_are_there_when_no_number_is_given(mnist):
    task = open_mnist(mnist)
    assert task.n_images() == 70
    assert np.bincount(task.images()[1]).tolist() == [7] * 10
    assert open_mnist(mnist, n=1000).n_images() == 70


def test_images_are_mapped_from_disk_and_cannot_be_changed(mnist):
    task = open_mnist(mnist, n=4)
    images = task.images()[0]
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
    stored = np.load(task.path / "images.npy", mmap_mode="r", allow_pickle=False)
    assert (stored.shape, stored.dtype) == ((4, SIZE, SIZE, 3), np.uint8)


def test_changed_files_are_another_set(mnist, decoded):
    before = open_mnist(mnist, n=3).images()[0].copy()
    raw = mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    data = bytearray(raw.read_bytes())
    data[16:] = bytes(255 - value for value in data[16:])
    raw.write_bytes(data)
    after = open_mnist(mnist, n=3).images()[0]
    np.testing.assert_array_equal(255 - before, after)


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (30, 30)])
def test_preprocessing_is_open_clips(height, width):
    from open_clip.transform import image_transform

    image = files.picture(np.random.default_rng(0), height, width)
    reference = image_transform(32, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3)(image)
    found = np.asarray(preprocessing(32)(image)).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(found, reference.numpy(), atol=1e-6)


def test_grey_images_get_three_equal_colours():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    found = np.asarray(preprocessing(8)(image))
    assert found.shape == (8, 8, 3)
    assert (found[..., 0] == found[..., 2]).all()


# --- progress, cancelling, going on --------------------------------------------------------------


def test_partial_results_come_a_batch_at_a_time(mnist, monkeypatch):
    monkeypatch.setattr(preparing, "BATCH", 16)
    run = ex.open_task_run("mnist", n=40, folder=mnist, size=SIZE)
    seen = [(task.n_images(), run.progress) for task in run]
    assert [n for n, _ in seen] == [16, 32, 40, 40]
    assert all(0 < p <= 1 for _, p in seen)
    assert run.progress == 1


def test_cancelled_it_stops_within_one_image_and_goes_on_later(mnist, decoded, monkeypatch):
    monkeypatch.setattr(preparing, "BATCH", 8)
    run = ex.open_task_run("mnist", n=40, folder=mnist, size=SIZE)
    checkpoint = run.checkpoint

    def cancelling(progress):
        if len(decoded) == 13:
            run.cancel()
        checkpoint(progress)

    monkeypatch.setattr(run, "checkpoint", cancelling)
    with pytest.raises(ex.RunCancelled):
        run.result()
    assert len(decoded) == 13
    decoded.clear()
    whole = open_mnist(mnist, n=40)
    assert len(decoded) == 40 - 8  # the first batch was kept, the five images of the second not
    np.testing.assert_array_equal(whole.images()[0], fresh(mnist, 40))


def fresh(folder, n):
    """The first n images prepared in one go, in another cache."""
    source = preparing.open_source(benchmark_task("mnist"), "test", folder)
    order = np.random.default_rng(0).permutation(source.n)[:n]
    return np.stack([np.asarray(preprocessing(SIZE)(source.read(int(i))[0])) for i in order])


def test_what_broke_off_in_the_middle_of_a_batch_is_written_anew(mnist):
    """As after a power cut: a tail behind what the header counts, in either file."""
    task = open_mnist(mnist, n=10)
    for name in ("images.npy", "labels.npy"):
        with (task.path / name).open("ab") as file:
            file.write(b"\x07" * 1000)
    assert open_mnist(mnist, n=10).n_images() == 10
    whole = open_mnist(mnist, n=30)
    np.testing.assert_array_equal(whole.images()[0], fresh(mnist, 30))
    _, labels = files_labels(mnist)
    order = np.random.default_rng(0).permutation(70)[:30]
    assert whole.images()[1].tolist() == labels[order].tolist()


def files_labels(folder):
    raw = folder / "MNIST" / "raw"
    images = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    labels = np.frombuffer((raw / "t10k-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    return images.reshape(-1, 28, 28), labels


def test_labels_that_were_written_before_their_images_do_not_count(tmp_path):
    images = ImageSet(tmp_path / "a-test-8px-0", 8)
    pixels = np.full((3, 8, 8, 3), 9, np.uint8)
    with images.writing({}) as writer:
        writer.append(pixels, np.arange(3))
    ahead = ImageSet(tmp_path / "b-test-8px-0", 8)
    with ahead.writing({}) as writer:
        writer.append(np.concatenate([pixels, pixels]), np.array([0, 1, 2, 5, 5, 5]))
    (ahead.path / "labels.npy").rename(images.path / "labels.npy")
    assert images.open()[1].tolist() == [0, 1, 2]
    with images.writing({}) as writer:
        writer.append(pixels, np.array([7, 8, 9]))
    assert images.open()[1].tolist() == [0, 1, 2, 7, 8, 9]


def test_a_program_that_is_writing_is_not_disturbed(mnist):
    task = open_mnist(mnist, n=2)
    other = sqlite3.connect(task.path / "writing.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ex.ImageError, match="being written by another program"):
        open_mnist(mnist, n=9)
    assert open_mnist(mnist, n=2).n_images() == 2  # reading needs no turn
    other.close()
    assert open_mnist(mnist, n=9).n_images() == 9


# --- limits and damage ---------------------------------------------------------------------------


def filled(cache, name, n, used):
    images = cache.set(name, "test", 8, "f" * 64)
    with images.writing({"task": name}) as writer:
        writer.append(np.zeros((n, 8, 8, 3), np.uint8), np.zeros(n, np.int64))
    os.utime(images.path / "about.json", (used, used))
    return images


def test_the_sets_used_longest_ago_are_dropped_first(tmp_path):
    cache = ImageCache(tmp_path, cap_mb=0.5)
    old, new = filled(cache, "old", 900, used=1_000), filled(cache, "new", 900, used=2_000)
    wanted = cache.set("wanted", "test", 8, "0" * 64)
    cache.make_room(200_000, wanted)
    assert not old.path.exists()
    assert new.count == 900
    assert cache.latest("new", "test", 8).path == new.path
    assert cache.latest("new", "val", 8) is None


def test_what_can_never_fit_is_refused_before_anything_is_dropped(mnist, monkeypatch):
    kept = open_mnist(mnist, n=4)
    monkeypatch.setenv("EXPLORER_IMAGES_MB", "0.1")
    with pytest.raises(ex.ImageError, match=r"0 MB.*Ask for fewer images with n="):
        open_mnist(mnist, n=70)
    assert kept.images()[0].shape[0] == 4
    monkeypatch.setenv("EXPLORER_IMAGES_MB", "much")
    with pytest.raises(ex.ExplorerError, match="EXPLORER_IMAGES_MB is a number of megabytes"):
        open_mnist(mnist, n=5)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no numpy file at all"])
def test_a_damaged_set_names_its_folder(mnist, content):
    task = open_mnist(mnist, n=4)
    (task.path / "images.npy").write_bytes(content)
    with pytest.raises(ex.ImageError, match=r"mnist-test-28px-\w+ are damaged.*Delete the folder"):
        open_mnist(mnist, n=4)


def test_a_set_that_was_cut_short_is_not_read(mnist):
    task = open_mnist(mnist, n=4)
    path = task.path / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ex.ImageError, match="shorter than its header says"):
        open_mnist(mnist, n=4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n": 0}, "number of images of 'mnist' must be 1 or more, not 0"),
        ({"n": 2.5}, r"must be 1 or more, not 2\.5"),
        ({"size": 4}, "size must be 8 to 1024 pixels, not 4"),
        ({"size": "224"}, "not '224'"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_bad_numbers_are_refused_at_once(mnist, settings, sentence):
    with pytest.raises(ex.ImageError, match=sentence):
        ex.open_task_run("mnist", folder=mnist, **settings)
