"""Peers on LoCoMo: evidence recall over the same vectors, time, disk and memory, one store a conversation.

    python -m benchmarks.peers --data FOLDER --peers PYTHON [--only NAME ...] [--slow-questions N]

PYTHON is the interpreter of an environment with benchmarks/requirements.txt. Each store runs in a process of
its own. A peer that is not installed, or cannot run, has a row that says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import jobs
from benchmarks.common import Recorded, recorded, references
from benchmarks.datasets import Conversation, locomo
from benchmarks.retrieval import TOP, Score, ask, scores, summary

PEERS = {
    "chromadb": "Chroma, persistent, HNSW",
    "usearch": "USearch, HNSW, vectors alone",
    "usearch-exact": "USearch, exact, vectors alone",
    "faiss": "Faiss, flat, vectors alone",
    "mda-memory": "mda-memory, its own encoder",
}
SLOW = "mda-memory"
"""About a second a question: it is asked an even sample of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way to recall. The figures that were not measured are NaN, and `note` says why."""

    name: str
    questions: int = 0
    texts: float = np.nan
    """How many it brings back for a question, on average; ten are asked for."""
    recall_5: float = np.nan
    recall_10: float = np.nan
    find_ms: float = np.nan
    products: float = np.nan
    """Median time of a question, as a multiple of the product keys @ vector over the same store."""
    disk_mb: float = np.nan
    rss_mb: float = np.nan
    note: str = ""


def measure(
    conversations: Sequence[Conversation],
    encoder: Recorded,
    peers: str | None,
    only: Iterable[str] = (),
    slow_questions: int = 200,
) -> list[Row]:
    """One row for each way to recall, this project's first."""
    sets = [_set(c, encoder) for c in conversations]
    every = max(1, sum(len(s.questions) for s in sets) // max(slow_questions, 1))
    wanted = [name for name in PEERS if name in only or not only]
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as one, tempfile.TemporaryDirectory() as other:
        jobs.write(Path(one), sets, TOP)
        jobs.write(Path(other), sets, TOP, every)
        mine = jobs.run(sys.executable, "mda", Path(one))
        rows = [_row("MDA", mine, conversations), *_baselines(conversations, encoder)]
        for name in wanted:
            folder = Path(other if name == SLOW else one)
            rows.append(_row(PEERS[name], jobs.run(peers, name, folder), conversations))
        if SLOW in wanted and not rows[-1].note and every > 1:
            same = _scores([found[::every] for found in mine["rows"]], conversations)
            rows.append(Row("MDA, asked the same sample", len(same), rows[0].texts, *_means(same)))
    return rows


def _set(c: Conversation, encoder: Recorded) -> jobs.Set:
    texts, asked = [e.text for e in c.events], [q.text for q in c.asked()]
    times = [e.ts for e in c.events if isinstance(e.ts, float)]
    return jobs.Set(texts, times, encoder.encode(texts), asked, encoder.encode(asked))


def _row(name: str, figures: dict[str, Any], conversations: Sequence[Conversation]) -> Row:
    if "not_run" in figures:
        return Row(name, note=str(figures["not_run"]))
    got = _scores(figures["rows"], conversations)
    return Row(
        f"{name} ({figures['version']})",
        len(got),
        float(np.mean([len(best) for found in figures["rows"] for _, best in found])),
        *_means(got),
        figures["find_ms"],
        figures["find_ms"] / figures["product_ms"],
        figures["disk_mb"],
        figures["rss_mb"],
    )


def _scores(
    rows: Sequence[Sequence[tuple[int, list[int]]]], conversations: Sequence[Conversation]
) -> list[Score]:
    """The score of each question; rows hold (question, rows of the texts) for each conversation."""
    out = []
    for c, found in zip(conversations, rows, strict=True):
        asked = c.asked()
        returned = [[c.events[i].text for i in best] for _, best in found]
        out += scores(c, [asked[at] for at, _ in found], returned)
    return out


def _means(got: Sequence[Score]) -> tuple[float, float]:
    means = summary(got)
    return means["R@5"], means["R@10"]


def _baselines(conversations: Sequence[Conversation], encoder: Recorded) -> Iterator[Row]:
    got: dict[str, list[Score]] = defaultdict(list)
    for c in conversations:
        for name, way in references([e.text for e in c.events], encoder).items():
            got[name] += ask(c, way)
    for name, row in got.items():
        yield Row(name, len(row), TOP, *_means(row))


def show(rows: Sequence[Row]) -> None:
    print(
        "LoCoMo, one store a conversation, one after another. ms: the median of a question without encoding"
    )
    print("it. products: that time over one product keys @ vector in the same process. Disk: the sum of the")
    print("stores once closed. RSS: the most resident beyond the texts and vectors given, library included.")
    print(f"{'':42}  asked texts   R@5  R@10       ms  products  disk MB  RSS MB")
    for r in rows:
        if r.note:
            print(f"{r.name:42}  {r.note}")
            continue
        cells = f"{r.find_ms:8.2f}  {r.products:8.1f} {r.disk_mb:8.1f} {r.rss_mb:7.0f}".replace("nan", "  -")
        score = f"{r.recall_5:5.3f} {r.recall_10:5.3f}".replace("0.", " .")
        print(f"{r.name:42} {r.questions:6} {r.texts:5.1f} {score} {cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    parser.add_argument(
        "--peers",
        type=jobs.interpreter,
        metavar="PYTHON",
        help="the interpreter that has the peers installed",
    )
    parser.add_argument("--only", nargs="+", choices=sorted(PEERS), default=(), help="these peers alone")
    parser.add_argument(
        "--slow-questions", type=int, default=200, metavar="N", help=f"of {SLOW}, in an even sample"
    )
    options = parser.parse_args()
    show(measure(locomo(options.data), recorded(), options.peers, options.only, options.slow_questions))


if __name__ == "__main__":
    main()
