"""MQTT byte for byte: packets that no client library writes, and a broker and a client that send them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support import WAIT

USER_PROPERTY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, TOPIC_ALIAS = 0x26, 0x03, 0x08, 0x09, 0x23


def number(value: int) -> bytes:
    """A variable byte integer, also one that MQTT does not allow."""
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def data(value: bytes | str) -> bytes:
    """Bytes behind their length."""
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return struct.pack(">H", len(raw)) + raw


def text(name: int, value: bytes | str) -> bytes:
    """A property that is a text or bytes."""
    return bytes([name]) + data(value)


def pair(name: bytes | str, value: bytes | str) -> bytes:
    """A user property."""
    return bytes([USER_PROPERTY]) + data(name) + data(value)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + number(len(body)) + body


def publish(
    topic: bytes | str,
    payload: bytes = b"",
    *,
    qos: int = 1,
    mid: int = 1,
    properties: bytes | None = None,
    dup: bool = False,
) -> bytes:
    """A PUBLISH; of MQTT 3.1.1 without properties, of MQTT 5 with them, if only none."""
    first = 0x30 | qos << 1 | (8 if dup else 0)
    head = data(topic) + (struct.pack(">H", mid) if qos else b"")
    head += b"" if properties is None else number(len(properties)) + properties
    return packet(first, head + payload)


def read_packets(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(first byte, the rest after the length) of each packet that arrives, until the connection ends."""
    buffer = b""
    while True:
        while (found := _cut(buffer)) is None:
            try:
                more = sock.recv(65536)
            except OSError:
                return
            if not more:
                return
            buffer += more
        first, body, buffer = found
        yield first, body


def _cut(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    length = shift = 0
    for at in range(1, len(buffer)):
        length |= (buffer[at] & 0x7F) << shift
        shift += 7
        if buffer[at] < 0x80:
            end = at + 1 + length
            return (buffer[0], buffer[at + 1 : end], buffer[end:]) if len(buffer) >= end else None
    return None


class RawClient:
    """A publisher that sends the bytes it is given, to a real broker."""

    def __init__(self, port: int, version: int = 5) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), WAIT)
        self._sock.settimeout(WAIT)
        self._packets = read_packets(self._sock)
        properties = b"\x00" if version == 5 else b""
        connect = data("MQTT") + bytes([version, 2, 0, 0]) + properties + data(f"raw{os.urandom(6).hex()}")
        self.send(packet(0x10, connect))
        self.wait_for(0x20)

    def send(self, raw: bytes) -> None:
        self._sock.sendall(raw)

    def wait_for(self, first: int) -> bytes:
        """The next packet with this first byte."""
        for found, body in self._packets:
            if found == first:
                return body
        raise AssertionError("the broker ended the connection")

    def publish(self, packet: bytes) -> None:
        """Send a PUBLISH at QoS 1 and wait for its acknowledgement."""
        self.send(packet)
        self.wait_for(0x40)

    def close(self) -> None:
        self._sock.close()


@dataclass(eq=False)
class _Session:
    """What a broker keeps of a client: what it has not acknowledged, and how often it connected."""

    connections: int = 0
    unacknowledged: dict[int, bytes] = field(default_factory=dict)
    sock: socket.socket | None = None


class RawBroker:
    """A broker that lets everybody in, grants every subscription, and sends what it is told to.

    A client is the one for events or the one for requests, by its id. What is not acknowledged comes again at
    each connection, as it was.
    """

    def __init__(self, version: int = 5) -> None:
        self.version = version
        self.greeting = b""
        """Sent to the client for events after its subscription, at each connection."""
        self.connack = b"\x00" if version == 5 else b""
        """What CONNACK holds behind its two bytes."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._changed = threading.Condition()
        self._sessions = {"events": _Session(), "requests": _Session()}
        self._heard: list[tuple[str, bytes]] = []
        self._acknowledged: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()
        for session in self._sessions.values():
            if session.sock is not None:
                session.sock.close()

    @property
    def connections(self) -> int:
        """How often the client for events has connected."""
        return self._sessions["events"].connections

    def send(self, raw: bytes, who: str = "events", *, pieces: int = 1 << 30) -> None:
        """Send bytes to a client that is connected, in pieces of this size, with nothing in between."""
        with self._changed:
            session = self._sessions[who]
            assert self._changed.wait_for(lambda: session.sock is not None, WAIT)
            assert session.sock is not None
            for at in range(0, len(raw), pieces):
                session.sock.sendall(raw[at : at + pieces])

    def deliver(self, mid: int, raw: bytes) -> None:
        """Send a PUBLISH with this message id until it is acknowledged, at each connection again."""
        with self._changed:
            self._sessions["events"].unacknowledged[mid] = raw
        self.send(raw)

    def cut(self) -> None:
        """End the connection of the client for events."""
        sock = self._sessions["events"].sock
        assert sock is not None
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def wait_acknowledged(self, mid: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self._acknowledged, WAIT), self._acknowledged
            self._acknowledged.remove(mid)

    def wait_connections(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.connections >= count, WAIT), self.connections

    def wait_heard(self, topic: str, wanted: Callable[[bytes], bool] = lambda payload: True) -> bytes:
        """The first payload at a topic that is wanted; it is taken out, with all before it there."""

        def found() -> int | None:
            return next(
                (i + 1 for i, (t, payload) in enumerate(self._heard) if t == topic and wanted(payload)), None
            )

        with self._changed:
            at = self._changed.wait_for(found, WAIT)
            assert at is not None, self._heard[-5:]
            payload = self._heard[at - 1][1]
            self._heard = [each for i, each in enumerate(self._heard) if i >= at or each[0] != topic]
            return payload

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            session = self._sessions["events"]
            for first, body in read_packets(sock):
                if first >> 4 == 1:
                    session = self._sessions["requests" if b"-requests" in body else "events"]
                    present = bytes([session.connections > 0 and session is self._sessions["events"]])
                    with self._changed:
                        session.sock = None  # until it has subscribed
                        session.connections += 1
                        self._changed.notify_all()
                    self._answer(sock, packet(0x20, present + b"\x00" + self.connack))
                elif first >> 4 == 8:
                    self._subscribed(sock, session, body)
                else:
                    self._handle(sock, session, first, body)

    def _subscribed(self, sock: socket.socket, session: _Session, body: bytes) -> None:
        at, count = 2, 0
        if self.version == 5:
            at += 1 + body[2]
        while at < len(body):
            at += 3 + int.from_bytes(body[at : at + 2], "big")
            count += 1
        properties = b"\x00" if self.version == 5 else b""
        self._answer(sock, packet(0x90, body[:2] + properties + b"\x01" * count))
        with self._changed:
            session.sock = sock
            if session is self._sessions["events"]:
                sock.sendall(self.greeting + b"".join(session.unacknowledged.values()))
            self._changed.notify_all()

    def _handle(self, sock: socket.socket, session: _Session, first: int, body: bytes) -> None:
        if first >> 4 == 3:
            end = 2 + int.from_bytes(body[:2], "big")
            topic = body[2:end].decode()
            if first & 6:
                self._answer(sock, packet(0x40, body[end : end + 2]))
                end += 2
            if self.version == 5:
                length, end = _number(body, end)
                end += length
            with self._changed:
                self._heard.append((topic, body[end:]))
                self._changed.notify_all()
        elif first >> 4 == 4:
            with self._changed:
                mid = int.from_bytes(body[:2], "big")
                session.unacknowledged.pop(mid, None)
                self._acknowledged.append(mid)
                self._changed.notify_all()
        elif first >> 4 == 10:
            properties = b"\x00" if self.version == 5 else b""
            self._answer(sock, packet(0xB0, body[:2] + properties + b"\x00"))
        elif first >> 4 == 12:
            self._answer(sock, b"\xd0\x00")

    def _answer(self, sock: socket.socket, raw: bytes) -> None:
        with self._changed:
            sock.sendall(raw)


def _number(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
        if body[at - 1] < 0x80:
            return value, at
