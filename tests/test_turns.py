"""Turns at the device: first pictures first, nobody for long, and nothing ever hangs."""

import random
import threading
import time

import pytest
import torch

from explorer.compute import turns
from explorer.compute.references import PrefixCache
from explorer.compute.run import Run
from explorer.compute.turns import CROWD, LATELY, NOTICED, PATIENCE, Turns


@pytest.fixture
def queue():
    """The process's queue, one place, closed afterwards whatever happens."""
    yield turns.open_queue(1)
    turns.close_queue()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Worker(threading.Thread):
    """Takes a turn of `queue`, notes that in `log`, and holds it until let go."""

    def __init__(self, queue: Turns, session: str, preview: bool, log: list):
        super().__init__(daemon=True)
        self.claim = (session, preview)
        self.queue, self.log, self.leave = queue, log, threading.Event()
        self.start()

    def run(self):
        with self.queue.turn(*self.claim):
            self.log.append(self.claim[0])
            self.leave.wait(20)

    def end(self):
        self.leave.set()
        self.join(20)
        assert not self.is_alive()


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def line_up(queue: Turns, claims: list[tuple[str, bool]], log: list) -> list[Worker]:
    """Workers that queue in this order."""
    workers: list[Worker] = []
    for claim in claims:
        workers.append(Worker(queue, *claim, log))
        until(lambda: queue.state().computing + queue.state().waiting == len(workers))
    return workers


def order_of(queue: Turns, claims: list[tuple[str, bool]]) -> list[str]:
    """The order in which workers that queue in the order of claims have their turns."""
    log: list[str] = []
    workers = line_up(queue, claims, log)
    by_session = dict(zip([session for session, _ in claims], workers, strict=True))
    for i in range(len(claims)):
        until(lambda i=i: len(log) > i)
        by_session[log[i]].end()
    return log


def test_first_pictures_come_before_refinements_and_equals_in_the_order_they_came():
    queue = Turns(clock=Clock())
    claims = [("holder", True), ("fine", False), ("b", True), ("finer", False), ("a", True)]
    assert order_of(queue, claims) == ["holder", "b", "a", "fine", "finer"]


def test_the_session_served_longest_ago_comes_first():
    queue = Turns(clock=Clock())
    assert order_of(queue, [("a", True), ("b", True)]) == ["a", "b"]
    claims = [("c", True), ("b", True), ("a", True), ("new", True)]
    assert order_of(queue, claims) == ["c", "new", "a", "b"]


def test_a_refinement_that_waited_long_counts_as_much_as_a_first_picture():
    clock, log = Clock(), []
    queue = Turns(clock=clock, lease_s=1e9)
    holder, fine = line_up(queue, [("holder", True), ("fine", False)], log)
    clock.now = PATIENCE + 1
    quick = Worker(queue, "quick", True, log)
    until(lambda: queue.state().waiting == 2)
    holder.end()
    until(lambda: len(log) == 2)
    assert log == ["holder", "fine"]
    fine.end()
    quick.end()


def test_a_person_is_told_how_many_come_before():
    clock, log = Clock(), []
    queue = Turns(clock=clock, lease_s=1e9)
    claims = [("holder", True), ("a", True), ("b", True), ("fine", False)]
    workers = line_up(queue, claims, log)
    assert queue.ahead("b") == 0, "a moment's wait is nobody's business"
    clock.now = NOTICED + 0.1
    assert [queue.ahead(name) for name in ("a", "b", "fine")] == [1, 2, 3]
    assert queue.ahead("holder") == queue.ahead("stranger") == 0
    for worker in workers:
        worker.end()


def test_one_session_alone_never_waits_for_itself():
    queue, log = Turns(), []
    workers = line_up(queue, [("me", True), ("me", False), ("me", False)], log)
    assert log == ["me"] * 3
    for worker in workers:
        worker.end()


def test_two_places_are_two_sessions_at_once():
    queue, log = Turns(places=2), []
    workers = line_up(queue, [("a", True), ("b", True), ("c", True)], log)
    assert sorted(log) == ["a", "b"]
    workers[0].end()
    until(lambda: len(log) == 3)
    for worker in workers[1:]:
        worker.end()


def test_a_turn_that_does_not_end_keeps_nobody_waiting_for_ever():
    queue, log = Turns(lease_s=0.2), []
    stuck, patient = line_up(queue, [("stuck", True), ("patient", True)], log)
    until(lambda: log == ["stuck", "patient"])
    patient.end()
    stuck.end()


def test_a_run_gives_way_between_batches_after_its_slice(queue):
    queue.slice_s = 0.05
    log: list[str] = []
    entered = threading.Event()

    def long(run: Run):
        for i in range(40):
            entered.set()
            time.sleep(0.01)
            log.append("long")
            run.checkpoint(i / 40)
        yield "done"

    def refine():
        with queue.turn("long", preview=True):
            Run(long).result(show_progress=False)

    thread = threading.Thread(target=refine, daemon=True)
    thread.start()
    entered.wait(20)
    with queue.turn("short", preview=True) as waited:
        log.append("short")
    thread.join(20)
    assert waited
    assert not thread.is_alive()
    assert log.index("short") < 39, "the long run had not ended"
    assert log.count("long") == 40, "and lost nothing"


def test_without_a_queue_nobody_waits_and_a_run_gives_way_to_nobody():
    with turns.turn("anyone", preview=False) as waited:
        turns.give_way()
        assert not waited


def test_closing_lets_everybody_go_on():
    queue, log = Turns(), []
    workers = line_up(queue, [("a", True), ("b", True), ("c", True)], log)
    queue.close()
    until(lambda: len(log) == 3)
    for worker in workers:
        worker.end()


def test_forty_sessions_that_share_cached_rows_all_come_to_an_end(queue):
    """Every worker needs the same keys, computes rows under their locks and gives way there."""
    queue.slice_s, queue.lease_s = 0.002, 1e9  # nothing is rescued by a lease
    cache, done, computing = PrefixCache(), [], []
    keys = [f"task {i}" for i in range(5)]

    def rows(start: int, stop: int) -> torch.Tensor:
        turns.give_way()
        computing.append(threading.get_ident())
        time.sleep(0.001)
        return torch.arange(start, stop)

    def work(session: int):
        chance = random.Random(session)
        for step in range(3):
            with turns.turn(session, preview=step == 0):
                for key in chance.sample(keys, len(keys)):
                    found = cache.get(key, 20 * (step + 1), 5, rows)
                    assert torch.equal(found, torch.arange(20 * (step + 1)))
                    turns.give_way()
        done.append(session)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [*range(40)]
    assert len(computing) == len(keys) * 60 / 5, "and every row was computed once"
    assert (queue.state().computing, queue.state().waiting) == (0, 0)


def test_rows_beyond_the_cap_are_dropped_oldest_first_and_computed_again():
    cache, computed = PrefixCache(cap=200), []

    def rows(start: int, stop: int) -> torch.Tensor:
        computed.append((start, stop))
        return torch.arange(start, stop)

    for key in ("a", "b", "c"):
        assert torch.equal(cache.get(key, 10, 10, rows), torch.arange(10))  # 80 bytes each
    assert cache.nbytes == 160
    cache.get("c", 10, 10, rows)
    assert len(computed) == 3
    cache.get("a", 10, 10, rows)
    assert len(computed) == 4


def test_a_worker_that_dies_while_it_waits_leaves_the_queue(monkeypatch):
    queue = Turns(lease_s=0.04)
    monkeypatch.setattr(queue, "_room", lambda now: False)

    class Told(threading.Event):
        def wait(self, timeout=None):
            raise SystemExit

    monkeypatch.setattr(turns._Turn, "__init__", _with(turns._Turn.__init__, Told))
    with pytest.raises(SystemExit), queue.turn("a", preview=True):
        pass
    assert (queue.state().computing, queue.state().waiting) == (0, 0)


def _with(init, event):
    def made(self, *args, **named):
        init(self, *args, **named)
        self.granted = event()

    return made


def test_a_room_is_crowded_by_those_who_had_a_first_picture_lately():
    now = [0.0]
    queue = Turns(clock=lambda: now[0])
    for session in range(CROWD):
        for who, preview in ((0, True), ("refining", False), (session, True)):
            assert not queue.crowded(), "refinements do not count, and a session counts once"
            with queue.turn(who, preview):
                now[0] += 0.01
    assert queue.crowded()
    queue.forget(1)
    assert not queue.crowded()
    with queue.turn("another", preview=True):
        assert queue.crowded()
    now[0] += LATELY
    assert not queue.crowded()
    assert not turns.crowded(), "without a queue nobody is"


def test_a_refinement_that_nobody_wants_any_more_waits_no_longer(queue):
    ended, got = threading.Event(), {}

    def work(name, preview):
        with turns.turn(name, preview):
            got[name] = queue.state().computing
        ended.set()

    with queue.turn("somebody else", preview=True):
        workers = [
            threading.Thread(target=work, args=(name, name == "preview"), daemon=True)
            for name in ("refinement", "preview")
        ]
        for worker in workers:
            worker.start()
        while queue.state().waiting < 2:
            time.sleep(0.001)
        for worker in workers:
            turns.excuse(worker)
        assert ended.wait(5)
        assert got == {"refinement": 1}, "it went on without a turn; a first picture still waits"
        assert queue.state().waiting == 1
    workers[1].join(5)
    assert got["preview"] == 1
    assert queue.state().computing == 0
