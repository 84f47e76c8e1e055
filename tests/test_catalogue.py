"""Claims about the catalogue: what it lists, how a user's file is checked, what opens from disk."""

from __future__ import annotations

import re
from pathlib import Path

import checkpoint_families as families
import pytest
import torch
from safetensors.torch import save_file

import explorer as ex
from explorer import cli
from explorer.checkpoints import catalogue_file
from explorer.checkpoints.finding import find_published
from explorer.checkpoints.pixels import CLIP

VALID = """
format: 1
models:
  mine:
    title: Mine
    folder: weights
    base: zeroshot.pt
"""


@pytest.fixture
def user_file(tmp_path, monkeypatch) -> Path:
    """The user's catalogue, not there yet, and an empty cache of the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    path = tmp_path / "settings" / "catalogue.yml"
    path.parent.mkdir()
    monkeypatch.setenv("EXPLORER_CATALOGUE", str(path))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder as published sets are unpacked: a base, two tasks in folders, their heads."""
    folder = tmp_path / "weights"
    for seed, task in enumerate(("MNISTVal", "SVHNVal"), 1):
        (folder / task).mkdir(parents=True)
        state = families.image_encoder(seed, quick_gelu=True).state_dict()
        torch.save(state, folder / task / "nonlinear_finetuned.pt")
        families.pickled_head(folder / f"head_{task}.pt", torch.randn(10, families.DIM))
    torch.save(families.image_encoder(0, quick_gelu=True).state_dict(), folder / "zeroshot.pt")
    return folder


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["zoo", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# --- the package's catalogue -----------------------------------------------------------------


def test_every_entry_of_the_package_is_valid():
    found = catalogue_file.read_file(catalogue_file.package_file())
    assert len(found) >= 10
    assert not [error for error in found.values() if isinstance(error, ex.CatalogueError)]


def test_published_sets_are_listed_with_what_one_must_know(user_file):
    table = ex.catalog()
    row = table.loc["tall-masks-vit-l-14"]
    assert row["family"] == "ViT-L/14"
    assert row["where"] == "nik-dim/tall_masks"
    assert len(row["tasks"].split(", ")) == 20
    assert row["heads"] == "in files"
    assert row["local"] == "no"
    assert "DTD leaks" in row["caveats"]
    assert (table["licence"] != "").all() or set(table[table["licence"] == ""]["kind"]) == {
        "diffusion"
    }
    assert table.loc["glyphs", "kind"] == "embedded"
    assert table.loc["glyphs", "local"] == "yes"


def test_the_files_of_one_task_are_those_of_the_published_layout():
    entry = find_published("tall-masks-vit-b-32")
    names = [f"ViT-B-32/{task}Val/nonlinear_finetuned.pt" for task in ("MNIST", "EMNIST", "KMNIST")]
    assert entry.fine_tuned.of("MNIST").find(["ViT-L-14/MNISTVal/x.pt", *names]) == names[0]
    assert entry.fine_tuned.of("MNIST").find([f"checkpoints/{names[0]}"]) is not None
    one = find_published("fusion-bench-vit-b-32").fine_tuned.of("stanford-cars")
    assert one.repository == "tanganke/clip-vit-base-patch32_stanford-cars"


def test_open_clips_list_is_asked_from_open_clip():
    import open_clip

    from explorer.checkpoints.open_clip_list import open_clip_sets

    found = open_clip_sets()
    pairs = {f"open_clip:{a}/{t}" for a, t in open_clip.list_pretrained()}
    assert 100 < len(found) <= len(pairs)
    assert found.keys() <= pairs
    assert find_published("open_clip:ViT-B-32/laion2b_s34b_b79k").activation == "gelu"


def test_openais_weights_in_an_architecture_with_gelu_are_refused_with_the_remedy():
    with pytest.raises(ex.CatalogueError, match=r"Open open_clip:ViT-B-32-quickgelu/openai"):
        ex.open_model("open_clip:ViT-B-32/openai")
    assert find_published("open_clip:ViT-B-32-quickgelu/openai").activation == "quick_gelu"


# --- the user's file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("base:", "bse:"), "'bse', which does not exist; did you mean 'base'"),
        (("    base: zeroshot.pt\n", ""), "lacks 'base'"),
        (("    title: Mine\n", ""), "lacks 'title'"),
        (("title: Mine", "title: [1]"), r"'title' = '\[1\]'; give text"),
        (("zeroshot.pt", "../../secret.pt"), "leads out of the folder"),
        (("zeroshot.pt", "/etc/passwd"), "leads out of the folder"),
        (("zeroshot.pt", "'{task}.pt'"), "must not contain {task}"),
        (("folder: weights", "repository: not-a-repository"), "give it as owner/name"),
        (("folder: weights", "revision: main"), "says nowhere where its files lie"),
        (("title: Mine", "title: Mine\n    repository: a/b"), "both 'folder' and 'repository'"),
        (("title: Mine", "title: Mine\n    tasks: [a]"), "both 'tasks' and 'fine_tuned'"),
        (("title: Mine", "title: Mine\n    activation: relu"), "give quick_gelu or gelu"),
        (("title: Mine", "title: Mine\n    revision: ../x"), "bad revision"),
        (("title: Mine", "title: Mine\n    size: {base: many}"), "'size' that is not"),
        (("  mine:", "  'my own':"), "needs a name"),
    ],
)
def test_a_wrong_entry_is_refused_by_file_entry_and_remedy(user_file, change, sentence):
    user_file.write_text(VALID.replace(*change))
    name = "my own" if "my own" in change[1] else "mine"
    problem = ex.catalog().loc[name, "problem"]
    assert problem.startswith(f"catalogue.yml: the entry {name!r}")
    assert re.search(sentence.replace("{", r"\{"), problem)
    with pytest.raises(ex.CatalogueError, match=r"catalogue.yml: the entry"):
        ex.open_model(name)
    assert "glyphs" in ex.catalog().index  # the others still open


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("format: 1\nmodels: [", "not readable as YAML"),
        ("!!python/object/apply:os.system ['true']", "not readable as YAML"),
        ("format: 2\nmodels: {}", "format 2; this version reads format 1"),
        ("format: 1\nmodels: 3", "must have 'models:'"),
        ("- a", "must have 'models:'"),
        ("a: " + "x" * 2_000_000, "too long for a catalogue"),
        ("\x00", "not readable as YAML"),
    ],
)
def test_a_file_that_is_no_catalogue_is_said_and_hides_nothing(user_file, text, sentence):
    user_file.write_text(text)
    table = ex.catalog()
    assert sentence in table.loc["catalogue.yml", "problem"]
    assert "tall-masks-vit-b-32" in table.index
    with pytest.raises(ex.CatalogueError, match=re.escape(sentence)):
        catalogue_file.entries()


def test_an_entry_of_the_user_takes_the_place_of_the_packages(user_file, folder):
    user_file.write_text(
        VALID.replace("mine", "tall-masks-vit-b-32").replace("weights", "../weights")
    )
    assert ex.catalog().loc["tall-masks-vit-b-32", "title"] == "Mine"
    assert ex.open_model("tall-masks-vit-b-32", activation="quick_gelu").tasks == []


# --- the command line ------------------------------------------------------------------------


def test_zoo_add_finds_base_tasks_and_heads_of_a_folder(user_file, folder, capsys):
    status, out, err = run(capsys, "add", "mine", str(folder), "--activation", "quick_gelu")
    assert (status, err) == (0, "")
    assert "2 tasks" in out
    m = ex.open_model("mine", device="cpu")
    assert m.tasks == ["MNIST", "SVHN"]
    assert m.head("SVHN").weight.shape == (10, families.DIM)
    assert ex.catalog().loc["mine", "local"] == "yes"


def test_zoo_add_takes_the_names_that_are_given(user_file, folder, capsys):
    patterns = ("--base", "zeroshot.pt", "--fine-tuned", "{task}Val/*.pt", "--tasks", "SVHN")
    status, _, _ = run(capsys, "add", "one", str(folder), *patterns, "--activation", "quick_gelu")
    assert status == 0
    assert ex.open_model("one", device="cpu").tasks == ["SVHN"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "glyphs", "hub:a/b"), "a model 'glyphs' already"),
        (("add", "new", "/nowhere"), "no model folder or file"),
        (("add", "new", "hub:a"), "give it as owner/name"),
        (("remove", "glyps"), "Did you mean 'glyphs'"),
        (("pull", "mine"), "nothing to pull"),
    ],
)
def test_zoo_says_what_is_wrong(user_file, folder, capsys, arguments, sentence):
    user_file.write_text(VALID)
    before = user_file.read_text()
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert sentence in err
    assert user_file.read_text() == before


def test_zoo_remove_takes_an_own_entry_out_and_leaves_its_folder(user_file, folder, capsys):
    run(capsys, "add", "mine", str(folder))
    run(capsys, "add", "other", "hub:owner/name")
    assert run(capsys, "remove", "mine")[0] == 0
    assert (folder / "zeroshot.pt").is_file()
    assert "mine" not in ex.catalog().index
    assert "other" in ex.catalog().index


def test_zoo_list_searches_all_words(user_file, capsys):
    out = run(capsys, "list", "l/14", "TALL")[1]
    assert "tall-masks-vit-l-14" in out
    assert "tall-masks-vit-b-32" not in out
    assert "glyphs" in run(capsys, "list", "--local")[1]
    assert "DTD leaks" in run(capsys, "list", "tall-masks-vit-b-16", "--long")[1]
    assert "has these words" in run(capsys, "list", "nothingofthekind")[1]


# --- folders and files that open by their path -----------------------------------------------


def test_a_folder_of_checkpoints_opens_by_its_path(folder):
    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    assert m.tasks == ["MNIST", "SVHN"]
    base, tuned = (
        families.image_encoder(seed, quick_gelu=True).model.visual.state_dict() for seed in (0, 1)
    )
    vector = m.task_vector("MNIST")
    assert all(torch.equal(vector[key], tuned[key] - base[key]) for key in base)


def test_opening_a_set_reads_no_fine_tuned_tower(folder, monkeypatch):
    from explorer.checkpoints.stored import Storage

    read = set()
    original = Storage.read

    def noting(self, *arguments):
        read.add(self.path.parent.name)
        return original(self, *arguments)

    monkeypatch.setattr(Storage, "read", noting)
    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    assert read == {"weights"}
    m.task_vector("SVHN")
    assert read == {"weights", "SVHNVal"}


def test_vectors_that_the_memory_cannot_hold_are_refused_with_the_remedy(folder, monkeypatch):
    from explorer.models import published_model

    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    memory = type("Memory", (), {"available": 1_000_000})
    monkeypatch.setattr(published_model.psutil, "virtual_memory", lambda: memory)
    with pytest.raises(ex.ModelError, match=r"tasks=\[\.\.\.\]"):
        ex.geometry(m)


def test_an_activation_that_nothing_tells_is_asked_for(folder):
    with pytest.raises(ex.ModelError, match="activation='quick_gelu'"):
        ex.open_model(folder)


def test_an_activation_other_than_the_files_is_refused(tmp_path):
    path = families.pickled_module(tmp_path, "zip").path  # its classes tell GELU
    assert ex.open_model(path, device="cpu").architecture["quick_gelu"] is False
    with pytest.raises(ex.CheckpointError, match=r"was trained with GELU.*without -quickgelu"):
        ex.open_model(path, activation="quick_gelu")


def test_a_task_of_another_tower_is_refused_by_name(folder):
    torch.save(wide_tower(), folder / "MNISTVal" / "nonlinear_finetuned.pt")
    m = ex.open_model(folder, device="cpu", activation="quick_gelu")
    with pytest.raises(
        ex.CheckpointError, match=r"holds a ViT-S/16@32; the base is a ViT of width"
    ):
        m.task_vector("MNIST")


def wide_tower() -> dict[str, torch.Tensor]:
    from explorer.models.towers import build_tower

    vision = {"layers": 12, "width": 384, "patch_size": 16, "image_size": 32}
    tower = build_tower({"embed_dim": 24, "vision_cfg": vision})
    return {key: torch.zeros(t.shape) for key, t in tower.state_dict().items()}


def test_a_task_vector_between_two_towers_names_both():
    tuned = {key: torch.zeros(t.shape) for key, t in wide_tower().items()}
    base = families.open_clip_model().visual.state_dict()
    with pytest.raises(ex.CheckpointError, match=r"This is a ViT-S/16@32, the base is a ViT of"):
        ex.TaskVector.between(base, tuned)


def test_a_task_vector_between_two_activations_is_refused(tmp_path):
    gelu = ex.read_checkpoint(families.pickled_module(tmp_path, "zip").path)
    quick = tmp_path / "quick.pt"
    with families.as_if_from("src.modeling", families.ImageEncoder):
        torch.save(families.image_encoder(1, quick_gelu=True), quick)
    with pytest.raises(ex.CheckpointError, match=r"quick.pt was trained with QuickGELU"):
        ex.TaskVector.between(gelu, ex.read_checkpoint(quick))


def test_a_folder_that_says_no_base_is_refused_with_the_names(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save({"x": torch.ones(1)}, tmp_path / name)
    with pytest.raises(ex.CheckpointError, match="zeroshot, base or pretrained"):
        ex.open_model(tmp_path)


# --- towers of other families ----------------------------------------------------------------


OTHERS = {
    "timm_vit": families.timm_vit,
    "timm_convnext": families.timm_convnext,
    "torchvision_vit": lambda folder: families.torchvision_vit(folder, published=True),
    "torchvision_convnext": families.torchvision_convnext,
    "dinov2": lambda folder: families.dino(folder, registers=0, gated=False),
    "dinov2_giant_with_registers": lambda folder: families.dino(folder, registers=4, gated=True),
}


@pytest.mark.parametrize("family", OTHERS)
def test_a_file_of_another_family_opens_and_gives_its_features(tmp_path, family):
    from explorer.models.towers import build_tower, load_weights

    published = OTHERS[family](tmp_path)
    m = ex.open_model(published.path, device="cpu")
    tower = load_weights(build_tower(m.architecture), m.base)
    images = torch.randn(2, 3, published.image_size, published.image_size)
    torch.testing.assert_close(tower(images), published.features(images))
    assert m.embed_dim == tower(images).shape[1]


# --- model folders ---------------------------------------------------------------------------


def test_a_link_out_of_a_model_folder_is_refused(tiny_folder, tmp_path):
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy)
    (tmp_path / "elsewhere").mkdir()
    (copy / "base.safetensors").rename(tmp_path / "elsewhere" / "base.safetensors")
    (copy / "base.safetensors").symlink_to(tmp_path / "elsewhere" / "base.safetensors")
    with pytest.raises(
        ex.CheckpointError, match=r"base.safetensors in the model folder tiny is a link"
    ):
        ex.open_model(copy)


def test_a_link_out_of_a_folder_of_checkpoints_is_refused(folder, tmp_path):
    (folder / "zeroshot.pt").rename(tmp_path / "elsewhere.pt")
    (folder / "zeroshot.pt").symlink_to(tmp_path / "elsewhere.pt")
    with pytest.raises(ex.CheckpointError, match="link to a file outside the folder"):
        ex.open_model(folder, activation="quick_gelu")


def test_a_link_to_a_folder_out_of_a_model_folder_is_refused(tiny_folder, tmp_path):
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy)
    shutil.move(copy / "tasks", tmp_path / "tasks")
    (copy / "tasks").symlink_to(tmp_path / "tasks")
    with pytest.raises(ex.CheckpointError, match="tasks in the model folder tiny is a link"):
        ex.open_model(copy)


def test_one_file_opens_as_a_base(tmp_path):
    save_file(dict(families.open_clip_model().visual.state_dict()), tmp_path / "tower.safetensors")
    m = ex.open_model(tmp_path / "tower.safetensors", device="cpu", activation="gelu")
    assert m.tasks == []
    assert "base tower alone" in m.missing


# --- pixels of loose folders -----------------------------------------------------------------


@pytest.fixture
def of_the_embedded(tmp_path):
    """The embedded model's base and two of its fine-tuned towers, as loose files."""
    glyphs = ex.open_model("glyphs", device="cpu")
    save_file(glyphs.base, tmp_path / "zeroshot.safetensors", {"activation": "gelu"})
    for task in ("letters", "scripts"):
        tuned = glyphs.task_vector(task).apply_to(glyphs.base)
        save_file(tuned, tmp_path / f"{task}.safetensors")
    return tmp_path


def test_towers_of_the_embedded_model_see_pixels_as_it_does_and_measure_the_same(of_the_embedded):
    ours, glyphs = ex.open_model(of_the_embedded, device="cpu"), ex.open_model("glyphs", "cpu")
    assert ours.card["mean"] == glyphs.card["mean"] != list(CLIP[0])
    assert ours.card["std"] == glyphs.card["std"]
    (remark,) = ours.remarks
    assert "zeroshot.safetensors has the shapes of the embedded model" in remark
    assert "mean 0.5, 0.5, 0.5" in remark
    tasks = ["letters", "scripts"]
    recipe = ex.Recipe(coefficients={"letters": 0.4, "scripts": 0.6})
    heads = {task: glyphs.head(task) for task in tasks}
    found = ex.accuracy(ours, recipe, tasks, n=100, heads=heads, precision="float32")
    expected = ex.accuracy(glyphs, recipe, tasks, n=100, precision="float32")
    for name in ("edited", "zero_shot", "fine_tuned"):
        assert found[name].values == pytest.approx(expected[name].values)
    assert (found["predicted"].values == expected["predicted"].values).all()


def test_a_file_beside_the_embedded_models_tower_says_otherwise(of_the_embedded):
    told = '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}'
    (of_the_embedded / "preprocessor_config.json").write_text(told)
    ours = ex.open_model(of_the_embedded, device="cpu")
    assert ours.card["mean"] == [0.1, 0.2, 0.3]
    assert len(ours.remarks) == 1  # its heads are still taken from the embedded model's card


def test_another_clip_tower_is_normalised_as_clips(tiny_model, tmp_path):
    save_file(tiny_model.base, tmp_path / "zeroshot.safetensors", {"activation": "gelu"})
    ours = ex.open_model(tmp_path, device="cpu")
    assert (ours.card["mean"], ours.card["std"]) == CLIP
    assert ours.remarks == ()
