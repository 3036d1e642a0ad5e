"""Code common to the benchmarks: memories to measure, an encoder with a cache, tables of figures."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.retrieval import TOP, Baselines, Ranking
from mda_core import Event, Learned, Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_core.ledger import Ledger
from mda_core.recall.search import SETTINGS, Settings

MDA: Mapping[str, Settings] = {"MDA": SETTINGS}
"""Rows of a table for the memory itself: one, with the defaults."""
START = 1772409600.0
"""2 March 2026, the first day of generated events."""
ENCODE_BATCH = 16
LEARN_BATCH = 64
SEED = 1


class Recorded:
    """An encoder with a cache: each text of a run is encoded once for all rows of its tables."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.dims, self.fingerprint, self.name = encoder.dims, encoder.fingerprint, encoder.name
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [t for t in dict.fromkeys(texts) if t not in self._vectors]
        for i in range(0, len(new), ENCODE_BATCH):
            part = new[i : i + ENCODE_BATCH]
            self._vectors.update(zip(part, self._encoder.encode(part), strict=True))
        if not texts:
            return np.zeros((0, self.dims), np.float32)
        return np.stack([self._vectors[t] for t in texts])

    def one(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self.encode([text])[0]
        return vector


def recorded() -> Recorded:
    """The encoder that ships, with a cache."""
    return Recorded(Encoder(DEFAULT_MODEL))


@contextmanager
def fresh(units: int, encoder: Recorded, clock: Callable[[], float] = time.time) -> Iterator[Memory]:
    """An empty memory in a temporary folder, for which it is `clock()` now."""
    with (
        tempfile.TemporaryDirectory(prefix="mda-bench-") as folder,
        Memory.open(Path(folder) / "memory.db", units=units, encoder=encoder, clock=clock) as memory,
    ):
        yield memory


def learn(memory: Memory, events: Sequence[Event]) -> list[Learned]:
    parts = (events[i : i + LEARN_BATCH] for i in range(0, len(events), LEARN_BATCH))
    return [learned for part in parts for learned in memory.learn_many(part)]


def ranking(memory: Memory, settings: Settings = SETTINGS) -> Ranking:
    """The ranking by the memory, recalling with these settings."""

    def ask(question: str) -> list[str]:
        memory.settings = settings
        return [m.text for m in memory.recall(question, k=TOP).memories]

    return ask


def references(texts: Sequence[str], encoder: Recorded) -> dict[str, Ranking]:
    """Baselines over the same vectors and words; of equal scores the earlier text comes first."""
    base = Baselines(texts, encoder.encode(texts), encoder.one)
    return {"cosine": base.cosine, "BM25": base.bm25, "cosine + BM25 by rank": base.fused}


def inside(memory: Memory) -> Ledger:
    """The arrays of an open memory, which its public interface does not show."""
    ledger = memory._ledger
    assert ledger is not None
    return ledger


@dataclass(frozen=True, slots=True)
class Result:
    """Figures by row and column, and the questions that the memory did not answer as it should."""

    figures: dict[str, dict[str, float]]
    failures: list[str] = field(default_factory=list)

    def show(self, failures: int = 0) -> None:
        columns = list(dict.fromkeys(c for row in self.figures.values() for c in row))
        widths = {c: max(8, len(c) + 2) for c in columns}
        head = max(32, *map(len, self.figures)) + 1
        print(f"{'':{head}}" + "".join(f"{c:>{widths[c]}}" for c in columns))
        for name, row in self.figures.items():
            cells = {c: f"{row[c]:.3f}".removesuffix(".000") if c in row else "" for c in columns}
            print(f"{name:{head}}" + "".join(f"{cells[c]:>{widths[c]}}" for c in columns), flush=True)
        for failure in random.Random(SEED).sample(self.failures, min(failures, len(self.failures))):
            print(f"  {failure}")


_WHO = ["Anna", "Tom", "Grandma", "the courier", "the neighbour", "the robot", "the cat", "a stranger"]
_DID = ["opened", "closed", "moved", "dropped", "found", "repaired", "asked about", "switched on", "cleaned"]
_WHAT = ["door", "window", "bicycle", "parcel", "lamp", "dishwasher", "key", "ladder", "kettle", "umbrella"]
_WHERE = ["in the hall", "behind the shed", "in the kitchen", "on the terrace", "near the garage", "upstairs"]


def sentences(n: int, seed: int = 7) -> list[str]:
    """n different sentences of a home, 15 to 25 words."""
    rng = random.Random(seed)
    out: dict[str, None] = {}
    while len(out) < n:
        parts = [
            f"{rng.choice(_WHO)} {rng.choice(_DID)} the {rng.choice(_WHAT)} {rng.choice(_WHERE)}"
            for _ in range(2)
        ]
        out[f"{parts[0]} at {rng.randrange(24)}:{rng.randrange(60):02} and {parts[1]}"] = None
    return list(out)


def who_questions(n: int) -> list[str]:
    """n questions about such sentences."""
    kinds = len(_WHAT)
    return [f"who {random.Random(i // kinds).choice(_DID)} the {_WHAT[i % kinds]}?" for i in range(n)]
