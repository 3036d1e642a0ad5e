"""Arguments of the public calls: what is refused, and in which words."""

from __future__ import annotations

from .errors import BadInput
from .event import check_text_size


def check_text(field: str, value: object) -> None:
    """Raise BadInput unless `value` is a text of 1 character to 16 KiB that can be UTF-8."""
    if not isinstance(value, str) or not value.strip():
        raise BadInput(field, "a text that is not empty", value)
    check_text_size(field, value)


def check_range(field: str, value: object, low: int, high: int) -> None:
    """Raise BadInput unless `value` is an int from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput(field, f"{low} to {high}", value)


def check_share(field: str, value: object) -> None:
    """Raise BadInput unless `value` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise BadInput(field, "0 to 1", value)
