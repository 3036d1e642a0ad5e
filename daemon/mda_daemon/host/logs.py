"""Logging for a service: to stderr, with journald's levels, and without floods of the same warning."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

from ..text import visible

ANSWER = {"answer": True}
"""`extra` of a record that answers somebody's action, such as a reload: it is never throttled."""
_MAX_TEMPLATES = 256
# (lowest logging level, syslog priority)
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class _Formatter(logging.Formatter):
    """Escapes control characters, so that no payload or topic can forge a log line."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return "\n".join(visible(line) for line in text.split("\n"))
        level = next((number for floor, number in _PRIORITIES if record.levelno >= floor), 7)
        return "\n".join(f"<{level}>{visible(line)}" for line in text.split("\n"))


class Throttle(logging.Filter):
    """Lets each warning through once per `seconds`, and says how many it held back.

    Warnings are the same if their message templates are. Records with `extra=ANSWER` always pass.
    """

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # message template: (last shown, held back since)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or getattr(record, "answer", False):
            return True
        key, now = str(record.msg), self._clock()
        shown, held_back = self._seen.get(key, (None, 0))
        if shown is not None and now - shown < self._seconds:
            self._seen[key] = (shown, held_back + 1)
            return False
        if len(self._seen) >= _MAX_TEMPLATES:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} more like this since the last one)"
            record.args = None
        return True


def setup(level: str) -> None:
    """Log to stderr, from `level` (such as `info`) upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(journal=bool(os.environ.get("JOURNAL_STREAM"))))
    handler.addFilter(Throttle())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
