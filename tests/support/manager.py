"""A service manager that listens as systemd does."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.support import WAIT

WATCHDOG_SECONDS = 2.0


class Manager:
    """Reads what a service tells it at the socket `path`, which NOTIFY_SOCKET names to it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def read(self, seconds: float = WAIT) -> list[str]:
        """The lines of the next message. Raises TimeoutError after so many seconds."""
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode().split("\n")

    def wait_for(self, line: str) -> list[list[str]]:
        """Read until a message has this line; all that came, this one last."""
        heard = [self.read()]
        while line not in heard[-1]:
            heard.append(self.read())
        return heard

    def wait_for_silence(self) -> None:
        """Until the watchdog's time has passed without a ping: then systemd ends the service."""
        deadline = time.monotonic() + WAIT
        try:
            while self.read(WATCHDOG_SECONDS):
                assert time.monotonic() < deadline, "it goes on"
        except TimeoutError:
            return
