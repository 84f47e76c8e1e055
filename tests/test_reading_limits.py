"""What odd files may cost: no error's text, no number, no table and no tensor without a bound."""

import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from checkpoint_families import pickled_head
from safetensors.torch import save
from test_pickles import called, data, name, refused, sequence, stored, text

import explorer as ex
from explorer.checkpoints import archives, torch_files
from explorer.checkpoints.reading import open_checkpoint, read_head
from explorer.checkpoints.records import Blob, Name, Record, described
from explorer.checkpoints.zoo import read_folder, verify_diffusion

# torch's own remark on the storages that these files still have.
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage")

DOUBLED = b")" + b"2\x86" * 60
"""A tuple of twice a tuple of twice ..., whose text would have 2 ** 60 parts."""
LONG = b"\x8b" + struct.pack("<i", 2500) + b"\x11" * 2500
"""A number of 6,021 digits, which Python refuses to write."""
FLOATS, OF_TYPE = name("torch.FloatStorage"), name("torch._tensor._rebuild_from_type_v2")


# --- what errors say -------------------------------------------------------------------------


def doubled():
    value = ()
    for _ in range(60):
        value = (value, value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        doubled(),
        10**5000,
        -(10**5000),
        "a" * 10**6,
        Name("m" * 1000, "n"),
        Record(Name("m", "n"), doubled()),
        Blob(0, 10**6, bytes(10**6)),
        [doubled()],
        {"a": doubled()},
        None,
        2.5,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_described_in_eighty_characters(value):
    assert 0 < len(described(value)) <= 80


def test_what_is_small_is_described_as_it_is():
    assert described(Name("os", "system")) == "os.system"
    assert described("F99") == "the text 'F99'"
    assert described(7) == "the number 7"
    assert described((1, 2)) == "a tuple of 2"


def old_torch(main: bytes, keys: bytes) -> bytes:
    """torch's format before 1.6 whose list of storages is ``keys`` (without its end)."""
    return sequence(main)[: -len(pickle.dumps([], 2))] + b"\x80\x02" + keys + b"."


def storage_id(key: bytes, kind: bytes = FLOATS, view: bytes = b"N") -> bytes:
    """A persistent storage of 6 elements."""
    return b"(" + text("storage") + kind + key + text("cpu") + b"K\x06" + view + b"tQ"


def tensor_of(storage: bytes, more: bytes = b"", rebuild: str = "_rebuild_tensor_v2") -> bytes:
    arguments = (storage, b"K\x00", b"K\x02\x85", b"K\x01\x85", b"\x89", b"}", more)
    return b"}" + text("a.w") + called(name(f"torch._utils.{rebuild}"), *arguments) + b"s"


@pytest.mark.parametrize("odd", [DOUBLED, LONG], ids=["doubled tuples", "a long number"])
@pytest.mark.parametrize(
    "content",
    [
        lambda odd: sequence(storage_id(text("0"), kind=odd)),
        lambda odd: sequence(storage_id(odd)),
        lambda odd: old_torch(tensor_of(storage_id(text("0"))), b"](" + odd + b"e"),
        lambda odd: b"\x80\x02" + called(name("functools.partial"), odd) + b".",
        lambda odd: b"\x80\x02" + called(OF_TYPE, odd, odd, b")") + b".",
        lambda odd: b"\x80\x02" + called(
            name("numpy.core.multiarray.scalar"), called(name("numpy.dtype"), odd), b"C\x01a"
        ) + b".",
        lambda odd: b"\x80\x02}" + odd + b"K\x01s.",
        lambda odd: sequence(tensor_of(storage_id(text("0")), odd, "_rebuild_tensor_v3")),
    ],
    ids=["kind", "key", "list", "partial", "type", "dtype", "dictionary", "v3"],
)  # fmt: skip
def test_values_that_cannot_be_written_end_in_a_short_sentence(tmp_path, content, odd):
    refused(tmp_path / "weights.pt", content(odd), ".", seconds=2, megabytes=20)


def test_a_key_that_is_a_long_number_hides_no_tensors(tmp_path):
    whole = called(name("torch.storage._load_from_bytes"), data(stored(torch.zeros(6))))
    tensors = tensor_of(whole)
    content = b"\x80\x02" + tensors + LONG + b"K\x01s."
    (tmp_path / "weights.pt").write_bytes(content)
    assert list(ex.read_checkpoint(tmp_path / "weights.pt")) == ["a.w"]
    named = tensors[:-1].replace(text("a.w"), LONG) + b"s"
    refused(tmp_path / "weights.pt", b"\x80\x02" + named + b".", "name begins")


def test_a_tensor_with_an_endless_name_is_refused(tmp_path):
    torch.save({"a" * 10_000: torch.zeros(2)}, tmp_path / "long.pt")
    with pytest.raises(ex.CheckpointError, match=r"long\.pt .* name begins") as caught:
        ex.read_checkpoint(tmp_path / "long.pt")
    assert len(str(caught.value)) < 400


# --- tar archives ----------------------------------------------------------------------------


def tar_of(**parts: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:") as archive:
        for part in ("sys_info", "pickle", "tensors", "storages"):
            content = parts.get(part, pickle.dumps(0))
            member = tarfile.TarInfo(part)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


STORAGE = b"\x80\x02(K\x01" + text("cpu") + FLOATS + b"t." + struct.pack("<q", 6) + bytes(24)


@pytest.mark.parametrize(
    "storages",
    [
        pickle.dumps(1) + pickle.dumps(None),
        pickle.dumps(1) + pickle.dumps(5),
        pickle.dumps(1) + STORAGE + pickle.dumps([3]),
        pickle.dumps(1) + STORAGE + pickle.dumps([(2, 1, "a", "b")]),
        pickle.dumps(1) + STORAGE + pickle.dumps([(2, 1, None, 1)]),
        pickle.dumps(1) + STORAGE + pickle.dumps([(2, 1, 0.0, 1.5)]),
        pickle.dumps(1) + STORAGE + pickle.dumps([(2, 1, 1)]),
        pickle.dumps(1) + STORAGE + pickle.dumps([(2, 1, 3, 4)]),
        pickle.dumps(1) + STORAGE + b"\x80\x02](" + DOUBLED + b"K\x01K\x00K\x01tae.",
    ],
)
def test_odd_records_of_a_tar_archive_are_one_sentence(tmp_path, storages):
    refused(tmp_path / "weights.pt", tar_of(storages=storages), "again", seconds=2)


def test_a_tensor_of_a_tar_archive_needs_a_storage(tmp_path):
    """Here it names another tensor as its storage."""
    record = pickle.dumps((2, 1, None)) + struct.pack("<ixxxx", 0) + struct.pack("<q", 0)
    other = pickle.dumps((3, 2, None)) + record[len(pickle.dumps((2, 1, None))) :]
    storages = pickle.dumps(1) + STORAGE + pickle.dumps([])
    content = tar_of(storages=storages, tensors=pickle.dumps(2) + record + other)
    refused(tmp_path / "weights.pt", content, "no storage")


def test_a_tar_archives_long_names_are_not_read_by_the_gigabyte(tmp_path):
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, 5 << 30
    content = tar_of()
    (tmp_path / "weights.pt").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + content)
    with (tmp_path / "weights.pt").open("r+b") as file:
        file.truncate(6 << 30)  # as large as it claims, and sparse
    with pytest.raises(ex.CheckpointError, match="directory claims"):
        ex.read_checkpoint(tmp_path / "weights.pt")


# --- types and storages ----------------------------------------------------------------------


def test_a_type_that_is_none_imports_nothing(tmp_path):
    """torch answers a name that it does not know by importing its module of that name."""
    (tmp_path / "weights.pt").write_bytes(
        sequence(tensor_of(storage_id(text("0")), name("torch.onnx"), "_rebuild_tensor_v3"))
    )
    program = (
        "import sys, torch, explorer as ex\n"
        "import explorer.checkpoints.reading\n"
        "before = {*sys.modules}\n"
        "try: ex.read_checkpoint(sys.argv[1])\n"
        "except ex.CheckpointError as error: print('torch.onnx' in str(error))\n"
        "print(sorted(n for n in {*sys.modules} - before if n.startswith('torch')))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "weights.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["True", "[]"]


def of_type(kind: str) -> torch.dtype:
    from explorer.checkpoints.rebuilding import _tensor_of_dtype
    from explorer.checkpoints.stored import Storage

    storage = Storage(None, 0, 64)
    return _tensor_of_dtype(None, storage, 0, (2,), (1,), 0, 0, Name("torch", kind)).dtype


@pytest.mark.parametrize(
    "kind", ["float32", "bfloat16", "float8_e4m3fn", "uint16", "int64", "bool"]
)
def test_every_type_of_torchs_rebuilding_is_in_the_table(kind):
    assert of_type(kind) == getattr(torch, kind)


@pytest.mark.parametrize("kind", ["nn", "Tensor", "complex64", "onnx", "__name__"])
def test_other_names_of_torch_are_no_types(kind):
    with pytest.raises(ValueError, match="without a storage, or of the type"):
        of_type(kind)


def nested_view(view: bytes) -> bytes:
    """A plain pickle whose storage, a sequence in bytes, is a view of another."""
    inner = old_torch(storage_id(text("0"), view=view), b"](" + text("0") + b"e")
    inner += struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()
    as_text = (
        b"X"
        + struct.pack("<I", len(inner.decode("latin1").encode()))
        + inner.decode("latin1").encode()
    )
    held = called(name("_codecs.encode"), as_text, text("latin1"))  # protocol 2's way: in memory
    storage = called(name("torch.storage._load_from_bytes"), held)
    return b"\x80\x02" + tensor_of(storage) + b"."


def view_of(start: bytes, n: bytes) -> bytes:
    return b"(" + text("view") + start + n + b"t"


def test_a_storage_that_views_another_in_memory_begins_where_it_says(tmp_path):
    (tmp_path / "view.pt").write_bytes(nested_view(view_of(b"K\x03", b"K\x02")))
    found = ex.read_checkpoint(tmp_path / "view.pt")
    assert found["a.w"].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    "view",
    [
        view_of(b"K\x05", b"K\x02"),
        view_of(b"J\xff\xff\xff\xff", b"K\x02"),
        view_of(b"K\x03", b"J\xff\xff\xff\xff"),
        view_of(b"G" + struct.pack(">d", 0.5), b"K\x02"),
        view_of(b"\x88", b"K\x02"),
        b"K\x03",
        b"(K\x03t",
    ],
)
def test_a_view_outside_its_storage_or_of_no_numbers_is_refused(tmp_path, view):
    refused(tmp_path / "view.pt", nested_view(view), "again")


# --- tensors that repeat bytes ---------------------------------------------------------------


def test_many_expanded_tensors_are_refused_by_their_sum(tmp_path):
    """A file of kilobytes whose tensors, each allowed, would take gigabytes."""
    one = torch.zeros(1)
    few = {f"a.{i}": one.expand(1 << 24) for i in range(4)}
    torch.save(few, tmp_path / "few.pt")
    assert len(open_checkpoint(tmp_path / "few.pt")) == 4
    many = {f"a.{i}": one.expand(1 << 24) for i in range(200)}
    torch.save(many, tmp_path / "many.pt")
    with pytest.raises(ex.CheckpointError, match=r"many\.pt of 0\.0 MB claims tensors of 13\.4 GB"):
        open_checkpoint(tmp_path / "many.pt")


def test_tied_weights_are_no_repetition(tmp_path):
    shared = torch.randn(1000, 1000)
    torch.save({"a.w": shared, "b.w": shared.T, "c.w": shared}, tmp_path / "tied.pt")
    assert torch.equal(ex.read_checkpoint(tmp_path / "tied.pt")["b.w"], shared.T)


def test_overlapping_tensors_of_safetensors_are_refused(tmp_path):
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    raw = json.dumps({"a.w": entry, "b.w": entry}).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(16))
    with pytest.raises(ex.CheckpointError, match=r"weights\.safetensors .*overlap"):
        ex.read_checkpoint(path)


def test_zip_entries_over_the_same_bytes_are_refused_by_their_sum(tmp_path, monkeypatch):
    """A directory may point at one stretch many times; each storage alone lies in the file."""
    tensors = {f"a.{i}": torch.zeros(1 << 20) for i in range(3)}
    torch.save(tensors, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as archive:
        infos = {info.filename: info for info in archive.infolist()}
        pickled = archive.read(next(n for n in infos if n.endswith("data.pkl")))
    monkeypatch.setattr("explorer.checkpoints.stored._MOST_EXPANDED", 0)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(4 << 20))
    assert len(open_checkpoint(tmp_path / "whole.pt")) == 3
    # Three entries of the directory, one stretch of bytes.
    entries = torch_files._entries

    def shared(file, path):
        found = entries(file, path)
        return found | {f"archive/data/{i}": found["archive/data/0"] for i in range(5)}

    monkeypatch.setattr(torch_files, "_entries", shared)
    monkeypatch.setattr("explorer.checkpoints.stored._MOST_TIMES", 2)
    (tmp_path / "shared.pt").write_bytes(made.getvalue())
    with pytest.raises(ex.CheckpointError, match=r"shared\.pt of .* claims tensors"):
        open_checkpoint(tmp_path / "shared.pt")


# --- tables ----------------------------------------------------------------------------------


def test_the_limits_are_far_above_the_largest_published_tower():
    """EVA02-E/14 plus has 1,230 tensors; here are ten times as many under names as long."""
    key = "visual.trunk.blocks.63.attn.inner_attn_layer_norm.weight"
    tensors = {f"{key}.{i:05}": torch.zeros(1) for i in range(12_300)}
    whole = save(tensors)
    assert int.from_bytes(whole[:8], "little") < archives.LARGEST_HEADER
    made = io.BytesIO()
    torch.save(tensors, made)
    made.seek(0)
    with zipfile.ZipFile(made) as archive:
        directory = len(made.getvalue()) - archive.start_dir
    assert directory < torch_files.LARGEST_DIRECTORY


@pytest.mark.parametrize("length", [archives.LARGEST_HEADER + 1, 60 << 30])
def test_a_header_beyond_the_limit_is_not_read(tmp_path, length):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a": 1}')
    with path.open("r+b") as file:
        file.truncate(length + 100)
    with pytest.raises(ex.CheckpointError, match=f"header claims {length:,} bytes"):
        ex.read_checkpoint(path)


def test_a_zip_directory_beyond_the_limit_is_not_read(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        for i in range(16):  # each comment is read with the directory
            info = zipfile.ZipInfo(f"archive/{i}")
            info.comment = bytes(65_000)
            archive.writestr(info, b"")
        archive.filelist *= 5  # the same entries again
    with pytest.raises(ex.CheckpointError, match="directory claims"):
        ex.read_checkpoint(path)


# --- heads and model folders -----------------------------------------------------------------


def test_a_layer_with_more_rows_than_any_task_has_classes_is_no_head(tmp_path):
    path = pickled_head(tmp_path / "head.pt", torch.zeros(100_001, 1))
    with pytest.raises(ex.CheckpointError, match=r"head\.pt has a layer of 100,001 rows"):
        read_head(path)
    assert read_head(pickled_head(path, torch.zeros(3, 4)))[0].shape == (3, 4)


@pytest.mark.parametrize("place", ["../secret.txt", "/etc/hostname", "a/../../secret.txt"])
def test_a_checksum_of_a_file_outside_the_folder_is_refused(tiny_folder, tmp_path, place):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"sha256": {place: "0" * 64}}))
    (folder / "a").mkdir()
    with pytest.raises(ex.CheckpointError, match="leads out of the folder"):
        read_folder(folder).verify()
    (folder / "sha256.json").write_text(json.dumps({place: "0" * 64}))
    with pytest.raises(ex.CheckpointError, match="leads out of the folder"):
        verify_diffusion(folder)


@pytest.mark.parametrize("sums", [[], "x", 3])
def test_checksums_that_are_no_table_are_said_to_be_none(tiny_folder, tmp_path, sums):
    shutil.copytree(tiny_folder, tmp_path / "model")
    card = json.loads((tmp_path / "model/model.json").read_text())
    (tmp_path / "model/model.json").write_text(json.dumps(card | {"sha256": sums}))
    with pytest.raises(ex.CheckpointError, match="must be a table"):
        read_folder(tmp_path / "model").verify()
