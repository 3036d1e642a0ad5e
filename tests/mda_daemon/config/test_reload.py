"""SIGHUP: what can change while the daemon runs does, the rest is named, and a mistake changes nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import yaml

from mda_daemon.config.reload import reload
from mda_daemon.config.schema import Config
from mda_daemon.settings import parse
from tests.support.harness import WAIT, Daemon, Endpoint, Peer
from tests.support.manager import Manager

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]

NOW = parse("node: pi1\nspaces: {home: {units: 64}, away: {units: 64}}", "test", ".")


def changed(text: str) -> Config:
    return parse(text, "test", ".")


def test_the_same_configuration_changes_nothing() -> None:
    found = reload(NOW, NOW)
    assert (found.config, found.applied, found.waiting) == (NOW, [], [])


def test_what_can_change_is_taken_over_and_named() -> None:
    found = reload(
        NOW,
        changed(
            "node: pi1\nspaces: {home: {units: 64, novel: true}, away: {units: 64}}\nhealth_seconds: 5\n"
            "log_level: debug\nmqtt: {reply_prefixes: [lm], max_payload: 2048}\nqueue: {events: 10, batch: 1}"
        ),
    )
    assert found.applied == [
        'mqtt.reply_prefixes: [] -> ["lm"]',
        "mqtt.max_payload: 65536 -> 2048",
        "spaces.home.novel: false -> true",
        "queue.events: 4000 -> 10",
        "queue.batch: 10 -> 1",
        "health_seconds: 30.0 -> 5.0",
        'log_level: "info" -> "debug"',
    ]
    assert found.waiting == []
    assert found.config.spaces["home"].novel and found.config.queue.batch == 1


def test_what_the_start_was_made_of_waits_and_is_named() -> None:
    found = reload(
        NOW,
        changed(
            "node: pi2\nstate: /elsewhere\nmqtt: {host: broker, base: b, tls: {}}\nencoder: {threads: 1}\n"
            "spaces: {home: {units: 65, novel: true}, new: {}}"
        ),
    )
    assert found.applied == ["spaces.home.novel: false -> true"]
    assert [line.partition(": ")[0] for line in found.waiting] == [
        "node",
        "state",
        "mqtt.host",
        "mqtt.tls",
        "mqtt.base",
        "encoder.threads",
        "spaces.home.units",
        "spaces.away",
        "spaces.new",
    ]
    home = msgspec.structs.replace(NOW.spaces["home"], novel=True)
    assert found.config == msgspec.structs.replace(NOW, spaces=NOW.spaces | {"home": home})


def test_a_value_too_long_to_show_is_named_alone() -> None:
    found = reload(
        NOW, changed(f"node: pi1\nspaces: {{home: {{units: 64}}, away: {{units: 64}}}}\nstate: {'s' * 99}")
    )
    assert found.waiting == ["state: changed"]


class Reloadable:
    """The daemon with a service manager that hears what it says, and a configuration to rewrite."""

    def __init__(self, daemon: Daemon, manager: Manager) -> None:
        self.daemon = daemon
        self._manager = manager

    def hear(self, line: str) -> list[str]:
        """The message with this line; those before it are gone."""
        return self._manager.wait_for(line)[-1]

    def write(self, **changes: Any) -> None:
        self.daemon.path.write_text(yaml.safe_dump(self.daemon.config | changes))

    def reload(self) -> None:
        """Send the signal and wait until the daemon says that it is done."""
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGHUP)
        said = self.hear("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in said)
        assert "STATUS=reloaded" in self.hear("READY=1")

    @property
    def log(self) -> str:
        return self.daemon.log.read_text()


@pytest.fixture
def reloadable(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, manager: Manager
) -> Iterator[tuple[Reloadable, Peer]]:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto, log_level="info", health_seconds=3600)
    found = Reloadable(daemon.start(peer), manager)
    found.hear("READY=1")
    yield found, peer
    assert daemon.stop() == 0


def test_log_level_novel_events_and_reply_prefixes_change_at_once(
    reloadable: tuple[Reloadable, Peer],
) -> None:
    found, peer = reloadable
    daemon = found.daemon
    peer.subscribe("clients/lm")
    peer.subscribe(f"{daemon.base}/home/response/recall")
    assert "DEBUG" not in found.log
    found.write(log_level="debug", spaces={"home": {"units": 512, "novel": True}})
    found.reload()
    assert 'in force from now: spaces.home.novel: false -> true, log_level: "info" -> "debug"' in found.log
    peer.subscribe(f"{daemon.base}/home/novel")
    peer.publish(daemon.event("hall"), "A bat flew in")
    peer.wait_for(lambda m: m.topic == f"{daemon.base}/home/novel")
    peer.publish(f"{daemon.base}/home/request/recall", "bat", 0, ResponseTopic="clients/lm")
    refused = peer.wait_for(lambda m: m.topic == f"{daemon.base}/home/response/recall")
    assert json.loads(refused.payload)["error"]["code"] == "bad_request"
    assert "DEBUG" in found.log
    mqtt = daemon.config["mqtt"] | {"reply_prefixes": ["clients"]}
    found.write(mqtt=mqtt)
    found.reload()
    peer.publish(f"{daemon.base}/home/request/recall", "bat", 0, ResponseTopic="clients/lm")
    assert json.loads(peer.wait_for(lambda m: m.topic == "clients/lm").payload)["known"]


def test_health_comes_at_the_new_interval(reloadable: tuple[Reloadable, Peer]) -> None:
    found, peer = reloadable
    topic = f"{found.daemon.base}/health"
    found.write(health_seconds=1)
    found.reload()
    peer.subscribe(topic)
    for _ in range(3):  # the first may be the retained one
        peer.wait_for(lambda m: m.topic == topic)


def test_a_limit_holds_from_then_on_and_lets_go_again(reloadable: tuple[Reloadable, Peer]) -> None:
    found, peer = reloadable
    mqtt = found.daemon.config["mqtt"]
    long = "a" * 2000
    found.write(mqtt=mqtt | {"max_payload": 1024})
    found.reload()
    refused = found.daemon.ask(peer, "recall", long)
    assert refused["error"]["code"] == "bad_request"
    found.write()
    peer.forget()
    found.reload()
    found.daemon.wait_status(peer, b"online")  # it has to tell the broker
    assert found.daemon.ask(peer, "recall", long)["status"] == "ok"


def test_larger_payloads_are_taken_once_it_has_reconnected(reloadable: tuple[Reloadable, Peer]) -> None:
    """The broker of MQTT 5 was told at the connection what it may send."""
    found, peer = reloadable
    daemon = found.daemon
    large = json.dumps({"text": "The picture shows a fox", "picture": "x" * 700_000})
    peer.publish(daemon.event("camera"), large)  # dropped by the broker
    peer.publish(daemon.event("camera"), "The first one")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    found.write(mqtt=daemon.config["mqtt"] | {"max_payload": 1 << 20})
    peer.forget()
    found.reload()
    daemon.wait_status(peer, b"online")
    peer.publish(daemon.event("camera"), large)
    daemon.wait_stats(peer, lambda s: s["learned"] == 2)
    assert "connecting anew, because larger packets are allowed now" in found.log
    found.write()  # smaller again: not worth a connection
    found.reload()
    peer.publish(daemon.event("camera"), large)
    stats = daemon.wait_stats(peer, lambda s: s["handled"] == 3)
    assert stats["learned"] == 2 and found.log.count("connecting anew") == 2


def test_what_waits_for_a_start_is_named_each_time_and_nothing_of_it_happens(
    reloadable: tuple[Reloadable, Peer],
) -> None:
    found, peer = reloadable
    found.write(node="other", spaces={"home": {"units": 99}, "cellar": {"units": 8}})
    for _ in range(2):
        found.reload()
    for line in ('node: "test" -> "other"', "spaces.cellar: new"):
        assert found.log.count(f"takes effect at the next start: {line}") == 2
    assert found.log.count("the next start would refuse: spaces.home.units: 512 -> 99") == 2
    assert found.daemon.ask(peer, "stats")["units"]["capacity"] == 512
    assert found.daemon.ask(peer, "stats", space="cellar")["error"]["code"] == "unknown_space"


def test_a_mistake_is_named_in_full_and_changes_nothing(reloadable: tuple[Reloadable, Peer]) -> None:
    found, peer = reloadable
    found.daemon.path.write_text("log_level: debug\nhealth_second: 5\nmqtt: {port: 0}\n")
    for _ in range(2):
        found.reload()
    assert found.log.count("health_second: unknown key") == 2
    assert "did you mean health_seconds?" in found.log
    assert found.log.count("mqtt.port: expected a port, 1 to 65535, got 0") == 2
    assert found.log.count("the configuration stays as it was") == 2
    found.daemon.path.unlink()
    found.reload()
    assert "cannot be read" in found.log
    peer.publish(found.daemon.event(), "It still learns")
    found.daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    assert "DEBUG" not in found.log


def test_hangups_during_the_start_and_the_end_do_no_harm(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make, manager: Manager
) -> None:
    peer = connect(mosquitto)
    daemon = make_daemon(mosquitto)
    peer.subscribe(f"{daemon.base}/status")
    daemon.start()
    process = daemon.process
    assert process is not None
    # The first word comes before the encoder is loaded, the second before the memories are open.
    for _ in range(2):
        manager.read()
        for _ in range(5):
            process.send_signal(signal.SIGHUP)
    found = Reloadable(daemon, manager)
    found.hear("READY=1")
    found.hear("STATUS=reloaded")
    daemon.wait_status(peer, b"online")  # ready is the daemon, before the broker has answered it
    peer.publish(daemon.event(), "After the hangups")
    daemon.wait_stats(peer, lambda s: s["learned"] == 1)
    process.send_signal(signal.SIGTERM)
    found.hear("STOPPING=1")
    for _ in range(5):
        process.send_signal(signal.SIGHUP)
    assert process.wait(WAIT) == 0
    daemon.process = None


def test_a_terminal_that_is_closed_ends_the_daemon_in_order(
    mosquitto: Endpoint, connect: Connect, make_daemon: Make
) -> None:
    peer = connect(mosquitto)
    ours, theirs = os.openpty()
    daemon = make_daemon(mosquitto).start(peer, stdin=theirs, preexec_fn=lambda: _take_over(theirs))
    os.close(theirs)
    os.close(ours)
    assert daemon.process is not None and daemon.process.wait(WAIT) == 0
    daemon.process = None
    daemon.wait_status(peer, b"offline")


def _take_over(terminal: int) -> None:
    """Make it this process's controlling terminal; output stays where it goes."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
