"""Compares MQTT topic filters: which covers another, which overlap, and which of a list are needed."""

from __future__ import annotations

from collections.abc import Iterable


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every topic that `narrow` matches."""
    if narrow.startswith("$") and wide[:1] in ("+", "#"):
        return False  # a wildcard in the first level does not match the broker's own topics
    levels, others = ("#" if wide == "+/#" else wide).split("/"), narrow.split("/")
    for i, level in enumerate(levels):
        if level == "#":
            return True
        if i >= len(others) or others[i] == "#" or level not in ("+", others[i]):
            return False
    return len(levels) == len(others)


def overlap(one: str, other: str) -> bool:
    """Whether some topic is matched by both filters."""
    for wild, plain in ((one, other), (other, one)):
        if plain.startswith("$") and wild[:1] in ("+", "#"):
            return False
    levels, others = one.split("/"), other.split("/")
    for level, beside in zip(levels, others, strict=False):
        if "#" in (level, beside):
            return True
        if level != beside and "+" not in (level, beside):
            return False
    shorter, longer = sorted((levels, others), key=len)
    return len(shorter) == len(longer) or longer[len(shorter)] == "#"


def needed(filters: Iterable[str]) -> list[str]:
    """`filters` in order, without those that another one covers.

    A broker may deliver a message once for each filter that matches it (Mosquitto does over MQTT 5).
    """
    kept: list[str] = []
    for each in filters:
        if not any(covers(other, each) for other in kept):
            kept = [*(other for other in kept if not covers(each, other)), each]
    return kept
