"""One memory at 4,096 to 65,536 units: time, growth and memory, as ratios in one run. No network.

    python -m benchmarks.scale [--data FOLDER] [--units N ...] [--peers PYTHON]

The units hold different texts, put together from halves of real ones (turns of LoCoMo with --data, made-up
sentences without), and so are their vectors. PYTHON is the interpreter of an environment with
benchmarks/requirements.txt: then Chroma and USearch are asked for the same vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks import jobs
from benchmarks.common import sentences
from benchmarks.datasets import locomo
from benchmarks.process import Given
from benchmarks.retrieval import TOP
from benchmarks.rig import ROOT
from benchmarks.scale_child import BATCH, SEED, Parts, events, head, learn, tail
from mda_core import Memory
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_core.recall.search import SETTINGS, Settings

UNITS = (4096, 16384, 65536)
PARTS = 3000
WORDS = 8
"""A part has at least so many words."""
QUESTIONS = 120
WARM_UP = 20
STEP_UNITS = 8192
STEP_BATCHES = 64
COMPARED = ("chromadb", "usearch")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer asked for the same vectors; both times from its own process, medians in ms."""

    find_ms: float
    product_ms: float
    same: float
    """The mean fraction of the exact first ten that it found."""
    disk_mb: float
    rss_mb: float

    @property
    def products(self) -> float:
        return self.find_ms / self.product_ms


@dataclass(frozen=True, slots=True)
class Size:
    """One full memory: medians in ms of a product and a recall that alternate, MB of 10^6 bytes."""

    units: int
    product_ms: float
    recall_ms: float
    exhaustive_ms: float
    same: float
    """The mean fraction of the first ten of a recall that looks at every unit."""
    disk_mb: float
    before_mb: float
    start_mb: float
    full_mb: float
    peers: dict[str, Peer | str] = field(default_factory=dict)

    @property
    def products(self) -> float:
        return self.recall_ms / self.product_ms


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything measured; ratios and ms, and MB of 10^6 bytes."""

    sizes: tuple[Size, ...]
    learn_half: float
    """Learning a fresh event without encoding it, over encoding it, in a memory half full …"""
    learn_full: float
    """… and in a full one, where each event takes another's place."""
    encode_ms: float
    rss_mb: float
    peak_mb: float
    repeats: float
    """Events a second with nine repeats in ten, over fresh ones alone."""
    fresh_a_second: float
    mixed_a_second: float

    @property
    def growth(self) -> float:
        """Growth of the recall time from the smallest memory to the largest, divided by the growth of the
        units."""
        small, large = self.sizes[0], self.sizes[-1]
        return (large.recall_ms / small.recall_ms) / (large.units / small.units)

    @property
    def allocated_at_start(self) -> float:
        """The fraction of the largest memory's RAM that it took when it was opened new."""
        largest = self.sizes[-1]
        return (largest.start_mb - largest.before_mb) / (largest.full_mb - largest.before_mb)


def parts_of(data: Path | None, encoder: Encoder) -> Parts:
    """Parts with halves that occur once, so that any two of them make a text of their own."""
    if data is None:
        texts, questions = sentences(2 * PARTS, SEED), sentences(QUESTIONS, SEED + 1)
    else:
        conversations = locomo(data)
        texts = [e.text for c in conversations for e in c.events]
        questions = [q.text for c in conversations for q in c.questions if q.counts]
    rng = random.Random(SEED)
    rng.shuffle(texts)
    questions = rng.sample(list(dict.fromkeys(questions)), QUESTIONS)
    seen: set[str] = set()
    chosen: list[str] = []
    for text in texts:
        halves = {head(text), tail(text)}
        if len(text.split()) >= WORDS and not halves & seen and len(chosen) < PARTS:
            seen |= halves
            chosen.append(text)
    return Parts(chosen, _encode(encoder, chosen), questions, _encode(encoder, questions))


def _encode(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([encoder.encode(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)])


def size(folder: Path, parts: Parts, encoder: Encoder, units: int, python: str | None) -> Size:
    """Fill a memory in a separate process, then alternate recalls with the bare product."""
    filled = child("fill", folder, units)
    keys = np.concatenate([x for _, x in parts.batches(0, units, 1024)])
    path = folder / f"memory-{units}.db"
    given = Given(encoder.dims, encoder.fingerprint, encoder.name)
    products, recalls, whole, same = [], [], [], []
    with Memory.open(path, units=units, encoder=given) as memory:
        used = memory.stats()["units"]
        assert isinstance(used, dict) and used["used"] == units, used
        for question, q in zip(parts.questions, parts.asked, strict=True):
            given.give([question], q[None])
            products.append(timed(keys.__matmul__, q)[0])
            took, found = timed(memory.recall, question)
            recalls.append(took)
            products.append(timed(keys.__matmul__, q)[0])  # so that both come after one, the caches alike
            memory.settings = Settings(shortlist=0)
            took, exhaustive = timed(memory.recall, question)
            memory.settings = SETTINGS
            whole.append(took)
            ids = {m.memory for m in exhaustive.memories}
            same.append(len({m.memory for m in found.memories} & ids) / TOP)
    disk = sum(p.stat().st_size for p in folder.glob(f"{path.name}*")) / 1e6
    return Size(
        units=units,
        product_ms=statistics.median(products[2 * WARM_UP :]),
        recall_ms=statistics.median(recalls[WARM_UP:]),
        exhaustive_ms=statistics.median(whole[WARM_UP:]),
        same=statistics.fmean(same),
        disk_mb=disk,
        before_mb=filled["before_mb"],
        start_mb=filled["start_mb"],
        full_mb=filled["full_mb"],
        peers={} if python is None else ask_peers(folder, parts, keys, python),
    )


def ask_peers(folder: Path, parts: Parts, keys: NDArray[np.float32], python: str) -> dict[str, Peer | str]:
    """The peers over the same texts and vectors, each in a process of its own; or why it did not run."""
    units = len(keys)
    exact = [set(np.argpartition(-(keys @ q), TOP)[:TOP].tolist()) for q in parts.asked]
    texts = [text for some, _ in parts.batches(0, units, 1024) for text in some]
    out: dict[str, Peer | str] = {}
    with tempfile.TemporaryDirectory(prefix="peers-", dir=folder) as name:
        job = jobs.Set(texts, [0.0] * units, keys, parts.questions, parts.asked)
        jobs.write(Path(name), [job], TOP)
        for peer in COMPARED:
            figures = jobs.run(python, peer, Path(name))
            if "not_run" in figures:
                out[peer] = str(figures["not_run"])
                continue
            same = [len(exact[at] & set(rows)) / TOP for at, rows in figures["rows"][0]]
            out[peer] = Peer(
                figures["find_ms"],
                figures["product_ms"],
                statistics.fmean(same),
                figures["disk_mb"],
                figures["rss_mb"],
            )
    return out


def learn_step(folder: Path, parts: Parts, encoder: Encoder) -> tuple[float, float, float]:
    """(half full, full) learning over encoding alone, and ms to encode an event; batches alternate."""
    given = Given(encoder.dims, encoder.fingerprint, encoder.name)
    ratios, encoding = [], 0.0
    learned = STEP_BATCHES * BATCH
    with Memory.open(folder / "step.db", units=STEP_UNITS, encoder=given) as memory:
        at = 0
        for level in (STEP_UNITS // 2, STEP_UNITS):
            learn(memory, given, parts, at, level - at)
            at = level
            learning = encoding = 0.0
            for texts, vectors in parts.batches(at, learned, BATCH):
                given.give(texts, vectors)
                learning += timed(memory.learn_many, events(texts, at))[0]
                encoding += timed(encoder.encode, texts)[0]
                at += BATCH
            ratios.append(learning / encoding)
    return ratios[0], ratios[1], encoding / learned


def sizes(data: Path | None, units: Sequence[int], python: str | None = None) -> tuple[Size, ...]:
    """Recall in full memories of these many units and nothing else, the smallest first."""
    with _folder() as folder:
        encoder = Encoder(DEFAULT_MODEL)
        parts = parts_of(data, encoder)
        parts.save(folder)
        return tuple(size(folder, parts, encoder, n, python) for n in sorted(units))


def measure(data: Path | None, units: Sequence[int] = UNITS, python: str | None = None) -> Figures:
    with _folder() as folder:
        encoder = Encoder(DEFAULT_MODEL)
        parts = parts_of(data, encoder)
        parts.save(folder)
        half, full, encode_ms = learn_step(folder, parts, encoder)
        streams = child("stream", folder, STEP_UNITS)
        measured = tuple(size(folder, parts, encoder, n, python) for n in sorted(units))
        resident = child("open", folder, max(units))
    return Figures(
        sizes=measured,
        learn_half=half,
        learn_full=full,
        encode_ms=encode_ms,
        rss_mb=resident["rss_mb"],
        peak_mb=resident["peak_mb"],
        repeats=streams["ratio"],
        fresh_a_second=streams["fresh_a_second"],
        mixed_a_second=streams["mixed_a_second"],
    )


def child(task: str, folder: Path, units: int) -> dict[str, float]:
    """The figures of a task of `benchmarks.scale_child`."""
    command = [sys.executable, "-m", "benchmarks.scale_child", task, str(folder), str(units)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def timed(work: Callable[..., Result], *arguments: object) -> tuple[float, Result]:
    """(ms, result)."""
    start = time.perf_counter()
    result = work(*arguments)
    return (time.perf_counter() - start) * 1e3, result


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in RAM where there is one, so that no commit waits for a disk."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mda-bench-", dir=shared) as name:
        yield Path(name)


def show(figures: Figures) -> None:
    def line(ratio: float, what: str, detail: str) -> None:
        print(f"{ratio:8.2f}  {what:56}{detail}")

    print("   ratio  (state files in RAM where /dev/shm is; medians)")
    for s in figures.sizes:
        line(s.products, f"recall / one product W @ q, {s.units} units", f"{s.recall_ms:.2f} ms")
        whole = s.exhaustive_ms / s.product_ms
        line(whole, "the same with every unit looked at", f"{s.same:.3f} of its first ten are recall's too")
        for name, peer in s.peers.items():
            if isinstance(peer, str):
                print(f"{'-':>8}  {name}: {peer}")
                continue
            detail = f"{peer.find_ms:.2f} ms, {peer.products / s.products:.2f} of MDA's, "
            detail += f"{peer.same:.2f} of the exact ten"
            line(peer.products, f"{name}, a query / W @ q beside it", detail)
    small, large = figures.sizes[0], figures.sizes[-1]
    if large.units > small.units:
        line(figures.growth, f"growth of recall's time over units, {small.units} to {large.units}", "")
    learned = f"encoding takes {figures.encode_ms:.2f} ms an event"
    line(figures.learn_half, f"learning / encoding an event, {STEP_UNITS} units, half full", learned)
    line(figures.learn_full, "the same, full: each event takes another's place", "")
    rates = f"{figures.mixed_a_second:.0f} and {figures.fresh_a_second:.0f} events/s on one core, durable"
    line(figures.repeats, "events/s with nine repeats in ten / fresh ones", rates)
    line(
        figures.allocated_at_start,
        f"of the RAM of {large.units} units is taken at the start",
        f"{large.start_mb - large.before_mb:.0f} of {large.full_mb - large.before_mb:.0f} MB",
    )
    resident = f"{figures.rss_mb:.0f} MB resident, {figures.peak_mb:.0f} at most"
    print(f"{large.units} units and the encoder, opened and asked: {resident}")
    for s in figures.sizes:
        others = "".join(
            f"; {name} {p.disk_mb:.0f} MB on disk, {p.rss_mb:.0f} MB resident"
            for name, p in s.peers.items()
            if isinstance(p, Peer)
        )
        print(
            f"{s.units} units: {s.disk_mb:.0f} MB on disk, {s.full_mb - s.before_mb:.0f} MB resident{others}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder that holds locomo10.json")
    parser.add_argument("--units", type=int, nargs="+", default=UNITS, metavar="N")
    parser.add_argument(
        "--peers",
        type=jobs.interpreter,
        metavar="PYTHON",
        help="an interpreter that has the peers installed",
    )
    options = parser.parse_args()
    show(measure(options.data, options.units, options.peers))


if __name__ == "__main__":
    main()
