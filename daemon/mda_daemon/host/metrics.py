"""Counters and timings for the health topic: fixed in size, whatever the uptime."""

from __future__ import annotations

import os
from array import array
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

RING = 512
RATE_SECONDS = 60.0
RATE_MARKS = 128


class Ring:
    """The last 512 values; quantiles are taken when asked for, adding costs one store."""

    def __init__(self, size: int = RING) -> None:
        self._values = array("d", bytes(8 * size))
        self._count = 0

    def add(self, value: float) -> None:
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def quantiles(self) -> dict[str, float | None]:
        """`{"p50", "p99"}` by nearest rank over what the ring holds, None before the first value."""
        held = min(self._count, len(self._values))
        ordered = sorted(self._values[:held])
        return {name: _rank(ordered, share) for name, share in (("p50", 0.50), ("p99", 0.99))}


def _rank(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


class Rate:
    """How often a counter counts, over the last minute or so: from report to report, however far apart."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=RATE_MARKS)

    def per_minute(self, seconds: float, count: int) -> float:
        """The rate at `seconds` since the start of the process, when the counter stands at `count`."""
        marks = self._marks
        marks.append((seconds, count))
        while len(marks) > 2 and seconds - marks[1][0] >= RATE_SECONDS:
            marks.popleft()
        since, before = marks[0]
        # A minute at least: the first event of a process is no burst.
        return round((count - before) * 60 / max(seconds - since, RATE_SECONDS), 2)


@dataclass
class Gauges:
    """What happened since the start. The worker writes it, `dropped` and `refused` the network."""

    received: int = 0
    rejected: int = 0
    ignored: int = 0
    duplicates: int = 0
    echoed: int = 0
    """Events that a recall had given out, and that were not learned again."""
    dropped: int = 0
    requests: int = 0
    errors: int = 0
    """Without `busy`, which is an error to the one who hears it."""
    busy: int = 0
    refused_replies: int = 0
    paused: int = 0
    """Events that were dropped because learning is paused by hand."""
    learning: bool = True
    received_rate: Rate = field(default_factory=Rate)
    encode_ms: Ring = field(default_factory=Ring)
    learn_ms: Ring = field(default_factory=Ring)
    recall_ms: Ring = field(default_factory=Ring)
    last_commit: float | None = None
    fault: str | None = None
    refused: str | None = None
    """What the broker does not let this listen to."""
    recovered: int = 0
    """Damaged state files that were moved aside, and gone on without."""
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each source that is configured: messages learned, ignored (no event by its rules) and rejected."""
    handled: dict[str, int] = field(default_factory=dict)
    """Events dealt with in each space, whatever became of them: learned, refused, already known."""


def thread_ticks(number: int) -> int | None:
    """Processor time of a thread of this process, in the kernel's ticks; None where it does not say."""
    try:
        fields = Path(f"/proc/self/task/{number}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None


def rss_bytes() -> int | None:
    """Resident memory of this process, None where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
