"""sd_notify by hand: a few datagrams to the service manager, nothing at all without one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from ..text import one_line


class Notifier:
    """Speaks the sd_notify protocol where `NOTIFY_SOCKET` is set; does nothing elsewhere.

    Never raises: a service must not fail because its manager does not listen.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._socket: socket.socket | None = None
        self._address: str = ""
        self.watchdog_seconds: float | None = None
        self._last_ping = clock()
        path = environ.get("NOTIFY_SOCKET", "")
        if not path.startswith(("/", "@")):
            return
        # "@name" is Linux's abstract namespace, where the name starts with a NUL instead.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        microseconds, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if microseconds.isdigit() and int(microseconds) > 0 and owner in ("", str(os.getpid())):
            self.watchdog_seconds = int(microseconds) / 1e6

    def starting(self, status: str, seconds: float = 120.0) -> None:
        """Say what the start is busy with, and ask for `seconds` more before it counts as stuck."""
        self._send(f"STATUS={one_line(status)}\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def still_starting(self, seconds: float = 120.0) -> None:
        """Ask for `seconds` more: the start got on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={one_line(status)}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={one_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends it."""
        # The time is for Type=notify-reload (systemd 253), which older ones do not know.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(time.monotonic() * 1e6)}\nSTATUS=reloading")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def progressed(self) -> None:
        """Called by the thread that does the work whenever it got on; pings at most every quarter period."""
        if self.watchdog_seconds is None:
            return
        now = self._clock()
        if now - self._last_ping >= self.watchdog_seconds / 4:
            self._last_ping = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return  # the manager is gone or busy: nothing that this process could do about it
