"""A broker's bytes, cut into pieces: the first byte says the version and the seed of the pieces' sizes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from mda_daemon.mqtt.packets import MAX_CONTROL_BYTES, PacketReader, ProtocolError, Publish

LIMIT = 700
PUBLISH = 3
# What stands before the properties of MQTT 5 in a PUBLISH, by what follows each property's identifier.
FIXED = {
    1: (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A),
    2: (0x13, 0x21, 0x22),
    4: (0x02, 0x11, 0x18, 0x27),
}
TEXTS = (0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F)


def one_input(data: bytes) -> None:
    seed, data = data[0] if data else 0, data[1:]
    version = 5 if seed & 1 else 4
    reader = PacketReader(version=version, max_publish_bytes=LIMIT)
    rng, found, fault = random.Random(seed), [], None
    left = data
    while left and fault is None:
        size = rng.randint(1, 1 + len(data) // 2) if seed & 2 else len(left)
        try:
            for packet in reader.feed(left[:size]):
                found.append(packet)
        except ProtocolError as exc:
            fault = exc
        left = left[size:]
        assert reader.held_bytes <= max(LIMIT, MAX_CONTROL_BYTES) + 5 + size
    expected = list(_reference(data, version))
    assert (fault is not None) == (expected[-1:] == [None]), (fault, expected)
    kept = [each for each in expected if each is not None]
    assert len(found) == len(kept)
    for packet, (first, body) in zip(found, kept, strict=True):
        if isinstance(packet, Publish):
            _compare(packet, first, body, version)
        else:
            assert first >> 4 != PUBLISH and packet[0] == first
            assert version == 5 or packet.endswith(body)


def _reference(data: bytes, version: int) -> Iterator[tuple[int, bytes] | None]:
    """(first byte, what follows the length) of each packet, whole where it is there; None for an error."""
    while len(data) >= 2:
        length, at = _number(data, 1)
        if length is None:
            if at is None:  # more than four bytes
                yield None
            return
        assert at is not None
        body, first = data[at : at + length], data[0]
        if first >> 4 != PUBLISH and length > MAX_CONTROL_BYTES:
            yield None
            return
        if len(body) < length and not (first >> 4 == PUBLISH and length > LIMIT and _has_head(first, body)):
            return
        yield first, body if length <= LIMIT or first >> 4 != PUBLISH else body + bytes(length - len(body))
        data = data[at + length :]


def _has_head(first: int, body: bytes) -> bool:
    """Whether topic and identifier are there."""
    return len(body) >= 2 and len(body) >= 2 + (body[0] << 8 | body[1]) + (2 if first & 6 else 0)


def _number(data: bytes, at: int) -> tuple[int | None, int | None]:
    """A variable byte integer and where it ends; (None, 0) where it is cut off, (None, None) where it is too
    long."""
    value = 0
    for i in range(4):
        if at + i >= len(data):
            return None, 0
        value += (data[at + i] & 0x7F) * 128**i
        if data[at + i] < 0x80:
            return value, at + i + 1
    return None, None


def _compare(packet: Publish, first: int, body: bytes, version: int) -> None:
    assert packet.dup == bool(first & 8) and packet.retain == bool(first & 1)
    assert (packet.qos > 0) == (packet.mid > 0) or packet.unreadable is None
    assert packet.qos <= 2 and 0 <= packet.mid <= 0xFFFF
    assert packet.topic.encode() or packet.unreadable is not None
    read = None if len(body) > LIMIT else _read(first, body, version)
    if read is None:
        assert (
            packet.unreadable
            and not packet.payload
            and packet.reply_to is None
            and packet.correlation is None
        )
    else:
        assert packet.unreadable is None, packet
        assert tuple(packet[:4]) + tuple(packet[6:8]) == read, (packet, read)


def _read(first: int, body: bytes, version: int) -> tuple[object, ...] | None:
    """(topic, payload, QoS, identifier, response topic, correlation data), None where it cannot be read."""
    try:
        topic, rest = _text(body)
        qos, mid = first >> 1 & 3, 0
        if qos:
            mid, rest = rest[0] << 8 | rest[1], rest[2:]
        name = topic.decode()
        if qos == 3 or (qos and not mid) or not name or "\0" in name:
            return None
        reply_to = correlation = None
        if version == 5:
            length, at = _number(rest, 0)
            if length is None or at is None or at + length > len(rest):
                return None
            properties, rest = rest[at : at + length], rest[at + length :]
            while properties:
                kind, at = _number(properties, 0)
                if kind is None or at is None:
                    return None
                value, properties = properties[at:], b""
                size = next((n for n, kinds in FIXED.items() if kind in kinds), None)
                if size is not None:
                    if len(value) < size:
                        return None
                    properties = value[size:]
                elif kind == 0x0B:
                    number, at = _number(value, 0)
                    if number is None or at is None:
                        return None
                    properties = value[at:]
                elif kind in TEXTS:
                    text, properties = _text(value)
                    if kind == 0x08:
                        reply_to = text.decode()
                    elif kind == 0x09:
                        correlation = text
                elif kind == 0x26:
                    _, properties = _text(value)
                    _, properties = _text(properties)
                else:  # a topic alias among them
                    return None
    except (IndexError, UnicodeDecodeError):
        return None
    return name, rest, qos, mid, reply_to, correlation


def _text(data: bytes) -> tuple[bytes, bytes]:
    """Bytes behind their length, and the rest."""
    length = data[0] << 8 | data[1]
    if len(data) < 2 + length:
        raise IndexError
    return data[2 : 2 + length], data[2 + length :]
