"""Catalogue files (YAML): the package's own and the user's, read with checks, entry by entry."""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from explorer.checkpoints.published import MAIN, TASK, Part, Published
from explorer.errors import CatalogueError, nearest_names

FORMAT = 1
USER_FILE = "EXPLORER_CATALOGUE"
ACTIVATIONS = ("quick_gelu", "gelu")
NAMES = ("tall", "fusion_bench")
_LARGEST_FILE = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")
_KEYS: dict[str, type] = {
    "title": str,
    "family": str,
    "repository": str,
    "folder": str,
    "revision": str,
    "base": object,
    "fine_tuned": object,
    "heads": object,
    "tangent": object,
    "tasks": list,
    "size": dict,
    "activation": str,
    "names": str,
    "licence": str,
    "links": list,
    "caveats": list,
}

Entries = dict[str, Published | CatalogueError]
"""Name -> a set, or why its entry cannot be used."""


def package_file() -> Path:
    """The catalogue that comes with the package."""
    return Path(__file__).with_name("catalogue.yml")


def user_file() -> Path:
    """The user's own catalogue: EXPLORER_CATALOGUE, or catalogue.yml in the user's settings."""
    given = os.environ.get(USER_FILE)
    if given:
        return Path(given).expanduser()
    from platformdirs import user_config_path

    return user_config_path("explorer") / "catalogue.yml"


def entries() -> Entries:
    """Every entry of both files; one of the user's takes the place of the package's of its name.

    Raises CatalogueError when a file itself is none.
    """
    found = read_file(package_file())
    if user_file().is_file():
        found |= read_file(user_file())
    return found


def read_file(path: Path) -> Entries:
    """The entries of a file. A bad entry is its CatalogueError, a bad file raises one."""
    models = raw_entries(path)
    found: Entries = {}
    for name, entry in models.items():
        try:
            found[str(name)] = entry_of(name, entry, path)
        except CatalogueError as error:
            found[str(name)] = error
    return found


def raw_entries(path: Path) -> dict[str, Any]:
    """The entries as they are written. Raises CatalogueError."""
    import yaml

    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise CatalogueError(f"{path} is too long for a catalogue; remove what is none of it.")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(
            f"{path} cannot be read ({error.strerror or error}); restore it, or delete it."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CatalogueError(
            f"{path} is not readable as YAML ({reason}); correct it, or delete it."
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict) or not isinstance(data.get("models", {}), dict):
        raise CatalogueError(
            f"{path} must have 'models:' with a name for each, as `explorer zoo add` writes it."
        )
    if data.get("format") != FORMAT:
        raise CatalogueError(
            f"{path} is in format {data.get('format')!r}; this version reads format {FORMAT}. "
            f"Begin it with 'format: {FORMAT}', or update the package."
        )
    return data.get("models", {})


def entry_of(name: object, entry: object, path: Path) -> Published:
    """One entry, checked. Raises CatalogueError naming the file, the entry and the remedy."""
    return _Check(name, entry, path).published()


def check_repository(text: str) -> str:
    """``owner/name`` of a hub. Raises CatalogueError."""
    if not _REPOSITORY.fullmatch(text) or ".." in text:
        raise CatalogueError(f"{text[:80]!r} is no repository of a hub; give it as owner/name.")
    return text


def check_revision(text: str) -> str:
    """A branch, a tag or a commit. Raises CatalogueError."""
    if not _REVISION.fullmatch(text) or ".." in text:
        raise CatalogueError(
            f"{text[:80]!r} is no revision; give a branch, a tag or the 40 digits of a commit."
        )
    return text


class _Check:
    """The checks of one entry; every sentence begins with the file and the entry's name."""

    def __init__(self, name: object, entry: object, path: Path) -> None:
        self.where = f"{path.name}: the entry {str(name)[:60]!r}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.error("needs a name of letters, digits, dots, - and _")
        if not isinstance(entry, Mapping):
            raise self.error("must be a table of settings, such as 'title: ...'")
        self.name, self.entry, self.path = name, entry, path

    def error(self, what: str) -> CatalogueError:
        return CatalogueError(f"{self.where} {what}.")

    def published(self) -> Published:
        self._check_keys()
        folder = self._folder()
        repository = self._repository(self.entry.get("repository"))
        base = self._part("base", repository, folder, needs_task=False)
        if base is None:
            raise self.error("lacks 'base', the file of the tower that the tasks started from")
        fine_tuned = self._part("fine_tuned", repository, folder)
        tasks = self._texts("tasks")
        for task in tasks:
            if not _NAME.fullmatch(task):
                raise self.error(f"has the task {task[:40]!r}, which is no plain name")
        if bool(tasks) != (fine_tuned is not None):
            raise self.error("must have both 'tasks' and 'fine_tuned', or neither")
        if len(set(tasks)) != len(tasks):
            raise self.error("names a task twice; name each once")
        sizes = self._sizes()
        return Published(
            name=self.name,
            title=self.entry["title"],
            family=self.entry.get("family", ""),
            base=base,
            fine_tuned=fine_tuned,
            heads=self._part("heads", repository, folder),
            tangent=self._part("tangent", repository, folder),
            tasks=tasks,
            folder=folder,
            revision=self._revision(),
            activation=self._one_of("activation", ACTIVATIONS),
            names=self._one_of("names", NAMES) or NAMES[0],
            licence=self.entry.get("licence", ""),
            links=self._texts("links"),
            caveats=self._texts("caveats"),
            base_size=sizes.get("base"),
            task_size=sizes.get("each"),
            origin="hub" if folder is None else "local",
        )

    def _check_keys(self) -> None:
        for key, value in self.entry.items():
            if key not in _KEYS:
                near = nearest_names(str(key), _KEYS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
                raise self.error(f"has the setting {str(key)[:40]!r}, which does not exist; {hint}")
            if not isinstance(value, _KEYS[key]):
                wanted = {"str": "text", "list": "a list", "dict": "a table"}[_KEYS[key].__name__]
                raise self.error(f"has {key!r} = {str(value)[:40]!r}; give {wanted}")
        if not self.entry.get("title"):
            raise self.error("lacks 'title', what is shown for it")

    def _folder(self) -> Path | None:
        text = self.entry.get("folder")
        if text is None:
            return None
        if "repository" in self.entry:
            raise self.error("has both 'folder' and 'repository'; keep one")
        folder = Path(text).expanduser()
        return folder if folder.is_absolute() else self.path.parent / folder

    def _repository(self, text: object) -> str | None:
        if text is None:
            return None
        try:
            check_repository(str(text).replace(TASK, "task"))
        except CatalogueError:
            raise self.error(
                f"has the repository {str(text)[:60]!r}; give it as owner/name"
            ) from None
        return str(text)

    def _part(
        self, key: str, repository: str | None, folder: Path | None, needs_task: bool = True
    ) -> Part | None:
        value = self.entry.get(key)
        if value is None:
            return None
        files = value
        if isinstance(value, Mapping) and "repository" not in value and needs_task:
            return self._named_files(key, value, repository, folder)
        if isinstance(value, Mapping):
            if folder is not None:
                raise self.error(f"has a folder, and a repository in {key!r}; keep one")
            if set(value) != {"repository", "files"}:
                raise self.error(f"has {key!r} with other settings than repository and files")
            repository, files = self._repository(value["repository"]), value["files"]
        patterns = tuple(files) if isinstance(files, list) else (files,)
        for pattern in patterns:
            self._check_pattern(key, pattern)
        self._check_place(repository, folder)
        per_task = all(TASK in pattern for pattern in patterns) or TASK in (repository or "")
        if needs_task != per_task:
            word = "must contain" if needs_task else "must not contain"
            raise self.error(f"has {key!r} = {patterns[0]!r}, which {word} {TASK}")
        return Part(repository, patterns)

    def _named_files(
        self, key: str, value: Mapping[Any, Any], repository: str | None, folder: Path | None
    ) -> Part:
        """A part that names each task's file."""
        tasks = self._texts("tasks")
        for task, name in value.items():
            if task not in tasks:
                raise self.error(f"has a file in {key!r} for {str(task)[:40]!r}, which is no task")
            self._check_pattern(key, name)
        self._check_place(repository, folder)
        return Part(repository, by_task=dict(value))

    def _check_place(self, repository: str | None, folder: Path | None) -> None:
        if repository is None and folder is None:
            raise self.error("says nowhere where its files lie; give 'repository' or 'folder'")

    def _check_pattern(self, key: str, pattern: object) -> None:
        if not isinstance(pattern, str) or not pattern.strip():
            raise self.error(f"has {key!r} without a file name; give a pattern of file names")
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts or "\\" in pattern or ":" in pattern:
            raise self.error(
                f"has {key!r} = {pattern[:60]!r}, which leads out of the folder; "
                "give a path inside it, with /"
            )

    def _texts(self, key: str) -> tuple[str, ...]:
        values = self.entry.get(key, [])
        if not all(isinstance(value, str) and value for value in values):
            raise self.error(f"has {key!r} with something that is no text; quote numbers")
        return tuple(values)

    def _sizes(self) -> dict[str, float]:
        sizes = self.entry.get("size", {})
        for key, value in sizes.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if key not in ("base", "each") or not number or not 0 <= value < 1e7:
                raise self.error("has a 'size' that is not {base: MB, each: MB}")
        return {key: 1e6 * value for key, value in sizes.items()}

    def _revision(self) -> str:
        try:
            return check_revision(self.entry.get("revision", MAIN))
        except CatalogueError as error:
            raise self.error(f"has a bad revision: {str(error)[:-1]}") from None

    def _one_of(self, key: str, choices: tuple[str, ...]) -> str | None:
        text = self.entry.get(key)
        if text is not None and text not in choices:
            raise self.error(f"has the {key} {text[:40]!r}; give {' or '.join(choices)}")
        return text
