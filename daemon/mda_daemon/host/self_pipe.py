"""What the main thread waits on: signals, and word from other threads."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class Waker:
    """A pipe that any thread, and a signal handler, can write to, and the main thread waits on."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.signals = 0
        self.reload = False
        self._terminal = os.isatty(0)

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals > 1:
            os._exit(1)
        self.wake()

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if self._terminal and not os.isatty(0):
            self._on_signal(number, frame)  # nobody asked: the terminal that it was started in is closed
        else:
            self.reload = True
            self.wake()

    def wake(self) -> None:
        try:
            os.write(self._write, b"x")
        except BlockingIOError:
            return  # full of wake-ups: one more says nothing new

    def wait(self, seconds: float) -> None:
        select.select([self._read], [], [], seconds)
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return
