"""Classification heads in files: pickled ones, and the last layers of classifiers."""

from pathlib import Path

from torch import Tensor

from explorer.checkpoints.archives import read_contents
from explorer.checkpoints.checkpoint import check_finite
from explorer.checkpoints.collecting import collect
from explorer.errors import CheckpointError

_MOST_CLASSES = 100_000  # ImageNet-21k has 21,841
# Where classifiers keep their last layer: an ImageEncoder's head, timm, torchvision, HF.
_HEADS = ("", "head.", "heads.head.", "head.fc.", "classifier.2.", "classifier.", "fc.")


def read_head(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """(weight (classes, dim), bias (classes,) or None) of a classification head in a file.

    Reads a pickled ``ClassificationHead`` and the last layer of a classifier. Raises
    CheckpointError when the file has none, or one with NaN.
    """
    contents = read_contents(path)
    stored = collect(contents.data, contents.path).tensors
    for prefix in _HEADS:
        weight, bias = stored.get(f"{prefix}weight"), stored.get(f"{prefix}bias")
        if weight is not None and len(weight.shape) == 2:
            if bias is not None and bias.shape != weight.shape[:1]:
                continue
            if weight.shape[0] > _MOST_CLASSES:
                raise CheckpointError(
                    f"{contents.path.name} has a layer of {weight.shape[0]:,} rows where a head "
                    f"has at most {_MOST_CLASSES:,} classes; give the file of a head."
                )
            found = {"weight": weight.read().float()}
            if bias is not None:
                found["bias"] = bias.read().float()
            check_finite(found, contents.path.name)
            return found["weight"], found.get("bias")
    raise CheckpointError(
        f"{contents.path.name} holds no classification head; give the file of the head, or build "
        "it from class names and templates."
    )
