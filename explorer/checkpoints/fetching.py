"""One file of a hub onto this machine: resumed where it broke off, compared with its checksum.

Files go to the cache of ``huggingface_hub``, where its other users find them: the content into
``blobs`` under its hash, then a link in ``snapshots``, which ``huggingface_hub`` makes.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.checkpoints.hub import (
    SECONDS,
    RemoteFile,
    cache_folder,
    check_online,
    connection_errors,
    endpoint,
    hub_errors,
    storage_folder,
)
from explorer.errors import HubError

_ATTEMPTS = 4  # in a row without a new byte
_FIRST_WAIT = 0.25  # seconds, doubled each time


def is_here(file: RemoteFile) -> bool:
    """Whether the file is on this machine, whole."""
    path = snapshot_path(file)
    return path.is_file() and path.stat().st_size == file.size


def bytes_here(file: RemoteFile) -> int:
    """How many of the file's bytes have arrived."""
    if is_here(file) or _blob(file).is_file():
        return file.size
    part = _part(file)
    return min(part.stat().st_size, file.size) if part.is_file() else 0


def snapshot_path(file: RemoteFile) -> Path:
    """Where the file lies in the cache."""
    return _storage(file).joinpath("snapshots", file.commit, *file.name.split("/"))


def fetch(file: RemoteFile) -> Iterator[int]:
    """Download a file; yields how many of its bytes are here, as they arrive.

    Closing the iterator keeps what has arrived. Raises HubError.
    """
    if not is_here(file):
        blob = _blob(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file):
            if not blob.is_file():
                yield from _arriving(file)
                _verify(file)
                os.replace(_part(file), blob)
        _link(file)
    yield file.size


def _blob(file: RemoteFile) -> Path:
    return _storage(file) / "blobs" / file.content


def _storage(file: RemoteFile) -> Path:
    return storage_folder(file.repository, file.kind)


def _part(file: RemoteFile) -> Path:
    return _blob(file).with_name(f"{file.content}.incomplete")


@contextmanager
def _locked(file: RemoteFile) -> Iterator[None]:
    """The lock that ``huggingface_hub`` takes for this content. Raises HubError if it is taken."""
    from huggingface_hub.utils import WeakFileLock

    folder = cache_folder() / ".locks" / _storage(file).name
    folder.mkdir(parents=True, exist_ok=True)
    lock = WeakFileLock(folder / f"{file.content}.lock", timeout=0.2)
    try:
        lock.__enter__()
    except TimeoutError:
        raise HubError(
            f"Another program is downloading {file.name} of {file.repository}; wait for it, then "
            "pull again."
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _arriving(file: RemoteFile) -> Iterator[int]:
    """The bytes of the partial file, as they grow to the whole one."""
    failures, before = 0, -1
    while (n := _size(_part(file))) < file.size or n == 0:
        failures = failures + 1 if n == before else 0
        before = n
        try:
            if failures == _ATTEMPTS:
                raise ConnectionError("the connection breaks off")
            yield from _append(file, n)
        except connection_errors() as error:
            if failures >= _ATTEMPTS - 1:
                with hub_errors(file.repository, file.commit):
                    raise error
            time.sleep(_FIRST_WAIT * 2**failures)
        if file.size == 0:
            return
    if n > file.size:
        _part(file).unlink()
        raise HubError(
            f"The hub sends more of {file.name} than the {file.size:,} bytes that it lists; "
            "nothing of it was kept. Try again later, or get the file elsewhere."
        )


def _append(file: RemoteFile, start: int) -> Iterator[int]:
    """One request for the rest of the file, written behind what is there."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    check_online(file.name)
    url = hf_hub_url(
        file.repository,
        file.name,
        repo_type=file.kind,
        revision=file.commit,
        endpoint=endpoint(),
    )
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream("GET", url, headers=headers, timeout=SECONDS) as response:
        if response.status_code not in (200, 206):
            _refused(file, response.status_code)
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise HubError(f"The hub answers with another stretch of {file.name} than was asked.")
        with _part(file).open("ab" if resumed else "wb") as part:
            for data in response.iter_bytes():
                part.write(data)
                if part.tell() > file.size:
                    return
                yield part.tell()


def _refused(file: RemoteFile, status: int) -> None:
    if status == 416:  # what is here is no beginning of it
        _part(file).unlink(missing_ok=True)
    if status >= 500 or status in (408, 416, 429):
        raise ConnectionError(f"the hub answers {status}")
    raise HubError(
        f"The hub answers {status} for {file.name} of {file.repository}; check its name and your "
        "access (`hf auth login`)."
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _verify(file: RemoteFile) -> None:
    """Compare with the hub's checksum: SHA-256 of the content, or Git's SHA-1. Raises HubError."""
    part = _part(file)
    if len(file.content) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {file.size}\0".encode())
    with part.open("rb") as data:
        while block := data.read(1 << 22):
            digest.update(block)
    if digest.hexdigest() != file.content:
        part.unlink()
        raise HubError(
            f"{file.name} of {file.repository} arrived damaged (its checksum is "
            f"{digest.hexdigest()[:12]}, not {file.content[:12]}); it was deleted. Pull again."
        )


def _link(file: RemoteFile) -> None:
    """Let ``huggingface_hub`` put the file into the snapshot; its content is here already."""
    from huggingface_hub import hf_hub_download

    check_online(file.name)
    with hub_errors(file.repository, file.commit):
        path = hf_hub_download(
            file.repository,
            file.name,
            repo_type=file.kind,
            revision=file.commit,
            cache_dir=cache_folder(),
            endpoint=endpoint(),
        )
    if Path(path).resolve().parent != _blob(file).parent.resolve():
        if Path(path).resolve().is_relative_to(_storage(file).resolve()):
            return  # where there are no links, the file itself lies in the snapshot
        raise HubError(f"{path} is a link to a file outside the cache; delete it and pull again.")
