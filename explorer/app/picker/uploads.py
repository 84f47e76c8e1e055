"""A checkpoint handed in through the browser: streamed to the cache folder, part by part."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from explorer.app.picker.rows import MAY_UPLOAD, may_upload
from explorer.errors import BusyError, CheckpointError, ModelError

if TYPE_CHECKING:
    from explorer.models.model import Model

LARGEST = "EXPLORER_UPLOAD_MB"
LARGEST_MB = 2_000.0
"""A whole CLIP ViT-L/14 in float32 has 1,711 MB."""
PART_BYTES = 1_500_000
"""Of one message, as base64; a room's server takes messages of 2 MB. The browser sends 1 MB."""
_SPARE_BYTES = 1_000_000_000


class Upload:
    """One file on its way. Nothing of it is read before all of it is here."""

    def __init__(self, name: str, size: int, path: Path) -> None:
        self.name, self.size, self.path = name, size, path
        self.received = 0

    @classmethod
    def begin(cls, message: Mapping[str, Any], model: Model | None) -> Upload:
        """The file that a message announces by name and size. Raises ExplorerError."""
        from explorer.checkpoints.folders import SUFFIXES

        if not may_upload():
            raise BusyError(
                "Files cannot be handed in here: whoever runs the server allows it with "
                f"{MAY_UPLOAD}=1, or open the file by its path on your own machine."
            )
        name, size = str(message.get("name", ""))[:100], message.get("size")
        if model is None:
            raise ModelError("No model is open to add a task to: open one first.")
        if not name.endswith(SUFFIXES):
            raise CheckpointError(
                f"{name or 'This file'} is no checkpoint by its name; choose a file that ends in "
                f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
            )
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise CheckpointError(f"{name} is empty; choose another file.")
        most = _largest()
        if size > most:
            raise CheckpointError(
                f"{name} has {size / 1e6:,.0f} MB, and this server takes files of at most "
                f"{most / 1e6:,.0f} MB: save the image tower alone, in half precision, or ask for "
                f"a larger {LARGEST}."
            )
        return cls(name, size, _place(name, size))

    @property
    def task(self) -> str:
        """What the file is called as a task."""
        return Path(self.name).stem

    @property
    def progress(self) -> float:
        """How much of it is here, 0 to 1."""
        return self.received / self.size

    def take(self, message: Mapping[str, Any]) -> bool:
        """Append a part; whether that was the last. Raises CheckpointError for one out of order."""
        if message.get("at") != self.received:
            return False  # asked for twice, by two displays of one session
        data = message.get("data")
        try:
            if not isinstance(data, str) or len(data) > 4 * PART_BYTES // 3 + 4:
                raise ValueError
            part = base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            raise CheckpointError(f"{self.name} arrived damaged; hand it in again.") from None
        if not part or self.received + len(part) > self.size:
            raise CheckpointError(f"{self.name} changed while it was sent; hand it in again.")
        try:
            with self.path.open("ab") as file:
                file.write(part)
        except OSError as error:
            raise CheckpointError(
                f"{self.name} cannot be stored on the server ({error.strerror}); tell whoever runs "
                "it."
            ) from None
        self.received += len(part)
        return self.received == self.size

    def discard(self) -> None:
        """Delete what has arrived."""
        _delete(str(self.path.parent))

    def keep_for(self, model: Model) -> None:
        """Keep the file for as long as a model reads from it."""
        weakref.finalize(model, _delete, str(self.path.parent))

    def __str__(self) -> str:
        return f"{self.received / 1e6:,.1f} of {self.size / 1e6:,.1f} MB"


def _largest() -> float:
    from explorer.compute.store import cap_in_mb

    return 1e6 * cap_in_mb(LARGEST, LARGEST_MB)


def _place(name: str, size: int) -> Path:
    """A new file in the cache folder, in a folder of its own; what ended processes left goes."""
    from explorer.compute.store import default_folder

    home = default_folder() / "uploads"
    try:
        home.mkdir(parents=True, exist_ok=True)
        for old in home.iterdir():
            process = old.name.partition("-")[0]
            if process.isdecimal() and not psutil.pid_exists(int(process)):
                _delete(str(old))
        if shutil.disk_usage(home).free < size + _SPARE_BYTES:
            raise CheckpointError(
                f"{name} has {size / 1e6:,.0f} MB, which the server's disk has no room for; tell "
                "whoever runs it."
            )
        folder = home / f"{os.getpid()}-{secrets.token_hex(8)}"
        folder.mkdir()
    except OSError as error:
        raise CheckpointError(
            f"{name} cannot be stored on the server ({error.strerror}); tell whoever runs it."
        ) from None
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
    path = folder / safe.lstrip(".-")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return path


def _delete(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
