"""What a peer hears of a daemon: retained messages, reports, and what comes after a restart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

from tests.support.harness import Daemon, Endpoint, Peer


def heard(peer: Peer, topic: str) -> bytes:
    """The payload of the first message at a topic that was not looked at yet."""
    return bytes(peer.wait_for(lambda m: m.topic == topic).payload)


def retained(connect: Callable[..., Peer], endpoint: Endpoint, topic: str) -> bytes:
    """What is retained at a topic, nothing where nothing is: a message behind it ends the wait."""
    other = connect(endpoint)
    other.subscribe(topic)
    other.subscribe(f"marker/{topic}")
    other.publish(f"marker/{topic}", b"")
    return bytes(other.wait_for(lambda m: m.topic.endswith(topic)).payload)


def restart(daemon: Daemon, peer: Peer, **config: Any) -> None:
    """With these keys instead of those that it was made with."""
    assert daemon.stop() == 0
    daemon.path.write_text(yaml.safe_dump(daemon.config | config))
    daemon.start(peer)


def health_of(daemon: Daemon, peer: Peer, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first health report that is wanted."""
    topic = f"{daemon.base}/health"
    peer.subscribe(topic)
    message = peer.wait_for(lambda m: m.topic == topic and wanted(json.loads(m.payload)))
    report: dict[str, Any] = json.loads(message.payload)
    return report
