"""Values of a payload: their kind, how they compare with the configuration, and their text."""

from __future__ import annotations

import math
import re

from mda_core.limits import MAX_TEXT_BYTES

MAX_CHARS = MAX_TEXT_BYTES + 1
"""A value is cut here: a text of this many characters is too long for the memory in any case."""
MAX_ITEMS = 100
"""Items of a list that are made into text; the rest is left out."""
_ON, _OFF = frozenset(("on", "true", "yes")), frozenset(("off", "false", "no"))
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII | re.DOTALL)
KINDS = ("text", "number", "time", "bool", "list", "object")


def number(value: object) -> float | None:
    """`value` as a float if it is a finite number, else None. True and False are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def truth(value: object) -> bool | None:
    """True or False if `value` is a boolean or a word for one, such as ON, off or yes; else None."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        folded = value.strip().lower()
        return True if folded in _ON else False if folded in _OFF else None
    return None


def kind(value: object) -> str | None:
    """One of `KINDS`, None for a missing value. Words such as ON and off are of the kind `bool`."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        if _TIME.fullmatch(value):
            return "time"
        return "text" if truth(value) is None else "bool"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict) else "number"


def same(expected: object, got: object) -> bool:
    """Whether the payload's value `got` equals `expected` in the configuration.

    YAML reads ON and off as booleans, so a boolean equals any word of a device for it.
    """
    if expected is None:
        return is_missing(got)
    if isinstance(expected, bool):
        return truth(got) is expected
    if isinstance(expected, int | float):
        return number(got) == number(expected)
    return isinstance(got, str) and got.strip() == expected


def is_missing(value: object) -> bool:
    """Whether `value` is null, or an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def to_text(value: object) -> str | None:
    """`value` as text on one line; None for a missing value and for an object."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return " ".join(value[:MAX_CHARS].split()) or None
    if isinstance(value, int | float):
        return _number_text(value)
    if isinstance(value, list):
        texts = [text for item in value[:MAX_ITEMS] if not isinstance(item, list) and (text := to_text(item))]
        return ", ".join(texts)[:MAX_CHARS] or None
    return None


def _number_text(value: int | float) -> str | None:
    found = number(value)
    if found is None:
        return None
    if abs(found) >= 1e15:
        return f"{found:.6g}"
    if isinstance(value, int):
        return str(value)
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(found, 6) + 0.0:.6f}".rstrip("0").rstrip(".")
