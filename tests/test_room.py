"""A room looks after itself: who never came, who went away, who holds too much, what is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from bokeh.document import Document
from bokeh.models import ColumnDataSource

import explorer as ex
from explorer.app import health, rules, visit
from explorer.app.arithmetic import ArithmeticLens
from explorer.app.health import Pulse
from explorer.app.held import held_bytes
from explorer.app.lens import Lens
from explorer.app.lenses import TITLES, make
from explorer.app.shared_models import Shelf
from explorer.app.shell import Shell
from explorer.app.visit import CONNECT_WITHIN, FAREWELL, IDLE_AFTER, Visit
from explorer.app.workshop import Room
from explorer.compute.turns import Turns
from explorer.errors import BusyError, ExplorerError

sys.path.insert(0, str(Path(__file__).parent.parent))


def run(work):
    return asyncio.run(asyncio.wait_for(work, 120))


# Models


class Opened:
    def __init__(self, name: str):
        self.name = name


@pytest.fixture
def slow_opening(monkeypatch):
    """Opening "slow" waits for an event; every opening is counted."""
    go_on, opened = threading.Event(), []

    def open_model(name):
        opened.append(name)
        if name == "slow":
            assert go_on.wait(30)
        if name == "broken":
            raise ExplorerError("broken is broken.")
        return Opened(name)

    monkeypatch.setattr("explorer.models.model.open_model", open_model)
    yield go_on, opened
    go_on.set()


def test_a_model_that_is_being_opened_keeps_nobody_from_another(slow_opening):
    go_on, opened = slow_opening
    shelf = Shelf()
    with ThreadPoolExecutor(3) as threads:
        slow = [threads.submit(shelf.open, "slow") for _ in range(2)]
        while not opened:
            time.sleep(0.005)
        assert threads.submit(shelf.open, "quick").result(10).name == "quick"
        assert shelf.opened("slow") is None, "and never waits"
        go_on.set()
        assert slow[0].result(10) is slow[1].result(10)
    assert sorted(opened) == ["quick", "slow"], "two who ask for one model wait for one opening"


def test_models_on_their_way_count_and_one_that_fails_leaves_its_place(slow_opening):
    go_on, opened = slow_opening
    shelf = Shelf()
    shelf.most = 1
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(shelf.open, "slow")
        while not opened:
            time.sleep(0.005)
        with pytest.raises(BusyError, match="Choose one of them: slow"):
            shelf.open("quick")
        go_on.set()
        slow.result(10)
    empty = Shelf()
    empty.most = 1
    for _ in range(2):
        with pytest.raises(ExplorerError, match="broken is broken"):
            empty.open("broken")
    assert empty.open("quick").name == "quick"


def test_looking_at_an_open_model_is_using_it(slow_opening, monkeypatch):
    monkeypatch.setattr("explorer.app.shared_models.KEPT", 2)
    shelf = Shelf()
    shelf.open("a")
    shelf.open("b")
    assert shelf.opened("a") is not None
    shelf.open("c")
    assert shelf.names() == ["a", "c"], "b was used longest ago"


# Lenses


def test_every_lens_can_be_stopped_and_gone_on_with(tiny_model):
    for name in TITLES:
        kind = type(make(name, tiny_model))
        assert kind.stop is not Lens.stop
        assert kind.go_on is not Lens.go_on


def test_a_button_that_a_lens_does_not_show_stops_it_all_the_same(tiny_model):
    async def main():
        lens = ArithmeticLens(tiny_model)
        lens.start()
        assert lens.busy is False or lens.busy is True
        await asyncio.sleep(0)
        assert lens.busy
        lens.drawing.notices._handle_msg({"kind": "action", "name": "stop"})
        await lens.settled()
        assert lens.result is None or not lens.result.attrs["complete"]
        lens.drawing.notices._handle_msg({"kind": "action", "name": "go on"})
        await lens.settled()
        assert lens.result.attrs["complete"]
        assert lens.sentences == []
        lens.close()

    run(main())


@pytest.fixture
def workshop_rules():
    rules.follow(rules.WORKSHOP)
    yield
    rules.follow(rules.OWN)


def test_searches_have_a_rate_and_stopping_one_does_not(tiny_model, workshop_rules, monkeypatch):
    async def main():
        lens = ArithmeticLens(tiny_model)
        calls = []
        monkeypatch.setattr(lens, "search", lambda: calls.append("search"))
        for _ in range(9):
            lens.drawing.presets._handle_msg({"kind": "preset", "name": "search"})
        assert len(calls) == 6
        assert lens.sentences == ["That was asked for 6 times within a minute; wait 60 s."]
        monkeypatch.setattr(ArithmeticLens, "searching", property(lambda _: True))
        lens.drawing.presets._handle_msg({"kind": "preset", "name": "search"})
        assert len(calls) == 7
        lens.close()

    run(main())


def test_another_lens_of_the_session_is_no_new_allowance(monkeypatch, workshop_rules):
    document = Document()
    monkeypatch.setattr(rules, "served_document", lambda: document)
    for _ in range(6):
        rules.allowance().take("search")
    with pytest.raises(BusyError):
        rules.allowance().take("search")
    document = Document()
    rules.allowance().take("search")


@pytest.fixture
def models(tiny_folder, monkeypatch):
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))


def test_a_model_that_could_not_be_opened_can_be_tried_again(models, monkeypatch):
    broken = [True]

    def open_sometimes(name):
        if broken[0]:
            raise ExplorerError("The disk is away.")
        return ex.open_model(name)

    monkeypatch.setattr("explorer.app.opening.open_shared", open_sometimes)
    monkeypatch.setattr("explorer.app.opening.already_open", lambda name: None)

    async def main():
        shell = Shell("tiny")
        shell.embedded()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        assert shell.lens is None
        assert shell.notices.sentences == ["The disk is away."]
        assert shell.notices.action == "try again"
        broken[0] = False
        shell.notices._handle_msg({"kind": "action", "name": "try again"})
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        assert shell.lens.model.name == "tiny"
        assert shell.notices.action == ""
        shell.close()

    run(main())


# Visits


class Session:
    """Bokeh's session, as far as a visit asks it for anything."""

    def __init__(self):
        self.connection_count = 0
        self.expiring = False
        self.document = Document()
        self._subscribed_connections = []

    def request_expiration(self):
        self.expiring = True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def visitor(clock=None, shell=None):
    session = Session()
    shell = shell or SimpleNamespace(say_goodbye=lambda: None, lenses=[], lens=None, chosen="")
    context = SimpleNamespace(session=session, destroyed=False, id="s")
    return Visit(shell, context, clock or Clock()), session


def test_a_page_that_never_connects_is_let_go_soon_and_one_that_does_is_not():
    clock = Clock()
    stranger, gone = visitor(clock)
    guest, here = visitor(clock)
    here.connection_count = 1
    for who in (stranger, guest):
        who.tidy()
    assert not gone.expiring
    clock.now += CONNECT_WITHIN + 1
    for who in (stranger, guest):
        who.tidy()
    assert gone.expiring
    assert not here.expiring
    here.connection_count = 0  # a connection that broke has Bokeh's own time to come back
    clock.now += 1
    guest.tidy()
    assert not here.expiring


def test_pages_that_nobody_came_to_make_room():
    clock = Clock()
    room = Room(Turns(), most=2)
    for name in ("a", "b"):
        room.people[name], _ = visitor(clock)
    assert not room._place(), "they may be loading"
    clock.now += visit.CONNECT_WITHIN_FULL + 1
    assert room._place()
    (first, _) = room.people.values()
    first.used()  # connected after all
    second, session = visitor(clock)
    session.connection_count, second.connected = 1, True
    room.people["c"] = second
    assert not room._place()


def test_who_does_nothing_for_long_is_sent_away_and_then_hung_up():
    clock, asked, closed = Clock(), [], []
    guest, session = visitor(clock)
    guest.shell.say_goodbye = lambda: asked.append(True)
    session.document.add_next_tick_callback = lambda work: work()
    session.connection_count = 1
    socket = SimpleNamespace(close=lambda: closed.append(True))
    session._subscribed_connections = [SimpleNamespace(_socket=socket)]
    clock.now += IDLE_AFTER - 1
    guest.tidy()
    assert not asked
    clock.now += 2
    guest.tidy()
    assert asked
    assert session.expiring
    assert not closed
    clock.now += FAREWELL + 1
    guest.tidy()
    assert closed


def test_whatever_the_browser_sends_is_use_and_what_the_server_changes_is_not():
    clock = Clock()
    guest, session = visitor(clock)
    document, source = Document(), ColumnDataSource(data={"x": [1]})
    document.add_root(source)
    guest.follow(document)
    clock.now += 50
    source.name = "of the server"
    assert guest.idle == 50
    source.set_from_json("name", "of the browser", setter=session)
    assert guest.idle == 0
    clock.now += 50
    document.callbacks._message_callbacks["bokeh_event"][-1]({})
    assert guest.idle == 0
    assert guest.connected


def test_what_a_session_holds_is_counted_once_and_models_are_not(tiny_model):
    picture = xr.Dataset({"a": ("x", np.zeros(1000))})
    assert held_bytes([picture, {"again": picture}]) == 8000
    assert held_bytes([np.zeros(10, np.uint8), "text", b"1234"]) == 18
    assert held_bytes([tiny_model]) == 0
    lens = ArithmeticLens(tiny_model)
    before = held_bytes([lens])
    lens.searched = picture
    assert held_bytes([lens]) == before + 8000
    lens.close()


def test_above_the_cap_hidden_lenses_go_and_come_back_from_their_links(models):
    async def main():
        shell = Shell("tiny")
        shell.embedded()
        while shell.opening.tasks:
            await asyncio.gather(*shell.opening.tasks)
        shell.lens.recipe = ex.Recipe(base="tiny", coefficients={"digits": 0.4})
        first = shell.lens
        shell.choose("hierarchy")
        guest, _ = visitor(shell=shell)
        first.searched = xr.Dataset({"a": ("x", np.zeros(10**6))})
        guest.weigh(most=4 * 10**6)
        assert [lens is first for lens in shell.lenses] == [False]
        assert len(shell.side) == 1
        shell.choose("arithmetic")
        assert shell.lens is not first
        assert shell.lens.recipe.active == {"digits": 0.4}
        assert shell.lens.sentences == []
        shell.lens.searched = xr.Dataset({"a": ("x", np.zeros(10**6))})
        guest.weigh(most=4 * 10**6)
        guest.weigh(most=4 * 10**6)
        (sentence,) = shell.lens.sentences
        assert sentence.startswith("This lens holds 7 MB, more than the 3 MB")
        shell.close()

    run(main())


def test_parts_of_a_visitors_messages_do_not_mix_while_the_server_is_slow():
    from benchmarks._visitors import Visitor

    sent = []

    class Slow:
        async def write_message(self, part):
            await asyncio.sleep(0.001)
            sent.append(json.loads(part))

    async def main():
        one = Visitor("http://nowhere/")
        one._socket, one._number = Slow(), 0
        await asyncio.gather(*(one._send("PATCH-DOC", {"events": [i]}) for i in range(5)))

    run(main())
    assert [part["events"] for part in sent[2::3]] == [[0], [1], [2], [3], [4]]


# Looking after the room


def test_a_round_that_fails_is_logged_and_the_next_one_is_made(caplog, monkeypatch):
    monkeypatch.setattr("explorer.app.workshop.LOOK_EVERY", 0.01)
    room = Room(Turns())
    rounds = []

    async def fail():
        rounds.append(1)
        raise RuntimeError("a session vanished")

    monkeypatch.setattr(room, "_look_once", fail)

    async def main():
        looking = asyncio.create_task(room.look())
        while len(rounds) < 3:
            await asyncio.sleep(0.01)
        assert not looking.done()
        looking.cancel()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "a session vanished" in caplog.text


def test_a_server_that_works_has_no_troubles():
    async def main():
        pulse = Pulse(Turns())
        await pulse.wait(0.01)
        assert await pulse.troubles() == []
        assert pulse.numbers()["free_mb"] > 0

    run(main())


def test_a_late_loop_a_stuck_queue_and_little_memory_are_troubles(monkeypatch):
    clock, queue = Clock(), Turns()

    async def main():
        pulse = Pulse(queue, clock)
        clock.now += 60
        assert await pulse.troubles() == [
            "The event loop was 55 s late.",
            "The queue has not moved for 60 s.",
        ]
        await pulse.wait(0)
        assert await pulse.troubles() == [], "nobody waits"
        monkeypatch.setattr(health, "free_bytes", lambda: 50 * 2**20)
        assert await pulse.troubles() == ["Only 50 MB of memory are free."]

    run(main())


def test_worker_threads_that_are_all_busy_are_a_trouble(monkeypatch):
    monkeypatch.setattr(health, "ANSWER", 0.05)

    async def main():
        go_on = threading.Event()
        with ThreadPoolExecutor(1) as only:
            asyncio.get_running_loop().set_default_executor(only)
            busy = asyncio.create_task(asyncio.to_thread(go_on.wait, 30))
            await asyncio.sleep(0.05)
            found = await Pulse(Turns()).troubles()
            go_on.set()
            await busy
        assert found == ["No worker thread was free within 0 s."]

    run(main())


def test_memory_is_counted_within_a_containers_limit(tmp_path, monkeypatch):
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("1000\n")
    used.write_text("300\n")
    monkeypatch.setattr(health, "MEMORY_FILES", [(str(limit), str(used))])
    assert health.free_bytes() == 700
    limit.write_text("max\n")
    assert health.free_bytes() > 10**6


def test_the_page_of_who_was_sent_away_leads_back_and_escapes_its_address(tmp_path):
    from tornado.httpserver import HTTPServer
    from tornado.testing import bind_unused_port
    from tornado.web import Application

    async def main():
        socket, port = bind_unused_port()
        server = HTTPServer(Application([(r"/away", health.Away)]))
        server.add_sockets([socket])
        url = f"http://127.0.0.1:{port}/away?digits=0.4&x=%22'\"<script>"

        def ask():
            request = urllib.request.Request(url.replace('"<script>', "%22<script>"))
            return urllib.request.urlopen(request, timeout=10).read().decode()

        page = await asyncio.to_thread(ask)
        assert 'href="./?digits=0.4&amp;x=' in page
        assert "<script>" not in page
        server.stop()

    run(main())
