"""paho's client behind a packet reader of ours, with a callback when its thread ends.

paho reads a packet in three pieces and waits in between; each of these calls releases the GIL, and under load
gets it back only when the worker's turn is over. So all that has arrived is read at once, cut into packets
here, and paho gets those that are no PUBLISH, one by one and whole.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from hashlib import blake2b
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

from .packets import CONNACK, DISCONNECT, PUBACK, SUBACK, UNSUBACK, PacketReader, ProtocolError, Publish

log = logging.getLogger(__name__)

READ_BYTES = 65536
# Packets read at most before it is time to write.
READ_PACKETS = 64
SKIPPED_AFTER = 2
"""Connections that one and the same packet may end before it is skipped."""


class BufferedClient(mqtt.Client):
    """Everything here runs in paho's thread."""

    ended: threading.Event
    """Set when the thread has ended, by itself or by `disconnect`; `on_ended` is called then."""
    reader: PacketReader
    fault: Exception | None = None
    """Why reading failed on this connection."""
    _packet: bytes = b""
    _at: int = 0
    _culprit: tuple[bytes, int] = (b"", 0)
    """Digest of the packet that ended a connection last, and how many in a row."""

    def on_publish_packet(self, packet: Publish) -> None: ...

    def on_puback(self) -> None:
        """After an acknowledgement was handled: paho calls `on_publish` before its record says so."""

    def on_ended(self) -> None: ...

    def _sock_recv(self, bufsize: int) -> bytes:
        """What paho reads: the packet at hand, or nothing yet."""
        if self._at == len(self._packet):
            raise BlockingIOError
        piece = self._packet[self._at : self._at + bufsize]
        self._at += len(piece)
        return piece

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        try:
            data = super()._sock_recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("the connection was closed")
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        except OSError as exc:
            return self._lose(exc)
        self._last_bytes_received = time.monotonic()  # also while a large packet is skipped
        try:
            return self._read(data)
        except ProtocolError as exc:
            return self._lose(exc)

    def _read(self, data: bytes) -> MQTTErrorCode:
        for count, packet in enumerate(self.reader.feed(data), 1):
            if isinstance(packet, Publish):
                self.on_publish_packet(packet)
            elif code := self._handle(packet):
                return code
            if count % READ_PACKETS == 0 and self.want_write() and (code := self.loop_write()):
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle(self, packet: bytes) -> MQTTErrorCode:
        """Have paho handle a packet. One that has ended connections before is skipped."""
        if packet[0] >> 4 in (CONNACK, DISCONNECT):  # ending the connection is what these are for
            return self._feed(packet)
        digest = _digest(packet)
        before, ended = self._culprit
        if digest == before and ended >= SKIPPED_AFTER:
            log.error("skipped a packet that ended %d connections: %s …", ended, packet[:32].hex(" "))
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        # Until it turns out to be harmless:
        self._culprit = digest, (ended if digest == before else 0) + 1
        self.fault = ProtocolError(f"a packet of type {packet[0] >> 4} that cannot be read")
        code = self._feed(packet)
        if not code:
            self._culprit, self.fault = (before, ended), None
            if packet[0] >> 4 == PUBACK:
                self.on_puback()
        return code

    def _feed(self, packet: bytes) -> MQTTErrorCode:
        self._packet, self._at = packet, 0
        try:
            return super().loop_read()
        except Exception as exc:
            log.exception("a packet could not be handled")
            return self._lose(
                ProtocolError(f"a packet of type {packet[0] >> 4} that cannot be read ({exc!r})")
            )

    def _lose(self, exc: Exception) -> MQTTErrorCode:
        """End this connection; paho makes the next one.

        Not by a read that fails: after an exception paho would handle the same packet once more.
        """
        self.fault = exc
        return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)

    def use(self, sock: Any, reader: PacketReader) -> None:
        """Start with a new socket: what is left of the last connection is no part of this one."""
        self.reader, self._packet, self._at, self.fault = reader, b"", 0, None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            log.debug("no TCP_NODELAY on this socket")

    def acknowledge_now(self) -> None:
        """Have the kernel acknowledge what was read without its usual delay (Linux: up to 40 ms).

        A broker that leaves Nagle's algorithm on, as Mosquitto does, sends no small packet before that.
        """
        sock: Any = self.socket()
        if sock is not None and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except BaseException:
            log.exception("the network thread failed")
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.ended.set()
            self.on_ended()


def _digest(packet: bytes) -> bytes:
    """The same for packets that differ in the message id alone, which every connection counts on."""
    if packet[0] >> 4 in (PUBACK, SUBACK, UNSUBACK):
        start = next((at for at in range(1, len(packet)) if packet[at] < 0x80), 0) + 1
        packet = packet[:start] + packet[start + 2 :]
    return blake2b(packet, digest_size=16).digest()
