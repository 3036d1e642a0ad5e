"""How a text tells: whether it asks, whom it addresses, whether it says when. English word lists."""

from __future__ import annotations

from pathlib import Path

from .terms import words

ASKS, DATED, ADDRESSED = 0, 1, 2
"""Columns of a unit's manner."""
ENOUGH = 3
"""More words of a kind than this say no more."""

_TIME = frozenset(
    word
    for line in Path(__file__).with_name("time_words.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for word in line.split()
)
_ADDRESS = frozenset(("you", "your", "yours", "yourself", "yourselves"))


def manner(text: str) -> tuple[int, int, int]:
    """(asks 0 or 1, words that say when 0..3, words that address somebody 0..3) of `text`."""
    found = words(text)
    dated = sum(word in _TIME for word in found)
    addressed = sum(word in _ADDRESS for word in found)
    return int(asks(text)), min(dated, ENOUGH), min(addressed, ENOUGH)


def asks(text: str) -> bool:
    """Whether `text` ends as a question, which tells less than it asks."""
    return text.rstrip(" \"')]").endswith(("?", "\uff1f"))
