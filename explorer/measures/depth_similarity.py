"""What a classifier still recognises: flips of the class, similarity of features by depth."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from explorer.compute.batches import Batches, with_note
from explorer.errors import ImageError
from explorer.measures.change_field import PatchTokens
from explorer.models.towers import build_tower, load_weights

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model

_AT_ONCE = 128
REFERENCES = 256


def depth_similarity(
    result: "xr.Dataset", m: "Model", task: str, fine_tuned: bool = True
) -> "xr.Dataset":
    """How alike a picture and its variants are to a classifier, block by block, and its verdict.

        seen = ex.depth_similarity(result, ex.open_model("glyphs"), "mnist")
        seen.similarity.plot(hue="depth")

    ``similarity`` (level, depth): cosine similarity of all tokens after each block of the tower,
    whitened with mean and standard deviation of every channel over up to 256 validation images of
    the task, averaged over variants (Sclocchi et al. 2024, arXiv 2402.16991, figure 2: deep
    features drop at the transition, shallow ones decay smoothly). The last depth is the logits.
    ``flipped`` (level): share of variants in another class than the picture was. The tower is the
    task's fine-tuned one, or the base. Errors (``..._error``) are standard errors over variants
    of one picture, and over pictures where there are several. Raises UnknownNameError and
    ImageError.
    """
    if "image" not in result or "original" not in result:
        raise ImageError("Similarity by depth is taken of a result of ex.forward_backward.")
    classifier = _Classifier(m, task, fine_tuned)
    lead = tuple(d for d in ("level", "datum", "sample") if d in result.image.dims)
    images = result.image.transpose(*lead, "y", "x", "channel").values
    starts = result.original.transpose(..., "y", "x", "channel").values
    starts = starts.reshape(-1, *starts.shape[-3:])
    images = images.reshape(len(images), len(starts), -1, *images.shape[-3:])
    before = classifier(starts)
    similar = np.empty((*images.shape[:3], len(before)))
    flipped = np.empty(images.shape[:3])
    for level, datum in np.ndindex(*images.shape[:2]):
        after = classifier(images[level, datum])
        for depth, (a, b) in enumerate(zip(after, before, strict=True)):
            own = b[datum : datum + 1]
            similar[level, datum, :, depth] = torch.cosine_similarity(a, own).numpy()
        verdict = before[-1][datum].argmax()
        flipped[level, datum] = (after[-1].argmax(1) != verdict).float().numpy()
    attrs = {"classifier": m.name, "task": task}
    attrs |= with_note(result.attrs.get("note"), classifier.batches.note)
    return _dataset(result, similar, flipped, attrs)


class _Classifier:
    """Whitened features after every block, then the logits: one (n, features) tensor each."""

    def __init__(self, m: "Model", task: str, fine_tuned: bool) -> None:
        weights = m.task_vector(task).apply_to(m.base) if fine_tuned else m.base
        weights = {name: x.to(m.device) for name, x in weights.items()}
        tower = load_weights(build_tower(m.architecture), weights)
        self._tokens = PatchTokens(tower, m.card["mean"], m.card["std"], m.device)
        self._head = m.head(task)
        self.batches = Batches(_AT_ONCE, "looked at by the classifier")
        reference, _, _ = m.images(task, REFERENCES, "val")
        blocks = self._raw(reference)[:-1]
        self._centre = [x.mean((0, 1)) for x in blocks]
        self._scale = [x.std((0, 1)) + 1e-6 for x in blocks]

    def __call__(self, pictures: np.ndarray) -> list[Tensor]:
        *blocks, logits = self._raw(pictures)
        white = zip(blocks, self._centre, self._scale, strict=True)
        return [*(((x - c) / s).flatten(1) for x, c, s in white), logits]

    def _raw(self, pictures: np.ndarray) -> list[Tensor]:
        parts = self.batches.over(len(pictures), lambda part: self._of(pictures[part]))
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    @torch.inference_mode()
    def _of(self, pictures: np.ndarray) -> list[Tensor]:
        visual = self._tokens.visual
        blocks = self._tokens.by_block(pictures)
        features = visual.ln_post(blocks[-1][:, 0]) @ visual.proj
        return [*(x.cpu() for x in blocks), self._head.logits(features).cpu()]


def _dataset(
    result: "xr.Dataset", similar: np.ndarray, flipped: np.ndarray, attrs: dict[str, str]
) -> "xr.Dataset":
    import xarray as xr

    depths = similar.shape[-1]
    words = {"long_name": "cosine similarity of whitened features", "units": "1"}
    share = {"long_name": "share of variants in another class", "units": "1"}
    error = {"long_name": "standard error", "units": "1"}
    names = [f"block {i + 1}" for i in range(depths - 1)] + ["logits"]
    return xr.Dataset(
        {
            "similarity": (("level", "depth"), similar.mean((1, 2)), words),
            "similarity_error": (("level", "depth"), _standard_error(similar), error),
            "flipped": ("level", flipped.mean((1, 2)), share),
            "flipped_error": ("level", _standard_error(flipped), error),
        },
        coords={
            "level": result["level"],
            "depth": ("depth", np.arange(depths) / (depths - 1), {"long_name": "depth"}),
            "layer": ("depth", names),
        },
        attrs={**result.attrs, **attrs},
    )


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Over pictures (axis 1) of their means; of one picture over its variants (axis 2)."""
    several = values.shape[1] > 1
    rows = values.mean(2) if several else values[:, 0]
    n = rows.shape[1]
    if n < 2:
        return np.full(np.delete(rows.shape, 1), np.nan)
    return rows.std(axis=1, ddof=1) / np.sqrt(n)
