"""Google's and Twitter's emoji; ten groups of them are split by root name, vendors together.

The root of a name leaves out who is shown, so that "man running" and "woman running" stay on one
side of the split.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import augment, render
from .bank import Bank, Captions, Save, no_pictures, sampled, shared_out, task_arrays

# Group -> pattern of "category/subcategory" in Unicode's table.
GROUPS = {
    "face": r"Smileys & Emotion/face-.*",
    "person": r"People & Body/(person.*|family)",
    "hand": r"People & Body/hand.*",
    "flag": r"Flags/.*",
    "animal": r"Animals & Nature/animal-.*",
    "food": r"Food & Drink/(food-.*|drink)",
    "vehicle": r"Travel & Places/transport-.*",
    "building": r"Travel & Places/place-(building|religious)",
    "clothing": r"Objects/clothing",
    "sign": r"Symbols/(alphanum|keycap|av-symbol|religion|zodiac|transport-sign|warning)",
}
# The classes of the task; a hand or a hat, seen in few emoji, is not told from others at 32 pixels.
CLASSES = ["face", "person", "flag", "animal", "food", "vehicle", "sign"]
NOT_IN_ROOT = (
    r"\b(man|woman|men|women|person|people|male|female|boy|girl|in|with|facing|right|cat)\b"
)
VENDORS = ("google", "twitter")
MOST = {"train": 220, "val": 60, "test": 110}  # pictures of a group


@dataclass(frozen=True)
class Emoji:
    """One entry of the table; ``group`` is None where it belongs to no class of the task."""

    name: str
    topic: str
    group: str | None
    pictures: list[np.ndarray]

    @property
    def root(self) -> str:
        words = re.sub(NOT_IN_ROOT, " ", self.name).split()
        return " ".join(sorted(words)[:2]) or self.name

    @property
    def captions(self) -> Captions:
        own = {f"emoji {self.name}": [f"an emoji of a {self.name}", self.name]}
        if self.group is None:
            return own | {f"topic {self.topic}": [f"a {self.topic} emoji"]}
        return own | {
            f"group {self.group}": [f"an emoji of a {self.group}", f"a {self.group} emoji"]
        }


def collect(bank: Bank, folder: Path, save: Save) -> None:
    """Add emoji outside the groups, and each group's pretraining share; save the task ``emoji``."""
    by_root: dict[str, dict[str, list[Emoji]]] = {group: {} for group in GROUPS}
    for emoji in _read(folder):
        if emoji.group is None:
            bank.add("emoji", emoji.captions, emoji.pictures)
        else:
            by_root[emoji.group].setdefault(emoji.root, []).append(emoji)

    rng, again = np.random.default_rng(6), np.random.default_rng(66)
    pictures = no_pictures()
    for group, roots in by_root.items():
        parts = shared_out(sorted(roots), rng)
        members = {split: [e for root in parts[split] for e in roots[root]] for split in parts}
        for emoji in members["pretrain"]:
            bank.add("emoji", emoji.captions, emoji.pictures)
        labelled = {
            split: [(picture, group) for emoji in found for picture in emoji.pictures]
            for split, found in members.items()
        }
        for split, most in MOST.items():
            pictures[split] += sampled(labelled[split], most, rng)
        # The task may train on emoji that the base has seen.
        pictures["train"] += sampled(labelled["pretrain"], MOST["train"], again)
    for split, items in pictures.items():
        pictures[split] = [(p, CLASSES.index(g)) for p, g in items if g in CLASSES]
    save("emoji", task_arrays(pictures, {"train": 4}, augment.mild_colour, seed=6))


def _read(folder: Path) -> Iterator[Emoji]:
    """Every emoji of the table in its own order, but for parts of emoji (skin tones, hair)."""
    modules = folder / "node_modules"
    entries = json.loads((modules / "emoji-datasource-google/emoji.json").read_text())
    for entry in sorted(entries, key=lambda e: e["sort_order"]):
        if entry["category"] == "Component":
            continue
        where = f"{entry['category']}/{entry['subcategory']}"
        group = next((g for g, pattern in GROUPS.items() if re.fullmatch(pattern, where)), None)
        name = (entry["name"] or entry["short_name"]).lower().replace("flag: ", "flag of ")
        name = re.sub(r"[^a-z0-9 ]+", " ", name).strip()
        topic = entry["subcategory"].replace("-", " ").replace(" & ", " ")
        pictures = [
            render.emoji(modules / f"emoji-datasource-{v}/img/{v}/64" / entry["image"])
            for v in VENDORS
            if entry[f"has_img_{v}"]
        ]
        yield Emoji(name, topic, group, pictures)
