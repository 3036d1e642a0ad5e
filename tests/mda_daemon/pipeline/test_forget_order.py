"""A forget keeps its place behind the events that were sent before it, and is served once."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from mda_daemon.client import client as client_module
from mda_daemon.client.client import Client
from mda_daemon.errors import NoAnswer
from mda_daemon.settings import load
from tests.support.harness import Daemon, Endpoint, Peer, Proxy, of_events

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]


@pytest.fixture
def peer(mosquitto: Endpoint, connect: Connect) -> Peer:
    return connect(mosquitto)


def forget(daemon: Daemon, peer: Peer, fields: dict[str, Any]) -> dict[str, Any]:
    """At QoS 1; the reply."""
    inbox = f"{daemon.base}/reply/{uuid.uuid4().hex[:8]}"
    peer.subscribe(inbox)
    peer.publish(f"{daemon.base}/home/request/forget", json.dumps(fields), ResponseTopic=inbox)
    reply: dict[str, Any] = json.loads(peer.wait_for(lambda m: m.topic == inbox).payload)
    return reply


def test_events_that_wait_at_the_broker_are_forgotten_by_what_was_sent_after_them(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    daemon = make_daemon(mosquitto).start(peer)
    peer.publish(daemon.event("kitchen"), "The kettle boils")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)  # so slow that all but a window of them wait
    for i in range(300):
        peer.publish(daemon.event("bed/anna"), f"Anna said {i} things about shelf {i * 7 % 1000}")
    inbox = f"{daemon.base}/reply"
    peer.subscribe(inbox)
    peer.publish(f"{daemon.base}/home/request/forget", '{"source": "bed/#"}', ResponseTopic=inbox)
    daemon.process.send_signal(signal.SIGCONT)
    assert json.loads(peer.wait_for(lambda m: m.topic == inbox).payload)["forgotten"] == 300
    peer.publish(daemon.event("kitchen"), "The last one")
    stats = daemon.wait_stats(peer, lambda s: s["handled"] == 302)
    assert (stats["units"]["used"], stats["forgotten"]) == (2, 300)


@pytest.mark.parametrize("restart", [False, True])
def test_a_forget_whose_acknowledgement_got_lost_is_not_served_again(
    restart: bool, proxy: Proxy, mosquitto: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    """By then what it names was told again."""
    daemon = make_daemon(proxy.endpoint).start(peer)
    first = "The spare key is under the first pot"
    for text in (first, "The spare key is under the second pot"):
        peer.publish(daemon.event("garden"), text)
    daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    proxy.deaf = of_events
    assert forget(daemon, peer, {"query": first})["forgotten"] == 1
    peer.publish(daemon.event("garden"), first)
    daemon.wait_stats(peer, lambda s: s["learned"] == 3)
    daemon.resume(peer, proxy, killed=restart)
    peer.publish(daemon.event("garden"), "The last one")
    stats = daemon.wait_stats(peer, lambda s: s["learned"] == 4)
    assert (stats["forgotten"], stats["units"]["used"]) == (1, 3)


def test_the_client_sends_a_forget_once_and_at_qos_1(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RESEND_SECONDS", 0.1)
    daemon = make_daemon(mosquitto)  # it never starts
    peer.subscribe(f"{daemon.base}/home/request/+")
    with Client(load(daemon.path), "home", timeout=0.6) as client:
        for verb in ("forget", "stats"):
            with pytest.raises(NoAnswer):
                client.request(verb, {"all": True} if verb == "forget" else {})
    peer.publish(f"{daemon.base}/home/request/end", b"")
    peer.wait_for(lambda m: m.topic.endswith("/end"))
    heard = [(m.topic.rpartition("/")[2], m.qos) for m in peer._heard]
    assert heard.count(("forget", 1)) == 1 and heard.count(("stats", 0)) > 1
    assert set(heard) == {("forget", 1), ("stats", 0)}
