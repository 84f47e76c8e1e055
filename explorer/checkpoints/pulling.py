"""Pulling a published set from a hub: which files, how much, then one after the other."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from explorer.checkpoints.catalogue_file import check_revision
from explorer.checkpoints.fetching import bytes_here, fetch
from explorer.checkpoints.hub import (
    COMMIT,
    Listing,
    RemoteFile,
    cache_folder,
    check_online,
    list_files,
    storage_folder,
)
from explorer.checkpoints.published import Part, Published
from explorer.checkpoints.zoo import MODEL_FILE
from explorer.compute.run import Run
from explorer.errors import CatalogueError, HubError

LARGEST_GB = 64.0
_BESIDE = ("config.json", "open_clip_config.json")
# What a model folder in the zoo's format may hold.
_FOLDER_SUFFIXES = {".json", ".safetensors", ".npz", ".png", ".md", ".txt"}
_SECONDS_BETWEEN_PARTIALS = 0.1


@dataclass(frozen=True)
class Pulled:
    """How far a download is: bytes and files that are here, of how many, and the present file."""

    name: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    file: str = ""
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every file is here."""
        return self.files_done == self.files_total

    def __str__(self) -> str:
        return (
            f"{self.bytes_done / 1e6:,.1f} of {self.bytes_total / 1e6:,.1f} MB, "
            f"{self.files_done} of {self.files_total} files"
        )


def pull(
    name: str,
    tasks: Sequence[str] | None = None,
    revision: str | None = None,
    largest_gb: float = LARGEST_GB,
) -> Run[Pulled]:
    """Download a set of the catalogue, or "hub:owner/name", into the hub's cache.

        for partial in ex.pull("fusion-bench-vit-b-32", tasks=["mnist", "svhn"]):
            print(partial)                      # 12.3 of 1,305.0 MB, 1 of 5 files

    A Run of how much is here. What breaks off or is cancelled continues where it stopped. Every
    file is compared with the hub's checksum. ``tasks`` chooses among the set's; ``revision`` (a
    branch, a tag or a commit) takes the place of the catalogue's. More than ``largest_gb`` is
    refused. Nothing is asked of a hub when EXPLORER_OFFLINE or HF_HUB_OFFLINE is set.

    Raises UnknownNameError, CatalogueError; the run raises HubError.
    """
    from explorer.checkpoints.finding import find_published

    entry = find_published(name)
    if entry.folder is not None:
        raise CatalogueError(f"{name!r} is a folder of this machine: there is nothing to pull.")
    if revision is not None:
        entry = replace(entry, revision=check_revision(revision))
    chosen = entry.choose(tasks)

    def work(run: Run[Pulled]) -> Iterator[Pulled]:
        yield from _pull(run, entry, chosen, largest_gb)

    return Run(work, f"pull {name}")


def _pull(
    run: Run[Pulled], entry: Published, tasks: Sequence[str], largest_gb: float
) -> Iterator[Pulled]:
    check_online(entry.name)
    listings = _Listings(run, entry.revision)
    files, notes = _files(entry, tasks, listings)
    sizes = {file: bytes_here(file) for file in files}
    total = sum(file.size for file in files)
    _check_room(entry, total, sum(sizes.values()), largest_gb)
    done = 0

    def partial(name: str = "") -> Pulled:
        here = sum(sizes.values())
        run.checkpoint(here / total if total else 1.0)
        return Pulled(entry.name, here, total, done, len(files), name, tuple(notes))

    yield partial()
    for file in files:
        last = time.monotonic()
        for n_bytes in fetch(file):
            sizes[file] = n_bytes
            run.checkpoint()
            if time.monotonic() - last > _SECONDS_BETWEEN_PARTIALS:
                last = time.monotonic()
                yield partial(file.name)
        done += 1
        yield partial(file.name)
    listings.remember()


class _Listings:
    """What each repository holds, asked once."""

    def __init__(self, run: Run[Pulled], revision: str) -> None:
        self.run, self.revision = run, revision
        self.found: dict[str, Listing] = {}

    def __getitem__(self, repository: str) -> Listing:
        if repository not in self.found:
            self.run.checkpoint()
            self.found[repository] = list_files(repository, self.revision)
        return self.found[repository]

    def remember(self) -> None:
        """Which commit the revision means, for when there is no network."""
        if COMMIT.fullmatch(self.revision):
            return
        for repository, listing in self.found.items():
            ref = storage_folder(repository) / "refs" / self.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(listing.commit)


def _files(
    entry: Published, tasks: Sequence[str], listings: _Listings
) -> tuple[list[RemoteFile], list[str]]:
    """The files to have, each once, and remarks on those that are not there."""
    files: dict[RemoteFile, None] = {}
    notes = []
    for wanted in entry.wanted(tasks):
        listing = listings[str(wanted.part.repository)]
        name = wanted.part.find(listing.files)
        if name is not None:
            files |= dict.fromkeys(_with_companions(name, listing))
        elif wanted.optional:
            notes.append(f"{listing.repository} has no file for {wanted.what}")
        else:
            raise HubError(_not_there(wanted.what, wanted.part, listing))
    return list(files), notes


def _with_companions(name: str, listing: Listing) -> list[RemoteFile]:
    """A file of weights, its shards and the configurations beside it; or a whole model folder."""
    if PurePosixPath(name).name == MODEL_FILE:
        inside = name.removesuffix(MODEL_FILE)
        return [
            file
            for other, file in listing.files.items()
            if other.startswith(inside) and PurePosixPath(other).suffix in _FOLDER_SUFFIXES
        ]
    folder = PurePosixPath(name).parent
    names = [name, *(str(folder / beside) for beside in _BESIDE)]
    if name.endswith(".safetensors.index.json"):
        stem = name.removesuffix(".safetensors.index.json")
        names += sorted(
            n for n in listing.files if n.startswith(f"{stem}-") and n.endswith(".safetensors")
        )
    return [listing.files[n] for n in dict.fromkeys(names) if n in listing.files]


def _not_there(what: str, part: Part, listing: Listing) -> str:
    shown = ", ".join(sorted(listing.files)[:6]) or "nothing"
    more = f" and {len(listing.files) - 6} more" if len(listing.files) > 6 else ""
    return (
        f"{listing.repository} has no file {' or '.join(part.files)}, where {what} was expected; "
        f"it has {shown}{more}. Add an entry with the right names to your catalogue "
        "(explorer zoo add)."
    )


def _check_room(entry: Published, total: int, here: int, largest_gb: float) -> None:
    if total > largest_gb * 1e9:
        raise HubError(
            f"{entry.name} has {total / 1e9:,.1f} GB, more than the {largest_gb:g} GB that may be "
            "pulled at once: choose some of its tasks, or give a larger limit (--limit)."
        )
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if total - here > free:
        raise HubError(
            f"{entry.name} needs {(total - here) / 1e9:,.1f} GB more, and {cache} has "
            f"{free / 1e9:,.1f} GB left: make room, or set HF_HUB_CACHE to another disk."
        )
