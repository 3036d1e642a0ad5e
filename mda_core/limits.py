"""The limits of a memory's inputs, and the error messages that name them."""

from __future__ import annotations

from typing import Final, NamedTuple

from .errors import BadInput

MAX_TEXT_BYTES: Final = 16 * 1024
"""Bytes of UTF-8 in the text of an event, and in a query."""
MAX_ID_BYTES: Final = 256
"""Bytes of UTF-8 in the id of an event."""
MAX_SOURCE_BYTES: Final = 256
"""Bytes of UTF-8 in a source, and in a filter of sources."""
MAX_TS: Final = 4102444800.0
"""2100-01-01 in epoch seconds, exclusive. A later time comes from a broken clock."""
MAX_DELIVERY_ID_BYTES: Final = 64
"""Bytes in a delivery id."""


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included. Whole numbers only where both limits are int."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.high >= 2**62:
            return f"a number from {self.low}"
        return f"{self.low} to {self.high}" if isinstance(self.low, int) else f"{self.low:g} to {self.high:g}"

    def holds(self, value: object) -> bool:
        """Whether `value` is a number in the range, of the right type."""
        kinds = int if isinstance(self.low, int) else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def check(self, field: str, value: object) -> None:
        """Raise BadInput unless `value` lies within."""
        if not self.holds(value):
            raise BadInput(field, str(self), value)


UNITS: Final = Range(1, 1 << 20)
"""Capacity of a memory."""
K: Final = Range(1, 100)
"""Memories in the answer of a recall."""
CONTEXT_TOKENS: Final = Range(1, 1_000_000)
"""Tokens of a recall's context."""
MEMORY_NUMBER: Final = Range(1, 2**63 - 1)
"""Number of a memory."""
CONFIDENCE: Final = Range(0.0, 1.0)
"""Least confidence that a recall asks for."""
