"""Words of a text: its terms for the lexical match, and the hashes by which a repeat is recognised."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from .stemmer import stem

# A number with its sign, decimals, colons and dashes is one word: -5, 21.5, 07:30, 2026-11-22.
_WORD = re.compile(r"(?<!\w)[-+]?\d+(?:[.,:/-]\d+)*|[^\W_]+", re.UNICODE)
# What counts for the identity: words as above, and every other character that can change the meaning.
_SIGN = re.compile(_WORD.pattern + r"|[?%°€$£#@&=<>*/+-]", re.UNICODE)

# Characters before the first word of a sentence, a quotation or a speaker's turn.
_SENTENCE_STARTS = '.!?:[("\u201c'


def word_list(name: str) -> frozenset[str]:
    """The words in a file next to this one; lines that begin with # are comments."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


FUNCTION_WORDS = word_list("function_words.txt")
"""English words that carry grammar and no content."""


def fold(text: str) -> str:
    """`text` in Unicode's form NFKC and case-folded."""
    return unicodedata.normalize("NFKC", text).casefold()


def said(text: str) -> str:
    """What counts of `text` for whether two say the same: every word, number and sign, in order."""
    return " ".join(_SIGN.findall(fold(text))) or text


def signs(text: str) -> frozenset[str]:
    """The signs in `text` that can change its meaning, such as % and #, without question marks."""
    return frozenset(each for each in _SIGN.findall(fold(text)) if not each[-1].isalnum()) - {"?"}


@lru_cache(maxsize=256)
def identity(text: str, source: str) -> int:
    """A 63-bit hash, equal for two events of one source that say the same: the second is a repeat.

    Case, white space and plain punctuation do not count. Every word, number, sign and question mark does,
    and so does their order.
    """
    digest = hashlib.blake2b(f"{source}\0{said(text)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@lru_cache(maxsize=256)
def text_hash(text: str) -> int:
    """A 63-bit hash of the exact text, never 0."""
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1) or 1


def terms(text: str) -> Counter[int]:
    """The content terms of `text` (32-bit hashes of stems, never 0) and how often each occurs.

    Function words are left out. Han, kana and Thai are written without spaces: there each pair of
    neighbouring characters is a term.
    """
    return Counter(order(text))


def order(text: str) -> list[int]:
    """The content terms of `text`, each time it occurs."""
    found = []
    for word in words(text):
        if word in FUNCTION_WORDS:
            continue
        if len(word) > 1 and word[0] >= "\u0e00" and _unspaced(word):
            found += [_term("".join(pair)) for pair in pairwise(word)]
        else:
            found.append(_term(word))
    return found


def details(text: str) -> frozenset[int]:
    """The terms of `text` that are details: words with a digit, and words with a capital letter that do not
    begin a sentence, mostly names.

    In a script without capitals, or a language that writes every noun with one, this finds too little or
    too much, which does no harm.
    """
    named = set()
    text = unicodedata.normalize("NFKC", text)
    end = 0
    for match in _WORD.finditer(text):
        word, last = match[0], end
        end = match.end()
        if word.isalpha():
            gap = text[last : match.start()].rstrip() if word[0].isupper() else "."
            if last == 0 or (gap != "" and gap[-1] in _SENTENCE_STARTS):
                continue
        named.add(_term(word.casefold()))
    return frozenset(named)


def words(text: str) -> list[str]:
    """The words of `text`, case-folded, with the function words."""
    return _WORD.findall(fold(text))


def length(text: str) -> int:
    """The number of words of `text`, with the function words."""
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
    """Empty the caches of this module, which hold words and texts, and that of `re`, which holds filters."""
    for cached in (identity, text_hash, _term):
        cached.cache_clear()
    re.purge()
