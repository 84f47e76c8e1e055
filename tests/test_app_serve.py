"""Claims about `explorer app`: who may open what on it."""

from __future__ import annotations

import importlib

import panel as pn
import pytest

import explorer as ex
from explorer.app.shared_models import SHELF, open_shared
from explorer.cli import _LOOPBACK

serving = importlib.import_module("explorer.app.serve")  # the package has a function of its name


@pytest.fixture
def asked(monkeypatch, tiny_folder):
    """What opening by name and by path answers while the app is served at an address."""
    monkeypatch.setenv("EXPLORER_MODELS", str(tiny_folder.parent))
    monkeypatch.setattr(serving, "_warm_soon", lambda *_: None)

    def at(address: str, *names: str, model: str = "") -> list[str]:
        found = []

        def served(*_: object, **__: object) -> None:
            for name in names:
                try:
                    found.append(open_shared(name).name)
                except ex.UnknownNameError as error:
                    found.append(str(error))

        monkeypatch.setattr(pn, "serve", served)
        serving.serve(address, model=model)
        return found

    return at


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.0.7", "myhost"])
def test_strangers_open_names_and_no_path_of_the_machine(asked, address, tiny_folder):
    answers = asked(address, "tiny", str(tiny_folder), f"{tiny_folder}/base.safetensors")
    assert answers[0] == "tiny"
    assert all(answer.startswith("There is no model") for answer in answers[1:])
    assert SHELF.offered is None  # the next server is another


def test_the_path_that_the_app_was_started_with_is_offered(asked, tiny_folder):
    answers = asked("0.0.0.0", str(tiny_folder), "/etc", model=str(tiny_folder))
    assert answers[0] == "tiny"
    assert answers[1].startswith("There is no model")


@pytest.mark.parametrize("address", serving.LOOPBACK)
def test_on_this_machine_any_path_opens(asked, address, tiny_folder):
    assert asked(address, str(tiny_folder)) == ["tiny"]


def test_the_catalogues_sets_are_offered_by_name():
    assert {"glyphs", "tall-masks-vit-b-32"} <= serving.known_names()


def test_the_command_takes_the_same_addresses_for_this_machine():
    assert _LOOPBACK == serving.LOOPBACK
