"""The embedded models without text: heads in a file, images of another model, no words."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import explorer as ex
from explorer.checkpoints.zoo import embedded_root, read_folder
from explorer.models.towers import build_tower, load_weights
from explorer.tasks.embedded import embedded_tasks

NAMES = ["glyphs-closed", "glyphs-scratch"]


@pytest.fixture(scope="module", params=NAMES)
def closed(request):
    return ex.open_model(request.param, device="cpu")


@pytest.fixture
def copied(tmp_path):
    """A copy of a closed model that may be damaged."""
    folder = tmp_path / "mine"
    shutil.copytree(embedded_root() / "glyphs-closed", folder)
    return folder


def test_both_are_in_the_catalogue_with_their_heads():
    table = ex.catalog()
    for name in NAMES:
        row = table.loc[name]
        assert (row["kind"], row["heads"], row["problem"]) == ("embedded", "linear probes", "")
    assert table.loc["glyphs", "heads"] == "zero-shot"


def test_both_have_the_tasks_and_the_control_of_the_model_with_text(closed):
    text = ex.open_model("glyphs", device="cpu")
    assert closed.tasks == text.tasks
    assert closed.control == text.control == "shapes"
    assert [task.class_names for task in map(closed.task, closed.all_tasks)] == [
        task.class_names for task in map(text.task, text.all_tasks)
    ]


def test_bases_and_vectors_are_of_one_tower_and_not_the_same():
    closed, scratch = (ex.open_model(name, device="cpu") for name in NAMES)
    assert closed.architecture == scratch.architecture
    for key, tensor in closed.base.items():
        assert tensor.shape == scratch.base[key].shape
    assert closed.task_vector("mnist").norm > 0 < scratch.task_vector("mnist").norm
    assert not torch.equal(closed.base["conv1.weight"], scratch.base["conv1.weight"])


def test_images_are_shared_and_shipped_once(closed):
    assert not (closed.folder.path / "tasks").exists()
    for task in closed.all_tasks:
        for split in ("val", "test"):
            mine, text = closed.images(task, None, split), ex.open_task(f"glyphs/{task}", size=32)
            assert np.array_equal(mine[0], text.images(None, split)[0])
            assert np.array_equal(mine[1], text.images(None, split)[1])
    assert not any(
        name.startswith(("glyphs-closed/", "glyphs-scratch/")) for name in embedded_tasks()
    )


def plain_accuracy(folder, card, task, vector):
    """From the files alone: base plus a vector, by torch, with the head in its file."""
    tower = build_tower(card["architecture"])
    weights = {key: value.float() for key, value in load_file(folder / "base.safetensors").items()}
    if vector is not None:
        moved = load_file(folder / "vectors" / f"{vector}.safetensors")
        weights = {key: value + moved[key].float() for key, value in weights.items()}
    head = load_file(folder / "heads.safetensors")[task]
    with np.load(embedded_root() / card["images"] / "tasks" / f"{task}.npz") as data:
        images, labels = data["test_images"], data["test_labels"]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    pixels = (pixels - torch.tensor(card["mean"]).view(3, 1, 1)) / torch.tensor(card["std"]).view(
        3, 1, 1
    )
    features = F.normalize(load_weights(tower, weights)(pixels), dim=-1)
    return float((torch.argmax(features @ head.T, 1).numpy() == labels).mean())


@pytest.mark.parametrize("task", ["uci", "icons"])
def test_accuracies_are_those_of_the_heads_in_the_file(closed, task):
    folder, card = closed.folder.path, closed.card
    alone = ex.accuracy(closed, ex.Recipe(base=closed.name), tasks=[task, "shapes"])
    tuned = ex.accuracy(closed, ex.Recipe(base=closed.name, coefficients={task: 1.0}), [task])
    near = 1.5 / len(closed.images(task)[1])  # a picture on an edge may fall on either side
    for found, given in ((alone.edited.values[0], None), (tuned.edited.values[0], task)):
        assert found == pytest.approx(plain_accuracy(folder, card, task, given), abs=near)
    control = plain_accuracy(folder, card, "shapes", None)
    assert alone.edited.values[1] == pytest.approx(control, abs=1.5 / 600)
    assert tuned.fine_tuned.values[0] == tuned.edited.values[0]


def test_the_card_says_what_is_measured(closed):
    said = closed.card["results"]
    tasks = ["mnist", "hiragana"]
    found = ex.accuracy(closed, ex.Recipe(base=closed.name), tasks=tasks)
    for i, task in enumerate(tasks):
        assert found.zero_shot.values[i] == pytest.approx(said["linear_probe"][task], abs=0.005)
        assert found.fine_tuned.values[i] == pytest.approx(said["fine_tuned"][task], abs=0.005)
    card = (closed.folder.path / "CARD.md").read_text("utf-8")
    mean = f"{said['linear_probe_mean']:.3f} | {said['fine_tuned_mean']:.3f}"
    assert f"| mean of the eight | | | {mean}" in card


def test_fine_tuning_is_better_than_the_probe_of_the_base(closed):
    said = closed.card["results"]
    assert said["fine_tuned_mean"] > said["linear_probe_mean"] + 0.05


def test_pretraining_makes_a_better_base_than_random_weights():
    closed, scratch = (read_folder(embedded_root() / name).card["results"] for name in NAMES)
    assert closed["linear_probe_mean"] > scratch["linear_probe_mean"] + 0.05


def test_every_file_is_the_published_one(copied):
    folder = read_folder(copied)
    folder.verify()
    listed = {str(p.relative_to(copied)) for p in copied.rglob("*") if p.is_file()}
    assert listed == {*folder.card["sha256"], "model.json", "CARD.md"}
    for name, expected in folder.card["sha256"].items():
        assert hashlib.sha256((copied / name).read_bytes()).hexdigest() == expected
    heads = copied / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ex.CheckpointError, match=r"heads\.safetensors .* not the file"):
        read_folder(copied).verify()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda heads: heads.pop("uci"), "has no head for 'uci'; copy the model again"),
        (lambda heads: heads.update(uci=torch.zeros(9, 64)), r"'uci' .* is \(9, 64\).*\(10, 64\)"),
        (lambda heads: heads["uci"].fill_(float("nan")), "NaN"),
    ],
)
def test_damaged_heads_are_refused(copied, change, said):
    heads = load_file(copied / "heads.safetensors")
    change(heads)
    save_file(heads, copied / "heads.safetensors")
    with pytest.raises(ex.CheckpointError, match=said):
        ex.open_model(copied, device="cpu").head("mnist")


def test_a_cut_file_of_heads_is_refused(copied):
    path = copied / "heads.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ex.CheckpointError, match=r"heads\.safetensors"):
        ex.open_model(copied, device="cpu").head("mnist")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("images", "../glyphs", "which is no name"),
        ("heads", "../glyphs/text.safetensors", "which is no name"),
        ("heads", None, "which is no name"),
        ("heads", "other.safetensors", "has no other.safetensors"),
        ("images", "glyph", "no embedded task 'glyph/mnist'"),
    ],
)
def test_a_description_that_names_other_files_is_refused(copied, key, value, said):
    card = json.loads((copied / "model.json").read_text("utf-8"))
    card[key] = value
    (copied / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(ex.ExplorerError, match=said):
        ex.open_model(copied, device="cpu").head("mnist")


def test_classes_that_are_not_those_of_the_shared_images_are_refused(copied):
    card = json.loads((copied / "model.json").read_text("utf-8"))
    card["task_info"]["uci"]["class_names"].reverse()
    (copied / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(ex.ImageError, match="classes of 'uci' are not those of the images"):
        ex.open_model(copied, device="cpu")


def test_there_are_no_words(closed):
    for ask in (
        lambda: closed.head("mnist", templates=["the {}"]),
        lambda: closed.head("mnist", class_names=list("abcdefghij")),
        lambda: closed.encode_text(["a heart"]),
        lambda: closed.vocabulary,
    ):
        with pytest.raises(ex.VocabularyError, match="trained without text"):
            ask()


def test_the_base_is_called_what_it_is(closed):
    assert closed.base_title == "linear probe"
    found = ex.accuracy(closed, ex.Recipe(base=closed.name), tasks=["uci"], n=20)
    assert found.attrs["heads"] == "linear probe"


def test_maps_in_both_spaces_and_a_sentence_for_the_third(closed):
    for space in ("weights", "posthoc"):
        recipe = {"alphas": np.linspace(0, 1, 2), "n": 20, "space": space}
        error = ex.disentanglement(closed, ("mnist", "icons"), **recipe).result()["error"]
        assert np.isfinite(error).all()
        assert float(error.sel(alpha1=0, alpha2=0).sum()) == 0
    with pytest.raises(ex.ModelError, match=r"no vectors .* tangent space.*posthoc"):
        closed.task_vector("mnist", "tangent")
    with pytest.raises(ex.UnknownNameError, match="mnits"):
        closed.task_vector("mnits", "tangent")


def test_searches_choose_with_the_heads_in_the_file(closed):
    search = ex.best_shared_coefficient(closed, n=40).result()
    assert 0 <= search.attrs["best_coefficient"] <= 1
    assert closed.best_shared_coefficient() == closed.card["best_shared_coefficient"]["weights"]


def test_probes_of_ones_own_can_be_fitted_for_it(closed):
    found = ex.with_probes(closed, ["uci"])
    assert found.head("uci").weight.shape == closed.head("uci").weight.shape
    assert not torch.equal(found.head("uci").weight, closed.head("uci").weight)


def test_an_export_opens_in_open_clip_as_its_card_says(closed, tmp_path, monkeypatch):
    recipe = ex.Recipe(base=closed.name, coefficients={"uci": 0.5})
    ex.export(closed, recipe, tmp_path / "edited.safetensors")
    card = (tmp_path / "edited.md").read_text("utf-8")
    code = card.partition("## Open it")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(code, made)
    pixels = torch.rand(3, 3, 32, 32)
    weights = {k: v + 0.5 * closed.task_vector("uci")[k] for k, v in closed.base.items()}
    mine = load_weights(build_tower(closed.architecture), weights)
    assert torch.allclose(made["model"].encode_image(pixels), mine(pixels), atol=1e-5)


def test_heads_decide_what_is_kept_on_disk(copied):
    before = ex.open_model(copied, device="cpu").heads_made_of(["uci"])
    heads = load_file(copied / "heads.safetensors")
    heads["uci"][0, 0] += 1
    save_file(heads, copied / "heads.safetensors")
    assert ex.open_model(copied, device="cpu").heads_made_of(["uci"]) != before


def test_a_damaged_file_of_images_is_refused(tmp_path):
    """Images are compressed by LZMA, whose errors are its own."""
    whole = (embedded_root() / "glyphs" / "tasks" / "uci.npz").read_bytes()
    folder = tmp_path / "other"
    shutil.copytree(embedded_root() / "glyphs", folder)
    for place in range(150, len(whole) - 500, len(whole) // 12):
        damaged = (
            whole[:place] + bytes(255 - b for b in whole[place : place + 40]) + whole[place + 40 :]
        )
        (folder / "tasks" / "uci.npz").write_bytes(damaged)
        model = ex.open_model(folder, device="cpu")
        with pytest.raises(ex.ImageError, match=r"uci\.npz"):
            [model.images("uci", None, split) for split in ("val", "test")]
