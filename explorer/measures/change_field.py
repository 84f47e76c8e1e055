"""Where a picture changed on its way through noise and back: one number a patch."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from explorer.compute.batches import Batches, with_note
from explorer.diffusion.tiles import Tiles, leaf_places
from explorer.errors import ImageError, ModelError, UnknownNameError

if TYPE_CHECKING:
    import xarray as xr

KINDS = ("clip", "blocks", "symbols")
_AT_ONCE = 128
# What open_clip normalises with where a tower does not say.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def change_field(
    result: "xr.Dataset",
    kind: str = "clip",
    *,
    size: int | None = None,
    tower: Any = None,
    tiles: Tiles | None = None,
) -> "xr.Dataset":
    """How much every patch changed: ``change`` (level, sample, y, x), and ``datum`` if there is.

        change = ex.change_field(result, kind="blocks", size=4)
        change.change.mean("sample").plot(col="level")

    ``result`` is a Dataset of ``ex.forward_backward``. Kinds:

    - "blocks": root mean square of the pixels' change in blocks of ``size`` x ``size`` pixels
      (None: an eighth of the side), 0 to 1. It is local.
    - "clip": Euclidean norm, over the root of their number, of the change of a vision
      transformer's patch tokens after its last block, before ``ln_post`` and the projection,
      class token dropped (Sclocchi et al. 2025, arXiv 2410.13770, section 4). These tokens have
      attended to the whole picture. ``tower`` is a Model, or a model or visual tower of open_clip;
      None is the embedded "glyphs".
    - "symbols": 1 where a tile shows another symbol, else 0; with ``tiles`` of the model.

    ``y`` and ``x`` are the patches' centres in pixels. Raises UnknownNameError for another kind,
    ImageError for a Dataset without pictures, ModelError for a tower without patches.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of change field", kind, KINDS)
    if "image" not in result or "original" not in result:
        raise ImageError("A change field is taken of a result of ex.forward_backward.")
    lead = tuple(d for d in ("level", "datum", "sample") if d in result.image.dims)
    images = result.image.transpose(*lead, "y", "x", "channel").values
    before = result.original.transpose(..., "y", "x", "channel").values
    flat = images.reshape(-1, *images.shape[-3:])
    starts = before.reshape(-1, *before.shape[-3:])
    # Which picture each of the flat ones started from: datum is the second but last dimension.
    samples = images.shape[len(lead) - 1]
    start_of = np.arange(len(flat)) // samples % len(starts)
    height, width = images.shape[-3:-1]
    if kind == "blocks":
        side = max(1, min(height, width) // 8) if size is None else size
        found, words = _blocks(flat, starts, start_of, side), "root mean square change"
    elif kind == "symbols":
        found, words = _symbols(flat, starts, start_of, tiles), "1 where the symbol changed"
    else:
        batches = Batches(_AT_ONCE, "looked at by CLIP")
        found = _tokens(flat, starts, start_of, tower, batches)
        result = result.assign_attrs(with_note(result.attrs.get("note"), batches.note))
        words = "change of the patch token"
    field = found.reshape(*images.shape[: len(lead)], *found.shape[1:])
    return _labelled(result, field, lead, (height, width), kind, words)


def _labelled(
    result: "xr.Dataset",
    field: np.ndarray,
    lead: tuple[str, ...],
    pixels: tuple[int, int],
    kind: str,
    words: str,
) -> "xr.Dataset":
    import xarray as xr

    rows, columns = field.shape[-2:]
    spacing = (pixels[0] / rows, pixels[1] / columns)
    places = {
        name: (name, (np.arange(n) + 0.5) * step, {"long_name": f"{name}, pixels", "units": "px"})
        for name, n, step in (("y", rows, spacing[0]), ("x", columns, spacing[1]))
    }
    kept = {name: result[name] for name in (*lead, "alpha_bar") if name in result.coords}
    variables: dict[str, Any] = {
        "change": ((*lead, "y", "x"), field, {"long_name": words, "units": "1"})
    }
    if "preview" in result:
        variables["preview"] = result.preview
    more = {"kind": kind, "patch": spacing[0], "patch_units": "pixels"}
    return xr.Dataset(variables, coords=kept | places, attrs={**result.attrs, **more})


def _blocks(flat: np.ndarray, starts: np.ndarray, start_of: np.ndarray, size: int) -> np.ndarray:
    height, width = flat.shape[1:3]
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 1
    if not whole or height % size or width % size:
        raise ImageError(
            f"Blocks of {size!r} pixels do not divide a picture of {height} x {width}; "
            "choose a whole number that does."
        )
    found = np.empty((len(flat), height // size, width // size))
    for start in range(0, len(flat), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        moved = (flat[part].astype(np.float32) - starts[start_of[part]]) / 255
        blocks = np.square(moved).reshape(len(moved), height // size, size, width // size, size, -1)
        found[part] = np.sqrt(blocks.mean((2, 4, 5)))
    return found


def _symbols(
    flat: np.ndarray, starts: np.ndarray, start_of: np.ndarray, tiles: Tiles | None
) -> np.ndarray:
    if tiles is None:
        raise ModelError(
            "Symbols can be compared only where they are known: give tiles=p.tiles of a model "
            "of tiles."
        )
    side = 2**tiles.grammar.L
    rows, columns = leaf_places(tiles.grammar.L)
    changed = tiles.read(flat) != tiles.read(starts)[start_of]
    found = np.empty((len(flat), side, side))
    found[:, rows, columns] = changed
    return found


def _tokens(
    flat: np.ndarray, starts: np.ndarray, start_of: np.ndarray, tower: Any, batches: Batches
) -> np.ndarray:
    seen = PatchTokens.of(tower)
    before = torch.cat(batches.over(len(starts), lambda part: seen(starts[part])))

    def moved(part: slice) -> np.ndarray:
        change = seen(flat[part]) - before[torch.from_numpy(start_of[part])]
        return change.square().mean(-1).sqrt().cpu().numpy()

    return np.concatenate(batches.over(len(flat), moved)).astype(np.float64)


class PatchTokens:
    """A vision transformer as a function from uint8 pictures to patch tokens after its last block.

    Calling it returns float32 (n, rows, columns, width) on the CPU.
    """

    def __init__(self, visual: Any, mean: Any, std: Any, device: torch.device) -> None:
        blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
        patch = getattr(getattr(visual, "conv1", None), "kernel_size", None)
        if not blocks or patch is None:
            raise ModelError(
                f"The tower {type(visual).__name__} has no patch tokens; give a vision "
                "transformer of open_clip."
            )
        self.visual, self.blocks, self.device = visual, blocks, device
        size = visual.image_size
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.grid = (self.size[0] // patch[0], self.size[1] // patch[1])
        self.mean = torch.tensor(mean).view(1, 3, 1, 1)
        self.std = torch.tensor(std).view(1, 3, 1, 1)

    @classmethod
    def of(cls, tower: Any) -> "PatchTokens":
        """Of a Model, an open_clip model or visual tower, or None for the embedded glyphs."""
        from explorer.models.model import Model, open_model
        from explorer.models.towers import build_tower, load_weights

        if tower is None:
            tower = open_model("glyphs")
        if isinstance(tower, Model):
            weights = {name: x.to(tower.device) for name, x in tower.base.items()}
            visual = load_weights(build_tower(tower.architecture), weights)
            return cls(visual, tower.card["mean"], tower.card["std"], tower.device)
        visual = getattr(tower, "visual", tower)
        if not isinstance(visual, nn.Module):
            raise ModelError(f"A tower is a Model or a model of open_clip, not {tower!r:.60}.")
        device = next(visual.parameters()).device
        mean = getattr(visual, "image_mean", None) or _MEAN
        std = getattr(visual, "image_std", None) or _STD
        return cls(visual.eval(), mean, std, device)

    def pixels(self, pictures: np.ndarray) -> Tensor:
        """uint8 (n, h, w, 1 or 3) -> normalised float32 (n, 3, height, width) of the tower."""
        x = torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255
        x = x.expand(-1, 3, -1, -1)
        if x.shape[-2:] != self.size:
            x = nn.functional.interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        return ((x - self.mean) / self.std).to(self.device)

    @torch.inference_mode()
    def by_block(self, pictures: np.ndarray) -> list[Tensor]:
        """All tokens after every block, (n, tokens, width) float32 on the device, first to last.

        The input of each block is caught on its way in, and the last block is run once more on
        all its tokens: some towers compute only its class token.
        """
        caught: list[Tensor] = []
        hooks = [
            block.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
            for block in self.blocks
        ]
        try:
            self.visual(self.pixels(pictures))
        finally:
            for hook in hooks:
                hook.remove()
        after = [*caught[1:], self.blocks[-1](caught[-1])]
        batch_first = after[-1].shape[0] == len(pictures) and not _tokens_first(self.visual)
        return [(x if batch_first else x.transpose(0, 1)).float() for x in after]

    def __call__(self, pictures: np.ndarray) -> Tensor:
        tokens = self.by_block(pictures)[-1]
        rows, columns = self.grid
        patches = tokens[:, tokens.shape[1] - rows * columns :]  # what comes before: class tokens
        return patches.reshape(len(pictures), rows, columns, -1).cpu()


def _tokens_first(visual: nn.Module) -> bool:
    """Whether the transformer's tensors are (tokens, n, width), as in older open_clip."""
    return not getattr(visual.transformer, "batch_first", True)
