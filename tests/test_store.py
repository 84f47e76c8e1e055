"""The store: maps come back from disk, a killed run resumes, and a broken store harms nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import explorer as ex
from explorer.compute.store import Store
from explorer.measures.plane import LinearPlane, WeightPlane

PAIR = ("digits", "letters")
POINTS = [-1.5, 0.0, 0.6, 2.1]


@pytest.fixture
def counted(monkeypatch):
    """Cells that were computed, as (cell, counts)."""
    cells = []

    def count(plane):
        predict = plane.predict

        def counting(self, cell, counts, *more):
            cells.append((cell, counts))
            return predict(self, cell, counts, *more)

        monkeypatch.setattr(plane, "predict", counting)

    count(WeightPlane)
    count(LinearPlane)
    return cells


def disentanglement(model, points=POINTS, **more):
    return ex.disentanglement(model, PAIR, points, **{"n": 20} | more).result()


def test_a_map_that_was_computed_opens_at_once_and_is_the_same(tiny_model, counted):
    first = disentanglement(tiny_model)
    assert len(counted) == 16
    again = list(ex.disentanglement(tiny_model, PAIR, POINTS, n=20))
    assert len(counted) == 16
    assert [p.attrs["complete"] for p in again] == [1]
    xr.testing.assert_identical(again[0], first)
    assert first.attrs["stored"] == "saved"


@pytest.mark.parametrize("space", ["posthoc", "tangent"])
@pytest.mark.parametrize("schedule", [None, ex.lines(0.2, 0.7)], ids=str)
def test_a_linear_map_on_disk_opens_without_a_derivative(
    tiny_folder, counted, monkeypatch, space, schedule
):
    more = {"space": space, "schedule": schedule}
    first = disentanglement(ex.open_model(tiny_folder, device="cpu"), **more)
    assert first.attrs["stored"] == "saved"
    assert len(counted) == 16 + 2, "and the two edits at coefficient 1"
    counted.clear()

    def refused(*_arguments):
        raise AssertionError("a derivative was computed")

    monkeypatch.setattr("explorer.compute.references.jacobian_product", refused)
    (again,) = list(
        ex.disentanglement(
            ex.open_model(tiny_folder, device="cpu"), PAIR, POINTS, **{"n": 20} | more
        )
    )
    xr.testing.assert_identical(again, first)
    assert counted == []


def test_maps_of_other_spaces_and_schedules_share_no_cells(tiny_model, counted):
    for space in ("weights", "posthoc", "tangent"):
        for schedule in (None, ex.lines(0.1, 0.9)):
            counted.clear()
            more = {"space": space, "schedule": schedule}
            found = disentanglement(tiny_model, **more)
            assert len({cell for cell, _ in counted if set(cell) <= {*POINTS}}) == 16
            alone = disentanglement(tiny_model, **more, store=False)
            xr.testing.assert_equal(found, alone)
    assert len({kept.title for kept in Store().listing()}) == 6


def test_a_known_map_of_more_images_than_a_preview_needs_no_preview(tiny_model, counted):
    points = np.linspace(-3, 3, 7)
    partials = list(ex.disentanglement(tiny_model, PAIR, points, n=60))
    assert partials[0].attrs["n"] == 48
    counted.clear()
    (again,) = list(ex.disentanglement(tiny_model, PAIR, points[::6], n=60))
    xr.testing.assert_equal(
        again["error"], partials[-1]["error"].sel(alpha1=[-3, 3], alpha2=[-3, 3])
    )
    assert counted == []


def test_a_finer_grid_computes_only_the_cells_that_are_new(tiny_model, counted):
    disentanglement(tiny_model, np.linspace(-3, 3, 5))
    counted.clear()
    disentanglement(tiny_model, np.linspace(-3, 3, 9))
    known = set(np.linspace(-3, 3, 5))
    assert len(counted) == 81 - 25
    assert not [cell for cell, _ in counted if set(cell) <= known]


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"n": 21}, {"schedule": ex.lines(0.1, 0.9)}, {"split": "val"}, {"n": 20}],
    ids=str,
)
def test_what_is_of_other_content_is_not_reused(tiny_model, counted, other):
    disentanglement(tiny_model)
    counted.clear()
    disentanglement(tiny_model, **other)
    assert len(counted) == (0 if other == {"n": 20} else 16)


def test_other_weights_under_the_same_name_are_other_content(tiny_model, tiny_folder, counted):
    import shutil

    disentanglement(tiny_model)
    counted.clear()
    copy = Path(os.environ["EXPLORER_CACHE"]) / "zoo" / tiny_folder.name
    shutil.copytree(tiny_folder, copy)
    disentanglement(ex.open_model(copy))
    assert counted == []
    vectors = copy / "vectors"
    (vectors / "digits.safetensors").write_bytes((vectors / "hearts.safetensors").read_bytes())
    disentanglement(ex.open_model(copy))
    assert len(counted) == 16


# On a slow machine: otherwise a map in a linear space is over before it can be killed.
KILLED = """
import sys, time
import explorer as ex
from explorer.measures.plane import LinearPlane
predict = LinearPlane.predict
LinearPlane.predict = lambda *arguments: time.sleep(0.02) or predict(*arguments)
model = ex.open_model(sys.argv[1], device="cpu")
points = [i / 2 for i in range(-6, 7)]
for partial in ex.disentanglement(model, ("digits", "letters"), points, space=sys.argv[2]):
    print(partial.attrs["resolution"], partial.attrs["cells_done"], flush=True)
"""


@pytest.mark.parametrize("space", ["weights", "posthoc", "tangent"])
def test_a_killed_run_resumes_and_gives_the_same_file(tiny_folder, tmp_path, counted, space):
    points = [i / 2 for i in range(-6, 7)]
    command = [sys.executable, "-c", KILLED, str(tiny_folder), space]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            resolution, _, done = line.rpartition(" ")
            if resolution.startswith("13 x 13") and int(done) > 60:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    (kept,) = Store().listing()
    assert 60 < kept.cells < 169
    model = ex.open_model(tiny_folder, device="cpu")
    resumed = ex.disentanglement(model, PAIR, points, space=space).result()
    assert len(counted) == 169 - kept.cells
    Store().clear()
    whole = ex.disentanglement(model, PAIR, points, space=space).result()
    for name, dataset in (("resumed", resumed), ("whole", whole)):
        dataset.to_netcdf(tmp_path / name, engine="h5netcdf")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_sets_used_longest_ago_are_dropped_beyond_the_cap(tmp_path):
    store = Store(tmp_path, cap_mb=0.01)
    for key in ("a", "b", "c"):
        cells = store.set(key, f"map {key}")
        cells.put(0.0, 0.0, bytes(2500))
        cells.close()
        time.sleep(0.01)
    store.set("a", "map a").close()  # used again
    cells = store.set("d", "map d")
    cells.put(0.0, 0.0, bytes(2500))
    cells.put(1.0, 0.0, bytes(2500))
    assert cells.note == "saved"
    assert {kept.title for kept in store.listing()} == {"map d", "map a"}
    for i in range(4):
        cells.put(2.0 + i, 0.0, bytes(2500))
    assert cells.note == "not saved: the cache holds at most 0.01 MB"
    assert sum(kept.megabytes for kept in store.listing()) <= 0.01


def test_cells_that_are_put_together_are_one_transaction(tmp_path):
    store = Store(tmp_path)
    cells = store.set("a", "map a")
    statements = []
    cells._connection.set_trace_callback(statements.append)
    cells.put_all({(float(i), 0.0): bytes(30) for i in range(200)})
    assert sum(s.startswith("BEGIN") for s in statements) == 1
    cells.close()
    (kept,) = store.listing()
    assert kept.cells == 200
    assert kept.megabytes == pytest.approx(200 * (30 + 110) / 1e6)


def test_every_cell_is_on_disk_when_a_run_is_cancelled(tiny_model, counted, monkeypatch):
    monkeypatch.setattr("explorer.measures.kept_cells.FLUSH_S", float("inf"))
    run = ex.disentanglement(tiny_model, PAIR, np.linspace(-3, 3, 13), n=20, space="posthoc")
    predict = LinearPlane.predict

    def cancelling(*arguments):
        if len(counted) == 40:
            run.cancel()
        return predict(*arguments)

    monkeypatch.setattr(LinearPlane, "predict", cancelling)
    assert [partial.attrs["stage"] for partial in run] == [1]
    (kept,) = Store().listing()
    assert kept.cells == len(counted) == 41


def test_a_damaged_file_is_said_and_harms_nothing(tiny_model, own_cache):
    wanted = disentanglement(tiny_model)
    store = Store()
    store.path.write_bytes(b"nothing that sqlite knows" * 400)
    found = disentanglement(tiny_model)
    assert "damaged" in found.attrs["stored"]
    assert "explorer zoo cache --clear" in found.attrs["stored"]
    xr.testing.assert_equal(found, wanted)
    with pytest.raises(ex.ExplorerError, match="cannot be read"):
        store.listing()
    store.clear()
    assert disentanglement(tiny_model).attrs["stored"] == "saved"


def test_a_file_damaged_inside_is_said_and_harms_nothing(tiny_model):
    wanted = disentanglement(tiny_model, np.linspace(-3, 3, 9))
    data = bytearray(Store().path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    Store().path.write_bytes(data)
    found = disentanglement(tiny_model, np.linspace(-3, 3, 9))
    assert found.attrs["stored"].startswith("not saved: the cache cannot be used")
    xr.testing.assert_equal(found, wanted)


def test_a_cell_of_another_length_is_computed_again(tiny_model, counted):
    disentanglement(tiny_model)
    counted.clear()
    with sqlite3.connect(Store().path) as connection:
        connection.execute("UPDATE cells SET classes = x'01' WHERE a1 = 0.6 AND a2 = 2.1")
    connection.close()
    disentanglement(tiny_model)
    assert [cell for cell, _ in counted] == [(0.6, 2.1)]
    counted.clear()
    disentanglement(tiny_model)
    assert counted == []


def test_a_folder_that_cannot_be_made_is_said_and_harms_nothing(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "file" / "cache"))
    found = disentanglement(tiny_model)
    assert found.attrs["complete"] == 1
    assert found.attrs["stored"].startswith("not saved: the cache cannot be used (")


def test_a_folder_that_cannot_be_written_is_said_and_harms_nothing(tiny_model, monkeypatch):
    disentanglement(tiny_model)
    connect = Store.connect

    def read_only(self):
        connection = connect(self)
        connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(Store, "connect", read_only)
    found = disentanglement(tiny_model)
    assert found.attrs["complete"] == 1
    assert "readonly" in found.attrs["stored"]


def test_a_full_disk_is_said_and_the_run_goes_on(tiny_model, monkeypatch):
    connect = Store.connect

    def small_disk(self):
        connection = connect(self)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(Store, "connect", small_disk)
    points = np.linspace(-3, 3, 7)
    found = disentanglement(tiny_model, points, n=48)
    assert found.attrs["stored"] == "not saved: the cache cannot be used (database or disk is full)"
    assert (found["measured"] == 1).all()
    whole = disentanglement(tiny_model, points, n=48, store=False)
    xr.testing.assert_equal(found, whole)


def test_nothing_is_kept_that_was_not_asked_for(tiny_model):
    assert disentanglement(tiny_model, store=False).attrs["stored"].startswith("not saved")
    linear = disentanglement(tiny_model, space="tangent", schedule=ex.lines(0.2, 0.8), store=False)
    assert linear.attrs["stored"] == "not saved: it was not asked for"
    assert not Store().path.exists()


def test_another_method_of_the_same_name_is_other_content(tiny_model, counted, monkeypatch):
    from explorer.editing import methods

    def first():
        @ex.merging_method(reference="this test")
        def strange(vectors, coefficients):
            """Half the sum."""
            return 0.5 * sum(coefficients[t] * v for t, v in vectors.items())

    def second():
        @ex.merging_method(reference="this test")
        def strange(vectors, coefficients):
            """Twice the sum."""
            return 2.0 * sum(coefficients[t] * v for t, v in vectors.items())

    def typed():
        exec(
            "@ex.merging_method(reference='this test')\n"
            "def strange(vectors, coefficients): return next(iter(vectors.values()))",
            {"ex": ex},
        )

    notes = []
    for register in (first, first, second, typed):
        monkeypatch.setattr(methods, "_METHODS", {})
        register()
        notes.append(disentanglement(tiny_model, method="strange").attrs["stored"])
    assert len(counted) == 3 * 16
    assert notes[:3] == ["saved"] * 3
    assert notes[3] == "not saved: the source of the method 'strange' is not at hand"


def test_a_folder_of_ones_own_and_a_bad_size(tiny_model, tmp_path, monkeypatch):
    disentanglement(tiny_model, store=Store(tmp_path / "own"))
    (kept,) = Store(tmp_path / "own").listing()
    assert kept.cells == 16
    assert kept.title.startswith("digits and letters of tiny")
    assert Store().listing() == []
    monkeypatch.setenv("EXPLORER_CACHE_MB", "much")
    with pytest.raises(ex.ExplorerError, match="EXPLORER_CACHE_MB"):
        Store()


def test_a_file_of_another_layout_is_begun_anew(tiny_model):
    disentanglement(tiny_model)
    with sqlite3.connect(Store().path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert disentanglement(tiny_model).attrs["stored"] == "saved"
    assert [kept.cells for kept in Store().listing()] == [16]


def test_two_runs_fill_one_map_together(tiny_model, counted):
    runs = [ex.disentanglement(tiny_model, PAIR, POINTS, n=20) for _ in range(2)]
    last = [None, None]
    while not all(run.done for run in runs):
        for i, run in enumerate(runs):
            last[i] = next(run, last[i])
    xr.testing.assert_identical(last[0], last[1])
    assert [kept.cells for kept in Store().listing()] == [16]
