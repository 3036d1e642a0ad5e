"""The connection against a real broker: overflow, a network thread that fails, stale acknowledgements."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from harness import WAIT, Endpoint, Peer
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from daemon.config import Mqtt
from daemon.connection import MAX_UNSENT_BYTES, Connection, Hooks, Incoming


class Owner:
    """Keeps what arrives; `room` says whether a message is taken."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.changed = threading.Condition()
        self.heard: list[Incoming] = []
        self.room: Callable[[Incoming], bool] = lambda message: True
        self.ups = 0
        self.topic = f"t/{uuid.uuid4().hex}"
        self.connection = Connection(
            Mqtt(host="127.0.0.1", port=endpoint.port_v5),
            Hooks(self.on_message, self.on_up, self.notify),
            client_id=uuid.uuid4().hex,
            filters=[(self.topic, 1)],
        )

    def on_message(self, message: Incoming) -> bool:
        with self.changed:
            if not self.room(message):
                return False
            self.heard.append(message)
        self.notify()
        return True

    def on_up(self) -> None:
        with self.changed:
            self.ups += 1
        self.notify()

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def wait(self, wanted: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(wanted, WAIT), self.heard


@pytest.fixture
def owner(mosquitto: Endpoint) -> Iterator[Owner]:
    owner = Owner(mosquitto)
    owner.connection.start()
    owner.wait(lambda: owner.ups == 1)
    yield owner
    owner.connection.close()


@pytest.fixture
def sender(mosquitto: Endpoint, connect: Callable[..., Peer]) -> Peer:
    return connect(mosquitto)


def test_what_found_no_room_comes_again_in_order(owner: Owner, sender: Peer) -> None:
    owner.room = lambda message: message.payload in (b"0", b"1")
    for i in range(6):
        sender.publish(owner.topic, str(i))
    owner.wait(lambda: owner.connection.shedding and len(owner.heard) == 2)
    owner.connection.ack((m.epoch, m.mid) for m in owner.heard)
    owner.room = lambda message: True
    owner.connection.maintain(room=False)
    assert owner.connection.shedding
    owner.connection.maintain(room=True)
    owner.wait(lambda: len(owner.heard) >= 6)
    again = [m for m in owner.heard if m.epoch == 2]
    assert [m.payload for m in again][-4:] == [b"2", b"3", b"4", b"5"]
    assert all(m.dup for m in again)


def test_an_acknowledgement_of_an_earlier_connection_is_dropped(owner: Owner, sender: Peer) -> None:
    owner.room = lambda message: message.payload == b"0"
    for text in ("0", "1"):
        sender.publish(owner.topic, text)
    owner.wait(lambda: owner.connection.shedding)
    stale = [(m.epoch, m.mid) for m in owner.heard]
    owner.room = lambda message: True
    owner.connection.maintain()
    owner.wait(lambda: len(owner.heard) == 3)
    owner.connection.ack(stale)
    assert [(m.payload, m.dup) for m in owner.heard[1:]] == [(b"0", True), (b"1", True)]


def test_a_callback_that_fails_does_not_end_the_network_thread(owner: Owner, sender: Peer) -> None:
    def fail(message: Incoming) -> bool:
        if message.payload == b"bad":
            raise RuntimeError("in a callback")
        return True

    owner.room = fail
    sender.publish(owner.topic, "bad")
    sender.publish(owner.topic, "good")
    owner.wait(lambda: [m.payload for m in owner.heard] == [b"good"])
    assert not owner.connection.dead


def test_a_network_thread_that_ends_is_noticed(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, sender: Peer
) -> None:
    def fail(*args: object) -> int:
        raise RuntimeError("a fault in the library")

    monkeypatch.setattr(owner.connection._client, "_packet_read", fail)
    sender.publish(owner.topic, "x")
    owner.wait(lambda: owner.connection.dead)


def test_what_a_broker_does_not_read_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = Owner(Endpoint("deaf", 0, server.getsockname()[1]))
        owner.connection.start()
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(b"\x20\x03\x00\x00\x00")
            subscribe = client.recv(4096)
            client.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")  # and reads no more
            owner.wait(lambda: owner.ups == 1)
            taken = [owner.connection.publish("t", bytes(65536)) is not None for _ in range(500)]
            assert not all(taken) and taken[0]
            assert owner.connection._unsent_bytes <= MAX_UNSENT_BYTES
            owner.connection.close(timeout=0.1)


def test_a_refused_source_keeps_nothing_else_from_working() -> None:
    """Mosquitto grants what it then withholds; brokers with other plugins say so at once."""
    connection = Connection(
        Mqtt(),
        Hooks(lambda incoming: True, lambda: None, lambda: None),
        client_id="t",
        filters=[("mda/t/+/event/#", 1), ("zigbee2mqtt/#", 1)],
        optional=["zigbee2mqtt/#"],
    )
    granted, denied = (ReasonCode(PacketTypes.SUBACK, identifier=each) for each in (1, 135))
    connection._on_subscribe(connection._client, None, 1, [denied, granted], None)
    assert not connection.subscribed
    assert connection.failure is not None and "Not authorized" in connection.failure
    connection._on_subscribe(connection._client, None, 1, [granted, denied], None)
    assert connection.subscribed
    assert connection.failure is None
