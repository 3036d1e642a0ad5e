"""One message from the broker, on its way from the socket to the worker."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from hashlib import blake2b

from mda_core.event import as_now

from .topics import NOWHERE, Address

OVERHEAD_BYTES = 200
"""Of a message without its texts and bytes."""


@dataclass(slots=True, eq=False)
class Message:
    """A message with its MQTT properties; those of MQTT 5 are None without it."""

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    """The message id, 0 at QoS 0."""
    dup: bool = False
    retain: bool = False
    epoch: int = 0
    """The number of the connection that it arrived on."""
    reply_to: str | None = None
    correlation: bytes | None = None
    unreadable: str | None = None
    """Why payload and properties are missing: too large, or not MQTT. None if they are there."""
    session: bytes = b""
    """The broker's session that counts the message ids, see `Connection.session`."""
    address: Address = NOWHERE
    """The meaning of the topic, set by the service before the message is queued."""
    arrived: float = field(default_factory=lambda: as_now(time.time()))
    """The time of arrival in epoch seconds, by this machine's clock."""
    started: float = field(default_factory=time.perf_counter)
    """The same in seconds of `time.perf_counter`."""

    @property
    def ack_id(self) -> tuple[int, int]:
        """(epoch, mid), as `Connection.ack` takes it."""
        return self.epoch, self.mid

    @property
    def size(self) -> int:
        """The bytes that it takes in RAM, with its entry in a queue."""
        texts = (self.topic, self.address.rest, self.address.space, self.reply_to or "")
        payloads = len(self.payload) + len(self.correlation or b"")
        return OVERHEAD_BYTES + payloads + sum(map(sys.getsizeof, texts))

    @property
    def is_forget(self) -> bool:
        """Whether the message is a forget request."""
        return self.address.kind == "request" and self.address.rest == "forget"

    def delivery_id(self) -> bytes:
        """An id that the message has again when the broker resends it: session, message id and a digest.

        The digest is short, so that it reveals little of a text that was forgotten; together with the message
        id it is enough to recognise a repeat.
        """
        digest = blake2b(self.payload, digest_size=4)
        digest.update(self.address.rest.encode())
        return self.session + self.mid.to_bytes(2, "big") + digest.digest()
