"""The size of a string in UTF-8."""

from __future__ import annotations

from ..errors import BadInput


def size(field: str, value: str) -> int:
    """Bytes of `value` in UTF-8. Raises BadInput where it cannot be encoded (lone surrogates)."""
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise BadInput(field, "valid Unicode without lone surrogates", value) from None
