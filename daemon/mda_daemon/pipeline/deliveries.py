"""The messages at QoS 1 that this process has learned, to recognise those that the broker resends.

A memory keeps delivery ids in its file too, but only those of the newest messages: while a connection hangs,
more acknowledgements than that may be lost, and a forget keeps only a few ids.
"""

from __future__ import annotations

from array import array

_MESSAGE_IDS = 1 << 16


class Deliveries:
    """The last delivery that was learned for each MQTT message id, in a fixed 512 kB.

    A delivery id ends with the message id, two bytes, and a digest of four: see `Message.delivery_id`.
    """

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * _MESSAGE_IDS))

    def add(self, space: str, delivery_id: bytes) -> None:
        """Add a delivery that was learned."""
        self._hashes[_message_id(delivery_id)] = hash((space, delivery_id))

    def knows(self, space: str, delivery_id: bytes) -> bool:
        """Whether this is the newest delivery that was learned for its message id."""
        return self._hashes[_message_id(delivery_id)] == hash((space, delivery_id))


def _message_id(delivery_id: bytes) -> int:
    return int.from_bytes(delivery_id[-6:-4], "big")
