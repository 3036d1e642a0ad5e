"""A message as it came from the broker, with nothing of the MQTT library in it."""

from __future__ import annotations

from typing import NamedTuple


class Incoming(NamedTuple):
    """`epoch` numbers the connection it came by; the properties of MQTT 5 are None where it has none."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    dup: bool
    retain: bool
    epoch: int
    reply_to: str | None
    correlation: bytes | None
