"""What a period costs a recall, after a long life: with one and without, in the same run.

    python -m benchmarks.period [--events 1000000] [--units 8192]

Events with made-up vectors, nine in ten of them repeats, a third of those of one memory alone. Milliseconds
of the processor, medians; nothing is encoded, so the ratio is that of the memory's own work.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.longrun_child import SECONDS_AN_EVENT, START, Made, Stream
from mda_core import Event, Memory

BATCH = 64
RECALLS = 60
OFTEN = Event("Motion was detected in the hall", "hall/motion")
OFTEN_SHARE = 0.3
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Cost:
    """A kind of period, and milliseconds of a recall with it."""

    name: str
    ms: float


def run(folder: Path, units: int, events: int) -> Iterator[Cost]:
    path = folder / "memory.db"
    with Memory.open(path, units=units, encoder=Made()) as memory:
        stream, rng = Stream(memory), random.Random(2)
        stream.fill()
        while stream.sent < events:
            batch = [stream.new() if rng.random() < 0.1 else stream.again() for _ in range(BATCH)]
            batch = [replace(OFTEN, ts=e.ts) if rng.random() < OFTEN_SHARE else e for e in batch]
            stream.learn(batch)
            if stream.sent // 100_000 != (stream.sent - BATCH) // 100_000:
                print(f"{stream.sent} of {events} events", file=sys.stderr)
        queries = [stream.again().text for _ in range(RECALLS)]
        now = START + SECONDS_AN_EVENT * stream.sent
    with Memory.open(path, units=units, encoder=Made()) as memory:
        yield Cost("none", _ms(memory, queries, None, None))
        started = time.process_time()
        memory.recall(queries[0], since=now - DAY, until=now)
        yield Cost("the first one, which reads the journal", (time.process_time() - started) * 1e3)
        for name, back, length in (
            ("the last hour", 3600.0, 3600.0),
            ("a day of last week", 7 * DAY, DAY),
            ("one second of yesterday", DAY + 0.5, 1.0),
            ("everything", now, now),
        ):
            yield Cost(name, _ms(memory, queries, now - back, now - back + length))


def _ms(memory: Memory, queries: Sequence[str], since: float | None, until: float | None) -> float:
    took = []
    for query in queries:
        started = time.process_time()
        memory.recall(query, since=since, until=until)
        took.append((time.process_time() - started) * 1e3)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--units", type=int, default=8192)
    options = parser.parse_args()
    without = 0.0
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder:
        print(f"{options.units} units, after {options.events} events\n{'period':42}{'ms':>9}{'x none':>9}")
        for cost in run(Path(folder), options.units, options.events):
            without = without or cost.ms
            print(f"{cost.name:42}{cost.ms:9.2f}{cost.ms / without:9.2f}", flush=True)


if __name__ == "__main__":
    main()
