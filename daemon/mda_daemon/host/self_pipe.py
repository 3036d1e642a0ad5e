"""The self-pipe that the main thread waits on: signal handlers and other threads wake it by a byte.

Guarantees: `wake` never blocks and is safe in a signal handler; no wake-up is lost, though several may be
handled together. Assumes that only the main thread calls `wait` and `install`.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class SelfPipe:
    """A non-blocking pipe with the signal handlers that write to it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.signals = 0
        """How many signals asked the process to stop."""
        self.reload = False
        """Set by SIGHUP; whoever reloads clears it."""
        self._has_terminal = os.isatty(0)

    def install(self) -> None:
        """Install the handlers of SIGTERM, SIGINT and SIGHUP."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals > 1:
            os._exit(1)  # asked twice: do not wait for the shutdown
        self.wake()

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if self._has_terminal and not os.isatty(0):
            self._on_signal(number, frame)  # not a reload: the terminal was closed
        else:
            self.reload = True
            self.wake()

    def wake(self) -> None:
        """Wake the thread in `wait`. From any thread or signal handler."""
        try:
            os.write(self._write, b"x")
        except BlockingIOError:
            return  # the pipe is full, so `wait` returns in any case

    def wait(self, seconds: float) -> None:
        """Wait until woken, at most `seconds`."""
        select.select([self._read], [], [], seconds)
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return
