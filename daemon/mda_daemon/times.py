"""Converts between RFC 3339, which the contract uses, and epoch seconds, which the code uses."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DAY_SECONDS = 24 * 3600
_YEAR_SECONDS = 365 * _DAY_SECONDS + _DAY_SECONDS // 4
_UNITS = (
    (_YEAR_SECONDS, "y"), (_YEAR_SECONDS // 12, "mo"), (_DAY_SECONDS, "d"), (3600, "h"), (60, "min"),
)  # fmt: skip


def to_rfc3339(epoch: float) -> str:
    """Epoch seconds as `2026-11-22T23:40:10Z`: in UTC, without fractions of a second."""
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: str) -> float:
    """Epoch seconds of an RFC 3339 time. Raises ValueError for any other text."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("not an RFC 3339 time")
    return datetime.fromisoformat(text.upper()).timestamp()


def age(seconds: float) -> str:
    """An age for people, such as `3 h ago`, `just now` or `in the future`."""
    if seconds < -60:
        return "in the future"
    if seconds < 10:
        return "just now"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"
