"""One server for many: what is shared, what is limited, and what breaks without ending anything."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

import explorer as ex
from explorer.app import rules
from explorer.app.arithmetic import ArithmeticLens
from explorer.app.runner import STOPPED_FROM_OUTSIDE, Job, Runner
from explorer.app.shared_models import SHELF, Shelf
from explorer.app.workshop import Room, in_words, login
from explorer.compute.run import Run
from explorer.compute.store import Store
from explorer.compute.turns import Turns
from explorer.errors import BusyError, ExplorerError, MemoryShortage, UnknownNameError

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._visitors import Visitor  # noqa: E402
from benchmarks.workshop import health, room  # noqa: E402


@pytest.fixture
def workshop_rules():
    rules.follow(rules.WORKSHOP)
    yield
    rules.follow(rules.OWN)


# Models: opened once, few at a time, only those that are offered


def test_a_model_is_opened_once_and_forgotten_when_nobody_uses_it(tiny_folder, monkeypatch):
    monkeypatch.setattr("explorer.app.shared_models.KEPT", 1)
    shelf = Shelf()
    first = shelf.open(str(tiny_folder))
    assert shelf.open(str(tiny_folder)) is first
    shelf.open("glyphs")
    assert shelf.names() == sorted(["glyphs", str(tiny_folder)]), "a session still holds it"
    del first
    gc.collect()
    assert shelf.names() == ["glyphs"]


def test_a_room_opens_no_more_models_than_it_holds_and_no_paths(tiny_folder):
    shelf = Shelf()
    shelf.most = 1
    held = shelf.open("glyphs")
    with pytest.raises(BusyError, match=r"1 models are open.*glyphs"):
        shelf.open(str(tiny_folder))
    del held
    gc.collect()
    shelf.open(str(tiny_folder))
    shelf.offered = frozenset({"glyphs"})
    with pytest.raises(UnknownNameError, match="There is no model"):
        shelf.open(str(tiny_folder))


def test_sessions_share_merged_weights_and_each_gets_its_own_figures(tiny_model, monkeypatch):
    monkeypatch.setattr(SHELF, "engines", 1)

    async def main():
        lenses = [ArithmeticLens(tiny_model) for _ in range(3)]
        for i, lens in enumerate(lenses):
            lens.state.set_coefficient("digits", 0.4 * i)
        await asyncio.gather(*(asyncio.wait_for(lens.settled(), 60) for lens in lenses))
        assert len({id(lens.measuring._engine) for lens in lenses}) == 1
        for lens in lenses:
            expected = ex.accuracy(tiny_model, lens.recipe, tiny_model.all_tasks)
            assert lens.result is not None
            assert lens.result["edited"].values == pytest.approx(expected["edited"].values)
            assert (lens.result["predicted"].values == expected["predicted"].values).all()
            lens.close()

    asyncio.run(main())


# Rules


def test_files_are_not_taken_and_the_button_is_gone(tiny_model, workshop_rules):
    lens = ArithmeticLens(tiny_model)
    assert not lens.drawing.toolbar.loads
    recipe = json.dumps({"base": "tiny", "coefficients": {"digits": 1.0}})
    message = {"kind": "load", "name": "r.json", "text": recipe}
    lens.drawing.toolbar._handle_msg(message)
    assert lens.recipe.active == {}
    assert lens.sentences == ["Files cannot be loaded on this server; a link can be opened."]
    lens.close()


def test_what_is_expensive_has_a_rate(workshop_rules):
    now = [0.0]
    allowance = rules.Allowance(clock=lambda: now[0])
    for _ in range(12):
        allowance.take("save")
        now[0] += 1
    with pytest.raises(BusyError, match="12 times within a minute; wait 48 s"):
        allowance.take("save")
    now[0] = 60.0
    allowance.take("save")
    for _ in range(1000):
        allowance.take("set")


def test_on_a_computer_of_ones_own_nothing_is_limited(tiny_model):
    lens = ArithmeticLens(tiny_model)
    assert lens.drawing.toolbar.loads
    allowance = rules.Allowance()
    for _ in range(100):
        allowance.take("save")
    lens.close()


def test_a_recipe_file_has_a_largest_size_whatever_the_browser_sends(tiny_model):
    lens = ArithmeticLens(tiny_model)
    lens.drawing.toolbar._handle_msg({"kind": "load", "name": "r.json", "text": " " * 1_000_001})
    assert "larger than 1 MB" in lens.sentences[0]
    lens.close()


def test_the_password_comes_from_panels_own_variables(monkeypatch):
    for name in ("PANEL_BASIC_AUTH", "PANEL_OAUTH_PROVIDER", "PANEL_COOKIE_SECRET"):
        monkeypatch.delenv(name, raising=False)
    assert login() == {}
    monkeypatch.setenv("PANEL_BASIC_AUTH", "Secret")
    given = login()
    assert given["basic_auth"] == "Secret"
    assert len(given["cookie_secret"]) >= 32
    monkeypatch.setenv("PANEL_OAUTH_PROVIDER", "github")
    with pytest.raises(ExplorerError, match="one of them"):
        login()


def test_the_queue_in_words():
    assert [in_words(n) for n in (0, 1, 3)] == ["", "1 person before you", "3 people before you"]
    many = {in_words(n) for n in range(4, 41)}
    assert many == {f"about {n} people before you" for n in range(5, 41, 5)}


def test_a_room_says_how_full_it_is():
    facts = Room(Turns(), most=2).health()
    assert (facts["sessions"], facts["most_sessions"], facts["waiting"]) == (0, 2, 0)
    assert facts["memory_mb"] > 50


# Faults in a computation


def outcome(make) -> tuple[list, list[Exception]]:
    """What one job showed and how it failed; then a second one must still work."""

    async def main():
        shown, failures = [], []
        runner = Runner()
        runner.submit(Job(make, lambda partial, _: shown.append(partial), failures.append))
        await asyncio.wait_for(runner.settled(), 30)
        again: list = []
        runner.submit(Job(lambda: iter(["next"]), lambda p, _: again.append(p), failures.append))
        await asyncio.wait_for(runner.settled(), 30)
        assert again == ["next"]
        runner.close()
        return shown, failures

    return asyncio.run(main())


def test_a_worker_killed_in_the_middle_of_a_run_is_replaced_and_says_so():
    def work(run: Run):
        yield "first"
        thread = ctypes.c_ulong(threading.get_ident())
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
        for _ in range(1000):
            time.sleep(0.001)
        yield "never"

    shown, failures = outcome(lambda: Run(work))
    assert shown == ["first"]
    assert [str(f) for f in failures] == [STOPPED_FROM_OUTSIDE]


def test_a_dead_worker_thread_is_noticed_before_the_next_job():
    async def main():
        shown: list = []
        runner = Runner()
        runner.submit(Job(lambda: iter([1]), lambda p, _: shown.append(p), print))
        await runner.settled()
        dead = threading.Thread(target=int)
        dead.start()
        dead.join()
        runner._worker, stuck = dead, runner._thread
        runner.submit(Job(lambda: iter([2]), lambda p, _: shown.append(p), print))
        await asyncio.wait_for(runner.settled(), 30)
        assert runner._thread is not stuck
        stuck.shutdown()
        runner.close()
        assert shown == [1, 2]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["python", "torch", "cpu"])
def test_memory_that_runs_out_is_a_sentence_and_the_session_goes_on(kind):
    def make():
        if kind == "python":
            raise MemoryError
        if kind == "torch":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return iter([torch.empty(2**60)])

    _, failures = outcome(make)
    (failure,) = failures
    assert isinstance(failure, MemoryShortage)
    assert "not enough memory" in str(failure)


def test_a_full_disk_leaves_a_map_unsaved_and_complete(tiny_model, monkeypatch):
    class Full(sqlite3.Connection):
        def executemany(self, statement, *arguments):
            if statement.startswith("INSERT OR REPLACE"):
                raise sqlite3.OperationalError("database or disk is full")
            return super().executemany(statement, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Full, **k))
    found = ex.disentanglement(tiny_model, ("digits", "letters"), [0.0, 1.0], n=16).result()
    assert found.attrs["stored"] == "not saved: the cache cannot be used (database or disk is full)"
    assert bool(found["error"].notnull().all())
    monkeypatch.undo()
    assert Store().folder


def test_a_model_file_that_vanishes_is_named_on_screen_and_the_rest_goes_on(tiny_folder, tmp_path):
    async def main():
        folder = tmp_path / "tiny"
        shutil.copytree(tiny_folder, folder)
        lens = ArithmeticLens(ex.open_model(folder, device="cpu"))
        vanished = folder / "vectors" / "letters.safetensors"
        kept = vanished.read_bytes()
        vanished.unlink()
        lens.state.set_coefficient("digits", 0.5)
        await asyncio.wait_for(lens.settled(), 60)
        assert any("letters.safetensors" in sentence for sentence in lens.sentences)
        assert lens.recipe.coefficient("digits") == 0.5, "nothing that was set is lost"
        vanished.write_bytes(kept)
        lens.state.set_coefficient("digits", 0.6)
        await asyncio.wait_for(lens.settled(), 60)
        assert lens.result is not None
        lens.close()

    asyncio.run(main())


# The server


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    """A workshop on the tiny model: its address."""
    folder = tmp_path_factory.mktemp("room")
    paths = {
        "EXPLORER_MODELS": str(tiny_folder.parent),
        "EXPLORER_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    with room(folder, "tiny", paths) as (url, _):
        while not health(url)["models"]:
            time.sleep(0.2)
        yield url


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_people_drag_at_once_and_each_has_a_recipe_of_their_own(server):
    async def main():
        people = [Visitor(server) for _ in range(4)]
        for person in people:
            await person.enter()
        for i, person in enumerate(people):
            person.task = person.tasks[i % len(person.tasks)]
            for step in range(3):
                await person.move(0.1 * (i + 1) + 0.01 * step)
            await person.move(round(0.2 * (i + 1), 2), done=True)
        assert all([await person.settled() for person in people])
        await asyncio.sleep(1.0)
        for i, person in enumerate(people):
            assert person.errors == person.sentences == []
            assert person.shown == pytest.approx(0.2 * (i + 1))
            assert person.recipe_value() == person.shown
        assert health(server)["sessions"] >= 4
        for person in people:
            await person.leave()

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_page_that_lost_its_connection_finds_its_recipe_in_its_address(server):
    async def main():
        before = Visitor(server)
        await before.enter()
        await before.move(0.75, done=True)
        assert await before.settled()
        await asyncio.sleep(1.0)
        address = before.address
        await before.leave()
        after = Visitor(server, query="?" + address)  # what the browser asks for when it reloads
        await after.enter()
        end = time.monotonic() + 60
        while after.shown != 0.75 and time.monotonic() < end:
            await asyncio.sleep(0.1)
        assert after.shown == 0.75
        await after.leave()

    asyncio.run(asyncio.wait_for(main(), 150))


def test_a_stranger_reaches_neither_the_websocket_nor_the_list_of_people(server):
    assert status_of(server + "room") == status_of(server + "room?key=wrong") == 403
    assert set(health(server)) == {
        *("status", "troubles", "sessions", "most_sessions", "models", "memory_mb"),
        *("free_mb", "loop_late_ms", "computing", "waiting", "turns", "seconds"),
    }

    async def foreign():
        from tornado.httpclient import HTTPClientError, HTTPRequest
        from tornado.websocket import websocket_connect

        request = HTTPRequest(
            server.replace("http", "ws", 1) + "ws", headers={"Origin": "http://evil.example"}
        )
        with pytest.raises(HTTPClientError, match="403"):
            await websocket_connect(request, subprotocols=["bokeh", "x"])

    asyncio.run(foreign())


def test_a_link_cannot_make_the_server_open_a_folder(server, tiny_folder):
    async def main():
        visitor = Visitor(server, query=f"?base={tiny_folder}")
        with pytest.raises(RuntimeError, match="no sliders"):  # not before the room's own is shown
            await visitor.enter()
        await asyncio.sleep(2.0)
        assert health(server)["models"] == ["tiny"]

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_a_server_that_is_told_to_end_does_so_at_once_with_a_session_computing(
    tiny_folder, tmp_path
):
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    env = {
        **os.environ,
        "EXPLORER_MODELS": str(tiny_folder.parent),
        "EXPLORER_CACHE": str(tmp_path),
    }
    command = [sys.executable, "-m", "explorer.cli", "app", "tiny", "--workshop", "--no-browser"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                if health(url)["models"]:
                    break
            except OSError:
                time.sleep(0.3)

        async def visit():
            visitor = Visitor(url, query="?view.lens=disentanglement")
            await visitor.enter()
            end = time.monotonic() + 30
            while not health(url)["computing"] and time.monotonic() < end:
                await asyncio.sleep(0.05)

        asyncio.run(visit())
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=40)
        assert process.returncode == 0, out
        assert "Traceback" not in out
    finally:
        process.kill()
