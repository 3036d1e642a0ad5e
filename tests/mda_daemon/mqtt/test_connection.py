"""The connection against a real broker: overflow, a network thread that fails, stale acknowledgements."""

from __future__ import annotations

import queue
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from mda_daemon.config.schema import Mqtt
from mda_daemon.errors import BrokerError
from mda_daemon.mqtt.connection import Callbacks, Connection
from mda_daemon.mqtt.message import Message
from mda_daemon.mqtt.unsent import MAX_UNSENT_BYTES
from tests.support.harness import WAIT, Endpoint, Peer
from tests.support.refusing import Refusing, needs_plugin


class Owner:
    """Keeps what arrives; `room` says whether a message is taken."""

    def __init__(
        self, endpoint: Endpoint, client_id: str | None = None, unsubscribe: Sequence[str] = ()
    ) -> None:
        self.changed = threading.Condition()
        self.heard: list[Message] = []
        self.room: Callable[[Message], bool] = lambda message: True
        self.ups = 0
        self.topic = f"t/{uuid.uuid4().hex}"
        self.client_id = client_id or uuid.uuid4().hex
        self.connection = Connection(
            Mqtt(host="127.0.0.1", port=endpoint.port_v5),
            Callbacks(self.on_message, self.on_up, self.notify),
            client_id=self.client_id,
            filters=[(self.topic, 1)],
            unsubscribe=unsubscribe,
        )

    def on_message(self, message: Message) -> bool:
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


def overflow(owner: Owner, sender: Peer, text: bytes) -> None:
    """A message finds no room, so that there is another connection."""
    owner.room = lambda message: message.payload != text
    sender.publish(owner.topic, text)
    owner.wait(lambda: owner.connection.shedding)
    owner.room = lambda message: True
    owner.connection.maintain()


def test_what_comes_after_one_that_found_no_room_waits_for_it(owner: Owner, sender: Peer) -> None:
    owner.room = lambda message: message.payload != b"1"
    for text in ("0", "1", "2"):
        sender.publish(owner.topic, text)
    owner.wait(lambda: owner.connection.shedding)
    owner.room = lambda message: True
    sender.publish(owner.topic, "3")
    sender.publish(owner.topic, "nobody waits for it", 0)
    owner.wait(lambda: len(owner.heard) == 2)
    assert [m.payload for m in owner.heard] == [b"0", b"nobody waits for it"]
    owner.connection.maintain()
    owner.wait(lambda: len(owner.heard) == 6)
    assert [m.payload for m in owner.heard[2:]] == [b"0", b"1", b"2", b"3"]


def test_an_acknowledgement_of_an_earlier_connection_is_dropped(owner: Owner, sender: Peer) -> None:
    sender.publish(owner.topic, "0")
    owner.wait(lambda: len(owner.heard) == 1)
    earlier = [m.ack_id for m in owner.heard]
    overflow(owner, sender, b"1")
    owner.wait(lambda: len(owner.heard) == 3)
    assert owner.heard[1].mid == owner.heard[0].mid  # the broker would take it for this one
    owner.connection.ack(earlier)
    overflow(owner, sender, b"2")
    owner.wait(lambda: len(owner.heard) == 6)
    assert [(m.epoch, m.payload) for m in owner.heard[3:]] == [(3, b"0"), (3, b"1"), (3, b"2")]


def test_a_filter_that_is_none_any_more_is_taken_out_of_the_session(
    owner: Owner, sender: Peer, mosquitto: Endpoint
) -> None:
    owner.connection.close()
    later = Owner(mosquitto, owner.client_id, unsubscribe=[owner.topic])
    later.connection.start()
    later.wait(lambda: later.ups == 1)
    sender.publish(owner.topic, "before")
    sender.publish(later.topic, "now")
    later.wait(lambda: bool(later.heard))
    later.connection.close()
    assert [m.payload for m in later.heard] == [b"now"]


def test_a_callback_that_fails_does_not_end_the_network_thread(owner: Owner, sender: Peer) -> None:
    def fail(message: Message) -> bool:
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

    monkeypatch.setattr(owner.connection._client._client, "loop_read", fail)
    sender.publish(owner.topic, "x")
    owner.wait(lambda: owner.connection.dead)


def answered(server: socket.socket) -> socket.socket:
    """A client of MQTT 5 that was let in and subscribed. Nobody reads what else it sends."""
    client, _ = server.accept()
    client.recv(4096)
    client.sendall(b"\x20\x03\x00\x00\x00")
    subscribe = client.recv(4096)
    client.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
    return client


def test_an_exception_in_paho_costs_a_connection_and_not_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one, paho would handle the same packet again at its next read."""

    def fail(*args: object) -> int:
        raise RuntimeError("a fault in the library")

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT)
        owner = Owner(Endpoint("odd", 0, server.getsockname()[1]))
        owner.connection.start()
        with answered(server) as client:
            owner.wait(lambda: owner.ups == 1)
            monkeypatch.setattr(owner.connection._client._client, "_handle_pubackcomp", fail)
            client.sendall(b"\x40\x02\x00\x01")
            with answered(server) as client:
                owner.wait(lambda: owner.ups == 2)
                client.sendall(b"\x32\x07\x00\x01t\x00\x01\x00x")
                owner.wait(lambda: bool(owner.heard))
                assert not owner.connection.dead
                owner.connection.close(timeout=0.1)


@pytest.mark.parametrize("goes_on", [False, True])
def test_nothing_is_subscribed_to_before_the_owner_knows_of_a_new_session(goes_on: bool) -> None:
    """What is noted after a subscription may be lost by a kill, and an event of the new session with it."""
    began: list[bytes] = []
    up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(
            Mqtt(host="127.0.0.1", port=server.getsockname()[1]),
            Callbacks(lambda message: True, up.set, lambda: None, began=began.append),
            client_id="t",
            filters=[("t", 1)],
            session=b"known",
        )
        connection.start()
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(bytes((0x20, 3, goes_on, 0, 0)))
            if not goes_on:
                client.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    client.recv(4096)
                client.settimeout(WAIT)
                connection.maintain()
            subscribe = client.recv(4096)
            assert began == ([] if goes_on else [connection.session])
            assert (connection.session == b"known") == goes_on
            client.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
            assert up.wait(WAIT)
            connection.maintain()
            assert len(began) == (not goes_on)
            connection.close(timeout=0.1)


def test_what_a_broker_does_not_read_is_bounded_and_not_held_against_the_next_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = Owner(Endpoint("deaf", 0, server.getsockname()[1]))
        owner.connection.start()
        with answered(server) as client:
            owner.wait(lambda: owner.ups == 1)
            taken = [owner.connection.publish("t", bytes(65536)) is not None for _ in range(500)]
            assert not all(taken) and taken[0]
            assert owner.connection._client.unsent.bytes <= MAX_UNSENT_BYTES
            owner.room = lambda message: False
            client.sendall(b"\x32\x07\x00\x01t\x00\x01\x00x")
            owner.wait(lambda: owner.connection.shedding)
            owner.connection.maintain()
            with answered(server):
                owner.wait(lambda: owner.ups == 2)
                for _ in range(MAX_UNSENT_BYTES // 65536):
                    assert owner.connection.publish("t", bytes(65536)) is not None
                owner.connection.close(timeout=0.1)


@needs_plugin
@pytest.mark.parametrize(("version", "why"), [("5", "Not authorized"), ("3.1.1", "Unspecified error")])
def test_what_the_broker_refused_is_known_and_the_rest_is_heard(
    version: Literal["5", "3.1.1"], why: str, tmp_path: Path, connect: Callable[..., Peer]
) -> None:
    broker = Refusing(tmp_path)
    broker.refuse("t/refused", publishing=("t/forbidden",))
    broker.start()
    heard: queue.Queue[str] = queue.Queue()
    acknowledged: queue.Queue[str | None] = queue.Queue()
    connection = Connection(
        Mqtt(host="127.0.0.1", port=broker.port, version=version),
        Callbacks(
            lambda message: heard.put(message.topic) or True,
            *(lambda: None, lambda: None),
            acknowledged=acknowledged.put,
        ),
        client_id="t",
        filters=[("t/refused", 1), ("t/granted", 1)],
    )
    try:
        connection.open(WAIT)
        assert (connection.refused, connection.failure) == ({"t/refused": why}, None)
        assert connection.refusal == f"the broker refused the subscription to t/refused: {why}"
        connect(broker.endpoint).publish("t/granted", "x")
        assert heard.get(timeout=WAIT) == "t/granted"
        connection.publish("t/forbidden", b"", qos=1)
        assert acknowledged.get(timeout=WAIT) == (why if version == "5" else None)  # 3.1.1 cannot say it
    finally:
        connection.close()
        broker.stop()


def test_a_broker_that_is_not_there_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = Owner(Endpoint("gone", 0, server.getsockname()[1]))
    with pytest.raises(BrokerError, match="Connection refused"):
        owner.connection.open(WAIT)
