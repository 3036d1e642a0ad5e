"""Values out of a payload: compared with the configuration, and shown in a text."""

from __future__ import annotations

import math
import re

from mda_core.limits import MAX_TEXT_BYTES

MAX_SHOWN = MAX_TEXT_BYTES + 1
"""Characters: of a longer value the memory refuses the text."""
_ON, _OFF = frozenset(("on", "true", "yes")), frozenset(("off", "false", "no"))
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII | re.DOTALL)
KINDS = ("text", "number", "time", "bool", "list", "object")


def number(value: object) -> float | None:
    """`value` where it is a finite number, else None. True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def truth(value: object) -> bool | None:
    """Whether `value` says yes or no, in any of the ways that devices do; None where it says neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        folded = value.strip().lower()
        return True if folded in _ON else False if folded in _OFF else None
    return None


def kind(value: object) -> str | None:
    """One of `KINDS`, None for a value that is missing. ON and off are of the kind `bool`."""
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
    """Whether the configuration's `expected` is the payload's `got`.

    YAML reads ON and off as true and false: so they are equal to what a device means by them.
    """
    if expected is None:
        return is_missing(got)
    if isinstance(expected, bool):
        return truth(got) is expected
    if isinstance(expected, int | float):
        return number(got) == number(expected)
    return isinstance(got, str) and got.strip() == expected


def is_missing(value: object) -> bool:
    """Null, and what says as little: an empty text, list or object."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def shown(value: object) -> str | None:
    """`value` as words of one line; None where there is nothing to show (missing, an object)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return " ".join(value[:MAX_SHOWN].split()) or None
    if isinstance(value, int | float):
        return _digits(value)
    if isinstance(value, list):
        words = [word for item in value[:100] if not isinstance(item, list) and (word := shown(item))]
        return ", ".join(words)[:MAX_SHOWN] or None
    return None


def _digits(value: int | float) -> str | None:
    found = number(value)
    if found is None:
        return None
    if abs(found) >= 1e15:
        return f"{found:.6g}"
    if isinstance(value, int):
        return str(value)
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(found, 6) + 0.0:.6f}".rstrip("0").rstrip(".")
