"""A message handed to the broker, and whether it has arrived there."""

from __future__ import annotations

from typing import Protocol

from .packets import encode_variable_int


class Info(Protocol):
    """paho's record of a published message; raises RuntimeError or ValueError if it will never be
    published.
    """

    def is_published(self) -> bool: ...


class Publication:
    """A message on its way. Any thread may ask.

    Message ids are used again after 65,535 messages, and those at QoS 0 have ids too: so whoever waits for an
    acknowledgement keeps this object, not the id.
    """

    def __init__(self, info: Info) -> None:
        self._info = info

    @property
    def is_done(self) -> bool:
        """At QoS 1 the broker has acknowledged it, at QoS 0 it is written; or neither will ever happen."""
        try:
            return self._info.is_published()
        except (RuntimeError, ValueError):
            return True


def packet_bytes(topic: str, payload: bytes, correlation: bytes | None, reply_to: str | None) -> int:
    """Bytes of a PUBLISH packet of MQTT 5 at QoS 1, its fixed header included."""
    properties = 0 if correlation is None else 3 + len(correlation)
    properties += 0 if reply_to is None else 3 + len(reply_to.encode(errors="replace"))
    body = 2 + len(topic.encode(errors="replace")) + 2 + len(payload)
    body += len(encode_variable_int(properties)) + properties
    return 1 + len(encode_variable_int(body)) + body
