"""What a hub holds, asked through ``huggingface_hub``: files with their sizes and checksums.

Nothing that a hub says is trusted: names must stay inside the folder, hashes must be hashes.
"""

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from explorer.errors import HubError

OFFLINE = ("EXPLORER_OFFLINE", "HF_HUB_OFFLINE")
SECONDS = 30.0
"""How long a hub may be silent."""
_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
NO = {"", "0", "no", "off", "false"}


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: ``content`` is its SHA-256, or Git's SHA-1 for one outside LFS.

    ``kind`` is what the repository is, "model" or "dataset".
    """

    repository: str
    commit: str
    name: str
    size: int
    content: str
    kind: str = "model"


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit, by their names."""

    repository: str
    commit: str
    files: Mapping[str, RemoteFile]


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or huggingface.co."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def cache_folder() -> Path:
    """Where ``huggingface_hub`` keeps what it downloads: HF_HUB_CACHE, or its own default."""
    from huggingface_hub import constants

    return Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE).expanduser()


def storage_folder(repository: str, kind: str = "model") -> Path:
    """A repository's folder in the cache: blobs by content, snapshots by commit, refs by name."""
    return cache_folder() / f"{kind}s--{repository.replace('/', '--')}"


def check_online(what: str) -> None:
    """Raise HubError where a variable forbids to ask the hub."""
    for variable in OFFLINE:
        if os.environ.get(variable, "").lower() not in NO:
            raise HubError(
                f"{what} is not on this machine, and {variable} is set, so that no hub is asked. "
                f"Unset {variable} and pull it, or copy the files and add their folder with "
                "`explorer zoo add`."
            )


def list_files(repository: str, revision: str, kind: str = "model") -> Listing:
    """The files of a repository at a branch, a tag or a commit. Raises HubError."""
    from huggingface_hub import HfApi

    check_online(repository)
    with hub_errors(repository, revision):
        api = HfApi(endpoint=endpoint())
        asked = api.dataset_info if kind == "dataset" else api.model_info
        info = asked(repository, revision=revision, files_metadata=True, timeout=SECONDS)
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit):
        raise HubError(f"The hub gives {commit[:40]!r} for a commit of {repository}; ask another.")
    files = {}
    for sibling in info.siblings or []:
        lfs = sibling.lfs
        content = str(lfs.sha256 if lfs is not None else sibling.blob_id)
        size = lfs.size if lfs is not None else sibling.size
        name = check_name(sibling.rfilename, repository)
        if not _HEX.fullmatch(content) or not isinstance(size, int) or size < 0:
            raise HubError(
                f"The hub gives neither size nor checksum for {name!r} of {repository}; it cannot "
                "be downloaded safely. Get the file elsewhere and add its folder."
            )
        files[name] = RemoteFile(repository, commit, name, size, content, kind)
    return Listing(repository, commit, files)


def check_name(name: str, repository: str) -> str:
    """A file's name that stays inside a folder. Raises HubError for one that leads out."""
    path = PurePosixPath(name)
    bad = {"", ".", ".."} & {*name.split("/")} or path.is_absolute()
    if bad or "\\" in name or ":" in name or "\0" in name or len(name) > 400:
        raise HubError(
            f"{repository} names the file {name[:80]!r}, which leads out of its folder: nothing of "
            "it was downloaded. Do not use this repository."
        )
    return name


def connection_errors() -> tuple[type[Exception], ...]:
    """What a broken connection raises, whichever library the hub's client is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    found: list[type[Exception]] = [OSError, HfHubHTTPError]
    for library, name in (("httpx2", "HTTPError"), ("httpx", "HTTPError")):
        try:
            found.append(getattr(importlib.import_module(library), name))
        except ImportError:
            continue
    return tuple(found)


@contextmanager
def hub_errors(repository: str, revision: str) -> Iterator[None]:
    """Turn what ``huggingface_hub`` raises into HubErrors, each with its remedy."""
    from huggingface_hub import errors

    try:
        yield
    except HubError:
        raise
    except errors.GatedRepoError:
        raise HubError(
            f"{repository} asks for an agreement first: accept it on {endpoint()}/{repository}, "
            "log in with `hf auth login`, and try again."
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"The hub has no repository {repository!r}, or it is private. Check the name, or log "
            "in with `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(
            f"{repository} has no revision {revision!r}; give a branch, a tag or a commit of it."
        ) from None
    except errors.HFValidationError:
        raise HubError(f"{repository!r} is no name of a repository; give owner/name.") from None
    except connection_errors() as error:
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise HubError(
            f"The hub does not answer for {repository} ({reason}). Check the connection and try "
            "again: what has arrived is kept, and the rest follows."
        ) from None
