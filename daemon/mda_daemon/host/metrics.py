"""Counters and timings for the health topic, of fixed size whatever the uptime."""

from __future__ import annotations

import os
from array import array
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

RING_VALUES = 512
RATE_SECONDS = 60.0
RATE_MARKS = 128


class Ring:
    """The last `size` values. Adding one is a single store; quantiles are computed on demand."""

    def __init__(self, size: int = RING_VALUES) -> None:
        self._values = array("d", bytes(8 * size))
        self._count = 0

    def add(self, value: float) -> None:
        """Add a value, in place of the oldest one if the ring is full."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def quantiles(self) -> dict[str, float | None]:
        """`p50` and `p99` of the values by nearest rank; None before the first value."""
        held = min(self._count, len(self._values))
        ordered = sorted(self._values[:held])
        return {name: _nearest_rank(ordered, share) for name, share in (("p50", 0.50), ("p99", 0.99))}


def _nearest_rank(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


class Rate:
    """The rate of a counter over the last minute, or since the report before that if reports are rarer."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=RATE_MARKS)

    def per_minute(self, seconds: float, count: int) -> float:
        """The rate per minute, when the counter is at `count`, `seconds` after the process started."""
        marks = self._marks
        marks.append((seconds, count))
        while len(marks) > 2 and seconds - marks[1][0] >= RATE_SECONDS:
            marks.popleft()
        since, before = marks[0]
        # Over a minute at least, so that the first event of a process does not look like a burst.
        return round((count - before) * 60 / max(seconds - since, RATE_SECONDS), 2)


@dataclass
class Metrics:
    """Counters since the process started.

    Written by the worker's thread, except `dropped` and `refused`, which the network threads write.
    """

    received: int = 0
    rejected: int = 0
    ignored: int = 0
    duplicates: int = 0
    echoed: int = 0
    """Events that repeat what a recall returned, and were not learned again."""
    dropped: int = 0
    requests: int = 0
    errors: int = 0
    """Error replies, without those counted in `busy`."""
    busy: int = 0
    refused_replies: int = 0
    paused: int = 0
    """Events that were dropped because learning was paused by hand."""
    learning: bool = True
    received_rate: Rate = field(default_factory=Rate)
    encode_ms: Ring = field(default_factory=Ring)
    learn_ms: Ring = field(default_factory=Ring)
    recall_ms: Ring = field(default_factory=Ring)
    last_commit: float | None = None
    fault: str | None = None
    refused: str | None = None
    """A sentence about the subscriptions that the broker refused, if any."""
    connection_fault: str | None = None
    """What keeps ending the connections to the broker."""
    recovered: int = 0
    """Damaged state files that were moved aside and replaced."""
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    """By source: messages `learned`, `ignored` (left out by its rules) and `rejected` (invalid)."""
    handled: dict[str, int] = field(default_factory=dict)
    """By space: events that were processed, whether they were learned, refused or already known."""


def thread_ticks(number: int) -> int | None:
    """CPU time of the thread `number` of this process, in kernel ticks; None if it cannot be read."""
    try:
        fields = Path(f"/proc/self/task/{number}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None


def rss_bytes() -> int | None:
    """Resident memory of this process in bytes; None if it cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
