"""The runner: latest wins, previews are not starved, nothing blocks the event loop."""

import asyncio
import itertools
import threading
import time

from explorer.app.runner import SHORTEST_INTERVAL, Job, Runner
from explorer.compute import turns


class Steps:
    """A run that counts to n; each step waits until it is let go, or takes `seconds`."""

    def __init__(self, name: str, n: int = 3, seconds: float = 0.01):
        self.name, self.n, self.seconds = name, n, seconds
        self.progress = 0.0
        self.cancelled = threading.Event()
        self.threads: set[str] = set()

    def cancel(self) -> None:
        self.cancelled.set()

    def __iter__(self):
        for i in range(self.n):
            self.threads.add(threading.current_thread().name)
            if self.cancelled.wait(self.seconds):
                return
            self.progress = (i + 1) / self.n
            yield f"{self.name}{i}"


def job(run: Steps, shown: list, failures: list | None = None) -> Job:
    failed = [] if failures is None else failures
    return Job(lambda: run, lambda partial, progress: shown.append(partial), failed.append)


def test_all_partial_results_of_one_job_are_shown_in_order_and_computed_off_the_loop():
    async def main():
        run, shown, busy = Steps("a"), [], []
        runner = Runner(busy.append)
        runner.submit(job(run, shown))
        await runner.settled()
        assert shown == ["a0", "a1", "a2"]
        assert busy == [True, False]
        assert all(name.startswith("explorer-lens") for name in run.threads)

    asyncio.run(main())


def test_a_newer_job_cancels_the_older_one_after_its_first_picture():
    async def main():
        old, new, shown = Steps("old", n=50, seconds=0.02), Steps("new"), []
        runner = Runner()
        runner.submit(job(old, shown))
        while not shown:
            await asyncio.sleep(0.005)
        runner.submit(job(new, shown))
        await runner.settled()
        assert shown[0] == "old0"
        assert shown[-3:] == ["new0", "new1", "new2"]
        assert old.cancelled.is_set()
        assert len(shown) < 10

    asyncio.run(main())


def test_a_newer_job_and_a_cancel_end_the_rest_after_a_first_picture(monkeypatch):
    monkeypatch.setattr("explorer.app.runner.BREATH", 60.0)

    async def after_first(runner, shown):
        runner.submit(job(Steps("old", n=5), shown))
        while not shown:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert shown == ["old0"], "the worker rests while the browser paints"

    async def main():
        shown, runner = [], Runner()
        await after_first(runner, shown)
        runner.submit(job(Steps("new", n=1), shown))
        while shown[-1] != "new0":
            await asyncio.sleep(0.005)
        runner.cancel()
        await asyncio.wait_for(runner.settled(), 5)
        assert shown == ["old0", "new0"]

    for _ in range(2):  # each in a loop of its own
        asyncio.run(asyncio.wait_for(main(), 20))


def test_a_long_drag_shows_pictures_on_the_way_and_the_last_one_at_the_end():
    async def main():
        shown, runner = [], Runner()
        for i in range(40):
            runner.submit(job(Steps(f"{i}.", n=2, seconds=0.03), shown))
            await asyncio.sleep(0.01)
        await runner.settled()
        assert shown[-2:] == ["39.0", "39.1"]
        on_the_way = {s.split(".")[0] for s in shown[:-2]}
        assert 3 <= len(on_the_way) < 39

    asyncio.run(main())


def test_the_event_loop_stays_free_while_a_job_computes():
    async def main():
        runner = Runner()
        runner.submit(job(Steps("slow", n=1, seconds=0.3), []))
        longest, last = 0.0, time.monotonic()
        while runner.busy:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        assert longest < 0.2

    asyncio.run(main())


def test_pictures_of_one_job_come_at_most_twenty_a_second():
    async def main():
        times = []
        quick = Steps("q", n=5, seconds=0.0)
        runner = Runner()
        runner.submit(Job(lambda: quick, lambda *_: times.append(time.monotonic()), print))
        await runner.settled()
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert min(gaps) > 0.9 * SHORTEST_INTERVAL

    asyncio.run(main())


def test_a_failing_job_says_so_once_and_the_next_one_works():
    def broken():
        raise ValueError("no")

    async def main():
        shown, failures = [], []
        runner = Runner()
        runner.submit(Job(broken, lambda *_: None, failures.append))
        await runner.settled()
        runner.submit(job(Steps("next"), shown, failures))
        await runner.settled()
        assert [str(f) for f in failures] == ["no"]
        assert shown[-1] == "next2"

    asyncio.run(main())


def test_without_an_event_loop_a_job_waits_for_one():
    shown, runner = [], Runner()
    runner.submit(job(Steps("a"), shown))
    assert shown == []
    asyncio.run(runner.settled())
    assert shown == ["a0", "a1", "a2"]


def test_a_closed_runner_stops_its_run_and_takes_no_job():
    async def main():
        run, shown = Steps("a", n=100, seconds=0.02), []
        runner = Runner()
        runner.submit(job(run, shown))
        while not shown:
            await asyncio.sleep(0.005)
        runner.close()
        generation = runner.generation
        assert runner.submit(job(Steps("b"), shown)) == generation
        await runner.settled()
        assert run.cancelled.is_set()
        assert "b0" not in shown

    asyncio.run(main())


def test_a_job_stopped_while_it_queues_for_its_first_picture_is_never_begun():
    async def main():
        queue, made, shown = turns.open_queue(1), [], []
        try:
            with queue.turn("somebody else", preview=True):
                runner = Runner()
                runner.submit(Job(lambda: made.append(1) or Steps("a"), shown.append, shown.append))
                while not queue.state().waiting:
                    await asyncio.sleep(0.005)
                runner.cancel()
            await runner.settled()
            assert not made
            assert not shown
            runner.submit(job(Steps("b", n=1), shown))
            await runner.settled()
            assert shown == ["b0"], "the next job is computed"
        finally:
            turns.close_queue()

    asyncio.run(main())


def test_a_job_stopped_while_its_run_is_made_takes_no_step():
    async def main():
        entered, go_on, shown = threading.Event(), threading.Event(), []

        def make():
            entered.set()
            go_on.wait(20)
            return Steps("a")

        runner = Runner()
        runner.submit(Job(make, lambda partial, progress: shown.append(partial), shown.append))
        while not entered.is_set():
            await asyncio.sleep(0.005)
        runner.cancel()
        go_on.set()
        await runner.settled()
        assert shown == []

    asyncio.run(main())


def test_a_newer_job_need_not_wait_for_the_turn_of_a_stale_refinement():
    async def main():
        queue, shown = turns.open_queue(1), []
        try:
            runner = Runner()
            runner.submit(job(Steps("a", n=3, seconds=0.0), shown))
            while not shown:
                await asyncio.sleep(0.005)
            with queue.turn("somebody else", preview=True):
                while not queue.state().waiting:  # the second step of a, a refinement
                    await asyncio.sleep(0.005)
                runner.submit(job(Steps("b", n=1), shown))
                end = time.monotonic() + 5
                while _waiting(queue) != ["first picture"] and time.monotonic() < end:
                    await asyncio.sleep(0.005)
                assert _waiting(queue) == ["first picture"], "b stands in the queue itself"
            await runner.settled()
            assert shown[-1] == "b0"
        finally:
            turns.close_queue()

    asyncio.run(main())


def _waiting(queue) -> list[str]:
    return ["first picture" if turn.preview else "refinement" for turn in queue._waiting]
