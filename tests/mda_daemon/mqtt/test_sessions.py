"""Message ids count within a session of the broker: what comes again is recognised, what is new is not."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.support.harness import Daemon, Mosquitto, Peer, Proxy, of_events

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]


@pytest.fixture
def relay(own_mosquitto: Mosquitto) -> Proxy:
    return Proxy(own_mosquitto.port)


def reconnected(broker: Mosquitto, daemon: Daemon, connect: Connect) -> Peer:
    """The broker starts anew and knows nothing; the daemon is back."""
    broker.stop()
    broker.start()
    peer = connect(broker.endpoint)
    peer.subscribe(f"{daemon.base}/status")
    peer.wait_for(lambda m: m.topic == f"{daemon.base}/status" and m.payload == b"online")
    return peer


def deliver_to_nobody(daemon: Daemon, peer: Peer, text: str) -> None:
    """The broker sends the event to a daemon that is killed before it takes it."""
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    peer.publish(daemon.event(), text)
    peer.forget()
    daemon.kill()
    daemon.wait_status(peer, b"offline")


@pytest.mark.parametrize("learned_in_between", [False, True])
def test_the_same_text_with_the_same_number_in_a_new_session_is_an_event_of_its_own(
    own_mosquitto: Mosquitto, connect: Connect, make_daemon: Make, learned_in_between: bool
) -> None:
    """The broker lost its session, so it counts from 1 again; the daemon is killed in the middle of it."""
    peer = connect(own_mosquitto.endpoint)
    daemon = make_daemon(own_mosquitto.endpoint).start(peer)
    peer.publish(daemon.event(), "Motion in the hall")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    peer = reconnected(own_mosquitto, daemon, connect)
    if learned_in_between:
        peer.publish(daemon.event(), "The kettle boils", 0)
        daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    deliver_to_nobody(daemon, peer, "Motion in the hall")
    daemon.start(peer)
    daemon.wait_stats(peer, lambda s: s["reinforced"] == 1)


def test_a_session_that_goes_on_over_a_kill_repeats_nothing(
    own_mosquitto: Mosquitto, relay: Proxy, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(own_mosquitto.endpoint)
    daemon = make_daemon(relay.endpoint).start(peer)
    for learned in (15, 30):
        relay.deaf = of_events
        for i in range(learned - 15, learned):
            peer.publish(daemon.event(), f"Parcel {i} was put on shelf {i * 7 % 100}")
        daemon.wait_stats(peer, lambda s: s["learned"] == learned)  # noqa: B023
        daemon.resume(peer, relay, killed=True)
        stats = daemon.wait_stats(peer, lambda s: s["handled"] >= 15)
        assert (stats["learned"], stats["reinforced"]) == (learned, 0)
    relay.close()
