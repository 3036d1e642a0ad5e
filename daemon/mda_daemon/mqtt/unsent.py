"""Bounds the bytes of messages at QoS 0 that wait for a slow broker, which paho itself does not."""

from __future__ import annotations

import threading
from collections import deque

from .publication import Publication

MAX_UNSENT_BYTES = 4 * 1024 * 1024


class Unsent:
    """The messages of one client that are not yet written to its socket. For any thread."""

    def __init__(self) -> None:
        self.bytes = 0
        self._messages: deque[tuple[Publication, int]] = deque()
        self._lock = threading.Lock()

    def room(self, size: int) -> bool:
        """Whether a message of `size` bytes may wait too. A single message always may."""
        with self._lock:
            while self._messages and self._messages[0][0].is_done:
                self.bytes -= self._messages.popleft()[1]
            return not self._messages or self.bytes + size <= MAX_UNSENT_BYTES

    def add(self, publication: Publication, size: int) -> None:
        """Add a message that was handed to paho, of `size` bytes."""
        with self._lock:
            self._messages.append((publication, size))
            self.bytes += size
