"""CLIP's byte-pair tokens for a trimmed token table.

The same tokens as ``open_clip.SimpleTokenizer`` (the tests compare them), read from the merge
table that open_clip ships, without importing open_clip.
"""

import gzip
import html
import itertools
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

from explorer.errors import ModelError, VocabularyError, nearest_names

START, END, N_TOKENS = 49406, 49407, 49408
_END_OF_WORD = "</w>"
_WORD = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class BytePairs:
    """Text -> CLIP's byte-pair token ids (Sennrich et al. 2016; Radford et al. 2021)."""

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        letters = _letters_of_bytes()
        symbols = list(letters.values())
        symbols += [symbol + _END_OF_WORD for symbol in symbols]
        symbols += ["".join(pair) for pair in merges]
        symbols += ["<start_of_text>", "<end_of_text>"]
        self.symbols = symbols
        self._letters = letters
        self._ids = {symbol: i for i, symbol in enumerate(symbols)}
        self._ranks = {pair: i for i, pair in enumerate(merges)}
        self._cache: dict[str, tuple[int, ...]] = {
            symbol: (self._ids[symbol],) for symbol in symbols[-2:]
        }

    def words(self, text: str) -> list[str]:
        """The words, digits and signs that a cleaned text splits into."""
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
        return _WORD.findall(" ".join(text.split()).lower())

    def ids(self, word: str) -> tuple[int, ...]:
        """Token ids of one word."""
        if word not in self._cache:
            spelled = "".join(self._letters[byte] for byte in word.encode("utf-8"))
            self._cache[word] = tuple(self._ids[part] for part in self._merged(spelled))
        return self._cache[word]

    def _merged(self, word: str) -> list[str]:
        parts = [*word[:-1], word[-1] + _END_OF_WORD]
        while len(parts) > 1:
            pairs = set(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            parts = _join(parts, best)
        return parts


class Vocabulary:
    """The token table of a text tower: which row holds which byte-pair token.

    ``rows_of(texts)`` gives the rows that the text tower reads, padded with row 0's token.
    """

    def __init__(self, tokens: Sequence[int], context_length: int) -> None:
        whole = all(isinstance(token, int) and 0 <= token < N_TOKENS for token in tokens)
        if not whole or list(tokens) != sorted(set(tokens)):
            raise ModelError("The vocabulary must list CLIP's token ids once each, in order.")
        if not tokens or tokens[0] != 0 or START not in tokens or END not in tokens:
            raise ModelError("The vocabulary must hold the tokens for padding, start and end.")
        self.context_length = context_length
        self._rows = {token: row for row, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def words(self) -> list[str]:
        """Every whole word among the tokens, alphabetically."""
        symbols = byte_pairs().symbols
        ended = [symbols[t] for t in self._rows if symbols[t].endswith(_END_OF_WORD)]
        return sorted(symbol.removesuffix(_END_OF_WORD) for symbol in ended)

    def rows_of(self, texts: Sequence[str]) -> Tensor:
        """(n, context_length) int64 rows of the token table.

        Raises VocabularyError naming a word that the table cannot spell, and the nearest words.
        """
        rows = torch.full((len(texts), self.context_length), self._rows[0], dtype=torch.long)
        for i, text in enumerate(texts):
            found = [self._rows[START], *self._rows_of_text(text), self._rows[END]]
            if len(found) > self.context_length:  # cut as open_clip does: the end token stays
                found = [*found[: self.context_length - 1], self._rows[END]]
            rows[i, : len(found)] = torch.tensor(found)
        return rows

    def _rows_of_text(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise VocabularyError(f"A prompt is text, not {text!r}.")
        pairs = byte_pairs()
        rows: list[int] = []
        for word in pairs.words(text):
            ids = pairs.ids(word)
            if any(token not in self._rows for token in ids):
                raise VocabularyError(self._unknown(word))
            rows += [self._rows[token] for token in ids]
        return rows

    def _unknown(self, word: str) -> str:
        near = nearest_names(word, self.words)
        hint = f"The nearest words it knows are {', '.join(map(repr, near))}." if near else ""
        return f"This small text tower does not know the word {word!r}. {hint}".strip()


@lru_cache(maxsize=1)
def byte_pairs() -> BytePairs:
    """CLIP's merge table, read once (about a tenth of a second)."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("open_clip is not installed; install the package open_clip_torch.")
    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : N_TOKENS - 2 - 2 * 256 + 1]
    return BytePairs([tuple(line.split()) for line in lines])  # type: ignore[misc]


def _join(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    i = 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            joined.append(parts[i] + parts[i + 1])
            i += 2
        else:
            joined.append(parts[i])
            i += 1
    return joined


def _letters_of_bytes() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte, in its order (printable bytes first)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + i) for i, byte in enumerate(others)}
