"""One message from the broker, the same object from the socket to the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import blake2b

from mda_core.event import as_now

from .topics import NOWHERE, Address


@dataclass(slots=True, eq=False)
class Message:
    """`epoch` numbers the connection that brought it; the properties of MQTT 5 are None where it has none.

    `address` is what its topic says to the daemon, set by the service before the message is queued.
    """

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    dup: bool = False
    retain: bool = False
    epoch: int = 0
    reply_to: str | None = None
    correlation: bytes | None = None
    address: Address = NOWHERE
    arrived: float = field(default_factory=lambda: as_now(time.time()))
    """Epoch seconds, by this machine's clock."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def ack_id(self) -> tuple[int, int]:
        """What `Connection.ack` takes: (epoch, mid)."""
        return self.epoch, self.mid

    @property
    def is_forget(self) -> bool:
        return self.address.kind == "request" and self.address.rest == "forget"

    def delivery_id(self) -> bytes:
        """What the same message has again when the broker repeats it: its number and what it says.

        Short: the digest tells a repeat by its number and this together, and says little of a forgotten text.
        """
        digest = blake2b(self.payload, digest_size=4)
        digest.update(self.address.rest.encode())
        return self.mid.to_bytes(2, "big") + digest.digest()
