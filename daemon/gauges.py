"""Counters and timings for the health topic: fixed in size, whatever the uptime."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path

RING = 512


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


@dataclass
class Gauges:
    """What happened since the start. The worker writes all of it but `dropped`, which the network does."""

    received: int = 0
    rejected: int = 0
    ignored: int = 0
    duplicates: int = 0
    dropped: int = 0
    requests: int = 0
    errors: int = 0
    refused_replies: int = 0
    encode_ms: Ring = field(default_factory=Ring)
    learn_ms: Ring = field(default_factory=Ring)
    recall_ms: Ring = field(default_factory=Ring)
    last_commit: float | None = None
    fault: str | None = None
    handled: dict[str, int] = field(default_factory=dict)
    """Events dealt with in each space, whatever became of them: learned, refused, already known."""


def rss_bytes() -> int | None:
    """Resident memory of this process, None where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
