"""Text that came from outside, made safe to show: in a log, on a terminal, in one line."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls (ESC among them), line and paragraph separators, and the marks that reorder text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""`text` with every control character written as an escape (`\x1b`), so that it only prints."""
    return _UNSAFE.sub(_escape, text)


def one_line(text: str) -> str:
    """`text` on one line: white space runs become one space, control characters escapes."""
    return visible(" ".join(text.split()))


def shorten(text: str, width: int) -> str:
    """The start of `text` that fits `width` terminal columns, with an ellipsis where it was cut."""
    if columns(text) <= width:
        return text
    used, end = 0, 0
    for end, char in enumerate(text):  # noqa: B007
        used += _columns(char)
        if used > width - 1:
            break
    return text[:end].rstrip() + "…"


def columns(text: str) -> int:
    """Terminal columns that `text` takes."""
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
