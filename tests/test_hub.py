"""Claims about pulling from a hub: whole, resumed, pinned, offline, checked, cancelled, bounded."""

from __future__ import annotations

import io
import os
from pathlib import Path

import checkpoint_families as families
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from local_hub import LocalHub
from PIL import Image
from safetensors.torch import save

import explorer as ex
from explorer import cli
from explorer.checkpoints import fetching, hub, pulled
from explorer.checkpoints.finding import find_published
from explorer.tasks.benchmark.frozen import benchmark_task

TASKS = ("MNIST", "SVHN")
RANDOM = torch.Generator().manual_seed(0)


def some_bytes(n: int, seed: int = 0) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n,), generator=generator, dtype=torch.uint8).numpy().tobytes()


def torch_file(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    """A hub, and this machine's own empty cache and catalogue."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("EXPLORER_CATALOGUE", str(tmp_path / "settings" / "catalogue.yml"))
    for variable in hub.OFFLINE:
        monkeypatch.delenv(variable, raising=False)
    # The client read its switch when it was imported: this hub is of this machine, CI or not.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetching, "_FIRST_WAIT", 0.01)
    with LocalHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def published(local_hub, tmp_path):
    """A small set on the hub as tall_masks is laid out, and its entry in the user's catalogue."""
    files = {"M/MNISTVal/nonlinear_zeroshot.pt": torch_file(families.image_encoder(0).state_dict())}
    for seed, task in enumerate(TASKS, 1):
        state = families.image_encoder(seed).state_dict()
        files[f"M/{task}Val/nonlinear_finetuned.pt"] = torch_file(state)
        head = families.pickled_head(tmp_path / "head.pt", torch.randn(10, 24, generator=RANDOM))
        files[f"M/head_{task}Val.pt"] = head.read_bytes()
    files["README.md"] = b"# Weights\n"
    local_hub.put("owner/set", files)
    catalogue = Path(os.environ["EXPLORER_CATALOGUE"])
    catalogue.parent.mkdir()
    catalogue.write_text(
        """
format: 1
models:
  small:
    title: A small set
    family: ViT
    repository: owner/set
    base: M/MNISTVal/nonlinear_zeroshot.pt
    fine_tuned: M/{task}Val/nonlinear_finetuned.pt
    heads: M/head_{task}Val.pt
    tasks: [MNIST, SVHN]
    activation: gelu
    licence: CC0-1.0
    caveats: [Random weights.]
"""
    )
    return files


# --- whole sets ------------------------------------------------------------------------------


def test_a_set_is_pulled_and_opens_with_its_task_vectors_and_heads(published):
    done = ex.pull("small").result()
    wanted = [data for name, data in published.items() if name != "README.md"]
    assert (done.files_done, done.bytes_done) == (5, sum(map(len, wanted)))
    m = ex.open_model("small", device="cpu")
    assert m.tasks == list(TASKS)
    base, tuned = (families.image_encoder(seed).model.visual.state_dict() for seed in (0, 2))
    vector = m.task_vector("SVHN")
    assert vector.keys() == base.keys()
    assert all(torch.equal(vector[key], tuned[key] - base[key]) for key in base)
    assert m.head("MNIST").weight.shape == (10, 24)
    assert ex.geometry(m)["cosine"].shape == (2, 2)


def test_an_opened_set_says_what_it_cannot_do(published):
    ex.pull("small").result()
    m = ex.open_model("small", device="cpu")
    assert "The images of small's tasks MNIST, SVHN are not here" in m.missing
    assert "ex.open_task('MNIST')" in m.missing
    with pytest.raises(ex.ImageError, match="images of 'mnist' are not prepared"):
        ex.accuracy(m, ex.Recipe(base="small"))
    with pytest.raises(ex.VocabularyError, match="no text tower"):
        m.encode_text("a photo")
    assert "Random weights." in m._repr_html_()


@pytest.fixture
def prepared(published, tmp_path) -> ex.Model:
    """The set with its heads, and 30 random images a task at the tower's size."""
    generator = np.random.default_rng(0)
    for task in ("mnist", "svhn"):
        for label in benchmark_task(task).labels:
            folder = tmp_path / task / "test" / label
            folder.mkdir(parents=True)
            for i in range(3):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        ex.open_task(task, folder=tmp_path / task, size=32)
    ex.pull("small").result()
    return ex.open_model("small", device="cpu")


def test_with_prepared_images_the_accuracy_of_a_published_head_is_measured(prepared):
    assert prepared.missing == ""
    recipe = ex.Recipe(base="small", coefficients={"MNIST": 1.0})
    found = ex.accuracy(prepared, recipe)
    images, labels, names = prepared.images("MNIST")
    mean, std = (torch.tensor(prepared.card[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = (torch.tensor(images).permute(0, 3, 1, 2) / 255 - mean) / std
    features = families.image_encoder(1)(pixels)  # the fine-tuned tower itself
    logits = F.normalize(features, dim=-1) @ prepared.head("MNIST").weight.T
    right = (logits.argmax(-1) == torch.tensor(labels)).float().mean()
    assert float(found["edited"].sel(task="MNIST")) == pytest.approx(float(right))
    assert (len(labels), len(names)) == (30, 10)


def test_with_prepared_images_a_map_of_a_published_set_is_measured(prepared):
    found = ex.disentanglement(prepared, ("MNIST", "SVHN"), [0.0, 1.0], n=10).result()
    assert found["error"].sel(alpha1=1.0, alpha2=0.0, task="MNIST") == 0.0
    assert found["error"].sel(alpha1=0.0, alpha2=1.0, task="SVHN") == 0.0
    assert found["error"].notnull().all()


def test_an_edited_published_model_is_exported_and_read_back(published, tmp_path):
    ex.pull("small").result()
    m = ex.open_model("small", device="cpu")
    recipe = ex.Recipe(base="small", coefficients={"MNIST": 0.5})
    ex.export(m, recipe, tmp_path / "edited.safetensors")
    written = ex.read_checkpoint(tmp_path / "edited.safetensors")
    expected = (0.5 * m.task_vector("MNIST")).apply_to(m.base)
    assert all(torch.allclose(written[key], expected[key]) for key in expected)


def test_only_the_tasks_asked_for_are_pulled_and_opened(published, local_hub):
    ex.pull("small", tasks=["SVHN"]).result()
    assert not local_hub.asked("GET", "MNISTVal/nonlinear_finetuned")
    assert ex.open_model("small", device="cpu").tasks == ["SVHN"]
    assert ex.catalog().loc["small", "local"] == "base and 1 of 2 tasks"
    with pytest.raises(ex.HubError, match="'MNIST' of small is not on this machine"):
        ex.open_model("small", tasks=["MNIST"])
    with pytest.raises(ex.UnknownNameError, match="'MNIST'"):
        ex.pull("small", tasks=["MNITS"])


def test_what_has_not_been_pulled_is_refused_with_the_command(published):
    with pytest.raises(ex.HubError, match="explorer zoo pull small"):
        ex.open_model("small")
    assert ex.catalog().loc["small", "local"] == "no"


def test_any_repository_opens_by_its_address(local_hub):
    state = families.open_clip_model(0, quick_gelu=True).state_dict()
    config = b'{"model_cfg": {"quick_gelu": true, "vision_cfg": {"width": 64}}}'
    files = {"open_clip_model.safetensors": save(state), "open_clip_config.json": config}
    local_hub.put("owner/clip", files)
    ex.pull("hub:owner/clip").result()
    m = ex.open_model("hub:owner/clip", device="cpu")
    assert m.architecture["quick_gelu"] is True  # told by the configuration beside the file
    assert m.tasks == []
    assert "base tower alone" in m.missing


def test_a_model_folder_in_the_zoos_format_opens_complete(local_hub, tiny_folder):
    files = {
        path.relative_to(tiny_folder).as_posix(): path.read_bytes()
        for path in tiny_folder.rglob("*")
        if path.is_file()
    }
    local_hub.put("owner/tiny", files | {"setup.py": b"raise SystemExit"})
    ex.pull("hub:owner/tiny").result()
    m = ex.open_model("hub:owner/tiny", device="cpu")
    assert m.missing == ""
    found = ex.accuracy(m, ex.Recipe(base="tiny"), n=10)
    assert found["edited"].notnull().all()
    assert not local_hub.asked("GET", "setup.py")


# --- connections -----------------------------------------------------------------------------


@pytest.fixture
def large(local_hub):
    data = some_bytes(1_000_000)
    local_hub.put("owner/large", {"model.safetensors": data})
    return data


def pulled_file(name: str = "hub:owner/large") -> Path:
    path = pulled.locate(find_published(name)).base
    assert path is not None
    return path


def test_a_broken_connection_is_resumed_where_it_broke(local_hub, large):
    local_hub.break_after, local_hub.breaks = 200_000, 3
    ex.pull("hub:owner/large").result()
    assert pulled_file().read_bytes() == large
    starts = [r.range for r in local_hub.asked("GET", "model.safetensors")]
    assert starts == [None, "bytes=200000-", "bytes=400000-", "bytes=600000-"]


def test_a_cancelled_pull_keeps_what_arrived_and_continues(local_hub, large):
    local_hub.slow = 0.02
    run = ex.pull("hub:owner/large")
    for partial in run:
        if partial.bytes_done > 300_000:
            run.cancel()
    assert run.cancelled
    with pytest.raises(ex.RunCancelled):
        run.result()
    with pytest.raises(ex.HubError, match="pull it first"):
        ex.open_model("hub:owner/large")
    local_hub.slow, local_hub.requests = 0.0, []
    partials = list(ex.pull("hub:owner/large"))
    assert partials[0].bytes_done > 300_000
    assert partials[-1].complete
    (request,) = local_hub.asked("GET", "model.safetensors")
    assert int(request.range.removeprefix("bytes=")[:-1]) > 300_000
    assert pulled_file().read_bytes() == large


def test_progress_never_goes_back(local_hub, large):
    local_hub.break_after, local_hub.breaks, local_hub.slow = 300_000, 2, 0.03
    seen = [partial.bytes_done for partial in ex.pull("hub:owner/large")]
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, len(large))


def test_a_hub_that_ignores_ranges_sends_all_again_and_nothing_is_doubled(local_hub, large):
    local_hub.break_after, local_hub.breaks, local_hub.deaf_to_ranges = 200_000, 1, True
    ex.pull("hub:owner/large").result()
    assert pulled_file().read_bytes() == large


def test_a_connection_that_never_holds_is_given_up_with_what_arrived(local_hub, large):
    local_hub.break_after, local_hub.breaks = 0, 100
    with pytest.raises(ex.HubError, match="what has arrived is kept"):
        ex.pull("hub:owner/large").result()


def test_a_hub_that_is_down_is_said_to_be(local_hub, large):
    local_hub.down = True
    with pytest.raises(ex.HubError, match="does not answer for owner/large"):
        ex.pull("hub:owner/large").result()


def test_what_is_here_is_not_downloaded_again(local_hub, large):
    ex.pull("hub:owner/large").result()
    local_hub.requests = []
    assert ex.pull("hub:owner/large").result().complete
    assert not local_hub.asked("GET", "/resolve/")


# --- revisions and offline -------------------------------------------------------------------


def test_a_pinned_revision_stays_when_the_branch_moves_on(local_hub):
    old, new = some_bytes(1000, 1), some_bytes(1000, 2)
    commit = local_hub.put("owner/moving", {"model.safetensors": old})
    local_hub.put("owner/moving", {"model.safetensors": new})
    local_hub.put("owner/moving", {"model.safetensors": old}, ref="v1")
    ex.pull("hub:owner/moving", revision=commit).result()
    assert pulled_file(f"hub:owner/moving@{commit}").read_bytes() == old
    with pytest.raises(ex.HubError, match="pull it first"):
        ex.open_model("hub:owner/moving")
    ex.pull("hub:owner/moving").result()
    ex.pull("hub:owner/moving@v1").result()
    assert pulled_file("hub:owner/moving").read_bytes() == new
    assert pulled_file("hub:owner/moving@v1").read_bytes() == old


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hub:owner/nothing", "no repository 'owner/nothing'"),
        ("hub:owner/large@v9", "no revision 'v9'"),
        ("hub:owner/large@../../x", "is no revision"),
        ("hub:../../etc", "no repository of a hub"),
        ("hub:owner", "no repository of a hub"),
        ("smal", "There is no model 'smal'"),
    ],
)
def test_an_address_that_is_wrong_is_refused_by_name(large, address, sentence):
    with pytest.raises(ex.ExplorerError, match=sentence.replace("(", r"\(")):
        ex.pull(address).result()


@pytest.mark.parametrize("variable", hub.OFFLINE)
def test_offline_nothing_is_asked_and_what_is_here_opens(
    published, local_hub, monkeypatch, variable
):
    ex.pull("small", tasks=["MNIST"]).result()
    local_hub.requests = []
    monkeypatch.setenv(variable, "1")
    assert ex.open_model("small", device="cpu").tasks == ["MNIST"]
    with pytest.raises(ex.HubError, match=f"{variable} is set.*Unset {variable}"):
        ex.pull("small").result()
    assert local_hub.requests == []


# --- what a hub may not do -------------------------------------------------------------------


def test_a_file_with_another_checksum_is_deleted(local_hub, large):
    local_hub.lies["model.safetensors"] = some_bytes(len(large), 9)
    with pytest.raises(ex.HubError, match="arrived damaged"):
        ex.pull("hub:owner/large").result()
    assert not [p for p in hub.cache_folder().rglob("*") if p.is_file() and p.stat().st_size > 1000]


def test_a_file_longer_than_listed_is_stopped(local_hub, large):
    local_hub.lies["model.safetensors"] = large * 5
    with pytest.raises(ex.HubError, match=r"sends more of model.safetensors"):
        ex.pull("hub:owner/large").result()
    assert max(p.stat().st_size for p in hub.cache_folder().rglob("*")) < 2 * len(large)


@pytest.mark.parametrize(
    "name", ["../../evil.safetensors", "/etc/model.safetensors", "a/../../b.bin", "a\\b.bin", "c:x"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(local_hub, large, name, tmp_path):
    local_hub.names["model.safetensors"] = name
    with pytest.raises(ex.HubError, match="leads out of its folder"):
        ex.pull("hub:owner/large").result()
    assert not list(tmp_path.rglob("*evil*"))


def test_a_commit_that_is_none_is_refused(local_hub, large):
    found = local_hub.repositories["owner/large"]
    found.commits["../../x"] = found.commits[found.refs["main"]]
    found.refs["main"] = "../../x"
    with pytest.raises(ex.HubError, match="for a commit"):
        ex.pull("hub:owner/large").result()


def test_a_link_out_of_the_cache_is_not_read(local_hub, large, tmp_path):
    ex.pull("hub:owner/large").result()
    path = pulled_file()
    path.unlink()
    (tmp_path / "secret").write_bytes(large)
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(ex.CheckpointError, match="link to a file outside"):
        ex.open_model("hub:owner/large")


def test_more_than_the_limit_is_refused_before_anything_is_downloaded(local_hub, large):
    with pytest.raises(ex.HubError, match="choose some of its tasks, or give a larger limit"):
        ex.pull("hub:owner/large", largest_gb=0.0005).result()
    assert not local_hub.asked("GET", "/resolve/")


def test_a_full_disk_is_said_beforehand(local_hub, large, monkeypatch):
    from explorer.checkpoints import pulling

    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ex.HubError, match="make room, or set HF_HUB_CACHE"):
        ex.pull("hub:owner/large").result()


def test_files_that_are_not_where_the_catalogue_says_are_named_with_what_there_is(local_hub):
    local_hub.put("owner/other", {"weights/big.h5": b"x", "README.md": b"y"})
    with pytest.raises(
        ex.HubError, match=r"no file .*model\.safetensors.*it has README.md, weights"
    ):
        ex.pull("hub:owner/other").result()


# --- removing --------------------------------------------------------------------------------


def test_removing_frees_the_bytes_and_the_set_can_be_pulled_again(published):
    total = ex.pull("small").result().bytes_total
    assert pulled.remove(find_published("small")) == total
    assert not [p for p in hub.cache_folder().rglob("*") if p.is_file() and p.stat().st_size > 1000]
    assert ex.catalog().loc["small", "local"] == "no"
    assert ex.pull("small").result().complete


def test_a_content_that_another_revision_has_too_is_kept(local_hub):
    data = some_bytes(50_000)
    local_hub.put("owner/both", {"model.safetensors": data})
    local_hub.put("owner/both", {"model.safetensors": data, "README.md": b"x"}, ref="v2")
    ex.pull("hub:owner/both").result()
    ex.pull("hub:owner/both@v2").result()
    assert pulled.remove(find_published("hub:owner/both@v2")) == 0
    assert pulled_file("hub:owner/both").read_bytes() == data
    assert pulled.remove(find_published("hub:owner/both")) == len(data)


# --- the command line ------------------------------------------------------------------------


def zoo(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["zoo", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_zoo_pull_and_remove(published, capsys):
    status, out, _ = zoo(capsys, "pull", "small", "--tasks", "MNIST")
    assert status == 0
    assert "3 of 3 files" in out
    assert "mind: Random weights." in out
    assert "base and 1 of 2 tasks" in zoo(capsys, "list", "small")[1]
    assert "MB deleted" in zoo(capsys, "remove", "small")[1]
    assert "small" not in ex.catalog().index  # the entry was the user's own, and is gone too


def test_zoo_pull_says_why_not(local_hub, capsys):
    status, _, err = zoo(capsys, "pull", "hub:owner/nothing")
    assert status == 2
    assert "no repository 'owner/nothing'" in err
