"""Fixtures: a tiny random model, written once a session and opened once a module."""

from pathlib import Path

import pytest
import torch
from tiny_zoo import write_tiny_zoo

import explorer as ex

# Tests are small, and on a busy machine threads that wait for each other cost most of the time.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """Maps are kept in a folder of the test's own, never in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EXPLORER_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A complete model folder with three tasks and a control task. Do not change it."""
    return write_tiny_zoo(tmp_path_factory.mktemp("zoo") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder) -> "ex.Model":
    """The tiny model, opened on the CPU."""
    return ex.open_model(tiny_folder, device="cpu")
