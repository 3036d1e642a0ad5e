"""How a text tells: whether it asks, dates, addresses, denies, gives numbers. English word lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .terms import fold, word_list, words

ASKS, DATED, ADDRESSED, DENIES, NUMBERED = range(5)
"""Columns of a unit's manner."""
KINDS = 5
ENOUGH = 3
"""More words of a kind than this say no more."""

_TIME = word_list("time_words.txt")
_ADDRESS = frozenset(("you", "your", "yours", "yourself", "yourselves"))
_DENIAL = frozenset(
    ("no", "not", "never", "none", "nothing", "nobody", "nowhere", "neither", "nor", "without", "cannot")
)
_CONTRACTED = re.compile(r"n['\u2019]t\b")


def manner(text: str) -> tuple[int, int, int, int, int]:
    """Of `text`: asks 0 or 1, words that say when 0..3, words that address somebody 0..3, denies
    0 or 1, holds a number 0 or 1."""
    found = words(text)
    dated = sum(word in _TIME for word in found)
    addressed = sum(word in _ADDRESS for word in found)
    numbered = any(word[-1].isdigit() for word in found)
    denied = _denies(text, found)
    return int(asks(text)), min(dated, ENOUGH), min(addressed, ENOUGH), int(denied), int(numbered)


def asks(text: str) -> bool:
    """Whether `text` ends as a question, which tells less than it asks."""
    return text.rstrip(" \"')]").endswith(("?", "\uff1f"))


def denies(text: str) -> bool:
    """Whether `text` has a word of negation."""
    return _denies(text, words(text))


def _denies(text: str, found: Sequence[str]) -> bool:
    return not _DENIAL.isdisjoint(found) or _CONTRACTED.search(fold(text)) is not None
