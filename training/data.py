"""Stage ``data``: the pretraining bank (pictures, captions) and the nine tasks (pictures, labels).

Writes ``bank.npz`` and ``concepts.json`` (see ``bank``), ``tasks/<name>.npz``, ``licences.json``,
and last ``tasks.json``, by which the next stages know that all is there.
"""

import json
from pathlib import Path

import numpy as np

from . import digits, drawn, emoji, fonts, icons, render, sources, writing
from .bank import Arrays, Bank

# Name -> title, class names, and templates of the zero-shot head.
TASKS = {
    "mnist": ("MNIST digits", digits.WORDS, ["the digit {}", "the number {}"]),
    "uci": ("UCI digits", digits.WORDS, ["the digit {}", "the number {}"]),
    "letters": (
        "Letters",
        list(writing.UPPER),
        ["the letter {}", "the capital letter {}"],
    ),
    "hiragana": ("Hiragana", writing.HIRAGANA_NAMES, ["the hiragana letter {}", "hiragana {}"]),
    "scripts": (
        "Scripts",
        list(writing.SCRIPTS),
        ["a letter of the {} script", "{} writing"],
    ),
    "emoji": ("Emoji", emoji.CLASSES, ["an emoji of a {}", "a {} emoji"]),
    "icons": ("Icons", list(icons.CONCEPTS), ["an icon of a {}", "a {} icon"]),
    "counts": ("Counting", drawn.COUNTS[: drawn.MOST], ["a picture of {} shapes", "{} things"]),
    "shapes": ("Shapes", render.SHAPES, ["a {}", "a picture of a {}"]),
}


def build(work: Path) -> None:
    """Make everything of this stage under ``work``; does nothing where it is complete."""
    if (work / "tasks.json").exists():
        return
    raw = work / "raw"
    sources.fetch(raw)
    (work / "tasks").mkdir(parents=True, exist_ok=True)
    info: dict[str, dict] = {}

    def save(name: str, arrays: Arrays) -> None:
        np.savez_compressed(work / "tasks" / f"{name}.npz", **arrays)
        info[name] = _described(name, arrays)
        print(
            f"{name}: {len(info[name]['class_names'])} classes, {info[name]['sizes']}", flush=True
        )

    bank = Bank()
    faces = fonts.index(raw)
    digits.collect(raw, save)
    writing.collect(bank, faces, save)
    emoji.collect(bank, raw, save)
    icons.collect(bank, raw, save)
    drawn.collect(bank, save)
    bank.save(work)
    (work / "licences.json").write_text(json.dumps(_licences(raw, faces)))
    print(
        f"bank: {len(bank.masks)} masks, {len(bank.colour)} colour pictures, "
        f"{len(bank.concepts)} concepts"
    )
    (work / "tasks.json").write_text(json.dumps(info, ensure_ascii=False, indent=1))


def _described(name: str, arrays: Arrays) -> dict:
    """A task's entry in ``tasks.json``."""
    title, class_names, templates = TASKS[name]
    sizes = {k.removesuffix("_labels"): len(v) for k, v in arrays.items() if k.endswith("labels")}
    return {"title": title, "class_names": class_names, "templates": templates, "sizes": sizes}


def _licences(raw: Path, faces: list[fonts.Font]) -> dict:
    """The licence of every font package and every icon set that was used."""
    packages = {(f.path.relative_to(raw / "fonts").parts[0], f.licence) for f in faces}
    icon_sets = [name for names in sources.ICON_SETS.values() for name in names]
    return {
        "fonts": sorted(packages),
        "icons": {name: sources.icon_licence(raw, name) for name in icon_sets},
    }
