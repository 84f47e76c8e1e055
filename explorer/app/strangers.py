"""What people see who are not at this machine: no place on its disk."""

from __future__ import annotations

import re
from pathlib import PurePath

from explorer.app.shared_models import SHELF

# A path from a disk's root, of two names or more; not an address, nor owner/name of a hub.
_PATH = re.compile(r"(?<![\w:/\\.~])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\"`:;,()]+){2,}[/\\]?")


def are_here() -> bool:
    """Whether this app is served to people who may not know this machine's folders."""
    return SHELF.offered is not None


def discreet(text: str, folder: str = "") -> str:
    """The text as it may be shown here: for strangers, a path (``folder``, or whatever looks like
    one) is its last name alone."""
    if not are_here():
        return text
    if folder:
        text = text.replace(folder, PurePath(folder).name)
    return _PATH.sub(lambda found: PurePath(found[0]).name, text)
