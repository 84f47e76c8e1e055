"""Which model a name or a path means: embedded, local, of a catalogue, of a hub, of open_clip."""

from dataclasses import replace
from pathlib import Path

from explorer.checkpoints.catalogue_file import (
    check_repository,
    check_revision,
    entries,
    package_file,
    read_file,
    user_file,
)
from explorer.checkpoints.folders import HUB_WEIGHTS, set_of_path
from explorer.checkpoints.published import Part, Published
from explorer.checkpoints.pulled import locate
from explorer.checkpoints.zoo import (
    MODEL_FILE,
    ModelFolder,
    diffusion_folders,
    model_folders,
    read_folder,
)
from explorer.errors import CatalogueError, ExplorerError, ModelError, UnknownNameError

HUB = "hub:"
OPEN_CLIP = "open_clip:"


def resolve(name_or_path: str | Path) -> ModelFolder | Published:
    """The model folder, or the published set, that a catalogue name or a path means.

    Raises UnknownNameError with the nearest names, CatalogueError for an entry that is wrong,
    CheckpointError for a path without weights, ModelError for a diffusion model.
    """
    text = str(name_or_path)
    if text.startswith((HUB, OPEN_CLIP)):
        return _opened(find_published(text))
    folders = model_folders()
    if text in folders:
        return read_folder(folders[text][1])
    path = Path(text).expanduser()
    looks_like_path = isinstance(name_or_path, Path) or "/" in text or "\\" in text
    if looks_like_path or path.is_dir():
        return read_folder(path) if (path / MODEL_FILE).exists() else set_of_path(path)
    if text in diffusion_folders():
        raise ModelError(f"{text!r} is a diffusion model: open it with ex.open_diffusion.")
    return _opened(find_published(text))


def find_published(name: str) -> Published:
    """The set of a catalogue name, of "hub:owner/name" or of "open_clip:architecture/tag".

    An @ and a revision may follow. Raises UnknownNameError, CatalogueError.
    """
    name, _, revision = name.partition("@")
    if name.startswith(OPEN_CLIP):
        from explorer.checkpoints.open_clip_list import open_clip_set

        found: Published | ExplorerError = open_clip_set(name)
    elif name.startswith(HUB):
        repository = check_repository(name.removeprefix(HUB))
        base = Part(repository, (MODEL_FILE, *HUB_WEIGHTS))
        found = Published(name, repository, "", base, licence="as the hub states")
    else:
        known = published_sets()
        if name not in known:
            raise UnknownNameError("model", name, [*model_folders(), *known])
        found = known[name]
    if isinstance(found, ExplorerError):
        raise found
    return replace(found, revision=check_revision(revision)) if revision else found


def published_sets() -> dict[str, Published | CatalogueError]:
    """Every entry of the catalogues; a file that is none is an entry with its problem."""
    try:
        return dict(entries())
    except CatalogueError as error:
        return read_file(package_file()) | {user_file().name: error}


def _opened(entry: Published) -> ModelFolder | Published:
    """A set, or the model folder that it turned out to be."""
    base = locate(entry).base
    if base is not None and base.name == MODEL_FILE:
        return read_folder(base.parent)
    return entry
