"""What `benchmarks.scale` measures in a process of its own, so that its memory and its core are its own.

    python -m benchmarks.scale_child fill|open|stream FOLDER UNITS

FOLDER holds the parts of `Parts.save`; `fill` leaves memory-UNITS.db there. Prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import Given, forget_peak, status_mb
from mda_core import Event, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_daemon.host import allocator

SEED = 11
NOISE = 0.01
"""Deviation of the noise in each dimension; over all of them a fifth of a part's length."""
TEXTS = 1 << 17
"""How many different texts there are."""
SECONDS_AN_EVENT = 30.0
SOURCES = 8
FILL_BATCH = 256
BATCH = 16
RECALLS = 20
FRESH_A_ROUND = 160
ROUNDS = 3
REPEATED_OF = 256
"""A repeat is one of so many events, the newest."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Real texts, their vectors (n, d) float32 of unit length, and questions with theirs (m, d).

    Halves of two texts make a new one, whose vector is the sum of theirs and a little noise at unit
    length. So tens of thousands of realistic events need no encoding.
    """

    texts: Sequence[str]
    vectors: NDArray[np.float32]
    questions: Sequence[str]
    asked: NDArray[np.float32]

    def save(self, folder: Path) -> None:
        texts = {"texts": list(self.texts), "questions": list(self.questions)}
        (folder / "parts.json").write_text(json.dumps(texts), "utf-8")
        np.savez(folder / "parts.npz", vectors=self.vectors, asked=self.asked)

    @classmethod
    def load(cls, folder: Path) -> Parts:
        texts = json.loads((folder / "parts.json").read_text("utf-8"))
        with np.load(folder / "parts.npz") as file:
            return cls(texts["texts"], file["vectors"], texts["questions"], file["asked"])

    def batches(self, start: int, count: int, size: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Texts number start to start + count, each different from all others, with vectors (b, d)."""
        n = len(self.texts)
        pairs = np.random.default_rng(SEED).choice(n * n, TEXTS, replace=False)
        for at in range(start, start + count, size):
            chosen = pairs[at : min(at + size, start + count)]
            first, second = chosen // n, chosen % n
            texts = [
                f"{head(self.texts[i])} {tail(self.texts[j])}" for i, j in zip(first, second, strict=True)
            ]
            noise = [np.random.default_rng([SEED, p]).standard_normal(self.vectors.shape[1]) for p in chosen]
            x = self.vectors[first] + self.vectors[second] + np.float32(NOISE) * np.array(noise, np.float32)
            yield texts, x / np.linalg.norm(x, axis=1, keepdims=True)


def head(text: str) -> str:
    words = text.split()
    return " ".join(words[: len(words) // 2])


def tail(text: str) -> str:
    words = text.split()
    return " ".join(words[len(words) // 2 :])


def events(texts: Sequence[str], start: int) -> list[Event]:
    """Events number start and on, 30 s apart, from eight sources in turn."""
    numbers = range(start, start + len(texts))
    return [
        Event(t, f"home/room{i % SOURCES}", SECONDS_AN_EVENT * i) for i, t in zip(numbers, texts, strict=True)
    ]


def learn(memory: Memory, given: Given, parts: Parts, start: int, count: int) -> None:
    at = start
    for texts, vectors in parts.batches(start, count, FILL_BATCH):
        given.give(texts, vectors)
        memory.learn_many(events(texts, at))
        at += len(texts)


def fill(folder: Path, units: int) -> dict[str, float]:
    """Learn `units` different texts in a new memory; MB resident before, at its start and once full."""
    parts, encoder = Parts.load(folder), Encoder(DEFAULT_MODEL)
    encoder.encode(parts.texts[:BATCH])
    allocator.give_back()
    before = status_mb("VmRSS")
    given = Given(encoder.dims, encoder.fingerprint, encoder.name)
    with Memory.open(folder / f"memory-{units}.db", units=units, encoder=given) as memory:
        at_start = status_mb("VmRSS")
        start = time.perf_counter()
        learn(memory, given, parts, 0, units)
        seconds = time.perf_counter() - start
        allocator.give_back()
        return {
            "before_mb": before,
            "start_mb": at_start,
            "full_mb": status_mb("VmRSS"),
            "fill_seconds": seconds,
        }


def reopen(folder: Path, units: int) -> dict[str, float]:
    """Open a full memory with the real encoder and recall; MB resident at most, and then."""
    questions = json.loads((folder / "parts.json").read_text("utf-8"))["questions"][:RECALLS]
    forget_peak()
    with Memory.open(folder / f"memory-{units}.db", units=units) as memory:
        opened = status_mb("VmHWM")
        for question in questions:
            memory.recall(question)
        peak = status_mb("VmHWM")
        allocator.give_back()
        return {"opened_mb": opened, "peak_mb": peak, "rss_mb": status_mb("VmRSS")}


def stream(folder: Path, units: int) -> dict[str, float]:
    """Events a second on one core with the encoder in one thread: fresh ones, and nine repeats in ten."""
    parts, encoder = Parts.load(folder), Encoder(DEFAULT_MODEL, threads=1)
    rng = random.Random(SEED)
    fresh, mixed = [], []
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        path = Path(name) / "memory.db"
        given = Given(encoder.dims, encoder.fingerprint, encoder.name)
        with Memory.open(path, units=units, encoder=given) as memory:
            learn(memory, given, parts, 0, units // 4)
        with Memory.open(path, units=units, encoder=encoder) as memory:
            at = units // 4
            known: list[Event] = []
            for turn in range(ROUNDS + 1):  # the first warms up and gives the first repeats
                new = _take(parts, at, FRESH_A_ROUND)
                fresh.append(_rate(memory, new))
                known = (known + new)[-REPEATED_OF:]
                again = rng.choices(known, k=9 * FRESH_A_ROUND)
                new = _take(parts, at + FRESH_A_ROUND, FRESH_A_ROUND)
                both = new + again
                rng.shuffle(both)
                mixed.append(_rate(memory, both) if turn else 0.0)
                at += 2 * FRESH_A_ROUND
    ratios = [m / f for m, f in zip(mixed[1:], fresh[1:], strict=True)]
    return {
        "fresh_a_second": statistics.median(fresh[1:]),
        "mixed_a_second": statistics.median(mixed[1:]),
        "ratio": statistics.median(ratios),
    }


def _take(parts: Parts, start: int, count: int) -> list[Event]:
    texts, _ = next(parts.batches(start, count, count))
    return events(texts, start)


def _rate(memory: Memory, events: Sequence[Event]) -> float:
    """Events a second, in batches, each durable."""
    start = time.perf_counter()
    for at in range(0, len(events), BATCH):
        memory.learn_many(events[at : at + BATCH])
    return len(events) / (time.perf_counter() - start)


def main() -> None:
    task, folder, units = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    allocator.restrain()  # as the daemon does
    if task == "stream":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps({"fill": fill, "open": reopen, "stream": stream}[task](folder, units)))


if __name__ == "__main__":
    main()
