"""Pausing and resuming by hand: what is learned, what never is, and what a restart makes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.harness import Daemon, Endpoint, Peer, Proxy, of_events
from tests.support.listening import health_of, retained

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]


@pytest.fixture
def peer(mosquitto: Endpoint, connect: Connect) -> Peer:
    return connect(mosquitto)


def wait_learning(daemon: Daemon, peer: Peer, state: bytes) -> None:
    topic = f"{daemon.base}/learning"
    peer.subscribe(topic)
    peer.wait_for(lambda m: m.topic == topic and m.payload == state)


def test_paused_it_drops_events_and_answers_until_it_is_resumed(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    daemon = make_daemon(mosquitto, health_seconds=1).start(peer)
    wait_learning(daemon, peer, b"on")
    peer.publish(daemon.event(), "The spare key hangs in the garage")
    peer.publish(f"{daemon.base}/learning/set", "off")
    for text in ("The guests brought wine", "The guests sang"):
        peer.publish(daemon.event(), text)
    peer.publish(daemon.event(), "The guests left", 0)
    wait_learning(daemon, peer, b"off")
    health_of(daemon, peer, lambda h: h["paused"] == 3 and not h["learning"] and h["learned"] == 1)
    assert daemon.ask(peer, "recall", "Where is the spare key?")["known"]
    peer.publish(f"{daemon.base}/learning/set", "ON")
    peer.publish(daemon.event(), "The window in the hall is open")
    wait_learning(daemon, peer, b"on")
    stats = daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    assert stats["handled"] == 5
    recall = daemon.ask(peer, "recall", {"query": "What did the guests do?", "k": 10})
    assert not any("guests" in memory["text"] for memory in recall["memories"])


def test_it_stays_paused_over_a_kill_and_learns_what_came_before(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    daemon = make_daemon(mosquitto).start(peer)
    daemon.stop()  # the broker keeps for it what comes now
    sent = [f"Parcel {i} was put on shelf {i * 7}" for i in range(30)]
    for text in sent:
        peer.publish(daemon.event(), text)
    peer.publish(f"{daemon.base}/learning/set", "off")
    daemon.start(peer)
    daemon.wait_stats(peer, lambda s: s["learned"] > 0)
    daemon.kill()
    daemon.start(peer)
    wait_learning(daemon, peer, b"off")
    daemon.kill()
    daemon.start(peer)
    peer.publish(daemon.event(), "Nobody has to know of this")
    stats = daemon.wait_stats(peer, lambda s: s["handled"] > 0)
    assert stats["learned"] == len(sent) and stats["reinforced"] == 0


def test_a_switch_that_cannot_be_kept_is_a_fault_and_tried_again(
    mosquitto: Endpoint, peer: Peer, connect: Connect, make_daemon: Make
) -> None:
    daemon = make_daemon(mosquitto, health_seconds=1)
    in_the_way = daemon.folder / "state" / "paused"
    in_the_way.mkdir(parents=True)  # as a mark it says paused, and it cannot be taken away as a file
    daemon.start(peer)
    wait_learning(daemon, peer, b"off")
    peer.publish(f"{daemon.base}/learning/set", "on")
    health_of(daemon, peer, lambda h: "paused" in (h["fault"] or ""))
    assert retained(connect, mosquitto, f"{daemon.base}/learning") == b"off"
    in_the_way.rmdir()
    wait_learning(daemon, peer, b"on")
    health_of(daemon, peer, lambda h: h["fault"] is None)


def test_a_retained_switch_of_earlier_is_not_thrown_again(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto, 4)
    daemon = make_daemon(mosquitto, mqtt={"version": "3.1.1"})
    peer.publish(f"{daemon.base}/learning/set", "off", retain=True)
    daemon.start(peer)
    peer.publish(daemon.event(), "The kettle boils")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)


def test_a_word_that_is_no_switch_changes_nothing(mosquitto: Endpoint, peer: Peer, make_daemon: Make) -> None:
    daemon = make_daemon(mosquitto).start(peer)
    for word in (b"", b"toggle", b"\xff\x00", b"o" * 100_000):
        peer.publish(f"{daemon.base}/learning/set", word)
    peer.publish(daemon.event(), "The kettle boils")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_dropped_stays_dropped_when_the_broker_sends_it_again_after_the_pause(
    restart: bool, proxy: Proxy, peer: Peer, make_daemon: Make
) -> None:
    """Its acknowledgement got lost, and learning is on again when it comes for the second time."""
    daemon = make_daemon(proxy.endpoint, health_seconds=1).start(peer)
    peer.publish(f"{daemon.base}/learning/set", "off")
    wait_learning(daemon, peer, b"off")
    proxy.deaf = of_events
    peer.publish(daemon.event(), "The guests sang")
    daemon.wait_stats(peer, lambda s: s["handled"] == 1)
    peer.publish(f"{daemon.base}/learning/set", "on")
    peer.publish(daemon.event(), "The window in the hall is open")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)  # and with this commit it is in the file
    daemon.resume(peer, proxy, killed=restart)
    peer.publish(daemon.event(), "The last one")
    daemon.learned_once(peer, 2)
    found = daemon.ask(peer, "recall", {"query": "What did the guests do?", "k": 10})["memories"]
    assert not any("guests" in memory["text"] for memory in found)
    assert health_of(daemon, peer, lambda h: h["duplicates"] == 2)
