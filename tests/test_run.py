"""Runs: a generator with a handle that cancels, surfaces errors and may be used from any thread."""

import threading
import time

import pytest

import explorer as ex


def counting(n=5, seconds=0.0, log=None):
    def work(run):
        for i in range(n):
            run.checkpoint(i / n)
            time.sleep(seconds)
            if log is not None:
                log.append(i)
            yield i

    return ex.Run(work, "counting")


def test_iterating_gives_the_partials_and_result_the_last():
    run = counting()
    assert list(run) == [0, 1, 2, 3, 4]
    assert run.result() == 4
    assert run.done
    assert run.progress == 1.0
    assert run.status == "done"


def test_nothing_is_computed_before_someone_asks():
    log = []
    run = counting(log=log)
    assert log == []
    assert run.status == "waiting"
    assert not run.done
    assert next(run) == 0
    assert log == [0]
    assert run.latest == 0


def test_a_run_is_used_up_once():
    run = counting()
    assert run.result() == 4
    assert list(run) == []
    assert run.result() == 4


def test_result_in_the_middle_of_a_loop_finishes_it():
    run = counting()
    seen = []
    for partial in run:
        seen.append(partial)
        assert run.result() == 4
    assert seen == [0]


def test_cancel_ends_the_loop_and_result_raises():
    run = counting(100)
    seen = []
    for partial in run:
        seen.append(partial)
        if partial == 3:
            run.cancel()
    assert seen == [0, 1, 2, 3]
    assert run.cancelled
    assert run.done
    assert run.status == "cancelled"
    with pytest.raises(ex.RunCancelled, match="'counting' was cancelled"):
        run.result()


def test_cancel_before_the_start_computes_nothing():
    log = []
    run = counting(log=log)
    run.cancel()
    assert list(run) == []
    assert log == []
    assert run.cancelled


def test_cancel_from_another_thread_stops_within_one_batch():
    log = []

    def work(run):
        for i in range(1000):  # one partial made of many batches
            run.checkpoint(i / 1000)
            log.append(i)
            time.sleep(0.005)
        yield "never"

    run = ex.Run(work)
    thread = threading.Thread(target=lambda: list(run))
    thread.start()
    while not log:
        time.sleep(0.001)
    run.cancel()
    at_cancel = len(log)
    thread.join(timeout=2)
    assert not thread.is_alive()
    assert run.cancelled
    assert len(log) <= at_cancel + 1


def test_cancel_after_the_end_is_harmless():
    run = counting()
    run.result()
    run.cancel()
    assert run.result() == 4
    assert not run.cancelled


def test_the_work_may_clean_up_when_it_is_cancelled():
    cleaned = []

    def work(run):
        try:
            while True:
                run.checkpoint()
                yield 1
        finally:
            cleaned.append(True)

    run = ex.Run(work)
    next(run)
    run.cancel()
    assert cleaned == [True]


def test_an_exception_surfaces_where_it_is_met_and_in_result():
    def work(run):
        yield 1
        raise ex.ImageError("The image is none.")

    run = ex.Run(work)
    assert next(run) == 1
    with pytest.raises(ex.ImageError):
        next(run)
    with pytest.raises(ex.ImageError, match="The image is none"):
        run.result()
    assert run.status == "failed"
    assert isinstance(run.error, ex.ImageError)
    assert run.done


def test_several_threads_share_the_partials_without_loss():
    run = counting(200)
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.extend(run)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert sorted(seen) == list(range(200))
    assert run.result() == 199


def test_result_waits_for_a_run_that_another_thread_computes():
    run = counting(10, seconds=0.01)
    thread = threading.Thread(target=lambda: list(run))
    thread.start()
    assert run.result() == 9
    thread.join(timeout=2)


def test_an_empty_run_says_that_it_has_no_result():
    with pytest.raises(ex.RunCancelled, match="without a result"):
        ex.Run(lambda run: (x for x in ())).result()


def test_progress_never_goes_back():
    def work(run):
        for fraction in (0.5, 0.2, 2.0):
            run.checkpoint(fraction)
            yield run.progress

    assert list(ex.Run(work)) == [0.5, 0.5, 1.0]


def test_the_bar_is_drawn_only_when_asked_for(capsys):
    counting(3, seconds=0.3).result(show_progress=True)
    assert "counting" in capsys.readouterr().err
    counting(3).result()
    assert capsys.readouterr().err == ""


def test_a_run_shows_itself():
    run = ex.Run(lambda run: iter([1]), title="<b>bold</b>")
    assert "waiting" in repr(run)
    assert "&lt;b&gt;" in run._repr_html_()
