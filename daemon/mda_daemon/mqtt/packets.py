"""MQTT packets cut from the byte stream of a broker, in linear time and bounded memory.

paho reads properties in quadratic time, refuses characters that MQTT allows, and holds a packet of any size.
So PUBLISH packets are read here, and all others are passed on without the texts that paho might refuse. A
PUBLISH that is larger than allowed is skipped as it arrives and never held.

Sources: MQTT Version 3.1.1, sections 2.2 and 3.3; MQTT Version 5.0, sections 2.1, 2.2.2 and 3.3 (OASIS).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_CONTROL_BYTES: Final = 256 * 1024
"""Of a packet that is no PUBLISH: the answer to ten thousand subscriptions takes a tenth of that."""

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, DISCONNECT = 2, 3, 4, 9, 11, 14

_BYTE, _TWO, _FOUR, _VARINT, _DATA, _PAIR = range(6)
# All properties of MQTT 5 by identifier, with what follows it (section 2.2.2.2).
_PROPERTIES: Final = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), _BYTE),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), _TWO),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), _FOUR),
    0x0B: _VARINT,
    **dict.fromkeys((0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F), _DATA),
    0x26: _PAIR,
}
_FIXED_BYTES: Final = {_BYTE: 1, _TWO: 2, _FOUR: 4}
_RESPONSE_TOPIC, _CORRELATION_DATA, _TOPIC_ALIAS = 0x08, 0x09, 0x23
# Bytes before the properties in the packets that carry them, as far as brokers send these.
_BEFORE_PROPERTIES: Final = {CONNACK: 2, PUBACK: 3, SUBACK: 2, UNSUBACK: 2, DISCONNECT: 1}


class ProtocolError(Exception):
    """The bytes are no MQTT: where the next packet starts cannot be known, so the connection has to end."""


class Publish(NamedTuple):
    """A PUBLISH packet; `mid` is 0 at QoS 0. If `unreadable` says why, payload and properties are missing."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    dup: bool
    retain: bool
    reply_to: str | None = None
    correlation: bytes | None = None
    unreadable: str | None = None


class PacketReader:
    """Takes bytes as they arrive and gives whole packets. One for each connection."""

    def __init__(self, *, version: int, max_publish_bytes: int) -> None:
        """version: 4 for MQTT 3.1.1, 5 for MQTT 5. max_publish_bytes: of a PUBLISH after its fixed header."""
        self._version = version
        self._max_publish_bytes = max_publish_bytes
        self._buffer = bytearray()
        self._skip_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished packets in memory: at most one packet and what came with it."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Publish | bytes]:
        """The packets that `data` completes: PUBLISH packets as such, all others as bytes for paho.

        Raises ProtocolError; the reader cannot be used any more then.
        """
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
        self._buffer += data
        start = 0
        try:
            while not self._skip_bytes and (found := self._next(start)) is not None:
                packet, start = found
                yield packet
        finally:
            # Once for all packets: bytes are moved once, however many packets came together.
            del self._buffer[:start]

    def _next(self, start: int) -> tuple[Publish | bytes, int] | None:
        """The packet that starts there and where the next one starts; None until it is complete."""
        buffer = self._buffer
        if len(buffer) - start < 2:
            return None
        try:
            length, body = _variable_int(buffer, start + 1)
        except IndexError:
            return None  # of the length only a part is there
        kind, end = buffer[start] >> 4, body + length
        if kind == PUBLISH and length > self._max_publish_bytes:
            return self._next_skipped(start, body, length)
        if kind != PUBLISH and length > MAX_CONTROL_BYTES:
            raise ProtocolError(f"a packet of type {kind} with {length} bytes")
        if len(buffer) < end:
            return None
        if kind == PUBLISH:
            return _publish(buffer[start], bytes(memoryview(buffer)[body:end]), self._version), end
        packet = bytes(memoryview(buffer)[start:end])
        if self._version == 5 and kind in _BEFORE_PROPERTIES:
            packet = _without_texts(packet, body - start, _BEFORE_PROPERTIES[kind])
        return packet, end

    def _next_skipped(self, start: int, body: int, length: int) -> tuple[Publish, int] | None:
        """A PUBLISH that is too large, as soon as its topic and identifier are there; the rest is skipped."""
        buffer = self._buffer
        if len(buffer) < body + 2:
            return None
        qos = (buffer[start] >> 1) & 3
        head = 2 + int.from_bytes(buffer[body : body + 2], "big") + (2 if qos else 0)
        if len(buffer) < body + min(head, length):
            return None
        packet = _publish(buffer[start], bytes(memoryview(buffer)[body : body + min(head, length)]), 4)
        why = f"{length} bytes, more than the {self._max_publish_bytes} allowed"
        end = min(body + length, len(buffer))
        self._skip_bytes = body + length - end
        return packet._replace(payload=b"", unreadable=why), end


def _publish(first: int, body: bytes, version: int) -> Publish:
    """A PUBLISH of this first byte and what follows the fixed header. Never raises.

    One whose packet identifier is missing counts as one at QoS 0: it cannot be acknowledged.
    """
    qos, dup, retain = (first >> 1) & 3, bool(first & 8), bool(first & 1)
    topic, mid = "", 0
    try:
        raw, at = _data(body, 0)
        topic = raw.decode("utf-8", "replace")
        if qos:
            mid = int.from_bytes(_bytes(body, at, 2), "big")
            at += 2
        if qos == 3 or (qos and not mid):
            raise ValueError("its quality of service is 3" if qos == 3 else "its packet identifier is 0")
        if not topic or "\0" in topic or topic.encode() != raw:
            raise ValueError("its topic is empty, holds a null character or is not UTF-8")
        reply_to = correlation = None
        if version == 5:
            reply_to, correlation, at = _publish_properties(body, at)
        return Publish(topic, body[at:], qos, mid, dup, retain, reply_to, correlation)
    except (IndexError, ValueError, ProtocolError) as exc:
        why = "it ends before it should" if isinstance(exc, IndexError) else str(exc)
        qos = min(qos, 2) if mid else 0
        return Publish(topic, b"", qos, mid, dup, retain, unreadable=f"not MQTT: {why}")


def _publish_properties(body: bytes, at: int) -> tuple[str | None, bytes | None, int]:
    """(response topic, correlation data, where the payload starts). Raises IndexError or ValueError."""
    length, at = _variable_int(body, at)
    end = at + length
    if end > len(body):
        raise IndexError
    reply_to: str | None = None
    correlation: bytes | None = None
    while at < end:
        name, at = _variable_int(body, at)
        if name in (_RESPONSE_TOPIC, _CORRELATION_DATA):
            value, at = _data(body, at)
            if name == _RESPONSE_TOPIC:
                reply_to = value.decode("utf-8")  # UnicodeDecodeError is a ValueError
            else:
                correlation = value
        elif name == _TOPIC_ALIAS:
            raise ValueError("it has a topic alias, and none was allowed")
        else:
            at = _after(body, at, name)
    if at != end:
        raise ValueError("its properties are longer than they say")
    return reply_to, correlation, end


def _without_texts(packet: bytes, body: int, before: int) -> bytes:
    """The packet with those of its properties that are numbers; as it is where they cannot be read.

    Reasons, user properties and other texts are nothing that is needed, and paho refuses some that are legal.
    """
    start = body + before
    if start >= len(packet):
        return packet
    try:
        length, at = _variable_int(packet, start)
        end, kept = at + length, bytearray()
        while at < end:
            name_at = at
            name, at = _variable_int(packet, at)
            at = _after(packet, at, name)
            if _PROPERTIES[name] in _FIXED_BYTES:
                kept += packet[name_at:at]
        if at != end or end > len(packet):
            return packet
    except (IndexError, ValueError, ProtocolError):
        return packet
    rest = packet[body:start] + encode_variable_int(len(kept)) + kept + packet[end:]
    return packet[:1] + encode_variable_int(len(rest)) + rest


def _after(data: bytes, at: int, name: int) -> int:
    """Where the value of the property `name`, which starts there, ends. Raises IndexError or ValueError."""
    kind = _PROPERTIES.get(name)
    if kind is None:
        raise ValueError(f"there is no property {name:#04x}")
    if kind == _VARINT:
        return _variable_int(data, at)[1]
    if kind in _FIXED_BYTES:
        return at + _FIXED_BYTES[kind]
    _, at = _data(data, at)
    return _data(data, at)[1] if kind == _PAIR else at


def _data(data: bytes, at: int) -> tuple[bytes, int]:
    """Bytes behind their length, and where they end. Raises IndexError."""
    start = at + 2
    found = _bytes(data, start, int.from_bytes(_bytes(data, at, 2), "big"))
    return found, start + len(found)


def _bytes(data: bytes, at: int, length: int) -> bytes:
    """`length` bytes from there on. Raises IndexError."""
    if at + length > len(data):
        raise IndexError
    return data[at : at + length]


def _variable_int(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends. Raises IndexError where `data` ends first, ProtocolError for
    one of more than four bytes."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 21:
            raise ProtocolError("a length of more than four bytes")


def encode_variable_int(value: int) -> bytes:
    """`value` as a variable byte integer."""
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)
