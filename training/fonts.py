"""Which font files are used, which family each belongs to, and which split a family goes to.

A *family* is the unit of splitting: derivatives of one design (M+ and its children, the IPA faces,
the Averia series, DejaVu and Hack) count as one, so that no test glyph has a sibling in the
training data.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont, TTLibError

from . import sources

MERGED = {
    "fonts-mplus": "m+",
    "fonts-vlgothic": "m+",
    "fonts-komatuna": "m+",
    "fonts-ipafont-gothic": "ipa-gothic",
    "fonts-takao-gothic": "ipa-gothic",
    "fonts-averia-gwf": "averia",
    "fonts-averia-sans-gwf": "averia",
    "fonts-averia-serif-gwf": "averia",
    "fonts-dejavu-core": "vera",
    "fonts-dejavu-extra": "vera",
    "fonts-hack": "vera",
    "fonts-crosextra-carlito": "lato",
    "fonts-lato": "lato",
    "fonts-liberation": "noto/droid",
    "fonts-open-sans": "noto/droid",
    "fonts-clear-sans": "noto/droid",
    "fonts-nanum": "nanum",
    "fonts-nanum-extra": "nanum",
    "fonts-noto-cjk": "noto-cjk",
}
FILES_PER_FAMILY = 5


@dataclass(frozen=True)
class Font:
    path: Path
    family: str
    licence: str
    codes: frozenset[int]

    def covers(self, text: str) -> bool:
        return all(ord(c) in self.codes for c in text)


def index(folder: Path) -> list[Font]:
    """Usable fonts under ``folder/fonts``, at most FILES_PER_FAMILY a family, in fixed order."""
    found: list[Font] = []
    taken: dict[str, int] = {}
    for package in sources.FONT_PACKAGES:
        licence = sources.font_licence(folder, package)
        if licence is None:
            continue
        files = sorted(
            p
            for p in (folder / "fonts" / package).rglob("*")
            if p.suffix in (".ttf", ".otf", ".ttc")
        )
        for path in sorted(files, key=_weight_order):
            family = MERGED.get(package, package)
            script = ""
            if package in ("fonts-noto-core", "fonts-noto-extra"):
                name = path.stem.split("-")[0]
                upright = re.search(r"-(Regular|Bold|Light)$", path.stem)
                if re.search(r"Mono|Display|UI|Slanted", name) or not upright:
                    continue
                # Noto's scripts are separate files of one design: count files by script, split by
                # design.
                family, script = ("noto-serif" if "Serif" in name else "noto/droid"), name
            if taken.get(family + script, 0) >= FILES_PER_FAMILY or not path.exists():
                continue
            try:
                codes = frozenset(TTFont(path, fontNumber=0, lazy=True).getBestCmap() or {})
            except TTLibError:
                continue
            if codes:
                taken[family + script] = taken.get(family + script, 0) + 1
                found.append(Font(path, family, licence, codes))
    return found


def _weight_order(path: Path) -> tuple[int, str]:
    order = ["regular", "bold", "light", "italic", "medium", "thin", "black"]
    stem = path.stem.lower()
    rank = next(
        (i for i, word in enumerate(order) if word in stem and "bolditalic" not in stem), len(order)
    )
    return rank, path.name


def split_families(fonts: list[Font], text: str, seed: int) -> dict[str, list[Font]]:
    """Fonts covering ``text``, by split; half of their families are for pretraining."""
    usable = [f for f in fonts if f.covers(text)]
    families = sorted({f.family for f in usable})
    np.random.default_rng(seed).shuffle(families)
    edges = np.round(np.array([0.50, 0.76, 0.84, 1.0]) * len(families)).astype(int)
    split_of: dict[str, str] = {}
    start = 0
    for split, stop in zip(("pretrain", "train", "val", "test"), edges, strict=True):
        split_of.update(dict.fromkeys(families[start:stop], split))
        start = stop
    splits: dict[str, list[Font]] = {"pretrain": [], "train": [], "val": [], "test": []}
    for font in usable:
        splits[split_of[font.family]].append(font)
    return splits
