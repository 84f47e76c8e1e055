"""Models: opened by name or path, described by a card, and refused in a sentence when damaged."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import explorer as ex
from explorer.checkpoints import zoo


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model folder that may be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "tiny")


def change_card(folder, **changes):
    card = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps(card))


def change_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


# --- what a model is -------------------------------------------------------------------------


def test_a_model_describes_itself(tiny_model):
    assert tiny_model.name == "tiny"
    assert tiny_model.family == "tiny (random)"
    assert tiny_model.tasks == ["digits", "letters", "hearts"]
    assert tiny_model.control == "shapes"
    assert tiny_model.all_tasks == ["digits", "letters", "hearts", "shapes"]
    assert all(
        t.dtype == torch.float32 and t.device.type == "cpu" for t in tiny_model.base.values()
    )
    assert tiny_model.best_shared_coefficient() == 0.3
    assert tiny_model.best_shared_coefficient("tangent") == 0.4
    assert tiny_model.best_shared_coefficient("posthoc") is None
    assert "digits" in repr(tiny_model)
    assert "<table>" in tiny_model._repr_html_()


def test_what_the_card_says_is_escaped_in_html(folder):
    change_card(folder, title="<script>alert(1)</script>")
    assert "<script>" not in ex.open_model(folder)._repr_html_()


def test_images_come_with_labels_and_class_names(tiny_model):
    images, labels, names = tiny_model.images("digits", n=10)
    assert images.shape == (10, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.shape == (10,)
    assert labels.dtype == np.int64
    assert names == ["zero", "one", "two", "three", "four"]
    everything = tiny_model.images("digits")[0]
    assert len(everything) == tiny_model.n_images("digits") == 70
    np.testing.assert_array_equal(everything[:10], images)
    assert tiny_model.n_images("digits", "val") == 40
    assert len(tiny_model.images("digits", n=10_000)[0]) == 70


def test_shared_images_cannot_be_written_to(tiny_model):
    images, labels, _ = tiny_model.images("digits")
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 0


def test_a_task_vector_is_what_its_file_holds(tiny_model):
    for space, where in [("weights", "vectors"), ("posthoc", "vectors"), ("tangent", "tangent")]:
        stored = load_file(tiny_model.folder.path / where / "letters.safetensors")
        vector = tiny_model.task_vector("letters", space)
        assert list(vector) == list(tiny_model.base)
        assert all(torch.equal(vector[key], stored[key].float()) for key in vector)


def test_unknown_names_are_refused_with_the_nearest(tiny_model):
    for call in (tiny_model.task, tiny_model.images, tiny_model.head, tiny_model.task_vector):
        with pytest.raises(ex.UnknownNameError, match=r"'leters'.*'letters'"):
            call("leters")
    with pytest.raises(ex.UnknownNameError, match="task vector 'shapes'"):
        tiny_model.task_vector("shapes")
    with pytest.raises(ex.UnknownNameError, match="space"):
        tiny_model.task_vector("letters", "outer")


# --- the catalogue ---------------------------------------------------------------------------


def test_local_folders_are_in_the_catalogue_and_open_by_name(tiny_folder, monkeypatch):
    monkeypatch.setenv(zoo.LOCAL_MODELS, str(tiny_folder.parent))
    table = ex.catalog()
    assert table.loc["tiny", "kind"] == "local"
    assert table.loc["tiny", "tasks"] == "digits, letters, hearts"
    assert table.loc["tiny", "problem"] == ""
    assert table.loc["tiny", "size"] > 0
    assert ex.open_model("tiny").name == "tiny"


def test_a_damaged_folder_is_listed_with_its_problem(folder, monkeypatch):
    (folder / "model.json").write_text("{")
    monkeypatch.setenv(zoo.LOCAL_MODELS, str(folder.parent))
    assert "not readable as JSON" in ex.catalog().loc["tiny", "problem"]


def test_an_unknown_model_is_refused_with_the_nearest_name(tiny_folder, monkeypatch):
    monkeypatch.setenv(zoo.LOCAL_MODELS, str(tiny_folder.parent))
    with pytest.raises(ex.UnknownNameError, match=r"model 'tinny'.*'tiny'"):
        ex.open_model("tinny")


def test_a_hub_address_that_was_not_pulled_is_refused_with_the_remedy():
    with pytest.raises(ex.HubError, match="pull it first"):
        ex.open_model("hub:someone/something")


def test_a_path_to_nothing_is_refused(tmp_path):
    with pytest.raises(ex.CheckpointError, match="There is no model folder"):
        ex.open_model(tmp_path / "nothing")
    with pytest.raises(ex.CheckpointError, match=r"no model.json"):
        ex.open_model(tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(tiny_folder, device):
    with pytest.raises(ex.ModelError, match="device"):
        ex.open_model(tiny_folder, device=device)


# --- damaged folders -------------------------------------------------------------------------


def test_verify_finds_the_file_that_was_changed(folder):
    model = ex.open_model(folder)
    model.folder.verify()
    with (folder / "CARD.md").open("a") as file:
        file.write("\nchanged")
    with pytest.raises(ex.CheckpointError, match=r"CARD\.md.*sha256"):
        model.folder.verify()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"architecture": None}, "'architecture'"),
        ({"tasks": "digits"}, "'tasks'"),
        ({"tasks": ["digits", "digits"]}, "twice"),
        ({"tasks": ["../secret"]}, "no name"),
        ({"tasks": ["new"]}, "no 'task_info' for the task 'new'"),
        ({"mean": [1, 2]}, "three numbers"),
        ({"task_info": {"digits": {"class_names": [], "templates": ["{}"]}}}, "'class_names'"),
        ({"architecture": {"embed_dim": 8}}, "vision_cfg"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(folder, changes, message):
    change_card(folder, **changes)
    with pytest.raises(ex.ExplorerError, match=message):
        ex.open_model(folder)


def test_a_card_that_is_no_json_object_is_refused(folder):
    (folder / "model.json").write_text("[1, 2]")
    with pytest.raises(ex.CheckpointError, match="must hold an object"):
        ex.open_model(folder)


def test_a_missing_base_is_refused(folder):
    (folder / "base.safetensors").unlink()
    with pytest.raises(ex.CheckpointError, match=r"no base\.safetensors"):
        ex.open_model(folder)


def test_a_truncated_base_is_refused(folder):
    path = folder / "base.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ex.CheckpointError, match=r"base.safetensors"):
        ex.open_model(folder)


def test_missing_keys_in_the_base_are_named(folder):
    change_tensors(folder / "base.safetensors", lambda t: t.pop("ln_post.weight"))
    with pytest.raises(ex.CheckpointError, match=r"no 'ln_post\.weight'"):
        ex.open_model(folder)


def test_a_base_of_another_width_is_refused_as_another_architecture(folder):
    change_tensors(
        folder / "base.safetensors", lambda t: t.update({"ln_post.weight": torch.ones(7)})
    )
    with pytest.raises(ex.CheckpointError, match=r"another architecture.*7 wide.*32"):
        ex.open_model(folder)


def test_a_base_with_nan_is_refused(folder):
    change_tensors(folder / "base.safetensors", lambda t: t["proj"].fill_(float("nan")))
    with pytest.raises(ex.CheckpointError, match="NaN in 'proj'"):
        ex.open_model(folder)


def test_a_vector_of_another_base_is_refused_naming_it(folder):
    path = folder / "vectors" / "letters.safetensors"
    change_tensors(path, lambda t: t.update(proj=torch.zeros(3, 3)))
    model = ex.open_model(folder)
    with pytest.raises(ex.CheckpointError, match=r"'letters'.*from this base"):
        model.task_vector("letters")
    with pytest.raises(ex.CheckpointError, match="'letters'"):
        ex.accuracy(model, ex.Recipe(coefficients={"digits": 1}), n=4)


def test_a_missing_vector_and_a_missing_text_tower_are_named(folder):
    model = ex.open_model(folder)
    (folder / "vectors" / "letters.safetensors").unlink()
    (folder / "text.safetensors").unlink()
    with pytest.raises(ex.CheckpointError, match=r"vectors/letters\.safetensors"):
        model.task_vector("letters")
    with pytest.raises(ex.CheckpointError, match=r"no text\.safetensors"):
        model.head("letters")


def test_a_vocabulary_that_does_not_fit_its_table_is_refused(folder):
    (folder / "vocabulary.json").write_text('{"tokens": [0, 49406, 49407]}')
    with pytest.raises(ex.CheckpointError, match="one token for each"):
        ex.open_model(folder).head("digits")
    (folder / "vocabulary.json").write_text("nonsense")
    with pytest.raises(ex.CheckpointError, match="JSON"):
        ex.open_model(folder).head("digits")


def test_text_weights_with_nan_or_of_another_shape_are_refused(folder):
    path = folder / "text.safetensors"
    change_tensors(path, lambda t: t["ln_final.bias"].fill_(float("nan")))
    with pytest.raises(ex.CheckpointError, match=r"NaN in 'ln_final\.bias'"):
        ex.open_model(folder).head("digits")
    change_tensors(path, lambda t: t.pop("ln_final.bias"))
    with pytest.raises(ex.CheckpointError, match=r"no 'ln_final\.bias'"):
        ex.open_model(folder).head("digits")


# --- images that are none --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_images": np.zeros((70, 32, 32, 3))}, "no images.*float64"),
        ({"test_images": np.zeros((70, 32, 32), np.uint8)}, "no images"),
        ({"test_images": np.zeros((70, 16, 16, 3), np.uint8)}, "no images"),
        ({"test_images": np.zeros((0, 32, 32, 3), np.uint8)}, "one whole number"),
        ({"test_images": np.array([{"a": 1}] * 70, object)}, "not a readable file"),
        ({"test_labels": np.zeros(70)}, "one whole number"),
        ({"test_labels": np.zeros(3, np.int64)}, "one whole number"),
        ({"test_labels": np.full(70, 5)}, "5 classes"),
        ({"test_labels": np.full(70, -1)}, "from -1"),
    ],
)  # fmt: skip
def test_an_npz_whose_images_are_no_images_is_an_image_error(folder, change, message):
    path = folder / "tasks" / "digits.npz"
    with np.load(path) as stored:
        arrays = dict(stored) | change
    np.savez(path, **arrays)
    with pytest.raises(ex.ImageError, match=message):
        ex.open_model(folder).images("digits")


@pytest.mark.parametrize("content", [b"", b"no npz at all", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_a_file_of_images_that_is_no_npz_is_an_image_error(folder, content):
    (folder / "tasks" / "digits.npz").write_bytes(content)
    model = ex.open_model(folder)
    with pytest.raises(ex.ImageError, match=r"digits\.npz"):
        model.images("digits")
    assert len(model.images("letters")[0]) == 48  # the others stay usable


def test_a_truncated_missing_or_incomplete_npz_is_an_image_error(folder):
    path = folder / "tasks" / "digits.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ex.ImageError, match="again"):
        ex.open_model(folder).images("digits")
    np.savez(path, val_images=np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ex.ImageError, match="no 'test_images'"):
        ex.open_model(folder).images("digits")
    path.unlink()
    with pytest.raises(ex.ImageError, match="no file"):
        ex.open_model(folder).images("digits")
