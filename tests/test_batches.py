"""Claims about memory that runs out: parts become smaller, nothing else changes, and it is said."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from test_diffusion import small_dit, small_model, small_vae

import explorer as ex
from explorer.compute.batches import Batches, with_note
from explorer.diffusion.model import Diffusion
from explorer.errors import MemoryShortage
from explorer.measures.change_field import PatchTokens

FITS = 3


def greedy(function, error=torch.OutOfMemoryError, position=0):
    """The same function on a device that has room for few pictures."""

    def limited(*args, **kwargs):
        if len(args[position]) > FITS:
            raise error("out of memory")
        return function(*args, **kwargs)

    return limited


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_parts_are_halved_until_they_fit_and_stay_small(error):
    sizes = []

    def work(part: slice) -> list[int]:
        sizes.append(part.stop - part.start)
        return greedy(list, error)(range(20)[part])

    batches = Batches(16, "counted")
    assert batches.note == ""
    found = [i for part in batches.over(20, work) for i in part]
    assert found == [*range(20)]
    assert sizes[:4] == [16, 8, 4, 2]
    assert set(sizes[4:]) == {2}
    assert batches.note == "Memory ran out: 2 pictures are counted at once instead of more."


def test_a_single_picture_that_does_not_fit_is_a_sentence():
    def full(part: slice) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(MemoryShortage, match="single picture that is decoded"):
        Batches(8, "decoded").over(4, full)


def test_other_errors_are_raised_as_they_are():
    def broken(part: slice) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Batches(8, "decoded").over(4, broken)


def test_sentences_are_joined_once_each():
    assert with_note(None, "") == {}
    assert with_note("A.", "B.", "A.") == {"note": "A. B."}


def test_clip_features_and_a_classifier_fall_back_to_smaller_batches(picture, monkeypatch):
    run = ex.forward_backward(small_model(), picture, [0.5, 1], samples=5, steps=4)
    result, m = run.result(show_progress=False), ex.open_model("glyphs")
    measures = {
        "CLIP": lambda: ex.change_field(result, "clip").change,
        "the classifier": lambda: ex.depth_similarity(result, m, "mnist").similarity,
    }
    whole = {name: measure() for name, measure in measures.items()}
    monkeypatch.setattr(PatchTokens, "by_block", greedy(PatchTokens.by_block, position=1))
    for name, measure in measures.items():
        assert np.allclose(measure(), whole[name], atol=1e-4), name
    noted = ex.change_field(result.assign_attrs(note="Before."), "clip").attrs["note"]
    assert noted.startswith("Before. Memory ran out: ")
    assert "looked at by CLIP" in noted
    assert "by the classifier" in ex.depth_similarity(result, m, "mnist").attrs["note"]


def test_decoding_and_encoding_latents_fall_back_to_smaller_batches(monkeypatch):
    vae = small_vae()
    p = Diffusion("latent", small_dit(4), small_model().scheduler, vae=vae)
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))
    options = {"samples": 3, "steps": 4, "precision": "float32"}
    whole = ex.forward_backward(p, pictures, [0.5], **options).result(show_progress=False)
    assert "note" not in whole.attrs
    monkeypatch.setattr(vae, "decode", greedy(vae.decode))
    monkeypatch.setattr(vae, "encode", greedy(vae.encode))
    found = ex.forward_backward(p, pictures, [0.5], **options).result(show_progress=False)
    assert np.abs(found.image.astype(int) - whole.image.astype(int)).max() <= 1
    assert "encoded at once" in found.attrs["note"]
    assert "decoded at once" in found.attrs["note"]


def test_the_screen_says_that_memory_ran_out(picture, monkeypatch):
    monkeypatch.setattr(PatchTokens, "by_block", greedy(PatchTokens.by_block, position=1))
    p = small_model()
    p = Diffusion("toy", p.unet, p.scheduler, examples=picture[None])
    lens = ex.DiffusionLens(p, "view.n=5,4,1&view.level=0.5&view.kind=clip&view.view=features")
    lens.display()
    asyncio.run(asyncio.wait_for(lens.settled(), 120))
    assert lens.sentences == []
    assert lens.complete
    said = lens.drawing.panel.approximate
    assert said.count("looked at by CLIP at once instead of more") == 1
    assert said.count("looked at by the classifier at once instead of more") == 1
