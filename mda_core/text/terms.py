"""Words of a text: its terms for the lexical dimension, and the identity that tells repeats apart."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from .stemmer import stem

# A number keeps its sign, decimals and clock colons: -5, 21.5, 07:30 and 2026-11-22 are one word each.
_WORD = re.compile(r"(?<!\w)[-+]?\d+(?:[.,:/-]\d+)*|[^\W_]+", re.UNICODE)
# What identity must not lose: words as above, and each other mark that can change the meaning.
_SIGN = re.compile(_WORD.pattern + r"|[?%°€$£#@&=<>*/+-]", re.UNICODE)

# What stands before the first word of a sentence, a quotation or a speaker's turn.
_BEGINS = '.!?:[("\u201c'


def word_list(name: str) -> frozenset[str]:
    """The words of a file beside this one; lines that begin with # are comments."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


FUNCTION_WORDS = word_list("function_words.txt")


def fold(text: str) -> str:
    """`text` without differences of case, compatibility forms and accents written two ways."""
    return unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=256)
def identity(text: str, source: str) -> int:
    """A 63-bit hash, equal for two events that say the same of the same source.

    Case, white space and plain punctuation do not count; every word, number, sign and question
    mark does, in its order.
    """
    said = " ".join(_SIGN.findall(fold(text))) or text
    digest = hashlib.blake2b(f"{source}\0{said}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@lru_cache(maxsize=256)
def surface(text: str) -> int:
    """A 63-bit hash of `text` to the letter, never 0."""
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1) or 1


def terms(text: str) -> Counter[int]:
    """The content terms of `text` (32-bit hashes of stems, never 0) and how often each occurs.

    Han, kana and Thai are written without spaces and taken in pairs of characters.
    """
    found: Counter[int] = Counter()
    for word in words(text):
        if word in FUNCTION_WORDS:
            continue
        if len(word) > 1 and word[0] >= "\u0e00" and _unspaced(word):
            for pair in pairwise(word):
                found[_term("".join(pair))] += 1
        else:
            found[_term(word)] += 1
    return found


def details(text: str) -> frozenset[int]:
    """The terms of `text` that name something: with a digit, or with a capital inside a sentence.

    Where a language's script has no capitals, or writes every noun with one, this tells little and
    does no harm.
    """
    named = set()
    text = unicodedata.normalize("NFKC", text)
    end = 0
    for match in _WORD.finditer(text):
        word, last = match[0], end
        end = match.end()
        if word.isalpha():
            gap = text[last : match.start()].rstrip() if word[0].isupper() else "."
            if last == 0 or (gap != "" and gap[-1] in _BEGINS):
                continue
        named.add(_term(word.casefold()))
    return frozenset(named)


def words(text: str) -> list[str]:
    """The words of `text`, folded, function words included."""
    return _WORD.findall(fold(text))


def length(text: str) -> int:
    """The number of words of `text`, function words included."""
    return len(words(text))


def _unspaced(word: str) -> bool:
    return any(
        "\u0e00" <= c <= "\u0e7f" or "\u3040" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" for c in word
    )


@lru_cache(maxsize=2048)
def _term(word: str) -> int:
    root = stem(word[:64])
    return int.from_bytes(hashlib.blake2b(root.encode(), digest_size=4).digest(), "little") or 1


def forget_words() -> None:
    """Empty the caches here: they hold words and texts."""
    for cached in (identity, surface, _term):
        cached.cache_clear()
    re.purge()  # the filters of sources
