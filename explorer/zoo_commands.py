"""`explorer zoo list | add | pull | remove | cache`: the models that can be opened.

Only the standard library is imported at the top, as in ``explorer.cli``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.errors import ExplorerError

if TYPE_CHECKING:
    from explorer.checkpoints.published import Published


_SEARCHED = ["name", "title", "family", "kind", "tasks", "where", "licence"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `zoo` and its actions to the command line's parser."""
    zoo = commands.add_parser("zoo", help="the models that can be opened")
    actions = zoo.add_subparsers(metavar="ACTION", required=True)
    _list_parser(actions.add_parser("list", help="name, family, size, licence, what is here"))
    _add_parser(actions.add_parser("add", help="put a folder or a repository in your catalogue"))
    _pull_parser(actions.add_parser("pull", help="download a set, or what is missing of it"))
    _remove_parser(actions.add_parser("remove", help="delete what was pulled, or your entry"))
    cache = actions.add_parser("cache", help="the maps kept on disk")
    cache.add_argument("--clear", action="store_true", help="delete them")
    cache.set_defaults(run=show_cache)


def _list_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", help="only models that all these words are found in")
    parser.add_argument("--local", action="store_true", help="only what is on this machine")
    parser.add_argument("--open-clip", action="store_true", help="open_clip's pretrained ones too")
    parser.add_argument("--long", action="store_true", help="tasks, sources and caveats as well")
    parser.set_defaults(run=show_list)


def _add_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what it is called in the catalogue")
    parser.add_argument("place", help="a folder, or hub:owner/name")
    parser.add_argument("--title", default="", help="shown in lists (the name)")
    parser.add_argument("--base", help="file of the tower that the tasks started from")
    parser.add_argument("--fine-tuned", help="file of each task, with {task} for its name")
    parser.add_argument("--heads", help="file of each task's head, with {task} for its name")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK")
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"))
    parser.add_argument("--licence", default="")
    parser.set_defaults(run=add)


def _pull_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the catalogue, hub:owner/name or open_clip:NAME/TAG")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="only these")
    parser.add_argument("--revision", help="a branch, a tag or a commit (the catalogue's)")
    parser.add_argument("--limit", type=float, default=64.0, metavar="GB", help="at most (64)")
    parser.set_defaults(run=pull)


def _remove_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a pulled set, or an entry of your catalogue")
    parser.set_defaults(run=remove)


def show_list(arguments: argparse.Namespace) -> None:
    """Print the catalogue."""
    import explorer

    table = explorer.catalog(open_clip=arguments.open_clip).reset_index()
    if arguments.local:
        table = table[table["local"] != "no"]
    for word in arguments.words:
        text = table[_SEARCHED].astype(str).agg(" ".join, axis=1).str.casefold()
        table = table[text.str.contains(word.casefold(), regex=False)]
    if table.empty:
        print("No model of the catalogue has these words; `explorer zoo list` shows all.")
        return
    if not arguments.long:
        table["tasks"] = [str(len(t.split(", "))) if t else "" for t in table["tasks"]]
        columns = ["name", "family", "kind", "tasks", "size", "local", "licence", "problem"]
        print(table[columns].rename(columns={"size": "MB"}).to_string(index=False, na_rep=""))
        return
    for row in table.to_dict("records"):
        print(row.pop("name"))
        for key, value in row.items():
            if value not in ("", None) and value == value:  # NaN is not itself
                print(f"  {key + ':':10} {value}{' MB' if key == 'size' else ''}")


def add(arguments: argparse.Namespace) -> None:
    """Write an entry to the user's catalogue, checked as it will be read."""
    from explorer.checkpoints.user_catalogue import add_entry

    entry: dict[str, object] = {"title": arguments.title or arguments.name}
    if arguments.place.startswith("hub:"):
        entry["repository"] = arguments.place.removeprefix("hub:")
    else:
        entry["folder"] = str(Path(arguments.place).expanduser().resolve())
    for key in ("base", "fine_tuned", "heads", "tasks", "activation", "licence"):
        value = getattr(arguments, key)
        if value:
            entry[key] = value
    path, added = add_entry(arguments.name, entry)
    print(f"{added.name}: {len(added.tasks)} tasks, {added.source}")
    print(f"written to {path}")


def pull(arguments: argparse.Namespace) -> None:
    """Download a set, with a bar in a terminal and a line at the end."""
    from explorer.checkpoints.pulling import pull as start

    run = start(arguments.name, arguments.tasks, arguments.revision, arguments.limit)
    try:
        done = run.result()
    except KeyboardInterrupt:
        print("stopped; what has arrived is kept, and pulling again continues", file=sys.stderr)
        raise
    print(f"{arguments.name}: {done}")
    for note in done.notes:
        print(f"  {note}")
    for caveat in _caveats(arguments.name):
        print(f"  mind: {caveat}")


def _caveats(name: str) -> tuple[str, ...]:
    from explorer.checkpoints.finding import find_published

    return find_published(name).caveats


def remove(arguments: argparse.Namespace) -> None:
    """Delete a set's files from the hub's cache; an entry of the user's from the catalogue."""
    from explorer.checkpoints.finding import find_published
    from explorer.checkpoints.user_catalogue import is_users, remove_entry

    name = arguments.name
    entry = _or_none(find_published, name)
    if entry is not None and entry.folder is None:
        from explorer.checkpoints.pulled import remove as delete

        print(f"{name}: {delete(entry) / 1e6:,.1f} MB deleted")
    if is_users(name):
        print(f"{name}: no longer in {remove_entry(name)}")
    elif entry is None:
        find_published(name)  # raises the reason


def _or_none(find: Callable[[str], Published], name: str) -> Published | None:
    """The set of a name; None for an entry that is wrong, which must be removable too."""
    try:
        return find(name)
    except ExplorerError:
        return None


def show_cache(arguments: argparse.Namespace) -> None:
    """The disentanglement maps kept on disk."""
    from datetime import datetime

    from explorer.compute.store import Store

    store = Store()
    if arguments.clear:
        store.clear()
        print(f"{store.path} is empty now")
        return
    sets = store.listing()
    for kept in sets:
        used = f"{datetime.fromtimestamp(kept.used):%Y-%m-%d %H:%M}"
        print(f"{used}  {kept.megabytes:8.2f} MB  {kept.cells:6d} cells  {kept.title}")
    total = sum(kept.megabytes for kept in sets)
    print(f"{store.path}: {len(sets)} maps, {total:.1f} of {store.cap / 1e6:g} MB")
