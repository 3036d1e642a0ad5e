"""A broker that ends the connection of whoever sends it too large a packet, or a topic of too many levels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mda_daemon.mqtt.publication import packet_bytes
from tests.support.harness import MOSQUITTO, Daemon, Endpoint, Mosquitto, Peer
from tests.support.listening import health_of
from tests.support.raw import CORRELATION, RESPONSE_TOPIC, publish, text

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]


@pytest.fixture
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    broker = Mosquitto(tmp_path / "limited", f"max_packet_size {request.param}\n")
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.parametrize(
    "payload", [0, 1, 100, 110, 126, 127, 128, 16_300, 16_383, 16_384, 20_000, 2_100_000]
)
@pytest.mark.parametrize(
    ("correlation", "reply_to"), [(None, None), (b"c" * 8, "r"), (bytes(60_000), "\u00e9" * 90)]
)
def test_the_size_of_a_packet_is_exact(payload: int, correlation: bytes | None, reply_to: str | None) -> None:
    properties = b"" if correlation is None else text(CORRELATION, correlation)
    properties += b"" if reply_to is None else text(RESPONSE_TOPIC, reply_to)
    raw = publish("t/\u00e9", bytes(payload), properties=properties)
    assert packet_bytes("t/\u00e9", bytes(payload), correlation, reply_to) == len(raw)


@pytest.mark.parametrize("broker", [400, 1200], indirect=True, ids=str)
def test_where_little_is_accepted_health_is_shortened_and_the_connection_stays(
    broker: Mosquitto, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(broker.endpoint)
    spaces = {name: {"units": 64} for name in ("home", *(f"room{i:02}" for i in range(20)))}
    daemon = make_daemon(broker.endpoint, health_seconds=1, spaces=spaces).start(peer)
    peer.publish(daemon.event("hall"), "The back door was left open")
    found = health_of(daemon, peer, lambda h: bool(h["last_commit"]))
    assert found["shortened"] is True and found["fault"] is None and found["rejected"] == 0
    assert daemon.ask(peer, "recall", {"query": "door", "k": 1, "max_tokens": 1})["status"]
    assert daemon.log.read_text().count("connected to") == 2


@pytest.mark.parametrize("broker", [1200], indirect=True, ids=str)
def test_a_reply_that_fits_is_sent_and_a_larger_one_is_an_error(
    broker: Mosquitto, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(broker.endpoint)
    daemon = make_daemon(broker.endpoint).start(peer)
    for i in range(12):
        peer.publish(daemon.event("hall"), f"Parcel {i} was put on the shelf in the hall by the courier")
    daemon.wait_stats(peer, lambda s: s["learned"] == 12)
    sizes = {}
    for k in (1, 2, 3, 4, 12):
        reply = daemon.ask(peer, "recall", {"query": "Where is the parcel?", "k": k})
        sizes[k] = len(json.dumps(reply))
        if reply["status"] == "error":
            assert reply["error"]["code"] == "internal" and "ask for a smaller k" in reply["error"]["message"]
        else:
            assert len(reply["memories"]) == k
    assert daemon.ask(peer, "stats")["status"] == "ok"
    assert sizes[1] > 271 and max(sizes.values()) > 900, "a reply of a few hundred bytes passes"
    assert daemon.ask(peer, "recall", {"query": "parcel", "k": 12})["status"] == "error"
    assert daemon.log.read_text().count("connected to") == 2


def test_a_response_topic_of_too_many_levels_is_refused_and_cuts_nothing(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    """Mosquitto lets it through in a request, and ends the connection of whoever publishes there."""
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto).start(peer)
    default = f"{daemon.base}/home/response/stats"
    peer.subscribe(default)
    for levels in (101, 200, 201, 250, 400):
        topic = "/".join([daemon.base, *"x" * (levels - 2)])
        assert topic.count("/") == levels - 1
        peer.publish(f"{daemon.base}/home/request/stats", b"", 0, ResponseTopic=topic)
        error = json.loads(peer.wait_for(lambda m: m.topic == default).payload)["error"]
        assert error["code"] == "bad_request" and "at most 100 levels" in error["message"]
    deep = "/".join([daemon.base, *"x" * 98])
    peer.subscribe(deep)
    peer.publish(f"{daemon.base}/home/request/stats", b"", 0, ResponseTopic=deep)
    assert json.loads(peer.wait_for(lambda m: m.topic == deep).payload)["status"] == "ok"
    assert daemon.log.read_text().count("connected to") == 2
