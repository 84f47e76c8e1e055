"""Image and text towers with open_clip's parameter names and arithmetic.

The plain CLIP transformer is written out here, because importing open_clip takes three times as
long as importing torch and 200 MB that a live session cannot spare; the tests hold it equal to
open_clip's own classes. Towers with other parts are built by open_clip itself.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.editing.task_vector import check_same_layout
from explorer.errors import CheckpointError, ModelError
from explorer.models.blocks import Transformer

_PLAIN_VISION = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"}
_PLAIN_TEXT = {"layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size"}


class VisionTower(nn.Module):
    """CLIP's vision transformer: normalised images (n, 3, h, w) -> features (n, embed_dim)."""

    def __init__(
        self,
        embed_dim: int,
        *,
        layers: int = 12,
        width: int = 768,
        head_width: int = 64,
        mlp_ratio: float = 4.0,
        patch_size: int = 16,
        image_size: int | tuple[int, int] = 224,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        height, across = (image_size, image_size) if isinstance(image_size, int) else image_size
        tokens = (height // patch_size) * (across // patch_size) + 1
        self.image_size = (height, across)
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, width // head_width, mlp_ratio, quick_gelu)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, images: Tensor, explicit: bool = False) -> Tensor:
        x = torch.cat([self.class_embedding.expand(len(images), 1, -1), self._patches(images)], 1)
        x = self.ln_pre(x + self.positional_embedding)
        *blocks, last = self.transformer.resblocks
        for block in blocks:
            x = block(x, explicit=explicit)
        # Only the class token is read: the last block need not update the others (a seventh of
        # the work of six blocks).
        x = last(x, queries=1, explicit=explicit)
        return self.ln_post(x[:, 0]) @ self.proj

    def _patches(self, images: Tensor) -> Tensor:
        """The patch convolution as one matrix product (its stride is its size)."""
        n, colours, height, width = images.shape
        size = self.conv1.kernel_size[0]
        grid = images.view(n, colours, height // size, size, width // size, size)
        rows = grid.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, colours * size * size)
        return F.linear(rows, self.conv1.weight.flatten(1))


class TextTower(nn.Module):
    """CLIP's text transformer: rows of the token table (n, context) -> features (n, embed_dim)."""

    def __init__(
        self,
        embed_dim: int,
        *,
        layers: int = 12,
        width: int = 512,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        context_length: int = 77,
        vocab_size: int = 49408,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        # from_pretrained draws no random numbers; drawing them on the meta device would import
        # torch's compiler, for seconds.
        table = torch.empty(vocab_size, width)
        self.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.transformer = Transformer(width, layers, heads, mlp_ratio, quick_gelu)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x, causal=True)
        end = tokens.argmax(-1)  # the end-of-text token has the largest number
        return self.ln_final(x[torch.arange(len(x), device=x.device), end]) @ self.text_projection


def build_tower(architecture: Mapping[str, Any]) -> nn.Module:
    """The image tower of an open_clip architecture, without weights (on the meta device).

    Or that of timm's ``architecture``, as ``explorer.checkpoints.families`` tells it from a file.
    Raises ModelError when the description makes no tower.
    """
    if isinstance(architecture, Mapping) and "timm" in architecture:
        from explorer.models.trunks import trunk_tower

        return trunk_tower(architecture)
    vision = _section(architecture, "vision_cfg")
    plain = _plain(vision, _PLAIN_VISION)
    try:
        with torch.device("meta"):
            if plain is None:
                return _open_clip_tower(architecture)
            _check_sizes(plain)
            return VisionTower(
                architecture["embed_dim"],
                quick_gelu=bool(architecture.get("quick_gelu", False)),
                **plain,
            )
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError, ZeroDivisionError) as e:
        raise ModelError(f"This architecture makes no image tower: {e}.") from None


def build_text_tower(architecture: Mapping[str, Any]) -> TextTower:
    """The text tower of an open_clip architecture, without weights. Raises ModelError."""
    text = _section(architecture, "text_cfg")
    plain = _plain(text, _PLAIN_TEXT)
    if plain is None:
        odd = sorted(set(text) - _PLAIN_TEXT)
        raise ModelError(f"Text towers with {', '.join(odd)} cannot be read yet.")
    try:
        with torch.device("meta"):
            return TextTower(
                architecture["embed_dim"],
                quick_gelu=bool(architecture.get("quick_gelu", False)),
                **plain,
            )
    except (TypeError, ValueError, KeyError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"This architecture makes no text tower: {error}.") from None


def load_weights(tower: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Make ``tensors`` themselves the parameters of a tower (no copy); returns the tower."""
    tower.load_state_dict(dict(tensors), strict=True, assign=True)
    return tower.requires_grad_(False).eval()


def check_tower(tensors: Mapping[str, Tensor], tower: nn.Module, name: str) -> None:
    """Raise CheckpointError when a file's tensors are not this tower's, naming the first key."""
    expected = tower.state_dict()
    width, found = expected.get("ln_post.weight"), tensors.get("ln_post.weight")
    if width is not None and found is not None and width.shape != found.shape:
        raise CheckpointError(
            f"{name} is another architecture: its tower is {len(found)} wide, "
            f"and this model's is {len(width)}."
        )
    check_same_layout(expected, tensors, "this model's architecture", name)


def _section(architecture: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = architecture.get(key) if isinstance(architecture, Mapping) else None
    if not isinstance(section, Mapping):
        raise ModelError(f"The architecture has no {key!r}; it is open_clip's model configuration.")
    return section


def _plain(section: Mapping[str, Any], known: set[str]) -> dict[str, Any] | None:
    """The section's own settings, or None when it asks for more than the plain transformer."""
    extra = {k: v for k, v in section.items() if k not in known and v not in (None, False)}
    if extra:
        return None
    plain = {key: value for key, value in section.items() if key in known}
    if isinstance(plain.get("image_size"), list):
        plain["image_size"] = tuple(plain["image_size"])
    return plain


def _check_sizes(plain: Mapping[str, Any]) -> None:
    width, head = plain.get("width", 768), plain.get("head_width", 64)
    if width % head:
        raise ValueError(f"width {width} is no multiple of head_width {head}")
    if plain.get("layers", 12) < 1:
        raise ValueError("it has no layers")


def _open_clip_tower(architecture: Mapping[str, Any]) -> nn.Module:
    from open_clip.model import CLIP

    return CLIP(**architecture).visual
