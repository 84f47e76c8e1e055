"""Claims about the command line: fast to answer, one sentence for a mistake, right files."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explorer import __version__, cli, doctor
from explorer.errors import ExplorerError


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command run in this process."""
    try:
        status = cli.main(arguments)
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_help_answers_within_half_a_second():
    def processor_time() -> float:
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "explorer.cli", "--help"], check=True, capture_output=True
        )
        after = os.times()
        user = after.children_user - before.children_user
        return user + after.children_system - before.children_system

    # Processor time, since other programs may keep this machine busy.
    assert min(processor_time() for _ in range(3)) < 0.5


def test_help_names_every_command(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for command in ("lab", "app", "zoo", "map", "merge", "bench", "doctor"):
        assert f"\n    {command} " in out


def test_version(capsys):
    assert run(capsys, "--version")[1].strip() == f"explorer {__version__}"


@pytest.mark.parametrize("port", ["x", "-1", "70000", ""])
def test_a_port_that_is_none_is_refused_with_the_range(capsys, port):
    status, _, err = run(capsys, "app", f"--port={port}")
    assert status == 2
    assert "a number from 0 to 65535" in err


def test_a_taken_port_is_left_to_its_owner():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ExplorerError, match=f"Nothing can listen on 127.0.0.1:{taken}"):
            cli._free_port("127.0.0.1", taken)


def test_without_a_wish_any_free_port_will_do():
    port = cli._free_port("127.0.0.1", None)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_app_hands_its_settings_to_the_server(capsys, monkeypatch):
    served = {}
    module = type(sys)("explorer.app.serve")
    module.serve = lambda **settings: served.update(settings)
    monkeypatch.setitem(sys.modules, "explorer.app.serve", module)
    status, out, _ = run(capsys, "app", "--no-show", "--origin", "example.org:80")
    assert status == 0
    assert served["show"] is False
    assert served["origins"] == ("example.org:80",)
    assert f"http://localhost:{served['port']}" in out


@pytest.mark.parametrize(("address", "allowed"), [("127.0.0.1", "1"), ("0.0.0.0", "0")])
def test_only_an_app_for_this_machine_alone_may_download(monkeypatch, address, allowed):
    module = type(sys)("explorer.app.serve")
    module.serve = lambda **settings: None
    monkeypatch.setitem(sys.modules, "explorer.app.serve", module)
    monkeypatch.setenv("EXPLORER_PULL", "before")  # put back after the test
    monkeypatch.delenv("EXPLORER_PULL")
    assert cli.main(["app", "--address", address, "--no-show"]) == 0
    assert os.environ["EXPLORER_PULL"] == allowed


def test_lab_opens_the_first_tutorial_where_it_is_in_a_checkout():
    root, notebook = cli._tutorials(None)
    assert notebook == root / "notebooks" / cli.FIRST_TUTORIAL
    assert notebook.is_file()


def test_lab_copies_the_tutorials_to_a_folder_and_keeps_what_was_edited(tmp_path):
    root, notebook = cli._tutorials(tmp_path / "mine")
    assert notebook.is_file()
    assert notebook.parent == root == (tmp_path / "mine").resolve()
    shown = re.findall(r"\]\((images/[^)]+)\)", notebook.read_text("utf-8"))
    assert shown
    assert all((root / picture).is_file() for picture in shown)
    notebook.write_text("edited")
    cli._tutorials(tmp_path / "mine")
    assert notebook.read_text() == "edited"


def test_lab_says_so_when_the_folder_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, "lab", str(tmp_path / "file" / "folder"))
    assert status == 2
    assert "name a folder you may write to" in err


def test_lab_needs_no_cdn_and_uses_this_python(monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/the/user's")
    environment = cli._lab_environment()
    assert environment["PANEL_INLINE"] == "true"
    assert environment["JUPYTER_PREFER_ENV_PATH"] == "1"
    first, second = environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert first == "/the/user's"
    page = os.path.join(second, "labconfig", "page_config.json")
    assert "announcements" in Path(page).read_text()


def test_lab_starts_jupyterlab_on_that_notebook(monkeypatch, capsys, tmp_path):
    started = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: started.append(command) or 0)
    assert run(capsys, "lab", str(tmp_path), "--no-browser", "--port", "9999")[0] == 0
    (command,) = started
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--LabApp.default_url=/lab/tree/{cli.FIRST_TUTORIAL}" in command
    assert "--no-browser" in command
    assert "--ServerApp.port=9999" in command


def test_bench_of_an_installed_package_says_where_the_benchmarks_are(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli, "CHECKOUT", tmp_path)
    status, _, err = run(capsys, "bench")
    assert status == 2
    assert "source repository" in err


def test_a_benchmark_that_does_not_exist_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "merg"],
        cwd=cli.CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no benchmark is called merg" in done.stderr


# Merging to a file


@pytest.fixture
def recipe_file(tmp_path, tiny_folder):
    """A recipe for the tiny model, which is opened by its path."""
    import explorer as ex

    model = ex.open_model(tiny_folder)
    recipe = ex.Recipe(base=str(tiny_folder), coefficients={model.tasks[0]: 0.5})
    file = tmp_path / "recipe.json"
    file.write_text(recipe.to_json())
    return file


def test_merge_writes_the_weights_and_the_recipe(recipe_file, tmp_path, capsys):
    import torch
    from safetensors import safe_open

    import explorer as ex

    output = tmp_path / "out.safetensors"
    assert run(capsys, "merge", str(recipe_file), "-o", str(output))[0] == 0
    recipe = ex.Recipe.from_json(recipe_file.read_text())
    model = ex.open_model(recipe.base)
    expected = ex.merge(model.base, {t: model.task_vector(t) for t in recipe.active}, recipe)
    written = ex.read_checkpoint(output)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)
    with safe_open(output, "pt") as file:
        assert ex.Recipe.from_json(file.metadata()["recipe"]) == recipe


def test_merge_writes_over_a_file_only_when_told(recipe_file, tmp_path, capsys):
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"mine")
    status, _, err = run(capsys, "merge", str(recipe_file), "-o", str(output))
    assert status == 2
    assert "--force" in err
    assert output.read_bytes() == b"mine"
    assert run(capsys, "merge", str(recipe_file), "-o", str(output), "--force")[0] == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not a recipe in JSON"),
        ('{"base": "glyps"}', "glyps"),
        ('{"coefficients": {"mnist": "much"}}', "must be a number"),
        ('{"space": "tangent", "base": "BASE"}', "tangent"),
        ('{"base": "BASE", "coefficients": {"mnits": 1}}', "mnits"),
    ],
)
def test_merge_refuses_a_bad_recipe_with_a_sentence(text, sentence, tmp_path, tiny_folder, capsys):
    file = tmp_path / "recipe.json"
    file.write_text(text.replace("BASE", json.dumps(str(tiny_folder))[1:-1]))
    status, out, err = run(capsys, "merge", str(file), "-o", str(tmp_path / "out.safetensors"))
    assert status == 2
    assert sentence in err
    assert err.startswith("explorer: ")
    assert "Traceback" not in err + out
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("recipe", "output", "sentence"),
    [
        ("none.json", "out.safetensors", "cannot be read"),
        ("none.json", "out.pt", "give it as out.safetensors"),
        ("none.json", "nowhere/out.safetensors", "no folder"),
    ],
)
def test_merge_names_the_file_that_is_wrong(recipe, output, sentence, tmp_path, capsys):
    status, _, err = run(capsys, "merge", str(tmp_path / recipe), "-o", str(tmp_path / output))
    assert status == 2
    assert sentence in err


def test_zoo_list_shows_local_models_too(capsys, monkeypatch, tiny_folder):
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))
    status, out, _ = run(capsys, "zoo", "list")
    assert status == 0
    assert tiny_folder.name in out


# The doctor


def findings(check) -> list[doctor.Finding]:
    return list(doctor._findings(check))


def test_the_doctor_says_what_to_do_about_everything_that_is_wrong(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    checks = [check for check in doctor.CHECKS if check is not doctor.check_zoo]
    for check in checks:
        for finding in findings(check):
            assert finding.state == "ok" or finding.remedy, finding
            assert "the check stopped" not in finding.found


def test_a_check_that_breaks_does_not_stop_the_doctor():
    def check_nothing():
        raise RuntimeError("odd")
        yield

    (finding,) = findings(check_nothing)
    assert finding.state == "fail"
    assert "RuntimeError: odd" in finding.found


def test_the_doctor_asks_no_hub_when_told_to_be_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (finding,) = findings(doctor.check_hub)
    assert finding.state == "ok"
    assert "not asked" in finding.found


def test_a_hub_that_does_not_answer_costs_seconds_and_a_warning(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(doctor, "HUB_TIMEOUT_S", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        (finding,) = findings(doctor.check_hub)
    assert time.monotonic() - start < 3
    assert finding.state == "warn"
    assert "HTTPS_PROXY" in finding.remedy


def test_map_writes_the_dataset_and_prints_its_summary(capsys, tiny_folder, tmp_path):
    import xarray as xr

    output = tmp_path / "map.nc"
    grid = ("--range", "-1", "2", "--points", "4", "--n", "20", "--seed", "3")
    command = ("map", "digits", "letters", "--model", str(tiny_folder), *grid, "-o", str(output))
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "search region (4 cells)" in out
    with xr.open_dataset(output, engine="h5netcdf") as saved:
        assert saved["alpha1"].values.tolist() == [-1, 0, 1, 2]
        assert saved["n"].values.tolist() == [20, 20]
        assert saved.attrs["seed"] == 3
    status, _, err = run(capsys, *command)
    assert status == 2
    assert "exists" in err
    assert run(capsys, *command, "--force", "--space", "tangent")[0] == 0
    edit = ("--schedule", "lines:0.2,0.8", "--method", "ties")
    assert run(capsys, *command, "--force", *edit)[0] == 0
    with xr.open_dataset(output, engine="h5netcdf") as saved:
        assert (saved.attrs["schedule"], saved.attrs["method"]) == ("lines:0.2,0.8", "ties")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("digits", "digits"), "two different tasks"),
        (("digits", "leters"), "'letters'"),
        (("digits", "letters", "--points", "0"), "1 point an axis"),
        (("digits", "letters", "--n", "0"), "1 or more"),
        (("digits", "letters", "--space", "flat"), "no space 'flat'"),
        (("digits", "letters", "--schedule", "curve:1"), "no schedule 'curve'"),
        (("digits", "letters", "--method", "tise"), "'ties'"),
        (("digits", "letters", "-o", "map.csv"), "map.nc"),
    ],
)
def test_a_map_that_makes_no_sense_is_one_sentence(capsys, tiny_folder, arguments, sentence):
    status, _, err = run(capsys, "map", *arguments, "--model", str(tiny_folder))
    assert status == 2
    assert err.startswith("explorer: ")
    assert sentence in err


def test_zoo_cache_lists_the_maps_that_are_kept_and_clears_them(capsys, tiny_folder, own_cache):
    run(capsys, "map", "digits", "letters", "--model", str(tiny_folder), "--points", "2", "--n=9")
    out = run(capsys, "zoo", "cache")[1]
    assert "9 cells  digits and letters of tiny" in out
    assert f"{own_cache / 'maps.sqlite'}: 1 maps" in out
    assert "is empty now" in run(capsys, "zoo", "cache", "--clear")[1]
    assert ": 0 maps" in run(capsys, "zoo", "cache")[1]
    (own_cache / "maps.sqlite").write_bytes(b"x" * 5000)
    status, _, err = run(capsys, "zoo", "cache")
    assert status == 2
    assert "damaged" in err
    assert run(capsys, "zoo", "cache", "--clear")[0] == 0


def test_the_doctor_finds_a_damaged_file_of_the_zoo(tmp_path, monkeypatch, tiny_folder):
    import shutil

    copy = tmp_path / "models" / "damaged"
    shutil.copytree(tiny_folder, copy)
    card = json.loads((copy / "model.json").read_text())
    card["sha256"] = {"base.safetensors": "0" * 64}
    (copy / "model.json").write_text(json.dumps(card))
    monkeypatch.setenv("EXPLORER_MODELS", str(copy.parent))
    wrong = [finding for finding in findings(doctor.check_zoo) if "damaged" in finding.found]
    assert [finding.state for finding in wrong] == ["fail"]
    assert "base.safetensors" in wrong[0].found


def test_the_doctor_tells_torch_and_torchvision_of_different_indices(monkeypatch):
    def importing(name):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return __import__(name)

    monkeypatch.setattr(doctor.importlib, "import_module", importing)
    (finding,) = findings(doctor.check_torch)
    assert finding.state == "fail"
    assert "same index" in finding.remedy


def test_the_doctor_sees_a_dependency_outside_its_bounds(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["panel<1", "no-such-thing>=1"])
    problems = [finding.found for finding in findings(doctor.check_packages)][1:]
    assert problems[0].startswith("panel<1 is wanted")
    assert problems[1] == "no-such-thing>=1 is missing"
