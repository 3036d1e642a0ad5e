"""The sd_notify protocol: reports the daemon's state to systemd, or does nothing without it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from ..text import one_line


class Notifier:
    """Sends sd_notify messages if `NOTIFY_SOCKET` is set, otherwise does nothing.

    Never raises: a service must not fail because its manager does not listen. `progressed` belongs to the
    thread whose work the watchdog is to observe, the other methods may be called from any thread.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._socket: socket.socket | None = None
        self._address: str = ""
        self.watchdog_seconds: float | None = None
        """The watchdog's timeout, None without a watchdog."""
        self._last_ping = clock()
        path = environ.get("NOTIFY_SOCKET", "")
        if not path.startswith(("/", "@")):
            return
        # "@name" is in Linux's abstract namespace, where names start with a NUL byte.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        microseconds, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if microseconds.isdigit() and int(microseconds) > 0 and owner in ("", str(os.getpid())):
            self.watchdog_seconds = int(microseconds) / 1e6

    def starting(self, status: str, seconds: float = 120.0) -> None:
        """Report what the start is doing, and ask for `seconds` more before it times out."""
        self._send(f"STATUS={one_line(status)}\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def still_starting(self, seconds: float = 120.0) -> None:
        """Ask for `seconds` more, because the start makes progress."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def ready(self, status: str) -> None:
        """Report that the start or the reload is complete."""
        self._send(f"READY=1\nSTATUS={one_line(status)}")

    def status(self, status: str) -> None:
        """Report what the daemon is doing."""
        self._send(f"STATUS={one_line(status)}")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded; `ready` ends that."""
        # MONOTONIC_USEC is required by Type=notify-reload (systemd 253) and ignored by older versions.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(time.monotonic() * 1e6)}\nSTATUS=reloading")

    def stopping(self) -> None:
        """Report that the daemon is shutting down."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def progressed(self) -> None:
        """Report progress to the watchdog, at most every quarter of its timeout.

        Called by the thread that does the work: a ping from a timer would only prove that the timer runs.
        """
        if self.watchdog_seconds is None:
            return
        now = self._clock()
        if now - self._last_ping >= self.watchdog_seconds / 4:
            self._last_ping = now
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return  # the manager is gone or busy; nothing can be done about it here
