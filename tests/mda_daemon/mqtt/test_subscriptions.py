"""A broker that refuses a part of what the daemon listens to: it goes on with the rest, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mda_daemon.config.schema import Config, HomeAssistant
from mda_daemon.mqtt.subscriptions import Subscriptions
from mda_daemon.mqtt.topics import Topics
from tests.support.harness import Daemon, Peer, Proxy, wait_for_log
from tests.support.manager import Manager
from tests.support.refusing import Refusing, needs_plugin

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]
pytestmark = needs_plugin
REFUSED = "the broker refused the subscription to "
ZIGBEE = {"topic": "zigbee2mqtt/+", "text": "It says {value}"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Refusing]:
    broker = Refusing(tmp_path / "broker")
    yield broker
    broker.stop()


def health(daemon: Daemon, peer: Peer, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first report that is as wanted."""
    found: dict[str, Any] = json.loads(
        peer.wait_for(lambda m: m.topic == f"{daemon.base}/health" and wanted(json.loads(m.payload))).payload
    )
    return found


def started(broker: Refusing, daemon: Daemon, connect: Connect, *refused: str, version: int = 5) -> Peer:
    """A daemon that is online beside a broker that refuses these; whoever watches."""
    broker.refuse(*refused)
    broker.start()
    peer = connect(broker.endpoint, version)
    peer.subscribe(f"{daemon.base}/health")
    daemon.start(peer)
    return peer


@pytest.mark.parametrize(("name", "version"), [("5", 5), ("3.1.1", 4)])
def test_without_its_events_it_answers_and_says_what_is_missing(
    name: str, version: int, broker: Refusing, connect: Connect, make_daemon: Make
) -> None:
    daemon = make_daemon(broker.endpoint, mqtt={"version": name})
    events = f"{daemon.base}/+/event/#"
    peer = started(broker, daemon, connect, events, version=version)
    assert daemon.ask(peer, "recall", "anything?")["status"] == "ok"
    fault = health(daemon, peer, lambda h: h["fault"])["fault"]
    assert fault.startswith(f"{REFUSED}{events}: ") and "no event told there is learned" in fault
    assert fault in daemon.log.read_text()


def test_without_its_requests_it_learns(broker: Refusing, connect: Connect, make_daemon: Make) -> None:
    daemon = make_daemon(broker.endpoint)
    peer = started(broker, daemon, connect, f"{daemon.base}/+/request/+")
    peer.publish(daemon.event("hall"), "The back door was left open")
    peer.publish(f"{daemon.base}/learning/set", "off")  # has it report
    report = health(daemon, peer, lambda h: h["learned"] == 1)
    assert "no recall and no stats are answered" in report["fault"]


def test_one_refused_source_leaves_the_others_alone(
    broker: Refusing, connect: Connect, make_daemon: Make
) -> None:
    garage = {"topic": "garage/+", "text": "The gate is {value}"}
    daemon = make_daemon(
        broker.endpoint, sources=[ZIGBEE, garage], homeassistant={"discovery": True, "birth": "ha/birth"}
    )
    peer = started(broker, daemon, connect, "zigbee2mqtt/+", "ha/birth")
    peer.publish("garage/gate", "open")
    peer.publish(daemon.event("hall"), "The back door was left open")
    assert daemon.wait_stats(peer, lambda s: s["handled"] == 2)["learned"] == 2
    report = health(daemon, peer, lambda h: h["fault"])
    assert "a restart of Home Assistant goes unnoticed; and 1 more like this" in report["fault"]
    assert f"{REFUSED}zigbee2mqtt/+: Not authorized; nothing from there is heard" in daemon.log.read_text()


def test_the_service_manager_hears_what_is_refused(
    broker: Refusing, connect: Connect, make_daemon: Make, manager: Manager
) -> None:
    daemon = make_daemon(broker.endpoint)
    started(broker, daemon, connect, f"{daemon.base}/snapshot")
    while not any(line.startswith(f"STATUS={REFUSED}{daemon.base}/snapshot: ") for line in manager.read()):
        pass


def test_with_all_refused_it_is_offline_until_a_later_connection_grants_something(
    broker: Refusing, connect: Connect, make_daemon: Make
) -> None:
    daemon = make_daemon(broker.endpoint)
    wanted = Subscriptions(Config(), Topics(daemon.base), [])
    broker.refuse(*(topic for topic, _ in (*wanted.events, *wanted.requests)))
    broker.start()
    peer = connect(broker.endpoint)
    peer.subscribe(f"{daemon.base}/+")
    daemon.start()
    daemon.wait_status(peer, b"offline")
    assert REFUSED in health(daemon, peer, lambda h: h["fault"])["fault"]
    assert "neither learn nor answer" in daemon.log.read_text()
    with pytest.raises(AssertionError, match="not heard"):
        peer.wait_for(lambda m: m.payload == b"online", timeout=0)
    broker.stop()
    broker.refuse()
    broker.start()
    again = connect(broker.endpoint)
    again.subscribe(f"{daemon.base}/+")
    again.wait_for(lambda m: m.topic == f"{daemon.base}/status" and m.payload == b"online")
    health(daemon, again, lambda h: h["fault"] is None)
    again.publish(daemon.event("hall"), "The back door was left open")
    assert daemon.wait_stats(again, lambda s: s["handled"] == 1)["learned"] == 1


def test_a_storm_of_reconnects_says_it_once(broker: Refusing, connect: Connect, make_daemon: Make) -> None:
    proxy = Proxy(broker.port)
    daemon = make_daemon(proxy.endpoint)
    peer = started(broker, daemon, connect, f"{daemon.base}/snapshot")
    for _ in range(2):
        proxy.cut()
        daemon.wait_status(peer, b"offline")
        daemon.wait_status(peer, b"online")
    proxy.close()
    wait_for_log(daemon, "lost the broker")
    assert daemon.log.read_text().count(REFUSED) == 1


def test_what_the_daemon_may_not_publish_is_said(
    broker: Refusing, connect: Connect, make_daemon: Make
) -> None:
    daemon = make_daemon(broker.endpoint)
    broker.refuse(publishing=(f"{daemon.base}/info",))
    broker.start()
    daemon.start(connect(broker.endpoint))
    wait_for_log(daemon, "the broker refused status, info or learning (see its access list): Not authorized")


def test_a_source_that_takes_in_the_daemons_own_topics_loses_them_too() -> None:
    config, topics = Config(homeassistant=HomeAssistant(discovery=True)), Topics("mda/t")
    wanted = Subscriptions(config, topics, ["#"])
    assert wanted.events == [("#", 1)]
    (said,) = wanted.without({"#": "Not authorized"})
    assert "nothing from there is heard, no event told there is learned, nothing can be forgotten" in said
    assert wanted.useless({"#": "", "mda/t/+/request/+": ""})
    assert not wanted.useless({"#": ""}) and not wanted.useless({"mda/t/+/request/+": ""})
