"""Checks of arguments that are more than a range."""

from __future__ import annotations

from datetime import datetime

from .errors import BadInput
from .event import as_epoch, check_text_size
from .limits import MAX_TS


def check_text(field: str, value: object) -> None:
    """Raise BadInput unless `value` is text that is not blank and has at most 16 KiB in UTF-8."""
    if not isinstance(value, str) or not value.strip():
        raise BadInput(field, "text that is not empty", value)
    check_text_size(field, value)


def period(since: float | datetime | None, until: float | datetime | None) -> tuple[float, float] | None:
    """(low, high) in epoch seconds, both included; None where neither is given. Raises BadInput."""
    if since is None and until is None:
        return None
    low = 0.0 if since is None else as_epoch("since", since)
    high = MAX_TS if until is None else as_epoch("until", until)
    if low > high:
        raise BadInput("since", "a time not after until", since)
    return low, high
