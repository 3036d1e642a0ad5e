"""Times as the contract writes them: RFC 3339 outside, epoch seconds inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def to_rfc3339(epoch: float) -> str:
    """`2026-11-22T23:40:10Z`: UTC, the fraction of a second dropped."""
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: str) -> float:
    """Epoch seconds of an RFC 3339 time. Raises ValueError where `text` is none."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("not an RFC 3339 time")
    return datetime.fromisoformat(text.upper()).timestamp()


def age(seconds: float) -> str:
    """`3 h ago`, `just now`, `in the future`."""
    if seconds < -60:
        return "in the future"
    if seconds < 10:
        return "just now"
    for size, unit in ((31557600, "y"), (2629800, "mo"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"
