"""The reader of packets beside a slow reference: any split, any size, any property, in linear time."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mda_daemon.mqtt.packets import MAX_CONTROL_BYTES, PacketReader, ProtocolError, Publish
from tests.support.raw import (
    CONTENT_TYPE,
    CORRELATION,
    RESPONSE_TOPIC,
    TOPIC_ALIAS,
    data,
    number,
    packet,
    pair,
    publish,
    text,
)
from tests.support.timing import is_linear

MAX_BYTES = 200_000
# Each property of a PUBLISH with its least and its greatest value.
PROPERTIES = {
    "payload format": [b"\x01\x00", b"\x01\x01", b"\x01\xff"],
    "expiry": [b"\x02" + struct.pack(">I", value) for value in (0, 0xFFFFFFFF)],
    "content type": [text(CONTENT_TYPE, value) for value in ("", "x" * 65535, "\ufeff", "\0", b"\xff")],
    "response topic": [text(RESPONSE_TOPIC, value) for value in ("", "t" * 65535, "\ufeff", "\uffff")],
    "correlation": [text(CORRELATION, value) for value in (b"", b"\xff" * 65535)],
    "subscription": [b"\x0b" + number(value) for value in (0, 1, 127, 128, 268435455)],
    "user property": [
        pair("", ""),
        pair("\ufeff", "\ufeff"),
        pair("n" * 65535, "v" * 65535),
        pair(b"\xff", b""),
    ],
}
POINTS = (0x1, 0x1F, 0x7F, 0x80, 0x9F, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFDD0, 0xFDEF, 0xFEFF, 0xFFFD, 0xFFFE)
POINTS += (0xFFFF, 0x10000, 0x1FFFE, 0x10FFFE, 0x10FFFF)
# PUBLISH packets of MQTT 5 with message id 7 that nobody can read, and why.
UNREADABLE = {
    "properties longer than the packet": (b"\x00\x01t\x00\x07\x7f", "it ends before it should"),
    "no length of the properties": (b"\x00\x01t\x00\x07", "it ends before it should"),
    "a length of the properties of five bytes": (
        b"\x00\x01t\x00\x07\xff\xff\xff\xff\x7f",
        "more than four bytes",
    ),
    "a property that does not exist": (b"\x00\x01t\x00\x07\x02\x7e\x00", "there is no property 0x7e"),
    "a property that is cut off": (b"\x00\x01t\x00\x07\x04\x26\x00\x05a", "it ends before it should"),
    "a property longer than the properties": (
        b"\x00\x01t\x00\x07\x02\x02\x00\x00\x00\x00",
        "longer than they say",
    ),
    "a response topic that is not UTF-8": (b"\x00\x01t\x00\x07\x04\x08\x00\x01\xff", "can't decode"),
    "a response topic with a surrogate": (b"\x00\x01t\x00\x07\x06\x08\x00\x03\xed\xa0\x80", "can't decode"),
    "a topic alias": (b"\x00\x01t\x00\x07\x03" + bytes([TOPIC_ALIAS]) + b"\x00\x01", "topic alias"),
    "a topic that is not UTF-8": (b"\x00\x02\xff\xfe\x00\x07\x00", "its topic is"),
    "a topic with a surrogate": (b"\x00\x03\xed\xa0\x80\x00\x07\x00", "its topic is"),
    "an overlong topic": (b"\x00\x02\xc0\xaf\x00\x07\x00", "its topic is"),
    "a topic with a null": (b"\x00\x01\x00\x00\x07\x00", "its topic is"),
    "no topic": (b"\x00\x00\x00\x07\x00", "its topic is"),
}


def read(raw: bytes, version: int = 5, sizes: Iterable[int] = ()) -> list[Publish | bytes]:
    """The packets, from pieces of these sizes, the rest at once."""
    reader = PacketReader(version=version, max_publish_bytes=MAX_BYTES)
    found: list[Publish | bytes] = []
    for size in sizes:
        found += reader.feed(raw[:size])
        raw = raw[size:]
    found += reader.feed(raw)
    assert reader.held_bytes == 0
    return found


def one(raw: bytes, version: int = 5) -> Publish:
    (found,) = read(raw, version)
    assert isinstance(found, Publish)
    return found


SOME = [
    publish("a/b", b"first", mid=65535, properties=text(RESPONSE_TOPIC, "r") + pair("\ufeff", "x")),
    b"\xd0\x00",
    publish("t" * 300, bytes(70_000), qos=0, properties=b""),
    publish("t", bytes(MAX_BYTES), mid=9, properties=b""),  # too large
    packet(0x40, b"\x00\x07"),
    publish("\u00e9", properties=text(CORRELATION, b"\x00\xff")),
]


@given(st.lists(st.integers(0, 90_000), max_size=12), st.randoms(use_true_random=False))
def test_wherever_the_stream_is_cut_the_packets_are_the_same(sizes: list[int], rng: random.Random) -> None:
    packets = rng.sample(SOME, len(SOME))
    assert read(b"".join(packets), 5, sizes) == [each for raw in packets for each in read(raw)]


def test_byte_by_byte_they_are_the_same_too() -> None:
    raw = SOME[0] + SOME[1] + SOME[4] + SOME[5]
    assert read(raw, 5, [1] * len(raw)) == read(raw)


def test_a_packet_has_all_that_is_needed_of_it() -> None:
    properties = text(RESPONSE_TOPIC, "re/\ufeff") + pair("a", "b") + text(CORRELATION, b"\xff\x00")
    found = one(publish("t/\ufeff", b"\x00pay", mid=515, properties=properties, dup=True))
    assert found == Publish("t/\ufeff", b"\x00pay", 1, 515, True, False, "re/\ufeff", b"\xff\x00")
    old = one(publish("t", b"\x05x", mid=3), 4)
    assert old == Publish("t", b"\x05x", 1, 3, False, False)
    assert one(b"\x31\x03\x00\x01t", 4) == Publish("t", b"", 0, 0, False, True)


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_property_of_a_publish_is_read_over_at_its_bounds(name: str) -> None:
    for before in (b"", pair("a", "b")):
        for value in PROPERTIES[name]:
            found = one(publish("t", b"payload", properties=before + value + pair("c", "d")))
            assert (found.unreadable, found.payload) == (None, b"payload"), value[:9]


@pytest.mark.parametrize("point", POINTS, ids=hex)
def test_a_topic_may_hold_any_character(point: int) -> None:
    topic = f"a/{chr(point)}"
    found = one(publish(topic, b"x", properties=text(RESPONSE_TOPIC, topic)))
    assert (found.topic, found.reply_to, found.unreadable) == (topic, topic, None)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_publish_that_cannot_be_read_keeps_its_identifier_and_says_why(name: str) -> None:
    body, why = UNREADABLE[name]
    found, after = read(packet(0x32, body) + publish("t", b"next", properties=b""))
    assert isinstance(found, Publish) and isinstance(after, Publish)
    assert (found.qos, found.mid, found.payload, after.payload) == (1, 7, b"", b"next")
    assert (
        found.unreadable is not None and found.unreadable.startswith("not MQTT: ") and why in found.unreadable
    )


def test_one_without_a_whole_identifier_cannot_be_acknowledged() -> None:
    for body in (b"", b"\x00", b"\x00\x05t", b"\x00\x01t", b"\x00\x01t\x07", b"\x00\x01t\x00\x00\x00"):
        found = one(packet(0x32, body))
        assert (found.qos, found.mid, found.unreadable is not None) == (0, 0, True), body
        assert one(packet(0x32, body), 4).qos == 0


def test_quality_of_service_3_is_unreadable() -> None:
    found = one(publish("t", b"x", qos=3, mid=7, properties=b""))
    assert (found.mid, found.unreadable) == (7, "not MQTT: its quality of service is 3")


def test_packets_of_length_0_and_the_longest_lengths() -> None:
    assert read(b"\xd0\x00\xc0\x00\x30\x00") == [b"\xd0\x00", b"\xc0\x00", one(b"\x30\x00")]
    assert one(b"\x30\x80\x80\x80\x00", 4).unreadable is not None  # 0 in four bytes
    for length in (b"\xff\xff\xff\xff\x00", b"\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff"):
        for first in (b"\x30", b"\xd0"):
            with pytest.raises(ProtocolError):
                read(first + length)


def test_what_came_before_an_error_is_read() -> None:
    reader, found = PacketReader(version=4, max_publish_bytes=9), []
    with pytest.raises(ProtocolError):
        for each in reader.feed(publish("t", b"x") + b"\x30\xff\xff\xff\xff\xff"):
            found.append(each)
    assert found == [one(publish("t", b"x"), 4)]


@pytest.mark.parametrize("version", [4, 5])
def test_a_publish_that_is_too_large_is_skipped_and_never_held(version: int) -> None:
    reader = PacketReader(version=version, max_publish_bytes=1000)
    length, read_bytes = 50 << 20, 65536
    head = b"\x32" + number(length) + data("t/\ufeff") + struct.pack(">H", 77)
    found = list(reader.feed(head))
    assert found == [
        Publish(
            "t/\ufeff", b"", 1, 77, False, False, unreadable=f"{length} bytes, more than the 1000 allowed"
        )
    ]
    left, zeros = length - (len(head) - 5), bytes(read_bytes)
    while left > 0:
        assert list(reader.feed(zeros[:left])) == [] and reader.held_bytes == 0
        left -= read_bytes
    assert list(reader.feed(b"\xd0\x00")) == [b"\xd0\x00"]


@given(st.lists(st.binary(max_size=3000), max_size=30), st.sampled_from([4, 5]))
def test_no_bytes_make_it_hold_more_than_a_packet_and_a_piece(pieces: list[bytes], version: int) -> None:
    reader = PacketReader(version=version, max_publish_bytes=500)
    try:
        for piece in (b"\x30\xff\x7f", *pieces):
            for _ in reader.feed(piece):
                pass
            assert reader.held_bytes <= max(500, MAX_CONTROL_BYTES) + len(piece)
    except ProtocolError:
        pass


def test_what_is_no_publish_is_bounded_too() -> None:
    with pytest.raises(ProtocolError, match="a packet of type 9"):
        read(b"\x90" + number(MAX_CONTROL_BYTES + 1))
    assert read(b"\x90" + number(MAX_CONTROL_BYTES) + bytes(MAX_CONTROL_BYTES))


def test_the_time_is_linear_in_the_properties_and_in_the_packets() -> None:
    assert is_linear(lambda n: read(publish("t", properties=pair("a", "\ufeff") * n)), 600)
    assert is_linear(lambda n: read(publish("t", properties=b"") * n), 1000)
    assert is_linear(lambda n: read(packet(0x90, b"\x00\x01" + props(pair("a", "b") * n) + b"\x00")), 600)


def test_the_time_is_linear_in_the_pieces() -> None:
    raw = publish("t" * 65535, bytes(100_000), properties=b"")
    assert is_linear(lambda n: read(raw[:60_000] + raw[60_000:], 5, [1] * n), 4000)
    large = b"\x32" + number(1 << 20) + data("t" * 65535)
    reader = PacketReader(version=4, max_publish_bytes=1000)

    def trickle(n: int) -> None:
        nonlocal reader
        reader = PacketReader(version=4, max_publish_bytes=1000)
        for at in range(n):
            list(reader.feed(large[at : at + 1]))

    assert is_linear(trickle, 4000)


def props(raw: bytes) -> bytes:
    return number(len(raw)) + raw


# What paho gets

TEXTS = text(0x1F, "why \ufeff") + pair("\ufeff", "b") + text(0x12, "id\ufeff")


@pytest.mark.parametrize(
    ("first", "body", "rest", "kind", "numbers"),
    [
        (0x20, b"\x01\x00", b"", PacketTypes.CONNACK, b"\x21\x00\x14\x27\x00\x00\x10\x00"),
        (0x90, b"\x00\x07", b"\x01\x80", PacketTypes.SUBACK, b""),
        (0x40, b"\x00\x07\x10", b"", PacketTypes.PUBACK, b""),
        (0xB0, b"\x00\x07", b"\x00", PacketTypes.UNSUBACK, b""),
        (0xE0, b"\x8b", b"", PacketTypes.DISCONNECT, b"\x11\x00\x00\x00\x05"),
    ],
)
def test_the_other_packets_lose_their_texts_and_keep_their_numbers(
    first: int, body: bytes, rest: bytes, kind: int, numbers: bytes
) -> None:
    (found,) = read(packet(first, body + props(TEXTS + numbers + pair("x", "y" * 200)) + rest))
    assert found == packet(first, body + props(numbers) + rest)
    Properties(kind).unpack(props(numbers))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "raw",
    [
        packet(0x40, b"\x00\x07"),
        packet(0x40, b"\x00\x07\x10"),
        packet(0x90, b"\x00\x07\x7f\x00"),
        packet(0x20, b"\x00\x00\x02\x21\x00\x14"),
        packet(0x20, b"\x00\x00\x03\x7e\x00\x14"),
        packet(0x20, b"\x00\x00\xff\xff\xff\xff\x7f"),
        packet(0x90, b"\x00"),
        packet(0xE0, b""),
    ],
)
def test_one_whose_properties_cannot_be_read_is_passed_on_as_it_is(raw: bytes) -> None:
    assert read(raw) == [raw]


def test_in_3_1_1_they_are_passed_on_as_they_are() -> None:
    raw = packet(0x20, b"\x00\x00") + packet(0x90, b"\x00\x07\x01")
    assert read(raw, 4) == [packet(0x20, b"\x00\x00"), packet(0x90, b"\x00\x07\x01")]
