"""Packets from somebody who means harm: none ends the daemon, holds its memory or stops the next one.

What a real broker would not send comes from one that sends whatever it is told to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mda_daemon.mqtt.test_packets import PROPERTIES, UNREADABLE
from tests.support.harness import Daemon, Endpoint, Peer, wait_for_log
from tests.support.listening import health_of
from tests.support.raw import (
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    RawBroker,
    RawClient,
    number,
    packet,
    pair,
    publish,
    text,
)

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
MB = 1 << 20
GROWTH_BYTES = 30 * MB
"""What the encoder's own work and a read may add, with room to spare."""


@pytest.fixture
def raw_broker() -> Iterator[RawBroker]:
    broker = RawBroker()
    yield broker
    broker.close()


@pytest.fixture
def old_raw_broker() -> Iterator[RawBroker]:
    broker = RawBroker(4)
    yield broker
    broker.close()


def started(broker: RawBroker, make_daemon: Make, **config: Any) -> Daemon:
    """A daemon that is online there and reports every second."""
    version = "5" if broker.version == 5 else "3.1.1"
    endpoint = Endpoint("raw", broker.port, broker.port)
    daemon = make_daemon(
        endpoint, health_seconds=1, **config, mqtt={"version": version} | config.pop("mqtt", {})
    ).start()
    broker.wait_heard(f"{daemon.base}/status", lambda payload: payload == b"online")
    return daemon


def report(broker: RawBroker, daemon: Daemon, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first health report that is wanted."""
    found: dict[str, Any] = json.loads(
        broker.wait_heard(f"{daemon.base}/health", lambda payload: wanted(json.loads(payload)))
    )
    return found


def test_what_cannot_be_read_is_acknowledged_counted_and_named_and_the_next_is_learned(
    raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(raw_broker, make_daemon)
    for mid, (name, (body, _)) in enumerate(UNREADABLE.items(), 100):
        # Its message id follows the topic: 7 in the list, and another for each that is sent.
        end = 2 + int.from_bytes(body[:2], "big")
        raw_broker.deliver(mid, packet(0x32, body[:end] + mid.to_bytes(2, "big") + body[end + 2 :]))
        raw_broker.wait_acknowledged(mid)
        raw_broker.deliver(
            mid, publish(daemon.event("hall"), f"After {name}".encode(), mid=mid, properties=b"")
        )
        raw_broker.wait_acknowledged(mid)
    own = text(RESPONSE_TOPIC, b"\xff")
    raw_broker.deliver(7, publish(daemon.event("hall"), b"Not readable", mid=7, properties=own))
    raw_broker.wait_acknowledged(7)
    raw_broker.send(packet(0x32, b"\x00\x05t") + b"\x30\x00\x32\x02\x00\x00")  # nothing to acknowledge
    found = report(raw_broker, daemon, lambda h: h["rejected"] == len(UNREADABLE) + 4)
    assert (found["learned"], found["fault"], raw_broker.connections) == (len(UNREADABLE), None, 1)
    log = daemon.log.read_text()
    assert log.count("refused a message on ") == 1 and "Traceback" not in log  # one a minute


@pytest.mark.parametrize("first", [0x36, 0x34], ids=["quality of service 3", "quality of service 2"])
def test_a_quality_of_service_that_was_not_asked_for_is_acknowledged_and_stops_nothing(
    first: int, raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(raw_broker, make_daemon)
    raw_broker.deliver(5, packet(first, publish(daemon.event(), b"Odd", mid=5, properties=b"")[2:]))
    raw_broker.wait_acknowledged(5)
    raw_broker.deliver(6, publish(daemon.event(), b"Usual", mid=6, properties=b""))
    raw_broker.wait_acknowledged(6)
    assert raw_broker.connections == 1


def test_every_property_at_its_bounds_comes_with_an_event_that_is_learned(
    raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(raw_broker, make_daemon)
    values = [value for each in PROPERTIES.values() for value in each if len(value) < 100_000]
    for mid, value in enumerate(values, 1):
        raw_broker.deliver(mid, publish(daemon.event(), f"Event {mid}".encode(), mid=mid, properties=value))
        raw_broker.wait_acknowledged(mid)
    found = report(raw_broker, daemon, lambda h: h["received"] == len(values))
    assert (found["learned"], found["rejected"], raw_broker.connections) == (len(values), 0, 1)


def test_a_packet_that_cannot_be_handled_ends_two_connections_and_is_then_skipped(
    raw_broker: RawBroker, make_daemon: Make
) -> None:
    raw_broker.greeting = packet(0x40, b"\xff\xff\x05\x00")  # a reason that does not exist
    daemon = started(raw_broker, make_daemon)
    raw_broker.wait_connections(3)
    wait_for_log(daemon, "skipped a packet that ended 2 connections")
    raw_broker.deliver(7, publish(daemon.event(), b"After it", mid=7, properties=b""))
    raw_broker.wait_acknowledged(7)
    fault = report(raw_broker, daemon, lambda h: h["learned"] == 1)["fault"]
    assert "protocol errors keep ending the connection to the broker: a packet of type 4" in fault
    assert raw_broker.connections == 3
    assert daemon.process is not None and daemon.process.poll() is None


def test_a_protocol_error_that_repeats_is_the_fault_in_health(
    raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(raw_broker, make_daemon)
    for count in (1, 2):
        raw_broker.send(b"\x30\xff\xff\xff\xff\xff\x01")  # a length of more than four bytes
        raw_broker.wait_connections(1 + count)
    fault = report(raw_broker, daemon, lambda h: bool(h["fault"]))["fault"]
    assert fault.endswith("a length of more than four bytes")


def test_an_answer_to_the_connection_may_hold_any_text(raw_broker: RawBroker, make_daemon: Make) -> None:
    texts = text(0x1F, "\ufeff") + pair("\ufeff", "x" * 5000) + b"\x22\x00\x00"
    raw_broker.connack = number(len(texts)) + texts
    daemon = started(raw_broker, make_daemon)
    assert "Traceback" not in daemon.log.read_text()


# Bytes


def peak_bytes(daemon: Daemon) -> int:
    """The most that it has had resident since the last `reset_peak`."""
    assert daemon.process is not None
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def reset_peak(daemon: Daemon) -> int:
    """Count from now on; what it has now."""
    assert daemon.process is not None
    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
    return peak_bytes(daemon)


def tell(broker: RawBroker, daemon: Daemon, count: int) -> None:
    """A batch that takes the encoder a while, and is not waited for."""
    properties = None if broker.version == 4 else b""
    for mid in range(1, count + 1):
        raw = publish(
            daemon.event(), f"{mid} doors {'were open ' * 40}".encode(), mid=mid, properties=properties
        )
        broker.deliver(mid, raw)


def test_large_requests_while_a_batch_is_encoded_take_no_memory_and_are_answered(
    old_raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(old_raw_broker, make_daemon)
    tell(old_raw_broker, daemon, 40)
    old_raw_broker.wait_acknowledged(40)
    before = reset_peak(daemon)
    tell(old_raw_broker, daemon, 40)
    large = publish(f"{daemon.base}/home/request/recall", bytes(16 * MB), qos=0)
    for _ in range(40):
        old_raw_broker.send(large, "requests")
    for _ in range(40):
        reply = json.loads(old_raw_broker.wait_heard(f"{daemon.base}/home/response/recall"))
        assert reply["error"]["code"] == "bad_request" and "more than the" in reply["error"]["message"]
    old_raw_broker.wait_acknowledged(40)
    assert peak_bytes(daemon) - before < GROWTH_BYTES


def test_an_event_of_150_mb_takes_no_memory_and_is_acknowledged_and_counted(
    old_raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(old_raw_broker, make_daemon)
    tell(old_raw_broker, daemon, 2)
    old_raw_broker.wait_acknowledged(2)
    before = reset_peak(daemon)
    old_raw_broker.deliver(9, publish(daemon.event(), bytes(150 * MB), mid=9))
    old_raw_broker.wait_acknowledged(9)
    found = report(old_raw_broker, daemon, lambda h: h["rejected"] == 1)
    assert (found["learned"], old_raw_broker.connections) == (2, 1)
    assert peak_bytes(daemon) - before < GROWTH_BYTES


def test_half_a_megabyte_of_user_properties_takes_no_memory_and_is_acknowledged_and_counted(
    raw_broker: RawBroker, make_daemon: Make
) -> None:
    daemon = started(raw_broker, make_daemon)
    before = reset_peak(daemon)
    for mid in range(1, 21):
        raw = publish(daemon.event(), b"Many", mid=mid, properties=pair("a", "b") * (512 * 1024 // 7))
        raw_broker.deliver(mid, raw)
        raw_broker.wait_acknowledged(mid)
    report(raw_broker, daemon, lambda h: h["rejected"] == 20)
    assert peak_bytes(daemon) - before < GROWTH_BYTES


def test_long_topics_and_correlation_data_count_in_the_queue(
    raw_broker: RawBroker, make_daemon: Make
) -> None:
    """Each message may hold 64 kB of each: thousands of them while a batch is encoded."""
    daemon = started(raw_broker, make_daemon, queue={"bytes": 2 * MB})
    tell(raw_broker, daemon, 40)
    before = reset_peak(daemon)
    topic = f"{daemon.base}/home/event/{'x' * 60_000}"
    long = publish(topic, b"x", qos=0, properties=text(0x09, bytes(60_000)))
    for _ in range(1000):
        raw_broker.send(long)
    found = report(raw_broker, daemon, lambda h: h["dropped"] + h["rejected"] >= 1000)
    assert found["dropped"] > 0
    assert peak_bytes(daemon) - before < GROWTH_BYTES


# Through Mosquitto


@pytest.fixture
def online(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> Iterator[tuple[Daemon, Peer, RawClient]]:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, health_seconds=1).start(peer)
    client = RawClient(mosquitto.port_v5)
    yield daemon, peer, client
    client.close()


def test_a_byte_order_mark_in_a_property_is_no_reason_to_lose_an_event(
    online: tuple[Daemon, Peer, RawClient],
) -> None:
    daemon, peer, client = online
    mark = f"{daemon.base}/reply/\ufeff"
    for mid, properties in enumerate(
        (pair("\ufeff", "x"), pair("x", "\ufeff"), text(CONTENT_TYPE, "\ufeff"), text(RESPONSE_TOPIC, mark)),
        1,
    ):
        client.publish(publish(daemon.event(), f"Parcel {mid}".encode(), mid=mid, properties=properties))
    found = health_of(daemon, peer, lambda h: h["learned"] == 4)
    assert (found["duplicates"], found["rejected"]) == (0, 0)
    assert daemon.log.read_text().count("connected to") == 2  # once for each of its connections


@pytest.mark.parametrize("count", [0, 1, 100, 10_000])
def test_an_event_with_many_user_properties_is_learned(
    online: tuple[Daemon, Peer, RawClient], count: int
) -> None:
    daemon, peer, client = online
    client.publish(publish(daemon.event(), b"Many", properties=pair("a", "b") * count))
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)


def test_no_character_in_a_topic_or_response_topic_ends_a_connection(
    online: tuple[Daemon, Peer, RawClient], mosquitto: Endpoint
) -> None:
    """Mosquitto refuses some characters in a topic: a reply must not go where its own broker hangs up."""
    daemon, peer, _ = online
    points = [
        *range(1, 0x100),
        0x7FF,
        0x800,
        0xD7FF,
        0xE000,
        *range(0xFDCF, 0xFDF1),
        0xFEFF,
        *range(0xFFF0, 0x10000),
    ]
    points += [0x10000, 0x1FFFE, 0x1FFFF, 0x10FFFE, 0x10FFFF]
    asked = 0
    for point in points:
        if chr(point) in "+#":
            continue
        for topic, properties in (
            (f"{daemon.base}/home/request/stats", text(RESPONSE_TOPIC, f"{daemon.base}/re/{chr(point)}")),
            (f"{daemon.base}/home/request/{chr(point)}", b""),
            (f"{daemon.base}/{chr(point)}/request/stats", b""),
            (f"{daemon.base}/home/event/{chr(point)}", b""),
        ):
            client = RawClient(mosquitto.port_v5)
            client.send(publish(topic, b"", qos=0, properties=properties))
            client.close()
            asked += 1
    peer.publish(daemon.event(), "The last one")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    assert (
        health_of(daemon, peer, lambda h: h["requests"] > 0)["requests"] > asked / 4
    )  # those it let through
    log = daemon.log.read_text()
    assert log.count("connected to") == 2 and "Traceback" not in log


def test_a_topic_of_the_greatest_length_ends_no_connection(
    online: tuple[Daemon, Peer, RawClient],
) -> None:
    daemon, peer, client = online
    for kind in ("event", "request"):
        start = f"{daemon.base}/home/{kind}/"
        for length in (65535, 65534, 65527):
            topic = start + "x" * (length - len(start))
            client.send(publish(topic, b"x", qos=0, properties=b""))
    start = f"{daemon.base}/"
    topic = start + "x" * (65535 - len(start) - len("/request/stats")) + "/request/stats"
    client.send(publish(topic, b"", qos=0, properties=b""))
    client.publish(publish(daemon.event(), b"The last one", properties=b""))
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    log = daemon.log.read_text()
    assert log.count("connected to") == 2 and "Traceback" not in log
