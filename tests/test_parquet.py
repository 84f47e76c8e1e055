"""Claims about images in parquet files: of a folder, and of a hub's data set."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from local_hub import LocalHub
from PIL import Image

import explorer as ex
from explorer.tasks.benchmark import parquet
from explorer.tasks.benchmark.frozen import benchmark_task
from explorer.tasks.benchmark.parquet import names_in_card, split_files
from explorer.tasks.benchmark.sources import open_source, validation_part

DIGITS = [str(i) for i in range(10)]
# The classes in another order than the frozen one: a label's number alone would mean another.
TURNED = [*reversed(DIGITS)]


def picture(label: int, number: int) -> np.ndarray:
    """An image that tells its class (red) and its number (green)."""
    return np.full((8, 8, 3), (20 * label, number % 256, 7), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png")
    return data.getvalue()


def table(first: int, n: int, names: list[str] | None = TURNED, **columns) -> bytes:
    """A file of n rows, as hubs have it: image {bytes, path}, label, groups of 4 rows."""
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    import pyarrow.parquet as pq

    numbers = range(first, first + n)
    classes = [i % 10 for i in numbers]
    rows = {
        "image": [
            {"bytes": png(picture(c, i)), "path": None}
            for c, i in zip(classes, numbers, strict=True)
        ],
        "label": [TURNED.index(str(c)) for c in classes],
    } | columns
    made = pa.table(rows)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        made = made.replace_schema_metadata({"huggingface": info})
    data = io.BytesIO()
    pq.write_table(made, data, row_group_size=4)
    return data.getvalue()


@pytest.fixture
def shards():
    """A data set's files by name: 30 test images in two files, 40 training images in one."""
    return {
        "data/test-00000-of-00002.parquet": table(0, 17),
        "data/test-00001-of-00002.parquet": table(17, 13),
        "data/train-00000-of-00001-0123abcd.parquet": table(100, 40),
        "README.md": b"# Digits\n",
    }


def written(folder, files: dict[str, bytes]):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def check(images: np.ndarray, labels: np.ndarray) -> set[int]:
    """Every image has the label that it tells; returns the images' numbers."""
    assert (images[:, 0, 0, 0] == 20 * labels).all()
    return {int(n) for n in images[:, 0, 0, 1]}


def test_the_rows_of_all_files_are_images_with_their_class_by_name(tmp_path, shards):
    source = open_source(benchmark_task("mnist"), "test", written(tmp_path, shards))
    assert source.n == 30
    for i in (29, 0, 16, 17, 3):
        image, label = source.read(i)
        assert (np.asarray(image) == picture(i % 10, i)).all()
        assert label == i % 10  # "zero", "one", ... are the frozen names


def test_a_task_is_opened_from_a_folder_of_them(tmp_path, shards):
    task = ex.open_task("mnist", 12, folder=written(tmp_path, shards), size=8)
    images, labels, names = task.images()
    assert len(check(images, labels)) == 12
    assert names[labels[0]] == benchmark_task("mnist").class_names[labels[0]]
    more = ex.open_task("mnist", folder=tmp_path, size=8).images()
    assert check(*more[:2]) == set(range(30))
    assert (more[0][:12] == images).all()


def test_the_validation_split_is_their_own_or_the_published_part_of_training(tmp_path, shards):
    published = ex.open_task("mnist", folder=written(tmp_path, shards), split="val", size=8)
    images, labels, _ = published.images(split="val")
    assert check(images, labels) == {100 + int(i) for i in validation_part(40)}
    written(tmp_path, {"data/validation-00000-of-00001.parquet": table(200, 6)})
    own = ex.open_task("mnist", folder=tmp_path, split="val", size=8)
    assert check(*own.images(split="val")[:2]) == set(range(200, 206))


def test_few_groups_of_rows_are_read_and_kept(tmp_path, shards, monkeypatch):
    (path,) = written(tmp_path, shards).glob("data/test-00000*")
    images, read = parquet.ParquetImages([path], "these"), []
    first = images._groups[0][0]
    rows = first.read_row_group
    monkeypatch.setattr(first, "read_row_group", lambda g, **k: read.append(g) or rows(g, **k))
    for i in (5, 6, 4, 0, 5):
        images.read(i)
    assert read == [1, 0]
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)
    images.read(9)
    assert [*images._kept] == [2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"names": None}, "does not say which class a label's number means"),
        ({"names": [*TURNED[:-1], "ten"]}, "'ten'"),
        ({"label": [None] * 3}, "None where a label's number is needed"),
        ({"label": [-1] * 3}, "has the label -1"),
        ({"image": [{"bytes": None, "path": "a.png"}] * 3}, "holds no encoded images"),
        ({"image": [{"bytes": b"no image", "path": None}] * 3}, "Image 0 of .* cannot be read"),
        ({"image": [[1, 2]] * 3}, "holds no encoded images"),
    ],
)
def test_what_does_not_fit_is_a_sentence(tmp_path, change, sentence):
    written(tmp_path, {"test-00000-of-00001.parquet": table(0, 3, **change)})
    with pytest.raises(ex.ImageError, match=sentence):
        open_source(benchmark_task("mnist"), "test", tmp_path).read(0)


def test_other_columns_and_damaged_files_are_sentences(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(ex.ImageError, match=r"no column of images \(image or img\), but text"):
        open_source(benchmark_task("mnist"), "test", tmp_path)
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(table(0, 9)[:-20])
    with pytest.raises(ex.ImageError, match="no readable parquet file"):
        open_source(benchmark_task("mnist"), "test", tmp_path)


def test_the_cards_class_names_serve_where_the_files_have_none(tmp_path):
    names = "\n".join(f"          '{i}': '{name}'" for i, name in enumerate(TURNED))
    card = (
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n"
        f"    dtype:\n      class_label:\n        names:\n{names}\n---\n# Digits\n"
    )
    assert names_in_card(card) == TURNED
    written(tmp_path, {"test.parquet": table(0, 10, names=None), "README.md": card.encode()})
    source = open_source(benchmark_task("mnist"), "test", tmp_path)
    assert [source.read(i)[1] for i in range(10)] == [*range(10)]


@pytest.mark.parametrize("text", ["", "# A\n", "---\n: [\n---\n", "---\ndataset_info: 3\n---\n"])
def test_a_card_that_tells_no_classes_tells_none(text):
    assert names_in_card(text) is None


def test_files_of_a_split_are_told_by_their_names():
    names = [
        "data/test-00001-of-00002.parquet",
        "data/test-00000-of-00002.parquet",
        "data/train-00000-of-00001-9a.parquet",
        "data/contrast-00000-of-00001.parquet",
        "latest/x.parquet",
    ]
    assert split_files(names, "test") == [names[1], names[0]]
    assert split_files(names, "train") == names[2:3]
    assert split_files(names, "val") == []
    assert split_files(["default/test/0000.parquet"], "test") == ["default/test/0000.parquet"]
    with pytest.raises(ex.ImageError, match="Of the 2 files with the test images, 1 are there"):
        split_files(names[:1], "test")
    with pytest.raises(ex.ImageError, match="in a and in b"):
        split_files(["a/test.parquet", "b/test.parquet"], "test")


def test_without_pyarrow_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ex.ImageError, match=r"pip install pyarrow.*one folder a class"):
        ex.open_task("mnist", folder=tmp_path)


# --- a hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.delenv("EXPLORER_OFFLINE", raising=False)
        yield server


ADDRESS = "hub:owner/digits"


def test_a_hubs_data_set_is_downloaded_when_asked_and_then_needs_no_hub(hub, shards):
    hub.put("owner/digits", shards)
    with pytest.raises(ex.HubError, match="not on this machine: download=True"):
        ex.open_task("mnist", folder=ADDRESS, size=8)
    assert hub.requests == []
    task = ex.open_task("mnist", folder=ADDRESS, download=True, size=8)
    images, labels, _ = task.images()
    assert check(images, labels) == set(range(30))
    assert "hub:owner/digits" in task.source
    assert not hub.asked("GET", "train")  # of the test split, what it needs
    assert hub.asked("GET", "/api/datasets/owner/digits")
    hub.down, before = True, len(hub.requests)
    again = open_source(benchmark_task("mnist"), "test", Path(ADDRESS))
    assert again.read(29)[1] == 9
    assert len(hub.requests) == before
    hub.down = False
    val = ex.open_task("mnist", folder=ADDRESS, split="val", download=True, size=8)
    assert len(check(*val.images(split="val")[:2])) == 4


def test_a_download_that_breaks_off_goes_on_and_a_damaged_one_is_refused(hub, shards):
    hub.put("owner/digits", shards)
    hub.break_after, hub.breaks = 900, 1
    assert ex.open_task("mnist", folder=ADDRESS, download=True, size=8).n_images() == 30
    assert any(request.range for request in hub.asked("GET", "test-0000"))
    name = "data/train-00000-of-00001-0123abcd.parquet"
    hub.lies = {name: shards[name][:-1] + b"x"}
    with pytest.raises(ex.HubError, match="arrived damaged"):
        ex.open_task("mnist", folder=ADDRESS, split="val", download=True, size=8)


def test_a_hub_without_such_images_and_no_address_are_sentences(hub):
    hub.put("owner/digits", {"README.md": b"", "model.bin": b"1"})
    with pytest.raises(ex.ImageError, match="no parquet files of test images"):
        ex.open_task("mnist", folder=ADDRESS, download=True)
    with pytest.raises(ex.HubError, match="no repository 'owner/nothing'"):
        ex.open_task("mnist", folder="hub:owner/nothing", download=True)
    with pytest.raises(ex.CatalogueError, match="owner/name"):
        ex.open_task("mnist", folder="hub:../..", download=True)


def test_offline_no_hub_is_asked_for_images(hub, monkeypatch):
    monkeypatch.setenv("EXPLORER_OFFLINE", "1")
    with pytest.raises(ex.HubError, match="EXPLORER_OFFLINE is set"):
        ex.open_task("mnist", folder=ADDRESS, download=True)
    assert hub.requests == []
