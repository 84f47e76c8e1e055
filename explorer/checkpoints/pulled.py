"""Which files of a published set are on this machine, and removing them. Asks no hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from explorer.checkpoints.hub import COMMIT, storage_folder
from explorer.checkpoints.published import Part, Published
from explorer.checkpoints.zoo import MODEL_FILE
from explorer.errors import CatalogueError, CheckpointError

_MOST_FILES = 20_000


@dataclass(frozen=True)
class Located:
    """The files of a set that are here: the base, and by task the towers and heads.

    ``tangent`` has the towers of tangent fine-tuning that lie beside others of their task.
    """

    base: Path | None
    fine_tuned: Mapping[str, Path]
    heads: Mapping[str, Path]
    tangent: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """All of them."""
        base = [self.base] if self.base is not None else []
        return [*base, *self.fine_tuned.values(), *self.heads.values(), *self.tangent.values()]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)


def locate(entry: Published) -> Located:
    """The files of a set that are on this machine.

    Raises CheckpointError for a file that is a link out of its folder.
    """
    here = _Here(entry)
    fine_tuned = {t: here.find(entry.fine_tuned.of(t)) for t in entry.tasks if entry.fine_tuned}
    heads = {t: here.find(entry.heads.of(t)) for t in entry.tasks if entry.heads}
    tangent = {t: here.find(entry.tangent.of(t)) for t in entry.tasks if entry.tangent}
    parts = (_present(fine_tuned), _present(heads), _present(tangent))
    return Located(here.find(entry.base), *parts)


def remove(entry: Published) -> int:
    """Delete what was pulled of a set; how many bytes that freed.

    A content that other snapshots of the cache refer to is kept. Raises CatalogueError for a set
    that is a folder of the user's own.
    """
    if entry.folder is not None:
        raise CatalogueError(
            f"{entry.name!r} is your own folder {entry.folder}, which is never deleted; take the "
            "entry out of your catalogue with `explorer zoo remove`."
        )
    freed = sum(_remove_file(path) for path in _all_files(entry))
    for repository in {str(w.part.repository) for w in entry.wanted()}:
        storage = storage_folder(repository)
        for part in storage.glob("blobs/*.incomplete"):
            freed += part.stat().st_size
            part.unlink()
        _remove_empty(storage)
    return freed


def _all_files(entry: Published) -> list[Path]:
    """Files of the set, and what came beside them."""
    found: dict[Path, None] = {}
    for path in locate(entry).files:
        if path.name == MODEL_FILE:
            found |= dict.fromkeys(p for p in path.parent.rglob("*") if p.is_file())
            continue
        stem = path.name.removesuffix(".safetensors.index.json")
        shards = path.parent.glob(f"{stem}-*.safetensors") if stem != path.name else []
        found |= dict.fromkeys([path, *shards])
    return list(found)


def _remove_file(path: Path) -> int:
    """Delete a file of a snapshot, and its content when nothing else refers to it."""
    content, size = path.resolve(), path.stat().st_size
    path.unlink()
    if content == path or not content.is_file():
        return size
    snapshots = content.parent.parent / "snapshots"
    if any(other.resolve() == content for other in snapshots.rglob("*") if other.is_symlink()):
        return 0
    content.unlink()
    return size


def _remove_empty(storage: Path) -> None:
    """Delete snapshots without weights, with the configurations left in them, and their refs."""
    kept = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".npy"}
    for snapshot in storage.glob("snapshots/*"):
        if any(p.suffix in kept for p in snapshot.rglob("*")):
            continue
        for path in sorted(snapshot.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                _remove_file(path)
        snapshot.rmdir()
        for ref in storage.glob("refs/**/*"):
            if ref.is_file() and ref.read_text().strip() == snapshot.name:
                ref.unlink()


class _Here:
    """Finds files of a set in its folder or in the hub's cache; each folder is read once."""

    def __init__(self, entry: Published) -> None:
        self.entry = entry
        self.folders: dict[str | None, tuple[Path, Sequence[str]]] = {}

    def find(self, part: Part) -> Path | None:
        if part.repository not in self.folders:
            folder = self._folder(part.repository)
            self.folders[part.repository] = folder, _names(folder)
        folder, names = self.folders[part.repository]
        name = part.find(names)
        return None if name is None else self._inside(folder, name, part.repository)

    def _folder(self, repository: str | None) -> Path:
        if repository is None:
            assert self.entry.folder is not None  # checked when the entry was read
            return self.entry.folder
        storage, revision = storage_folder(repository), self.entry.revision
        if not COMMIT.fullmatch(revision):
            ref = storage / "refs" / revision
            revision = ref.read_text().strip() if ref.is_file() else ""
        return storage / "snapshots" / (revision if COMMIT.fullmatch(revision) else "none")

    def _inside(self, folder: Path, name: str, repository: str | None) -> Path:
        path = folder / name
        home = folder if repository is None else storage_folder(repository)
        if not path.resolve().is_relative_to(home.resolve()):
            raise CheckpointError(
                f"{name} in {folder} is a link to a file outside the folder; nothing outside is "
                "read. Replace the link by the file itself."
            )
        return path


def _names(folder: Path) -> list[str]:
    """Names of the files below a folder, with / between folders."""
    names: list[str] = []
    for path in folder.rglob("*") if folder.is_dir() else []:
        if path.is_file():
            names.append(path.relative_to(folder).as_posix())
        if len(names) > _MOST_FILES:
            raise CatalogueError(
                f"{folder} holds more than {_MOST_FILES:,} files; name the folder of the weights."
            )
    return names


def _present(found: Mapping[str, Path | None]) -> dict[str, Path]:
    return {task: path for task, path in found.items() if path is not None}
