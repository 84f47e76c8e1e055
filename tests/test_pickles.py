"""Pickles are read without running them: attacks, proved live, and bounds on every cost."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

import explorer as ex
from explorer.checkpoints import pickle_source
from explorer.checkpoints.reading import open_checkpoint

HERE = Path(__file__).parent
MARKER = "marker"  # every attack creates this file in its working folder
COMMAND = f"touch {MARKER}"
PROGRAM = f"open({MARKER!r}, 'w').close()"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def data(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def name(path: str) -> bytes:
    module, _, last = path.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def stack_name(module: str, dotted: str) -> bytes:
    return text(module) + text(dotted) + b"\x93"


def made(cls: str, *arguments: bytes) -> bytes:
    return name(f"attack_gadgets.{cls}") + b"(" + b"".join(arguments) + b"t\x81"


def sequence(main: bytes) -> bytes:
    """torch's format before 1.6, with ``main`` (without its end) as the pickle of the data."""
    head = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*head, b"\x80\x02", main, b".", pickle.dumps([], 2)])


SYSTEM, EVAL, GETATTR = name("os.system"), name("builtins.eval"), name("builtins.getattr")
IMPORT_OS = called(name("builtins.__import__"), text("os"))
TOUCH = b"(" + text("touch") + text(MARKER) + b"l"
RUN = called(SYSTEM, text(COMMAND))

CALLS = {
    "os.system": RUN,
    "posix.system": called(name("posix.system"), text(COMMAND)),
    "in Python 2's words": b"cos\nsystem\n(S'" + COMMAND.encode() + b"'\ntR",
    "builtins.eval": called(EVAL, text(PROGRAM)),
    "builtins.exec": called(name("builtins.exec"), text(PROGRAM)),
    "builtins.open": called(name("builtins.open"), text(MARKER), text("w")),
    "builtins.getattr": called(called(GETATTR, IMPORT_OS, text("system")), text(COMMAND)),
    "map in list": called(
        name("builtins.list"), called(name("builtins.map"), SYSTEM, b"(" + text(COMMAND) + b"l")
    ),
    "a call within a call": called(name("collections.OrderedDict"), b"]" + b"(" + RUN + b"ll"),
    "INST": b"(" + TOUCH + b"isubprocess\nPopen\n",
    "OBJ": b"(" + name("subprocess.Popen") + TOUCH + b"o",
    "copyreg._reconstructor": called(
        name("copyreg._reconstructor"), name("subprocess.Popen"), name("subprocess.Popen"), TOUCH
    ),
    "functools.partial": called(called(name("functools.partial"), SYSTEM, text(COMMAND))),
    "functools.reduce": called(
        name("functools.reduce"), name("builtins.eval"), b"(" + text(PROGRAM) + b"}l"
    ),
    "operator.attrgetter": called(
        called(called(name("operator.attrgetter"), text("system")), IMPORT_OS), text(COMMAND)
    ),
    "operator.methodcaller": called(
        called(name("operator.methodcaller"), text("write_text"), text("")),
        called(name("pathlib.PosixPath"), text(MARKER)),
    ),
    "a dotted name": called(stack_name("shutil", "os.system"), text(COMMAND)),
    "a dotted name in torch": called(stack_name("torch.serialization", "os.system"), text(COMMAND)),
    "pickle.loads": called(name("pickle.loads"), data(RUN + b".")),
    "runpy": called(name("runpy.run_path"), text("program.py")),
    "importlib": called(name("importlib.import_module"), text("program")),
    "cProfile": called(name("cProfile.run"), text(PROGRAM)),
    "pydoc": called(name("pydoc.pipepager"), text(""), text(COMMAND)),
    "numpy": called(name("numpy.testing._private.utils.runstring"), text(PROGRAM), b"}"),
    "torch's storages": called(name("torch.storage._load_from_bytes"), data(sequence(RUN))),
    "torch's types": called(
        name("torch._tensor._rebuild_from_type_v2"),
        SYSTEM,
        name("builtins.int"),
        b"(" + text(COMMAND) + b"t",
        b"}",
    ),
    "torch.hub": called(name("torch.hub._load_local"), text("."), text("program")),
    "torch's report": called(name("torch.utils.collect_env.run"), text(COMMAND)),
    "within a persistent id": b"(" + text("storage") + RUN + b"tQ",
}
EXTENSIONS = {
    "EXT1": b"\x82\x01(" + text(COMMAND) + b"tR",
    "EXT2": b"\x83\x01\x00(" + text(COMMAND) + b"tR",
    "EXT4": b"\x84\x01\x00\x00\x00(" + text(COMMAND) + b"tR",
}
# Instances of classes are inert here, so that these are read: as files without tensors.
INERT = {
    "__new__": made("OnNew"),
    "copyreg.__newobj__": called(name("copyreg.__newobj__"), name("attack_gadgets.OnNew")),
    "__setstate__": made("OnState") + b"}b",
    "__hash__": b"}" + made("OnHash") + b"K\x01s",
    "append": made("OnAppend") + b"K\x01a",
    "extend": made("OnAppend") + b"(K\x01K\x02e",
    "__setitem__": made("OnItem") + b"K\x01K\x01s",
    "add": made("OnAdd") + b"(K\x01\x90",
}
ATTACKS = CALLS | EXTENSIONS | INERT

LIVE = """
import contextlib, copyreg, os, pickle, sys
copyreg.add_extension("os", "system", 1)
for folder in sys.argv[1:]:
    os.chdir(folder)
    os.environ["ATTACK_MARKER"] = os.path.join(folder, "marker")
    sys.path.insert(0, folder)
    sys.modules.pop("program", None)
    with open("attack.pt", "rb") as file, contextlib.suppress(Exception):
        pickle.load(file)
    sys.path.remove(folder)
"""


def test_every_attack_is_live_in_the_ordinary_pickle(tmp_path):
    """Otherwise the tests below could not fail."""
    folders = []
    for attack, payload in ATTACKS.items():
        folder = tmp_path / attack.replace(" ", "_").replace("'", "")
        folder.mkdir()
        (folder / "attack.pt").write_bytes(as_plain(payload))
        for file in ("program.py", "hubconf.py"):
            (folder / file).write_text(f"{PROGRAM}\ndef program(): pass\n")
        folders.append(folder)
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", LIVE, *map(str, folders)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=280)
    deadline = time.monotonic() + 10  # a started process may still be on its way
    while time.monotonic() < deadline and not all((f / MARKER).exists() for f in folders):
        time.sleep(0.05)
    assert [f.name for f in folders if not (f / MARKER).exists()] == []


class Watch:
    """What the interpreter is asked to do while it is on: audit events that reading needs never."""

    FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "pickle.find")
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.on and (
            event.startswith(self.FORBIDDEN)
            or event in ("exec", "compile", "socket.connect", "marshal.loads", "os.mkdir")
            or (event == "open" and (arguments[2] or 0) & self.WRITING)
        ):
            self.seen.append((event, arguments))

    @contextlib.contextmanager
    def watching(self):
        self.seen.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    path = tmp_path_factory.mktemp("warm") / "warm.pt"
    for old in (False, True):  # so that all of our own modules are imported
        torch.save({"a.weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=old)
        ex.read_checkpoint(path)
    return Watch()


def as_plain(payload: bytes) -> bytes:
    """Protocol 0 where the attack begins as such pickles do, 4 for the others."""
    return (b"" if payload[:1] in b"(c" else b"\x80\x04") + payload + b"."


def as_zip(payload: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + payload + b".")
        archive.writestr("archive/version", "3\n")
    return made.getvalue()


def as_state_dict(payload: bytes) -> bytes:
    """Beside a tensor that is well, where a trusting reader would find it."""
    whole = called(name("torch.storage._load_from_bytes"), data(stored(torch.zeros(2))))
    tensor = called(
        name("torch._utils._rebuild_tensor_v2"), whole, b"K\x00", b"K\x02\x85", b"K\x01\x85",
        b"\x89", b"}",
    )  # fmt: skip
    inner = b"}" + text("weight.a") + tensor + b"s" + text("more") + payload + b"s"
    return b"\x80\x02}" + text("state_dict") + inner + b"s."


def stored(tensor: torch.Tensor) -> bytes:
    made = io.BytesIO()
    torch.save(tensor.storage(), made, _use_new_zipfile_serialization=False)
    return made.getvalue()


WRAPPED = {"plain": as_plain, "zip": as_zip, "old torch": sequence, "state_dict": as_state_dict}


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("attack", CALLS | EXTENSIONS)
def test_an_attack_is_refused_and_nothing_runs(tmp_path, monkeypatch, watch, attack, how):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    path.write_bytes(WRAPPED[how](ATTACKS[attack]))
    with watch.watching(), pytest.raises(ex.CheckpointError) as caught:
        ex.read_checkpoint(path)
    assert watch.seen == []
    assert str(caught.value).startswith("weights.pt ")
    assert "Nothing was run" in str(caught.value)
    assert "safetensors" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("attack", INERT)
def test_methods_of_pickled_classes_never_run(tmp_path, monkeypatch, watch, attack, how):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    path.write_bytes(WRAPPED[how](INERT[attack]))
    with watch.watching():
        if how == "state_dict":
            assert torch.equal(ex.read_checkpoint(path)["weight.a"], torch.zeros(2))
        else:
            with pytest.raises(ex.CheckpointError, match=r"weights\.pt .* no dictionary"):
                ex.read_checkpoint(path)
    assert watch.seen == []
    assert "attack_gadgets" not in sys.modules
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


def test_the_watch_sees_what_it_watches_for(watch, tmp_path):
    with watch.watching():
        pickle.loads(b"cos\ngetpid\n)R.")
        (tmp_path / "new").write_text("")
    assert {event for event, _ in watch.seen} == {"pickle.find_class", "open"}


# --- bounds ----------------------------------------------------------------------------------


def refused(path, content, match="again|state_dict", seconds=10.0, megabytes=None):
    """CheckpointError, soon and (traced, which takes five times as long) in little memory."""
    path.write_bytes(content)
    if megabytes:
        tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises(ex.CheckpointError, match=match) as caught:
            ex.read_checkpoint(path)
        assert time.process_time() - begin < seconds
        if megabytes:
            assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()
    assert path.name in str(caught.value)


def claims(code: bytes, form: str, n: int) -> bytes:
    return b"\x80\x04" + code + struct.pack(form, n) + b"few bytes."


@pytest.mark.parametrize(
    "content",
    [
        claims(b"B", "<I", 2**32 - 1),
        claims(b"\x8e", "<Q", 60 << 30),
        claims(b"\x8e", "<Q", 2**64 - 1),
        claims(b"\x96", "<Q", 60 << 30),
        claims(b"X", "<I", 2**32 - 1),
        claims(b"\x8d", "<Q", 60 << 30),
        claims(b"T", "<i", -5),
        claims(b"T", "<i", 2**31 - 1),
        claims(b"\x8b", "<i", 2**31 - 1),
        claims(b"\x8b", "<i", -1),
        b"\x80\x04\x95" + struct.pack("<Q", 60 << 30) + b"N.",
        b"\x80\x02I" + b"9" * 100_000 + b"\n.",
        b"\x80\x02V" + b"a" * 100_000,
        b"\x80\x02h\x05.",
        b"\x80\x02R.",
        b"\x80\x02tttt.",
        b"\x80\x02\xff.",
        b"\x80\x02K\x01K\x02b.",
        b"\x80\x02(K\x01K\x02K\x03d.",
        b"\x80\x02N",
    ],
)
def test_absurd_claims_and_nonsense_are_refused_at_once(tmp_path, content):
    refused(tmp_path / "weights.pt", content, seconds=1, megabytes=5)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"(" * 60_000 + b".",
        b"\x80\x02)" + b"\x85" * 60_000 + b".",
        b"\x80\x02" + b"]" * 60_000 + b"a" * 59_999 + b".",
        b"\x80\x02}" + b"K\x00}" * 60_000 + b"s" * 60_000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 60_000 + b"K\x01s.",  # a key that hashing would descend
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02}q\x00K\x00h\x00s.",
    ],
    ids=["marks", "tuples", "lists", "dictionaries", "a deep key", "itself", "itself by key"],
)
def test_deep_nesting_overflows_nothing(tmp_path, content):
    refused(tmp_path / "weights.pt", content, seconds=5)


def test_containers_shared_many_times_are_visited_once(tmp_path):
    """2 ** 60 paths lead to the innermost dictionary, and one to each of the sixty."""
    content = b"\x80\x02}q\x00"
    for i in range(60):
        content += (
            b"}"
            + b"".join(b"K" + bytes([k]) + b"h" + bytes([i]) + b"s" for k in (0, 1))
            + b"q"
            + bytes([i + 1])
        )
    refused(tmp_path / "weights.pt", content + b".", "no dictionary|deeply", seconds=2)


def test_a_long_stream_of_steps_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_source, "MOST_STEPS", 100_000)  # two million take seconds
    refused(tmp_path / "weights.pt", b"\x80\x02" + b"N0" * 60_000 + b".", "100,000 steps", 5)


def test_copies_of_what_is_remembered_are_counted(tmp_path):
    """Each of these small calls would copy a large list, or encode a large text, anew."""
    many = b"\x80\x02](" + b"N" * 10_000 + b"eq\x000"
    again = name("builtins.list") + b"h\x00\x85R0"
    refused(tmp_path / "lists.pt", many + again * 250 + b"N.", "steps", 60)
    long = b"\x80\x02X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x000"
    again = called(name("_codecs.encode"), b"h\x00", text("latin1")) + b"0"
    refused(tmp_path / "texts.pt", long + again * 400 + b"N.", "MB of text", 60)


def tensor_with(shape: bytes, stride: bytes, start: bytes = b"K\x00") -> bytes:
    storage = called(name("torch.storage._load_from_bytes"), data(stored(torch.zeros(6))))
    arguments = (storage, start, shape, stride, b"\x89", b"}")
    tensor = called(name("torch._utils._rebuild_tensor_v2"), *arguments)
    return b"\x80\x02}" + text("a.weight") + tensor + b"s."


HUGE = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize(
    ("shape", "stride", "start"),
    [
        (HUGE + b"\x85", b"K\x01\x85", b"K\x00"),
        (HUGE + b"\x85", b"K\x00\x85", b"K\x00"),
        (b"K\x03K\x03\x86", b"K\x03K\x01\x86", b"K\x00"),
        (b"K\x03\x85", b"K\x03\x85", b"K\x00"),
        (b"K\x03\x85", b"K\x01\x85", b"K\x04"),
        (b"K\x03\x85", b"K\x01\x85", b"J\xff\xff\xff\xff"),
        (b"J\xff\xff\xff\xff\x85", b"K\x01\x85", b"K\x00"),
        (b"K\x03\x85", b"K\x01K\x01\x86", b"K\x00"),
        (b"\x88\x85", b"K\x01\x85", b"K\x00"),
        (b"N\x85", b"K\x01\x85", b"K\x00"),
        (b"(" + b"K\x01" * 40 + b"t", b"(" + b"K\x01" * 40 + b"t", b"K\x00"),
    ],
)
def test_a_tensor_outside_its_storage_or_of_absurd_size_is_refused(tmp_path, shape, stride, start):
    content = tensor_with(shape, stride, start)
    refused(tmp_path / "weights.pt", content, "again", seconds=2, megabytes=10)


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_a_tensor_that_is_a_view_is_read_as_it_is(tmp_path):
    path = tmp_path / "view.pt"
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"a.t": whole.T, "a.part": whole[1:, ::2], "a.one": whole[0, 0].expand(5)}, path)
    found = open_checkpoint(path)
    assert torch.equal(found["a.t"], whole.T)
    assert torch.equal(found["a.part"], whole[1:, ::2])
    assert torch.equal(found["a.one"], torch.zeros(5))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("new", [True, False])
def test_every_floating_type_is_read(tmp_path, dtype, new):
    if dtype.itemsize == 1 and not new:
        pytest.skip("torch's old format has no eight-bit floats")
    values = torch.randn(3, 5).to(dtype)
    torch.save(
        {"a.w": values, "a.b": values[0]}, tmp_path / "w.pt", _use_new_zipfile_serialization=new
    )
    found = ex.read_checkpoint(tmp_path / "w.pt", dtype=None)
    assert found["a.w"].dtype == dtype
    assert torch.equal(found["a.w"].float(), values.float())


def test_numpy_arrays_and_scalars_are_tensors_and_numbers(tmp_path):
    import numpy as np

    content = {"a.w": np.arange(6.0, dtype="float32").reshape(2, 3), "n": np.float64(3)}
    content |= {"a.f": np.asfortranarray(content["a.w"])}
    for protocol in (2, 4):
        (tmp_path / "w.pt").write_bytes(pickle.dumps(content, protocol=protocol))
        found = ex.read_checkpoint(tmp_path / "w.pt")
        assert set(found) == {"a.w", "a.f"}
        assert np.array_equal(found["a.w"], content["a.w"])
        assert np.array_equal(found["a.f"], content["a.f"])
