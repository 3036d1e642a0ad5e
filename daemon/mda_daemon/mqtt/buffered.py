"""paho's client with a read buffer, and with a notification when its thread ends."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

log = logging.getLogger(__name__)

READ_BYTES = 65536
# Packets that are read at most before packets that wait are written.
READ_PACKETS = 64


class BufferedClient(mqtt.Client):
    """Reads all available bytes at once, and hands them to paho piece by piece.

    paho reads each packet by three calls of `recv`. Each call releases the GIL, and under load gets it back
    only when the worker's turn is over, so paho would read only some hundred packets per second.
    """

    ended: threading.Event
    """Set when the thread has ended, by a failure or by `disconnect`; then `on_ended` is called."""
    fault: OSError | None = None
    """The error that ended reading on this connection."""
    _ahead: bytes = b""
    _at: int = 0

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._at == len(self._ahead):
            try:
                self._ahead, self._at = super()._sock_recv(READ_BYTES), 0
            except BlockingIOError:
                raise
            except OSError as exc:
                self.fault = exc
                raise
        piece = self._ahead[self._at : self._at + bufsize]
        self._at += len(piece)
        return piece

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        # Read to the end of the buffer: select() does not know of bytes that are in it.
        read = 0
        while not (code := super().loop_read(max_packets)) and self._at < len(self._ahead):
            read += 1
            if read % READ_PACKETS == 0 and self.want_write() and (code := self.loop_write()):
                break
        return code

    def use(self, sock: Any) -> None:
        """Start with a new socket, without the buffered bytes of the last connection."""
        self._ahead, self._at, self.fault = b"", 0, None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            log.debug("no TCP_NODELAY on this socket")

    def acknowledge_now(self) -> None:
        """Have the kernel send TCP acknowledgements without their usual delay (Linux: up to 40 ms).

        A broker that uses Nagle's algorithm, as Mosquitto does, waits for them before it sends small packets.
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

    def on_ended(self) -> None:
        """Called when the thread has ended; the owner replaces it."""
