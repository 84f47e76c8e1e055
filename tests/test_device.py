"""Devices, precision and threads."""

import pytest
import torch

import explorer as ex
from explorer.compute import device


def test_auto_is_cuda_where_it_works_and_the_cpu_elsewhere():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert device.pick_device("auto").type == expected


def test_precision_auto_takes_the_faster_format(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "_bfloat16_is_faster", lambda kind: True)
    assert device.fast_dtype(cpu) == torch.bfloat16
    monkeypatch.setattr(device, "_bfloat16_is_faster", lambda kind: False)
    assert device.fast_dtype(cpu) == torch.float32
    assert device.fast_dtype(cpu, "bfloat16") == torch.bfloat16


def test_threads_are_limited_to_the_cores_at_hand_unless_chosen(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    device.limit_threads()
    assert chosen == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    device.limit_threads()
    assert chosen == [2]


def test_there_is_at_least_one_usable_core():
    assert device.usable_cores() >= 1


def test_memory_facts_are_in_gigabytes():
    facts = device.memory_facts(torch.device("cpu"))
    assert 0 < facts["resident"] < facts["total"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_cpus_predictions(tiny_folder):
    recipe = ex.Recipe(coefficients={"digits": 0.5, "letters": -0.3}, schedule=ex.lines(0.5, 0.5))
    on_cpu, on_gpu = (ex.accuracy(ex.open_model(tiny_folder, d), recipe) for d in ("cpu", "cuda"))
    assert float((on_cpu.predicted == on_gpu.predicted).mean()) > 0.99
    for space in ("posthoc", "tangent"):
        ex.accuracy(ex.open_model(tiny_folder, "cuda"), recipe.replace(space=space), n=8)
