"""What `benchmarks.longrun` measures in a process of its own, so that its memory and its writes are its own.

    python -m benchmarks.longrun_child stream|write FOLDER UNITS EVENTS

Prints a line of JSON for each tenth of the stream, or for each way of writing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import inside
from benchmarks.process import status_mb
from mda_core import Event, Memory
from mda_core.storage.journal import ring_size
from mda_daemon.host import allocator

SEED = 5
DIMS = 384
BANK = 4096
"""Random vectors, of which each text gets the sum of two: nothing is encoded."""
VOCABULARY = 6000
WORDS = 12
SOURCES = 64
START = 1.7e9
SECONDS_AN_EVENT = 7.0
FRESH = 10
"""One event in so many is new; the others repeat what is held, any of it."""
TENTHS = 10
RECALLS = 40
BATCHES = (10, 1)
DELIVERY_ID_BYTES = 6
"""As the daemon makes them."""


class Made:
    """An encoder with random vectors, the same for the same text."""

    def __init__(self) -> None:
        self.dims, self.fingerprint, self.name = DIMS, "made up", "made up"
        self._bank = np.random.default_rng(SEED).standard_normal((BANK, DIMS)).astype(np.float32)
        self._bank /= np.linalg.norm(self._bank, axis=1, keepdims=True)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        out = np.empty((len(texts), DIMS), np.float32)
        for i, text in enumerate(texts):
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            one, other = (int.from_bytes(part, "big") % BANK for part in (digest[:4], digest[4:]))
            vector = self._bank[one] + np.float32(0.7) * self._bank[other]
            out[i] = vector / np.linalg.norm(vector)
        return out


class Stream:
    """Events by their numbers, and which of them the units hold, in arrays of fixed size."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._rng = random.Random(SEED)
        self._words = _vocabulary()
        self._held = np.full(memory.capacity, -1, np.int64)
        self._delivery_ids = itertools.count()
        self.fresh = 0
        self.sent = 0

    def event(self, number: int) -> Event:
        """Event number `number`, now."""
        rng = random.Random(number)
        # The n-th word of a language is about 1/n as common as the first.
        picked = [self._words[int(len(self._words) ** rng.random()) - 1] for _ in range(WORDS)]
        self.sent += 1
        source = rng.randrange(SOURCES)
        ts = START + SECONDS_AN_EVENT * self.sent
        return Event(
            f"{' '.join(picked)} {number}", f"room{source % 8}/device{source // 8}", ts, f"e{number}"
        )

    def new(self) -> Event:
        self.fresh += 1
        return self.event(self.fresh - 1)

    def again(self) -> Event:
        """A repeat of one of the events held, each equally likely."""
        while (number := int(self._held[self._rng.randrange(len(self._held))])) < 0:
            pass
        return self.event(number)

    def learn(self, events: Sequence[Event]) -> float:
        """Learn a batch as the daemon does, with its delivery ids; returns the seconds of the processor."""
        delivery_ids = [next(self._delivery_ids).to_bytes(DELIVERY_ID_BYTES, "big") for _ in events]
        started = time.process_time()
        learned = self._memory.learn_many(events, delivery_ids=delivery_ids)
        seconds = time.process_time() - started
        for event, found in zip(events, learned, strict=True):
            slot = inside(self._memory).index.find_memory(found.memory)
            if found.new and slot is not None and event.id is not None:
                self._held[slot] = int(event.id[1:])
        return seconds

    def fill(self) -> None:
        """Learn until all units are in use and the journal has been overwritten twice."""
        capacity = self._memory.capacity
        while self.fresh < capacity + capacity // 8:
            self.learn([self.new() for _ in range(64)])
        while inside(self._memory).seq < 2 * ring_size(capacity):
            self.learn([self.again() for _ in range(64)])


def stream(path: Path, units: int, events: int) -> Iterator[dict[str, float]]:
    """Nine repeats in ten, in batches of ten. For each tenth: resident MB, bytes on disk, medians in ms.

    Milliseconds of the processor: what else runs on the machine over the hours does not count.
    """
    rng = random.Random(SEED)
    with Memory.open(path, units=units, encoder=Made()) as memory:
        stream = Stream(memory)
        stream.learn([stream.new() for _ in range(FRESH)])
        for tenth in range(1, TENTHS + 1):
            learn, recall = [], []
            log_bytes = 0
            while stream.sent < events * tenth // TENTHS:
                batch = [stream.again() if rng.randrange(FRESH) else stream.new() for _ in range(BATCHES[0])]
                learn.append(stream.learn(batch) * 1e3 / len(batch))
                log_bytes = max(log_bytes, _log(path))
                progress(f"{stream.sent} of {events} events")
            for _ in range(RECALLS):
                query = stream.again().text
                started = time.process_time()
                memory.recall(query)
                recall.append((time.process_time() - started) * 1e3)
            stream.sent -= RECALLS
            allocator.give_back()
            yield {
                "tenth": tenth,
                "events": stream.sent,
                "rss_mb": status_mb("VmRSS"),
                "database_bytes": path.stat().st_size,
                "log_bytes": log_bytes,
                "learn_ms": statistics.median(learn),
                "recall_ms": statistics.median(recall),
            }


def write(folder: Path, units: int, events: int) -> Iterator[dict[str, float]]:
    """Bytes an event that a full memory has the disk take: for fresh events, and for repeats of the held.

    Each figure starts and ends with an empty log, so that what the log puts off is counted.
    """
    path = folder / "written.db"
    with Memory.open(path, units=units, encoder=Made()) as memory:
        stream = Stream(memory)
        stream.fill()
        store = inside(memory).store
        for size in BATCHES:
            for fresh in (True, False):
                store.flush()
                before = written()
                for _ in range(events // size):
                    stream.learn([stream.new() if fresh else stream.again() for _ in range(size)])
                store.flush()
                disk, calls = (now - then for now, then in zip(written(), before, strict=True))
                count = events // size * size
                yield {
                    "batch": size,
                    "fresh": fresh,
                    "events": count,
                    "disk_bytes": disk / count,
                    "call_bytes": calls / count,
                }


def written(pid: int | str = "self") -> tuple[int, int]:
    """Bytes that a process has written to the disk, and that it has passed to `write` and its like."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    fields = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return fields["write_bytes"], fields["wchar"]


def progress(text: str) -> None:
    """A progress line that overwrites itself; nothing where standard error is no terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="\r", file=sys.stderr, flush=True)


def _log(path: Path) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _vocabulary() -> list[str]:
    rng = random.Random(SEED)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "ist")]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(rng.choices(syllables, k=rng.randint(1, 4)))] = None
    return list(words)


def main() -> None:
    task, folder, units, events = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    allocator.restrain()  # as the daemon does
    figures = (
        stream(folder / "memory.db", units, events) if task == "stream" else write(folder, units, events)
    )
    for line in figures:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
