"""Features of a text that say how much it is worth keeping, and what sets it apart. English word lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .terms import fold, word_list, words

QUESTION, TIME_WORDS, SECOND_PERSON, NEGATED, NUMBERED = range(5)
"""Column of each feature."""
FEATURES = 5
"""Columns."""
MAX_COUNT = 3
"""Words of one kind are counted up to this: more of them say no more."""

_TIME = word_list("time_words.txt")
_SECOND_PERSON = frozenset(("you", "your", "yours", "yourself", "yourselves"))
_NEGATION = frozenset(
    ("no", "not", "never", "none", "nothing", "nobody", "nowhere", "neither", "nor", "without", "cannot")
)
_CONTRACTED_NOT = re.compile(r"n['\u2019]t\b")


def text_features(text: str) -> tuple[int, int, int, int, int]:
    """(question 0 or 1, words of time 0 to 3, words that address somebody 0 to 3, negated 0 or 1, contains
    a number 0 or 1) of `text`."""
    found = words(text)
    time_words = sum(word in _TIME for word in found)
    second_person = sum(word in _SECOND_PERSON for word in found)
    numbered = any(word[-1].isdigit() for word in found)
    negated = _is_negated(text, found)
    return (
        int(is_question(text)),
        min(time_words, MAX_COUNT),
        min(second_person, MAX_COUNT),
        int(negated),
        int(numbered),
    )


def is_question(text: str) -> bool:
    """Whether `text` ends with a question mark."""
    return text.rstrip(" \"')]").endswith(("?", "\uff1f"))


def is_negated(text: str) -> bool:
    """Whether `text` has a word of negation."""
    return _is_negated(text, words(text))


def _is_negated(text: str, found: Sequence[str]) -> bool:
    return not _NEGATION.isdisjoint(found) or _CONTRACTED_NOT.search(fold(text)) is not None
