"""What waits at QoS 0 for a broker to read it: bounded, where paho would let it be any number of bytes."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

# What a broker that does not read may leave waiting here.
MAX_UNSENT_BYTES = 4 * 1024 * 1024


class Info(Protocol):
    """paho's word on a message; raises RuntimeError or ValueError where it never will be published."""

    def is_published(self) -> bool: ...


class Unsent:
    """The messages of one client that are not yet written to its socket. From any thread."""

    def __init__(self) -> None:
        self.bytes = 0
        self._messages: deque[tuple[Info, int]] = deque()
        self._lock = threading.Lock()

    def room(self, size: int) -> bool:
        """Whether so many bytes more may wait; one message always may."""
        with self._lock:
            while self._messages and _is_gone(self._messages[0][0]):
                self.bytes -= self._messages.popleft()[1]
            return not self._messages or self.bytes + size <= MAX_UNSENT_BYTES

    def add(self, info: Info, size: int) -> None:
        with self._lock:
            self._messages.append((info, size))
            self.bytes += size


def _is_gone(info: Info) -> bool:
    """Whether a message was written to the socket, or never will be."""
    try:
        return info.is_published()
    except (RuntimeError, ValueError):
        return True
