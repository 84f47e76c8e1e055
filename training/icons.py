"""Icons of many sets: concepts for pretraining, and a task of sixteen that is split by icon set."""

import itertools
import json
import re
from pathlib import Path

import numpy as np

from . import augment, render, sources
from .bank import Bank, Save, no_pictures, sampled, task_arrays

# Class of the task -> the names that icon sets give it.
CONCEPTS = {
    "heart": ["heart"],
    "key": ["key"],
    "cloud": ["cloud"],
    "house": ["home", "house"],
    "clock": ["clock", "time"],
    "star": ["star"],
    "bell": ["bell", "notification", "notifications"],
    "camera": ["camera", "photo-camera"],
    "lock": ["lock", "locked"],
    "umbrella": ["umbrella"],
    "flag": ["flag"],
    "car": ["car"],
    "phone": ["phone", "call", "telephone"],
    "book": ["book"],
    "envelope": ["mail", "envelope", "email"],
    "bin": ["trash", "trash-can", "bin", "delete", "delete-bin"],
}
# Words that tell how an icon is drawn, not what it shows.
STYLE = {
    "outline", "outlined", "filled", "fill", "line", "bold", "thin", "light", "duotone",
    "regular", "solid", "sharp", "rounded", "round", "linear", "broken", "alt", "variant",
    "off", "twotone", "two", "tone", "color", "mini", "micro", "f", "s", "o", "circle",
    "square",
}  # fmt: skip
BRANDS = {
    "logo", "brand", "google", "facebook", "twitter", "github", "gitlab", "apple", "microsoft",
    "windows", "android", "linux", "ubuntu", "amazon", "aws", "adobe", "figma", "slack",
    "discord", "whatsapp", "telegram", "instagram", "youtube", "linkedin", "pinterest",
    "reddit", "spotify", "netflix", "steam", "xbox", "playstation", "paypal", "visa",
    "mastercard", "stripe", "bitcoin", "ethereum", "npm", "docker", "react", "angular", "vue",
    "python", "java", "javascript", "typescript", "php", "chrome", "firefox", "safari", "edge",
    "opera", "dropbox", "tiktok", "twitch", "vimeo", "skype", "wordpress",
}  # fmt: skip
# A view box where neither the icon nor its set gives one.
BOX = {"left": 0, "top": 0, "width": 16, "height": 16}
PER_CONCEPT = 14  # icons of a concept in the bank; of the task's concepts four times as many


def _concept(name: str) -> str | None:
    """Icon name without style words and sizes: "home-24-filled" -> "home".

    None for brands and odd names.
    """
    words = [w for w in name.split("-") if w]
    if BRANDS & set(words):
        return None
    droppable = STYLE - {"circle", "square", "off"}
    while words and (words[-1] in droppable or re.fullmatch(r"\d+", words[-1])):
        words.pop()
    if not words or len(words) > 3 or not all(re.fullmatch(r"[a-z]{2,}", w) for w in words):
        return None
    return " ".join(words)


def _icons(folder: Path, name: str) -> dict[str, list[dict]]:
    """Concept -> SVG bodies with their view boxes, for one icon set (one size of each drawing)."""
    data = json.loads((folder / "node_modules/@iconify-json" / name / "icons.json").read_text())
    found: dict[str, list[dict]] = {}
    for key, entry in data["icons"].items():
        other_size = name == "fluent" and "-24-" not in key
        if entry.get("hidden") or other_size or "animate" in entry["body"]:
            continue
        concept = _concept(key)
        if concept is not None:
            box = [entry.get(k, data.get(k, default)) for k, default in BOX.items()]
            found.setdefault(concept, []).append({"body": entry["body"], "box": box})
    return found


def _draw(items: list[dict], most: int, rng: np.random.Generator) -> list[np.ndarray]:
    masks = [render.icon(i["body"], *map(float, i["box"])) for i in sampled(items, most, rng)]
    return [mask for mask in masks if mask is not None]


def collect(bank: Bank, folder: Path, save: Save) -> None:
    """Add the concepts that two pretraining sets share to the bank; save the task ``icons``."""
    rng = np.random.default_rng(10)
    labels = {
        alias.replace("-", " "): label
        for label, aliases in enumerate(CONCEPTS.values())
        for alias in aliases
    }
    _add_shared(bank, folder, labels, rng)
    pictures = no_pictures()
    for split in pictures:
        # The task may train on sets that the base has seen; its validation and test sets are new.
        seen = sources.ICON_SETS["pretrain"] if split == "train" else []
        for name in [*sources.ICON_SETS[split], *seen]:
            for concept, items in _icons(folder, name).items():
                if concept in labels:
                    pictures[split] += [(m, labels[concept]) for m in _draw(items, 8, rng)]
    repeats = {"train": 4, "val": 4, "test": 2}
    save("icons", task_arrays(pictures, repeats, augment.badge, seed=11))


def _add_shared(bank: Bank, folder: Path, labels: dict[str, int], rng: np.random.Generator) -> None:
    by_concept: dict[str, list[list[dict]]] = {}
    for name in sources.ICON_SETS["pretrain"]:
        for concept, items in _icons(folder, name).items():
            by_concept.setdefault(concept, []).append(items)
    class_names = list(CONCEPTS)
    for concept, sets in sorted(by_concept.items()):
        if len(sets) < 2:
            continue
        in_task = concept in labels
        word = class_names[labels[concept]] if in_task else concept
        captions = {f"icon {word}": [f"an icon of a {word}", f"a {word} icon"]}
        if concept != word:
            captions[f"icon {concept}"] = [f"an icon of a {concept}"]
        items = list(itertools.chain(*sets))
        masks = _draw(items, 4 * PER_CONCEPT if in_task else PER_CONCEPT, rng)
        bank.add("icons", captions, masks)
