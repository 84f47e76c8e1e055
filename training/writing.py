"""Letters, printed digits, signs, kana and ten scripts, rendered from fonts.

All three tasks are split by font family; the letters of the task ``scripts`` are moreover other
ones than the base saw.
"""

import itertools
import re
import unicodedata
from pathlib import Path

import numpy as np
from PIL import ImageFont

from . import augment, digits, fonts, render
from .bank import Bank, Captions, Save, no_pictures, sampled, shared_out, task_arrays

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIGNS = (
    "αβγδεζηθλμξπρσφχψωΓΔΘΛΞΠΣΦΨΩбвгджзийлптфцчшщъыьэюяБГДЖИЛПФЦЧШЩЭЮЯ!?&%@#$€£+−×÷=<>()[]{}/*;:,."
)
HIRAGANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
)
HIRAGANA_TASK = "あいうえおかきくけこさしすせそたちつてと"
SCRIPTS = {
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "bengali": "অআইঈউঊঋএঐওঔকখগঘঙচছজঝঞটঠডঢণতথদধনপফবভমযরলশষসহ",
    "devanagari": "अआइईउऊऋएऐओऔकखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह",
    "georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    "hangul": (
        "가나다라마바사아자차카타파하고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후"
        "강남달말밤산일집칠팔한글책꽃물불밥국"
    ),
    "chinese": (
        "一二三四五六七八九十日月火水木金土山川田人口手足目耳心大小中上下左右天空雨花草虫魚鳥犬"
        "牛馬車石竹糸米男女子学校先生年白赤青本文字音夕休見早王玉正町村林森力立"
    ),
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשתךםןףץ",
    "katakana": (
        "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
    ),
    "tamil": "அஆஇஈஉஊஎஏஐஒஓஔகஙசஞடணதநபமயரலவழளறன",
    "thai": "กขคฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ",
}


class Glyphs:
    """Glyph masks of characters by split of font family, with the faces opened once."""

    def __init__(self, faces: list[fonts.Font], text: str, seed: int) -> None:
        self.splits = fonts.split_families(faces, text, seed)
        self.open: dict[Path, ImageFont.FreeTypeFont] = {}

    def masks(self, char: str, split: str | None = None) -> list[np.ndarray]:
        """One mask for each face of a split (or of all splits) that has the character."""
        faces = self.splits[split] if split else itertools.chain(*self.splits.values())
        found = []
        for font in faces:
            if not font.covers(char):
                continue
            if font.path not in self.open:
                self.open[font.path] = ImageFont.truetype(font.path, 60)
            mask = render.glyph(self.open[font.path], char)
            if mask is not None:
                found.append(mask)
        return found


def letter_name(char: str) -> tuple[str, str]:
    """Script and own name of a character, from its Unicode name, in lower case."""
    name = unicodedata.name(char).lower()
    kinds = "capital letter|small letter|letter|syllable|character"
    match = re.match(rf"([a-z]+) (?:{kinds}) (.+)", name)
    if match is None:
        return "", name
    return match.group(1), match.group(2).split(" character ")[-1]


HIRAGANA_NAMES = [letter_name(char)[1] for char in HIRAGANA_TASK]


def collect(bank: Bank, faces: list[fonts.Font], save: Save) -> None:
    """Add all writing to the bank; save the tasks ``letters``, ``hiragana`` and ``scripts``."""
    latin = Glyphs(faces, "AaBbZz09", seed=1)
    letters(bank, latin, save)
    printed_digits(bank, latin)
    signs(bank, latin)
    hiragana(bank, Glyphs(faces, HIRAGANA, seed=2), save)
    scripts(bank, faces, save)


def letters(bank: Bank, latin: Glyphs, save: Save) -> None:
    """Latin letters, large and small, by font family; the task has the capitals."""
    pictures = no_pictures()
    for label, char in enumerate(UPPER):
        either = [f"the letter {char}", f"letter {char}"]
        upper = [f"the capital letter {char}", f"an uppercase {char}"]
        lower = [f"the small letter {char}", f"a lowercase {char}"]
        captions = {f"letter {char}": either, f"upper {char}": upper}
        bank.add("latin", captions, latin.masks(char, "pretrain"))
        captions = {f"letter {char}": either, f"lower {char}": lower}
        bank.add("latin", captions, latin.masks(char.lower(), "pretrain"))
        for split in pictures:
            pictures[split] += [(mask, label) for mask in latin.masks(char, split)]
    save("letters", task_arrays(pictures, {"train": 2}, augment.street, seed=3))


def printed_digits(bank: Bank, latin: Glyphs) -> None:
    """Digits in every face: no task is made of printed digits."""
    for value, word in enumerate(digits.WORDS):
        captions = {
            f"digit {value}": [
                f"the digit {word}",
                f"the number {word}",
                f"the digit {value}",
                f"the number {value}",
                f"a {word}",
            ]
        }
        bank.add("digits", captions, latin.masks(str(value)))


def _script_captions(script: str) -> Captions:
    texts = [f"a letter of the {script} script", f"{script} writing", f"a {script} letter"]
    return {f"script {script}": texts}


def signs(bank: Bank, latin: Glyphs) -> None:
    """Greek, Cyrillic and punctuation, for the bank only."""
    for char in SIGNS:
        script, name = letter_name(char)
        captions = {f"char {char}": [f"the {script} letter {name}" if script else f"the {name}"]}
        if script:
            captions |= _script_captions(script)
        bank.add("scripts", captions, latin.masks(char, "pretrain"))


def hiragana(bank: Bank, kana: Glyphs, save: Save) -> None:
    """Hiragana by font family; the task has the first twenty."""
    pictures = no_pictures()
    for char in HIRAGANA:
        name = letter_name(char)[1]
        captions = {
            f"hiragana {name}": [f"the hiragana letter {name}", f"hiragana {name}"],
            "script hiragana": ["a letter of the hiragana script", "hiragana writing"],
        }
        bank.add("kana", captions, kana.masks(char, "pretrain"))
        if char in HIRAGANA_TASK:
            label = HIRAGANA_TASK.index(char)
            for split in pictures:
                pictures[split] += [(mask, label) for mask in kana.masks(char, split)]
    repeats = {"train": 5, "val": 2, "test": 3}
    save("hiragana", task_arrays(pictures, repeats, augment.crossed, seed=4))


def scripts(bank: Bank, faces: list[fonts.Font], save: Save) -> None:
    """Ten writing systems: the base and the task know different letters; the task splits fonts."""
    rng, again = np.random.default_rng(5), np.random.default_rng(55)
    pictures = no_pictures()
    for label, (script, chars) in enumerate(SCRIPTS.items()):
        glyphs = Glyphs(faces, chars[:3], seed=2)
        parts = shared_out(list(chars), rng)
        for char in parts["pretrain"]:
            name = letter_name(char)[1]
            captions = _script_captions(script)
            if "ideograph" not in name:
                captions[f"char {char}"] = [f"the {script} letter {name}"]
            bank.add("scripts", captions, glyphs.masks(char))
        # The task: letters that the base never saw, with families of fonts on different sides.
        spare = "val" if glyphs.splits["val"] else "train"
        side = {"pretrain": "train", "train": "train", "test": "test", spare: "val"}
        mine = no_pictures()
        for char in [*parts["train"], *parts["val"], *parts["test"]]:
            found = [(s, mask) for s in glyphs.splits for mask in glyphs.masks(char, s)]
            for i in rng.permutation(len(found)):
                mine[side[found[i][0]]].append((found[i][1], label))
        # At most so many pictures of a script: some have many more fonts than others.
        for split, most in (("train", 400), ("val", 50), ("test", 110)):
            pictures[split] += sampled(mine[split], most, again)
    save("scripts", task_arrays(pictures, {}, augment.mild, seed=5))
