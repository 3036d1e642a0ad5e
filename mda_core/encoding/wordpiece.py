"""BERT's uncased WordPiece tokenizer: a text becomes the numbers of its word pieces.

Source: Devlin et al., "BERT" (2018). Pure standard library.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

MAX_WORD_CHARS: Final = 100  # a longer word is [UNK], as in BERT
CACHED_WORDS: Final = 2048  # about .5 MB; conversations repeat their words
MAX_CACHED_CHARS: Final = 32  # longer words are rare and seldom repeated

# For ASCII one translation does it: lower case, white space to a space, no controls, punctuation set apart.
_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def _ascii_table() -> dict[int, str]:
    table: dict[int, str] = {}
    for code in range(128):
        char = chr(code)
        if char in "\t\n\r ":
            table[code] = " "
        elif code < 32 or code == 127:
            table[code] = ""
        elif char in _PUNCTUATION:
            table[code] = f" {char} "
        else:
            table[code] = char.lower()
    return table


_ASCII: Final = _ascii_table()

# The CJK blocks that BERT sets apart: ideographs, but neither kana nor hangul.
_CJK: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_cjk(code: int) -> bool:
    return code >= 0x3400 and any(low <= code <= high for low, high in _CJK)


def _words_of_unicode(text: str) -> list[str]:
    """Clean, set ideographs apart, decompose, drop accents, lower, split at punctuation, in BERT's order."""
    spaced: list[str] = []
    for char in text:
        if char in "\t\n\r":
            spaced.append(" ")
            continue
        if char in "\x00\ufffd":
            continue
        category = unicodedata.category(char)
        if category in ("Cc", "Cf", "Co", "Cs"):
            continue
        if category == "Zs":
            spaced.append(" ")
        elif _is_cjk(ord(char)):
            spaced.append(f" {char} ")
        else:
            spaced.append(char)
    parts: list[str] = []
    for char in unicodedata.normalize("NFD", "".join(spaced)):
        category = unicodedata.category(char)
        if category == "Mn":
            continue
        if char in _PUNCTUATION or category[0] == "P":
            parts.append(f" {char} ")
        else:
            parts.append(char.lower())
    return "".join(parts).split()


class WordPiece:
    """Turns texts into token numbers. Not thread-safe.

    vocab: the pieces in the order of their numbers. Raises ValueError where it lacks [UNK], [CLS] or [SEP].
    """

    def __init__(self, vocab: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocab)}
        self.size = len(vocab)
        missing = [piece for piece in ("[UNK]", "[CLS]", "[SEP]") if piece not in self._numbers]
        if missing:
            raise ValueError(f"expected the pieces [UNK], [CLS] and [SEP], found no {' '.join(missing)}")
        self.unknown = self._numbers["[UNK]"]
        self.begin = self._numbers["[CLS]"]
        self.end = self._numbers["[SEP]"]
        self._cache: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def forget_words(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    @property
    def cached(self) -> int:
        """Words in the cache, at most CACHED_WORDS."""
        return len(self._cache)

    def tokens(self, text: str) -> list[int]:
        """The numbers of the text's pieces, without [CLS] and [SEP]. The text `[SEP]` is plain text."""
        words = text.translate(_ASCII).split() if text.isascii() else _words_of_unicode(text)
        cache = self._cache
        numbers: list[int] = []
        for word in words:
            pieces = cache.get(word)
            if pieces is None:
                pieces = self._pieces(word)
                if len(word) <= MAX_CACHED_CHARS:
                    cache[word] = pieces
                    if len(cache) > CACHED_WORDS:
                        cache.popitem(last=False)
            else:
                cache.move_to_end(word)
            numbers += pieces
        return numbers

    def framed(self, text: str) -> list[int]:
        """The numbers of [CLS], the text's pieces and [SEP]."""
        return [self.begin, *self.tokens(text), self.end]

    def _pieces(self, word: str) -> tuple[int, ...]:
        """Greedy longest match from the left; a word that cannot be covered is one [UNK]."""
        if len(word) > MAX_WORD_CHARS:
            return (self.unknown,)
        numbers: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self._numbers.get(prefix + word[start:end])
                if number is not None:
                    numbers.append(number)
                    start = end
                    break
            else:
                return (self.unknown,)
        return tuple(numbers)
