"""The limits of what a memory takes in, each in one place, with the words of the error that names it."""

from __future__ import annotations

from typing import Final, NamedTuple

from .errors import BadInput

MAX_TEXT_BYTES: Final = 16 * 1024
"""Bytes of UTF-8 of an event's text, and of a query."""
MAX_ID_BYTES: Final = 256
MAX_SOURCE_BYTES: Final = 256
MAX_TS: Final = 4102444800.0
"""2100-01-01 in epoch seconds, exclusive. Before 1970 is impossible for a Unix clock, later is a broken one."""
MAX_DELIVERY_ID_BYTES: Final = 64


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included. Whole numbers where both ends are."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.high >= 2**62:
            return f"a number from {self.low}"
        return f"{self.low} to {self.high}" if isinstance(self.low, int) else f"{self.low:g} to {self.high:g}"

    def holds(self, value: object) -> bool:
        kinds = int if isinstance(self.low, int) else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def check(self, field: str, value: object) -> None:
        """Raise BadInput unless `value` lies within."""
        if not self.holds(value):
            raise BadInput(field, str(self), value)


UNITS: Final = Range(1, 1 << 20)
K: Final = Range(1, 100)
"""Memories that a recall returns."""
CONTEXT_TOKENS: Final = Range(1, 1_000_000)
MEMORY_NUMBER: Final = Range(1, 2**63 - 1)
CONFIDENCE: Final = Range(0.0, 1.0)
