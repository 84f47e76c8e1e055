"""The hub's copies of a task's images: which parquet files a split has, and getting them."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from explorer.checkpoints.catalogue_file import check_repository, check_revision
from explorer.checkpoints.fetching import bytes_here, fetch, snapshot_path
from explorer.checkpoints.hub import (
    COMMIT,
    RemoteFile,
    cache_folder,
    check_online,
    list_files,
    storage_folder,
)
from explorer.errors import HubError, ImageError

HUB = "hub:"
CARD = "README.md"
DATASET = "dataset"


@dataclass(frozen=True)
class HubCopy:
    """Files of a split that are here, in order; the card's text; which commit they are of."""

    files: tuple[Path, ...]
    card: str
    commit: str


def hub_copy(
    address: str,
    choose: Callable[[Iterable[str]], list[str]],
    download: bool,
    arriving: Callable[[], object] = lambda: None,
) -> HubCopy:
    """The files that ``choose`` takes of the names of "hub:owner/name", or "hub:owner/name@main".

    ``choose`` raises ImageError where a name that it needs is not among those. What is on this
    machine is used as it is, without asking the hub. Otherwise, with ``download``, the files come
    to the hub's cache, each compared with the hub's checksum and continued where it broke off;
    ``arriving()`` is called for every piece. Raises HubError, and what ``choose`` does.
    """
    name, _, wanted = address.removeprefix(HUB).partition("@")
    repository, revision = check_repository(name), check_revision(wanted or "main")
    here = _here(repository, revision, choose)
    if here is not None:
        return here
    if not download:
        raise HubError(
            f"The images of {address} are not on this machine: download=True gets them from the "
            "hub."
        )
    check_online(f"The data set {repository}")
    listing = list_files(repository, revision, DATASET)
    names = choose(listing.files)
    files = [listing.files[n] for n in (*names, *([CARD] if CARD in listing.files else []))]
    _check_room(repository, files)
    for file in files:
        for _ in fetch(file):
            arriving()
    if not COMMIT.fullmatch(revision):  # for when there is no network
        ref = storage_folder(repository, DATASET) / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(listing.commit)
    return _copy([snapshot_path(listing.files[n]) for n in names], listing.commit)


def _here(
    repository: str, revision: str, choose: Callable[[Iterable[str]], list[str]]
) -> HubCopy | None:
    """The same of what an earlier download left; None where files are missing."""
    storage = storage_folder(repository, DATASET)
    if not COMMIT.fullmatch(revision):
        ref = storage / "refs" / revision
        revision = ref.read_text().strip() if ref.is_file() else ""
    snapshot = storage / "snapshots" / revision
    if not COMMIT.fullmatch(revision) or not snapshot.is_dir():
        return None
    known = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()]
    try:
        paths = [snapshot / name for name in choose(known)]
    except ImageError:  # another split came before, or not all of this one
        return None
    for path in paths:
        if not path.resolve().is_relative_to(storage.resolve()):
            raise HubError(
                f"{path} is a link to a file outside the cache; delete it and download again."
            )
    return _copy(paths, revision)


def _copy(paths: list[Path], commit: str) -> HubCopy:
    snapshot = next(p for p in paths[0].parents if p.name == commit)
    card = snapshot / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return HubCopy(tuple(paths), text, commit)


def _check_room(repository: str, files: list[RemoteFile]) -> None:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size - bytes_here(file) for file in files)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise HubError(
            f"The images of {repository} need {needed / 1e9:,.1f} GB more, and {cache} has "
            f"{free / 1e9:,.1f} GB left: make room, or set HF_HUB_CACHE to another disk."
        )
