"""What counts as acknowledged: by publication, because message ids are used again after 65,535."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mda_daemon.client.client import Client
from mda_daemon.config.schema import Config
from mda_daemon.errors import BrokerError
from mda_daemon.mqtt.publication import Publication

MESSAGE_IDS = 65_535


class Info:
    """paho's record of a message, which the test marks as published."""

    def __init__(self, mid: int) -> None:
        self.mid = mid
        self.published = False

    def is_published(self) -> bool:
        return self.published


class StubConnection:
    """Takes everything and counts message ids as paho does; the broker's answers are the test's own."""

    failure = None

    def __init__(self, client: Client) -> None:
        self.infos: list[Info] = []
        self._client = client

    def publish(self, topic: str, payload: bytes, **more: object) -> Publication:
        info = Info(len(self.infos) % MESSAGE_IDS + 1)
        self.infos.append(info)
        return Publication(info)

    def acknowledge(self, *infos: Info, refused: str | None = None) -> None:
        for info in infos:
            info.published = True
            self._client._on_acknowledged(refused)


@pytest.fixture
def client() -> Client:
    return Client(Config(), "home", timeout=0.1)


@pytest.fixture
def stub(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubConnection]:
    stub = StubConnection(client)
    monkeypatch.setattr(client, "_connection", stub)
    yield stub


def test_a_message_id_that_comes_round_again_acknowledges_nothing_else(
    client: Client, stub: StubConnection
) -> None:
    client.tell(b"the first, never acknowledged", "", 2 * MESSAGE_IDS)
    for _ in range(MESSAGE_IDS):
        client.publish("t", b"")
    again = stub.infos[-1]
    assert again.mid == stub.infos[0].mid
    stub.acknowledge(*stub.infos[1:])
    assert client.acknowledged == MESSAGE_IDS
    with pytest.raises(BrokerError, match=r"^1 events were not acknowledged"):
        client.settle()


def test_an_acknowledgement_before_publish_returns_counts(client: Client, stub: StubConnection) -> None:
    publish = stub.publish

    def at_once(topic: str, payload: bytes, **more: object) -> Publication:
        publication = publish(topic, payload, **more)
        stub.acknowledge(stub.infos[-1])
        return publication

    stub.publish = at_once  # type: ignore[method-assign]
    for _ in range(50):
        client.tell(b"x", "", 1)
    client.settle()
    assert client.acknowledged == 50


def test_what_was_refused_does_not_count(client: Client, stub: StubConnection) -> None:
    for _ in range(3):
        client.tell(b"x", "", 9)
    stub.acknowledge(stub.infos[0])
    stub.acknowledge(stub.infos[1], refused="Not authorized")
    stub.acknowledge(stub.infos[2])
    assert client.acknowledged == 2
    with pytest.raises(BrokerError, match="refused what this account published: Not authorized"):
        client.settle()


def test_a_full_window_waits_and_says_so(client: Client, stub: StubConnection) -> None:
    client.tell(b"x", "", 1)
    with pytest.raises(BrokerError, match="the broker acknowledged nothing"):
        client.tell(b"y", "", 1)
    assert client.acknowledged == 0


def test_a_message_that_the_connection_does_not_take_is_an_error(
    client: Client, stub: StubConnection
) -> None:
    stub.publish = lambda *args, **more: None  # type: ignore[method-assign, assignment]
    with pytest.raises(BrokerError, match="lost the broker"):
        client.publish("t", b"")
