"""Models and pictures as they are opened: shared by sessions, checked, with typed errors."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.app.diffusion.setting import UPLOAD
from explorer.app.shared_models import KEPT, SHELF
from explorer.errors import ImageError, ModelError, UnknownNameError

if TYPE_CHECKING:
    from explorer.diffusion.model import Diffusion

LARGEST_PICTURE = 8_000_000
NOTHING_HERE = (
    "No diffusion model comes with this installation. Give a folder in diffusers' layout or a hub "
    "id (google/ddpm-cifar10-32) as the model, or reopen a saved run."
)

_opening = threading.Lock()
_models: dict[str, Diffusion] = {}


def model_names() -> list[str]:
    """Names of the embedded models; none is opened."""
    from explorer.checkpoints.zoo import diffusion_folders

    return sorted(diffusion_folders())


def open_shared(name: str) -> Diffusion:
    """The model of this name, opened once a process: sessions share its weights."""
    if not name:
        raise ModelError(NOTHING_HERE)
    from explorer.diffusion.opening import open_diffusion

    if SHELF.offered is not None and name not in model_names():  # a server for strangers
        raise UnknownNameError("diffusion model", name, model_names())
    with _opening:
        p = _models.pop(name, None) or open_diffusion(name)
        _models[name] = p
        for oldest in [*_models][:-KEPT]:
            del _models[oldest]
        return p


def already_open(name: str) -> Diffusion | None:
    """The model of this name if this process has it open; never waits."""
    return _models.get(name)


def name_of_upload(data: bytes) -> str:
    """The name under which a person's picture or run is known."""
    return UPLOAD + hashlib.sha256(data).hexdigest()[:12]


def check_picture(name: str, data: bytes) -> None:
    """Raise ImageError unless the bytes of the file `name` are a picture."""
    from explorer.diffusion.pictures import as_picture

    if len(data) > LARGEST_PICTURE:
        raise ImageError(
            f"{name[:60]} has {len(data) / 1e6:.1f} MB; choose a picture of at most "
            f"{LARGEST_PICTURE / 1e6:.0f} MB."
        )
    as_picture(read_picture(name, data), (32, 32), 3)


def read_picture(name: str, data: bytes) -> Any:
    """The bytes of a file as a PIL image, not decoded yet. Raises ImageError."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(
            f"{name[:60]} is in no format that can be read; choose a PNG, JPEG or WebP picture."
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name[:60]} has too many pixels; make it smaller first.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{name[:60]} is damaged: {error}.") from None


def picture_of(
    picture: str, p: Diffusion, uploads: dict[str, bytes], n: int = 1
) -> list[np.ndarray]:
    """The picture of a subject, and the model's n - 1 held-out ones after it, uint8 (h, w, c).

    Raises ImageError for an upload that is not here, ModelError for a picture there is none of.
    """
    from explorer.diffusion.pictures import as_picture

    held_out = p.examples if p.examples is not None else np.empty((0, 1, 1, 1), np.uint8)
    own, at = len(held_out), -1
    if picture.startswith(UPLOAD):
        if picture not in uploads:
            raise ImageError(
                "The picture was uploaded in another session and is not here; upload it again, or "
                "choose one of the model's."
            )
        first = as_picture(read_picture(picture, uploads[picture]), p.image_size, p.channels)
    elif not own:
        raise ModelError(
            f"{p.name} comes with no pictures: upload one (a file, or drop it on the pictures)."
        )
    elif int(picture) >= own:
        raise ModelError(
            f"{p.name} has {own} held-out pictures, counted from 0: there is no {picture}."
        )
    else:
        at = int(picture)
        first = held_out[at]
    if n - 1 > own - (at >= 0):
        raise ModelError(
            f"{p.name} has {own} held-out pictures: {n} pictures cannot be averaged over."
        )
    return [first, *(held_out[(at + i) % own] for i in range(1, n))]
