"""What can go wrong, as sentences: which file or value, what is wrong with it, what to do."""

import difflib
from collections.abc import Iterable


class ExplorerError(Exception):
    """Base of every error a person can cause or meet; ``str(error)`` is a sentence to show."""


class CheckpointError(ExplorerError):
    """A file of weights that cannot be read, or that does not fit its base."""


class RecipeError(ExplorerError):
    """A recipe, a link or a schedule that makes no sense."""


class ModelError(ExplorerError):
    """A model folder, an architecture or a device that cannot be used."""


class VocabularyError(ExplorerError):
    """A word that the trimmed text tower does not know, or a prompt that is no prompt."""


class ImageError(ExplorerError):
    """Images or labels that are none."""


class ExportError(ExplorerError):
    """A file that cannot be written: it is there already, or the disk will not take it."""


class CatalogueError(ExplorerError):
    """A catalogue file, or an entry of one, that makes no sense."""


class HubError(ExplorerError):
    """A hub that cannot be reached or does not hold what was asked for."""


class NothingFeasibleError(ExplorerError):
    """A search in which no candidate satisfies the constraint."""


class GrammarError(ExplorerError):
    """A grammar that cannot exist, or evidence and noise that are none for it."""


class MemoryShortage(ExplorerError):
    """The device or the machine has no memory left for what was asked."""


class BusyError(ExplorerError):
    """Something expensive that was asked for too often, or that this server does not offer."""


class RunCancelled(ExplorerError):
    """The run was cancelled before it had a result."""


class UnknownNameError(ExplorerError, KeyError):
    """A name that is not among the choices; names the nearest ones.

    Attributes: ``kind`` ("task", "model", ...), ``name``, and the lists ``choices``, ``nearest``.
    """

    def __init__(self, kind: str, name: object, choices: Iterable[str]) -> None:
        self.kind = kind
        self.name = str(name)
        self.choices = [str(choice) for choice in choices]
        self.nearest = nearest_names(self.name, self.choices)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        start = f"There is no {self.kind} {self.name!r}."
        if self.nearest:
            return f"{start} Did you mean {_either(self.nearest)}?"
        if not self.choices:
            return f"{start} None is available here."
        shown = ", ".join(repr(choice) for choice in self.choices[:12])
        more = f" and {len(self.choices) - 12} more" if len(self.choices) > 12 else ""
        return f"{start} Choose among {shown}{more}."

    def __str__(self) -> str:  # KeyError would show the repr, quotes and all
        return self.args[0]

    def __reduce__(self):
        return type(self), (self.kind, self.name, self.choices)


def nearest_names(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The at most ``n`` choices closest in spelling to ``name`` (case ignored), best first."""
    by_folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=n, cutoff=0.5)
    return [by_folded[folded] for folded in close]


def _either(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
