"""A tower that has the shapes of one that comes with the package: what its card tells of it.

Shapes tell neither how many heads a block's attention has nor how pixels were normalised.
"""

from dataclasses import dataclass

from explorer.checkpoints.checkpoint import Checkpoint
from explorer.checkpoints.reading import open_checkpoint
from explorer.checkpoints.zoo import ModelFolder, model_folders, read_folder


@dataclass(frozen=True)
class Recognised:
    """What the card of the embedded model ``name`` says: the width of a head, mean and standard
    deviation a colour."""

    name: str
    head_width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def remark(self, file: str) -> str:
        """What has been taken from the card, for a file of this name."""
        mean, std = (", ".join(f"{x:g}" for x in values) for values in (self.mean, self.std))
        return (
            f"{file} has the shapes of the embedded model {self.name} and is taken for a tower of "
            f"it: heads of width {self.head_width}, pixels normalised with mean {mean} and "
            f"standard deviation {std} (CLIP's are others). A preprocessor_config.json beside it, "
            "with image_mean and image_std, says otherwise of the pixels."
        )


def recognised(base: Checkpoint) -> Recognised | None:
    """The embedded model whose tower has all shapes of this one; None if there is none, or several
    whose cards differ."""
    alike = []
    for kind, path in model_folders().values():
        weights = path / "base.safetensors"
        if kind != "embedded" or not weights.is_file():
            continue
        if open_checkpoint(weights).shapes == base.shapes:
            alike.append(_said_by(read_folder(path)))
    agreed = {(one.head_width, one.mean, one.std) for one in alike}
    return alike[0] if len(agreed) == 1 else None


def _said_by(folder: ModelFolder) -> Recognised:
    card = folder.card
    width = card["architecture"]["vision_cfg"].get("head_width", 64)  # open_clip's default
    return Recognised(folder.name, int(width), tuple(card["mean"]), tuple(card["std"]))
