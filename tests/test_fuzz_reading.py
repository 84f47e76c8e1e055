"""Damaged files of every kind: tensors or a CheckpointError that names the file, and soon."""

import io
import json
import pickle
import random
import struct
import time
import zipfile

import pytest
import torch
from checkpoint_families import as_if_from, write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

import explorer as ex
from explorer.checkpoints.reading import open_checkpoint

SLOWEST_S = 5.0  # of processor time, for one file of a few kilobytes


class Tower(nn.Module):
    """Small, pickled as a class that exists nowhere."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 4, 2), nn.LayerNorm(4), nn.Linear(4, 3))


def corpus(folder):
    """A small file of every kind."""
    model = Tower()
    state = model.state_dict()
    files = {"safetensors": save(state)}
    with as_if_from("their.models", Tower):
        for name, options in {"zip": {}, "old": {"_use_new_zipfile_serialization": False}}.items():
            for what, content in {
                "state": {"state_dict": state, "epoch": 1},
                "module": model,
            }.items():
                made = io.BytesIO()
                torch.save(content, made, **options)
                files[f"{name} {what}"] = made.getvalue()
        for protocol in (0, 1, 2, 4):
            files[f"pickle {protocol}"] = pickle.dumps(model, protocol=protocol)
    write_tar(folder / "tar.pt", state)
    files["tar"] = (folder / "tar.pt").read_bytes()
    places = dict.fromkeys(state, "shard.safetensors")
    files["index"] = json.dumps({"weight_map": places}).encode()
    (folder / "shard.safetensors").write_bytes(files["safetensors"])
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def files(folder):
    return corpus(folder)


def read(folder, content):
    """The tensors that are read, or None for a file that is refused as it should be."""
    path = folder / "damaged.pt"
    path.write_bytes(content)
    begin = time.process_time()
    try:
        found = dict(ex.read_checkpoint(path))
    except ex.CheckpointError as error:
        sentence = str(error)
        assert len(sentence) < 1000
        assert any(name in sentence for name in ("damaged.pt", "shard", str(folder)))
        found = None
    assert time.process_time() - begin < SLOWEST_S
    return found


KINDS = ("safetensors", "zip state", "zip module", "old state", "old module")
KINDS += ("pickle 0", "pickle 1", "pickle 2", "pickle 4", "tar", "index")


@pytest.mark.parametrize("kind", KINDS)
def test_every_whole_file_of_the_corpus_is_read(folder, files, kind):
    found = read(folder, files[kind])
    assert found is not None
    assert {tensor.shape for tensor in found.values()} >= {(4, 3, 2, 2), (3, 4)}


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_give_tensors_or_a_sentence(folder, files, kind):
    generator, whole = random.Random(kind), files[kind]
    for _ in range(30):
        damaged = bytearray(whole)
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        read(folder, bytes(damaged))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_gives_a_sentence(folder, files, kind):
    generator, whole = random.Random(kind), files[kind]
    for _ in range(15):
        cut = generator.randrange(len(whole) - 1)
        # A tar archive ends in blocks of nothing, and a pickle may end before what it does not use.
        if read(folder, whole[:cut]) is not None:
            assert kind in ("tar",)
            assert cut > 0.3 * len(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_spliced_and_repeated_stretches_give_tensors_or_a_sentence(folder, files, kind):
    generator, whole = random.Random(kind), files[kind]
    for _ in range(15):
        other = files[generator.choice(KINDS)]
        a, b = sorted(generator.randrange(len(whole)) for _ in range(2))
        c, d = sorted(generator.randrange(len(other)) for _ in range(2))
        read(folder, whole[:a] + other[c:d] + whole[b:])
        read(folder, whole[:a] + whole[a:b] * generator.randrange(4) + whole[b:])


@pytest.mark.parametrize("kind", KINDS)
def test_absurd_numbers_anywhere_give_tensors_or_a_sentence(folder, files, kind):
    generator, whole = random.Random(kind), files[kind]
    for _ in range(20):
        form = generator.choice(("<B", "<H", "<I", "<Q", "<q"))
        most = 2 ** (8 * struct.calcsize(form) - (form == "<q")) - 1
        number = struct.pack(form, generator.choice((0, most, most // 2, most - 7)))
        at = generator.randrange(len(whole))
        read(folder, whole[:at] + number + whole[at + len(number) :])


def pickled(steps):
    return b"\x80\x04" + b"".join(steps) + b"."


# Steps of the stack machine with arguments that make sense, in orders that do not.
STEP = st.sampled_from(
    [
        *(bytes([code]) for code in range(256)),
        b"K\x05",
        b"X\x03\x00\x00\x00abc",
        b"\x8c\x01w",
        b"h\x00",
        b"q\x00",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch.storage\n_load_from_bytes\n",
        b"ccollections\nOrderedDict\n",
        b"cnumpy\ndtype\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"c_codecs\nencode\n",
        b"ccopyreg\n_reconstructor\n",
        b"ctheirs\nModel\n",
        b"C\x02ab",
        b")R",
        b"}b",
        b")" + b"2\x86" * 60,  # a tuple whose text would have 2 ** 60 parts
        b"\x8b" + struct.pack("<i", 2500) + b"\x11" * 2500,  # a number of 6,021 digits
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nK\x00K\x00K\x01tQ",
    ]
)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STEP, max_size=30).map(pickled))
def test_any_sequence_of_steps_gives_a_sentence(folder, content):
    assert read(folder, content) is None or content


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=4
                )
            ),
            max_leaves=12,
        ),
        max_size=4,
    ),
    st.integers(-3, 3),
)
def test_any_header_of_safetensors_gives_tensors_or_a_sentence(folder, header, off):
    raw = json.dumps(header).encode()
    read(folder, struct.pack("<Q", max(0, len(raw) + off)) + raw + bytes(16))


def test_a_zip_of_any_entries_gives_a_sentence(folder):
    generator = random.Random(0)
    for _ in range(60):
        made = io.BytesIO()
        method = generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(made, "w", method) as archive:
            for name in generator.sample(["a/data.pkl", "data.pkl", "a/data/0", "b", "../x"], 3):
                archive.writestr(name, generator.randbytes(generator.randrange(40)))
        assert read(folder, made.getvalue()) is None


def test_what_is_read_from_a_damaged_file_is_as_large_as_the_file(folder, files):
    """No bit flip makes a tensor larger than what the file holds."""
    generator, whole = random.Random(1), files["old state"]
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        (folder / "damaged.pt").write_bytes(bytes(damaged))
        try:
            shapes = open_checkpoint(folder / "damaged.pt").shapes
        except ex.CheckpointError:
            continue
        assert all(4 * torch.Size(shape).numel() <= len(whole) for shape in shapes.values())
