"""Checkpoints: every wrapper gives the same tower, every bad file a sentence, and no code runs."""

import contextlib
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import pytest
import torch
from safetensors.torch import save_file

import explorer as ex


@pytest.fixture(scope="module")
def tower(tiny_model):
    return dict(tiny_model.base)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


def same(found, expected):
    assert found.keys() == expected.keys()
    return all(torch.equal(found[key], expected[key]) for key in expected)


TEXT = {
    "token_embedding.weight": torch.zeros(4, 2),
    "positional_embedding": torch.zeros(3, 2),
    "transformer.resblocks.0.ln_1.weight": torch.zeros(2),
    "logit_scale": torch.tensor(1.0),
}


def prefixed(tensors, prefix):
    return {prefix + key: tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize("prefix", ["", "visual.", "model.visual.", "module.", "module.visual."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_wrapper_prefixes_are_removed(tower, tmp_path, prefix, suffix):
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(prefixed(tower, prefix), path)
    assert same(ex.read_checkpoint(path), tower)


def test_the_text_side_of_a_whole_clip_is_dropped(tower, path):
    torch.save(TEXT | prefixed(tower, "visual."), path)
    assert same(ex.read_checkpoint(path), tower)
    torch.save(prefixed(TEXT | prefixed(tower, "visual."), "model."), path)
    assert same(ex.read_checkpoint(path), tower)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_nested_state_dicts_are_opened(tower, path, key):
    torch.save({key: tower, "epoch": 3, "args": {"lr": 1e-5}}, path)
    assert same(ex.read_checkpoint(path), tower)


def test_integer_buffers_are_skipped_and_half_precision_becomes_float32(tower, path):
    half = {key: tensor.half() for key, tensor in tower.items()}
    torch.save(half | {"position_ids": torch.arange(5)}, path)
    found = ex.read_checkpoint(path)
    assert same(found, {key: tensor.float() for key, tensor in half.items()})


def test_the_kind_is_told_from_the_content_not_the_suffix(tower, tmp_path):
    save_file(tower, tmp_path / "weights.bin")
    assert same(ex.read_checkpoint(tmp_path / "weights.bin"), tower)


def test_old_torch_files_that_are_no_zip_are_read_too(tower, path):
    torch.save(tower, path, _use_new_zipfile_serialization=False)
    assert same(ex.read_checkpoint(path), tower)


# --- bad files -------------------------------------------------------------------------------


def refused(path, message):
    with pytest.raises(ex.CheckpointError, match=message) as caught:
        ex.read_checkpoint(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_weights_are_refused_naming_the_tensor(tower, path, value):
    damaged = {key: tensor.clone() for key, tensor in tower.items()}
    damaged["proj"][0, 0] = value
    torch.save(damaged, path)
    refused(path, "(NaN|infinite values) in 'proj'")


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(tower, path, save, keep):
    save(tower, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refused(path, "again")


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
def test_damage_anywhere_gives_a_checkpoint_error_or_the_tensors_but_nothing_else(
    tower, path, save
):
    save(tower, path)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for at in torch.randint(min(len(whole), 4000), (8,), generator=generator).tolist():
            damaged[at] ^= 0xFF
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ex.CheckpointError):
            ex.read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Not found", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"just some text that is no checkpoint", "neither"),
        (struct.pack("<Q", 60 << 30) + b'{"a": 1}', "again"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "again"),
        (b"PK\x03\x04 not really a zip", "again"),
        (b"\x80\x02", "again"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(path, content, message):
    path.write_bytes(content)
    refused(path, message)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ex.CheckpointError, match="There is no file"):
        ex.read_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(ex.CheckpointError, match="is a folder"):
        ex.read_checkpoint(tmp_path)


def test_a_foreign_zip_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "again")


@pytest.mark.parametrize("data", [{}, {"a": 1}, {"state_dict": {}}, torch.zeros(3), [1, 2], "text"])
def test_a_torch_file_without_named_tensors_is_refused(path, data):
    torch.save(data, path)
    refused(path, "named tensors")


def test_a_text_tower_alone_is_refused(path):
    torch.save(TEXT, path)
    refused(path, "no image tower")


def test_a_file_with_only_integers_is_refused(path):
    torch.save({"position_ids": torch.arange(3)}, path)
    refused(path, "no floating-point")


class Attack:
    """Pickles into a call that creates a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (open, (str(self.proof), "w"))


@pytest.mark.parametrize("how", ["pickle", "torch", "old torch", "nested"])
def test_code_in_a_pickle_is_not_executed(tmp_path, path, how):
    proof = tmp_path / "executed"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Attack(proof)))
    elif how == "torch":
        torch.save(Attack(proof), path)
    elif how == "old torch":
        torch.save(Attack(proof), path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"state_dict": {"proj": torch.zeros(2)}, "extra": Attack(proof)}, path)
    refused(path, "Nothing was run")
    assert not proof.exists()


def test_a_pickled_module_that_is_no_tower_is_refused_with_the_remedy(path):
    torch.save(torch.nn.Linear(2, 2), path)
    refused(path, r"state_dict\(\)")


# --- folders, shards and links ---------------------------------------------------------------


def shards(folder, tensors, places=None):
    """An index and two shards, as hubs have them; returns the index."""
    names = sorted(tensors)
    files = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files | (places or {})}))
    return index


def test_shards_are_read_through_their_index(tower, tmp_path):
    assert same(ex.read_checkpoint(shards(tmp_path, tower)), tower)


def test_a_hubs_folder_stands_for_its_weights(tower, tmp_path):
    save_file(tower, tmp_path / "model.safetensors")
    assert same(ex.read_checkpoint(tmp_path), tower)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "a\\b", "", 3])
def test_an_index_never_leads_out_of_its_folder(tower, tmp_path, place):
    save_file(tower, tmp_path / "secret.safetensors")
    (tmp_path / "model").mkdir()
    index = shards(tmp_path / "model", tower, {"proj": place})
    with pytest.raises(ex.CheckpointError, match=r"no plain file name|does not say which"):
        ex.read_checkpoint(index)


def test_a_link_out_of_the_folder_is_refused_and_the_hubs_cache_is_not(tower, tmp_path):
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shards(snapshot, tower)
    for name, home in (("blobs", True), ("elsewhere", False)):
        (tmp_path / name).mkdir()
        (snapshot / "part-0.safetensors").rename(tmp_path / name / "0123")
        (snapshot / "part-0.safetensors").symlink_to(tmp_path / name / "0123")
        if home:
            assert same(ex.read_checkpoint(snapshot), tower)
            (snapshot / "part-0.safetensors").unlink()
            (tmp_path / name / "0123").rename(snapshot / "part-0.safetensors")
        else:
            with pytest.raises(ex.CheckpointError, match="link to a file outside"):
                ex.read_checkpoint(snapshot)


def test_a_shard_that_is_missing_or_lacks_a_tensor_is_named(tower, tmp_path):
    index = shards(tmp_path, tower, {"proj": "part-9.safetensors"})
    with pytest.raises(ex.CheckpointError, match=r"part-9\.safetensors; download"):
        ex.read_checkpoint(index)
    index = shards(tmp_path, tower, {"other": "part-0.safetensors"})
    with pytest.raises(ex.CheckpointError, match=r"part-0\.safetensors lacks 'other'"):
        ex.read_checkpoint(index)


def test_json_that_is_no_index_is_refused(path):
    path.write_text('{"a": 1}')
    refused(path, "no index of safetensors shards")
    path.write_text("{" * 100_000)
    refused(path, "not readable as JSON")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    refused(tmp_path / "pipe.pt", "is no file")


# --- what claims to be large -----------------------------------------------------------------


def test_a_zip_bomb_is_not_unpacked(path):
    """A hundred megabytes of zeros in a hundred kilobytes, where torch keeps its pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    refused(path, "Nothing was unpacked")
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def header(**tensors):
    raw = json.dumps(tensors).encode()
    return struct.pack("<Q", len(raw)) + raw


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}, "again"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 60 << 30]}, "beyond its end"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}, "beyond its end"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}, "again"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}, "another size"),
        ({"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}, "again"),
        ({"dtype": "F32", "shape": 4, "data_offsets": [0, 16]}, "again"),
        ({"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}, "as its type the text 'F99'"),
        ({"dtype": "F32", "shape": [4]}, "has no place"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [True, 16]}, "has no place"),
        (7, "is no tensor"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(path, entry, message):
    path.write_bytes(header(proj=entry) + bytes(16))
    refused(path, message)


def test_the_weights_of_a_sparse_file_are_not_sixty_gigabytes(path):
    """The file system says sixty gigabytes, the header one tensor of them: refused unread."""
    path.write_bytes(
        header(proj={"dtype": "F32", "shape": [15 << 30], "data_offsets": [0, 60 << 30]})
    )
    os.truncate(path, (60 << 30) + 1000)
    refused(path, "no image tower has such a tensor")
