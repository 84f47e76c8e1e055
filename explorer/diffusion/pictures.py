"""Pictures of any kind as the network takes them: uint8, its size, its channels."""

import logging
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

_BEHIND_TRANSPARENCY = (255, 255, 255)
_ORIENTATION = 0x0112
# EXIF's orientations -> how to turn the picture back (names of PIL's `Transpose`).
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# What PIL raises for damaged pictures and for damaged data beside them, whatever their format.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
)

_log = logging.getLogger(__name__)


def as_picture(image: Any, size: tuple[int, int], channels: int) -> np.ndarray:
    """One picture, uint8 (height, width, channels).

    ``image`` is a path, a PIL image of any mode, or an array (h, w), (h, w, 1), (h, w, 3) or
    (h, w, 4) of uint8. It is turned as its EXIF data say (where they are damaged, it is not), laid
    on white where it is transparent, cut to the middle of the wanted shape and resized; a picture
    that has the size already is taken as it is. Raises ImageError for anything that is no picture.
    """
    from PIL import Image

    array = image if isinstance(image, np.ndarray) else None
    if array is not None and array.dtype == np.uint8 and array.shape == (*size, channels):
        return array
    picture = _opened(image)
    picture = _without_transparency(picture).convert("L" if channels == 1 else "RGB")
    if (picture.height, picture.width) != size:
        picture = _fitted(picture, size, Image.Resampling.LANCZOS)
    return np.asarray(picture, dtype=np.uint8).reshape(*size, channels)


def as_pictures(images: Any, size: tuple[int, int], channels: int) -> np.ndarray:
    """One picture or several (a list, or an array (n, h, w, c)): uint8 (n, height, width, c)."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, list | tuple):
        images = [images]
    if not images:
        raise ImageError("There is no picture to noise: give at least one.")
    return np.stack([as_picture(image, size, channels) for image in images])


def _opened(image: Any) -> "Image":
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not isinstance(image, str | Path | Image.Image):
        raise ImageError(
            f"A picture is a path, a PIL image or a uint8 array, not {type(image).__name__}."
        )
    what = "This picture" if isinstance(image, Image.Image) else f"The picture {image}"
    try:
        opened = image if isinstance(image, Image.Image) else Image.open(Path(image).expanduser())
        opened.load()
        turned = _turned(opened, what)
    except FileNotFoundError:
        raise ImageError(f"There is no picture {image}.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{what} is in no format that can be read.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{what} has too many pixels; make it smaller first.") from None
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0][:80] or type(error).__name__
        raise ImageError(f"{what} is damaged: {reason}.") from None
    if not turned.width or not turned.height:
        raise ImageError(f"{what} has no pixels.")
    return _from_lab(_eight_bits(turned))


def _turned(picture: "Image", what: str) -> "Image":
    """As the camera's EXIF data say. Only the orientation is read: PIL's own function for this also
    writes all the other data anew, and fails at any that is damaged."""
    from PIL import Image

    try:
        way = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except _DAMAGED as error:
        _log.warning("%s has damaged EXIF data (%s) and is taken as it lies", what, error)
        return picture
    return picture if way is None else picture.transpose(Image.Transpose[way])


def _from_array(array: np.ndarray) -> "Image":
    from PIL import Image

    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    colours = array.ndim == 3 and array.shape[-1] in (3, 4)
    if array.dtype != np.uint8 or not (array.ndim == 2 or colours) or not array.size:
        raise ImageError(
            "An array is a picture when it is uint8 of shape (h, w), (h, w, 1), (h, w, 3) or "
            f"(h, w, 4), not {array.dtype} of shape {array.shape}."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _eight_bits(picture: "Image") -> "Image":
    """16-bit and floating-point greys, which PIL would cut off at 255, on their own range."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    from PIL import Image

    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ImageError("This picture holds numbers that are not finite.")
    if picture.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        low, high = float(values.min()), float(values.max())
        if low == high or (low >= 0 and high <= 255):  # a range, or none that could be its own
            low, high = 0.0, 255.0
            values = values.clip(low, high)
    grey = (values - low) * (255 / (high - low))
    return Image.fromarray(grey.round().astype(np.uint8))


def _from_lab(picture: "Image") -> "Image":
    """CIE Lab, the one mode that PIL converts only by way of colour profiles, as RGB."""
    if picture.mode != "LAB":
        return picture
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    way = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    found = ImageCms.applyTransform(picture, way)
    assert found is not None  # None is for conversions in place
    return found


def _without_transparency(picture: "Image") -> "Image":
    from PIL import Image

    if not picture.has_transparency_data:
        return picture
    coloured = picture.convert("RGBA")
    behind = Image.new("RGBA", coloured.size, (*_BEHIND_TRANSPARENCY, 255))
    return Image.alpha_composite(behind, coloured)


def _fitted(picture: "Image", size: tuple[int, int], how: Any) -> "Image":
    from PIL import ImageOps

    height, width = size
    return ImageOps.fit(picture, (width, height), method=how)
