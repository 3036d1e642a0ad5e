"""Makes text from outside safe to show in a log, on a terminal, or on one line."""

from __future__ import annotations

import json
import unicodedata

# Not printable according to `str.isprintable`, but harmless: wide and no-break spaces, and the two joiners
# that Persian, the scripts of India and composed emoji need.
_HARMLESS = frozenset("\xa0\u1680\u202f\u205f\u3000\u200c\u200d") | {chr(c) for c in range(0x2000, 0x200B)}


def visible(text: str) -> str:
    r"""`text` with every character that does not print written as an escape, such as `\x1b` or `\u202e`.

    Escaped are control characters (ESC among them), line and paragraph separators, characters that reorder or
    hide text, lone surrogates, and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else _escape(ord(c)) for c in text)


def json_line(value: object) -> str:
    """`value` as JSON on one line. Characters that `visible` escapes become JSON escapes, others stay."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if visible(c) == c else json.dumps(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """`text` on one line: runs of white space become one space, the rest is escaped as by `visible`."""
    return visible(" ".join(text.split()))


def shorten(text: str, width: int) -> str:
    """`text`, cut to `width` terminal columns with an ellipsis if it is longer."""
    if columns(text) <= width:
        return text
    used, end = 0, 0
    for end, char in enumerate(text):  # noqa: B007
        used += _columns(char)
        if used > width - 1:
            break
    return text[:end].rstrip() + "…"


def columns(text: str) -> int:
    """How many terminal columns `text` takes: wide characters take two, combining ones none."""
    return sum(_columns(char) for char in text)


def quantity(count: float) -> str:
    """A number of bytes for people, such as `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
