"""Images and labels in parquet files, as hubs keep data sets: read a group of rows at a time.

The reader is pyarrow, which only this needs: the extra "parquet" brings it.
"""

import io
import json
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from explorer.errors import ImageError
from explorer.tasks.task import Split

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 256 * 2**20
"""Of encoded images that are kept: those of a random order lie in all groups of rows."""
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "fine_label")
WORDS: Mapping[str, tuple[str, ...]] = {
    "test": ("test",),
    "val": ("validation", "valid", "val"),
    "train": ("train",),
}
"""What a split's files are called."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


class ParquetImages:
    """The rows of several files as one list of ``n`` images; nothing is read before it is asked.

    ``names`` are the classes in the order of the labels, where the files tell them. ``what`` names
    the files in sentences. Raises ImageError for files that are none, and without pyarrow.
    """

    def __init__(self, files: Sequence[Path], what: str) -> None:
        self.what = what
        self._groups: list[tuple[Any, int, Path]] = []
        sizes = []
        for path in files:
            opened = _opened(path)
            for group in range(opened.num_row_groups):
                self._groups.append((opened, group, path))
                sizes.append(opened.metadata.row_group(group).num_rows)
        self._stops = [*accumulate(sizes)]
        self.n = sum(sizes)
        schema = _opened(files[0]).schema_arrow
        self._image = _column(schema.names, IMAGE_COLUMNS, "images", what)
        self._label = _column(schema.names, LABEL_COLUMNS, "labels", what)
        self.names = _names_in(schema.metadata or {}, self._label)
        self._kept: OrderedDict[int, list[tuple[bytes, int]]] = OrderedDict()
        self._bytes = 0

    def read(self, i: int) -> tuple["Image", int]:
        """Image i, decoded, and its label as the files number it."""
        from PIL import Image

        group = bisect_right(self._stops, i)
        row = i - (self._stops[group - 1] if group else 0)
        data, label = self._rows(group)[row]
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
        except Exception as error:  # Pillow raises whatever its decoders meet
            raise ImageError(
                f"Image {i} of {self.what} cannot be read ({_reason(error)}); get the file anew."
            ) from None
        return image, label

    def _rows(self, group: int) -> list[tuple[bytes, int]]:
        """Encoded images and labels of a group, from memory or from its file."""
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        opened, number, path = self._groups[group]
        try:
            table = opened.read_row_group(number, columns=[self._image, self._label])
            images = table.column(self._image).to_pylist()
            labels = table.column(self._label).to_pylist()
        except Exception as error:  # a damaged page, or a column of another kind
            raise ImageError(
                f"{path.name} of {self.what} cannot be read ({_reason(error)}); get it anew."
            ) from None
        rows = [(self._encoded(x), self._number(y)) for x, y in zip(images, labels, strict=True)]
        self._keep(group, rows)
        return rows

    def _keep(self, group: int, rows: list[tuple[bytes, int]]) -> None:
        self._kept[group] = rows
        self._bytes += _size(rows)
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])

    def _encoded(self, value: object) -> bytes:
        data = value.get("bytes") if isinstance(value, Mapping) else value
        if not isinstance(data, bytes):
            raise ImageError(
                f"The column {self._image!r} of {self.what} holds no encoded images, as a column "
                "of bytes or of {bytes, path} does. Save them as one folder a class and give it as "
                "folder=."
            )
        return data

    def _number(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ImageError(
                f"The column {self._label!r} of {self.what} has {value!r:.40} where a label's "
                "number is needed. Use the files that have the labels of this split."
            )
        return value


def split_files(names: Iterable[str], split: Split | str) -> list[str]:
    """The files of a split among these names (with / between folders), in the order of their
    shards; none if there are none.

    Raises ImageError for several sets of files, and for a set without all its shards.
    """
    known = sorted(names)
    for word in WORDS[split]:
        own = re.compile(
            rf"(^|/){word}(-\d{{5}}-of-\d{{5}}[^/]*)?\.parquet$|(^|/){word}/[^/]+\.parquet$"
        )
        found = [name for name in known if own.search(name)]
        if not found:
            continue
        folders = {str(PurePosixPath(name).parent) for name in found}
        if len(folders) > 1:
            raise ImageError(
                f"There are {split} images in {' and in '.join(sorted(folders)[:3])}; put those of "
                "one into a folder of their own and give it as folder=."
            )
        shards = [match for match in map(_SHARD.search, found) if match]
        if shards and len(shards) != int(shards[0][2]):
            raise ImageError(
                f"Of the {int(shards[0][2])} files with the {split} images, {len(shards)} are "
                "there; get the others too."
            )
        return found
    return []


def names_in_card(text: str) -> list[str] | None:
    """The classes that a data set's card (README.md) gives for its label, in their order."""
    import yaml

    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    try:
        data = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return None
    info = data.get("dataset_info") if isinstance(data, dict) else None
    for one in info if isinstance(info, list) else [info]:
        features = one.get("features") if isinstance(one, dict) else None
        for feature in features if isinstance(features, list) else []:
            if isinstance(feature, dict) and feature.get("name") in LABEL_COLUMNS:
                dtype = feature.get("dtype")
                label = dtype.get("class_label") if isinstance(dtype, dict) else None
                return _texts(label.get("names")) if isinstance(label, dict) else None
    return None


def _texts(names: object) -> list[str] | None:
    """Names from a list, or from a table of numbers as a card writes it."""
    if isinstance(names, dict):
        try:
            names = [names[key] for key in sorted(names, key=int)]
        except (TypeError, ValueError):
            return None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _names_in(metadata: Mapping[bytes, bytes], label: str) -> list[str] | None:
    """The classes as the files' own description has them."""
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return _texts(found)


def _column(names: Sequence[str], known: Sequence[str], what: str, where: str) -> str:
    found = next((name for name in known if name in names), None)
    if found is None:
        raise ImageError(
            f"{where} has no column of {what} ({' or '.join(known)}), but {', '.join(names[:6])}. "
            "Save the images as one folder a class and give it as folder=."
        )
    return found


def _opened(path: Path) -> Any:
    """A file's description. Raises ImageError."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ImageError(
            f"{path.name} is a parquet file, whose reader pyarrow is not installed: install it "
            "with `pip install pyarrow`, or save the images as one folder a class."
        ) from None
    try:
        return ParquetFile(path)
    except Exception as error:  # pyarrow raises its own errors and the system's
        raise ImageError(
            f"{path} is no readable parquet file ({_reason(error)}); get it anew."
        ) from None


def _size(rows: list[tuple[bytes, int]]) -> int:
    return sum(len(data) for data, _ in rows)


def _reason(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__
