"""Which deliveries at QoS 1 were learned in this process, to know what the broker sends again.

Beside the receipts that a memory keeps in its file, of the newest deliveries only: while a connection hangs,
more than those may be acknowledged into nothing, and a forget leaves few of them.
"""

from __future__ import annotations

from array import array

_NUMBERS = 1 << 16


class Deliveries:
    """The last delivery learned under each message number: fixed in size, 512 kB.

    A receipt starts with the number, two bytes, as the worker makes them.
    """

    def __init__(self) -> None:
        self._marks = array("q", bytes(8 * _NUMBERS))

    def add(self, space: str, receipt: bytes) -> None:
        self._marks[_number(receipt)] = hash((space, receipt))

    def knows(self, space: str, receipt: bytes) -> bool:
        """Whether the newest delivery under this number, of those learned, was this one."""
        return self._marks[_number(receipt)] == hash((space, receipt))


def _number(receipt: bytes) -> int:
    return int.from_bytes(receipt[:2], "big")
