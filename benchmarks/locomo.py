"""Evidence recall on LoCoMo: one memory a conversation, with baselines over the same vectors.

    python -m benchmarks.locomo --data FOLDER [--over library|mqtt] [--units N]

N above 1 is the units of each conversation's memory, N up to 1 their share of its turns (default 1:
everything is kept).
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import Conversation, locomo
from benchmarks.retrieval import TOP, Baselines, Ranking, evidence_recall, keep
from benchmarks.rig import Rig, rig
from mda_core import Memory
from mda_core.encoder import DEFAULT_MODEL, Encoder

SHOWN = (5, 10)
WINDOW = 200
ONE_MEMORY_UNITS = 8192


class Recorded:
    """An encoder that remembers: each text of the run is encoded once for all rows of the table."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.dims, self.fingerprint, self.name = encoder.dims, encoder.fingerprint, encoder.name
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [t for t in dict.fromkeys(texts) if t not in self._vectors]
        for i in range(0, len(new), 16):
            part = new[i : i + 16]
            self._vectors.update(zip(part, self._encoder.encode(part), strict=True))
        if not texts:
            return np.zeros((0, self.dims), np.float32)
        return np.stack([self._vectors[t] for t in texts])

    def one(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self.encode([text])[0]
        return vector


class Table:
    """Rows of R@5 and R@10: all, the conversations for tuning, the others, and each category."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[bool, int, float, float]]] = defaultdict(list)

    def score(self, row: str, conversation: Conversation, ranking: Ranking) -> None:
        text_of = conversation.text_of()
        for question in conversation.questions:
            if question.counts:
                evidence = [text_of[e] for e in question.evidence]
                got = ranking(question.text)
                r5, r10 = (evidence_recall(got, evidence, k) for k in SHOWN)
                self._rows[row].append((conversation.tuning, question.category, r5, r10))

    def show(self) -> None:
        print(f"{'':34}   R@5  R@10 | tuning  others | multi-hop temporal    open  single   (R@10)")
        for name, row in self._rows.items():
            r = np.array(row)
            parts = [r[:, 2].mean(), r[:, 3].mean(), *(r[r[:, 0] == t, 3].mean() for t in (1, 0))]
            kinds = [r[r[:, 1] == c, 3].mean() for c in (1, 2, 3, 4)]
            cells = " ".join(f"{x:9.3f}" for x in kinds).replace("0.", " .")
            head = f"{parts[0]:6.3f} {parts[1]:5.3f} | {parts[2]:6.3f} {parts[3]:7.3f}".replace("0.", " .")
            print(f"{name:34}{head} | {cells}", flush=True)


def units_for(conversation: Conversation, share: float) -> int:
    return round(share) if share > 1 else max(1, round(len(conversation.events) * share))


def learn_library(conversation: Conversation, path: Path, units: int, encoder: Recorded) -> Memory:
    memory = Memory.open(path, units=units, encoder=encoder)
    for i in range(0, len(conversation.events), 16):
        memory.learn_many(conversation.events[i : i + 16])
    return memory


def over_library(
    conversations: Iterable[Conversation], share: float, encoder: Recorded, table: Table
) -> None:
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder:
        for c in conversations:
            with learn_library(c, Path(folder) / f"{c.name}.db", units_for(c, share), encoder) as memory:
                table.score("MDA (library)", c, _of_memory(memory))


def _of_memory(memory: Memory) -> Ranking:
    return lambda question: [m.text for m in memory.recall(question, k=TOP).memories]


def tell(running: Rig, space: str, conversation: Conversation) -> None:
    """Publish at QoS 1 and wait until the daemon has handled all of it."""
    with running.client(space) as client:
        before = client.request("stats", {})["handled"]
        for event in conversation.events:
            client.tell(msgspec.json.encode(asdict(event)), event.source, WINDOW)
        client.settle()
        while client.request("stats", {})["handled"] < before + len(conversation.events):
            pass


def over_mqtt(conversations: Sequence[Conversation], share: float, table: Table) -> None:
    with rig({c.name: units_for(c, share) for c in conversations}) as running:
        for c in conversations:
            tell(running, c.name, c)
            with running.client(c.name) as client:

                def ask(question: str) -> list[str]:
                    reply = client.request("recall", {"query": question, "k": TOP})
                    return [m["text"] for m in reply["memories"]]

                table.score(f"MDA (MQTT, {running.broker})", c, ask)


def one_memory(conversations: Sequence[Conversation], encoder: Recorded, table: Table) -> None:
    """All ten in one memory of 8,192 units, by the library."""
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder, ExitStack() as stack:
        path = Path(folder) / "all.db"
        memory = stack.enter_context(Memory.open(path, units=ONE_MEMORY_UNITS, encoder=encoder))
        for c in conversations:
            for i in range(0, len(c.events), 16):
                memory.learn_many(c.events[i : i + 16])
        for c in conversations:
            table.score(f"MDA, one memory of {ONE_MEMORY_UNITS} units", c, _of_memory(memory))


def baselines(conversations: Iterable[Conversation], share: float, encoder: Recorded, table: Table) -> None:
    for c in conversations:
        texts = [e.text for e in c.events]
        vectors = encoder.encode(texts)
        everything = Baselines(texts, vectors, encoder.one)
        table.score("cosine, unbounded", c, everything.cosine)
        table.score("BM25, unbounded", c, everything.bm25)
        table.score("cosine + BM25 by rank, unbounded", c, everything.fused)
        if units_for(c, share) < len(texts):
            for policy in ("oldest first", "random"):
                held = keep(len(texts), units_for(c, share), policy)
                some = Baselines([texts[i] for i in held], vectors[held], encoder.one)
                table.score(f"the same, {policy} forgotten", c, some.fused)


def rss_with_everything(conversations: Sequence[Conversation]) -> float:
    """Resident MB of a daemon with one space of 8,192 units that has learned all of LoCoMo."""
    with rig({"home": ONE_MEMORY_UNITS}) as running:
        for c in conversations:
            tell(running, "home", c)
        with running.client("home") as client:
            for question in conversations[0].questions[:100]:
                client.request("recall", {"query": question.text})
        return running.settled_rss_mb()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    parser.add_argument("--over", choices=("library", "mqtt"), default="library")
    parser.add_argument(
        "--units", type=float, default=1.0, metavar="N", help="units, or up to 1 their share of the turns"
    )
    parser.add_argument("--rss", action="store_true", help="measure the daemon's memory instead")
    options = parser.parse_args()
    conversations = locomo(options.data)
    if options.rss:
        print(f"{ONE_MEMORY_UNITS} units, all of LoCoMo learned: {rss_with_everything(conversations):.0f} MB")
        return
    encoder = Recorded(Encoder(DEFAULT_MODEL))
    table = Table()
    if options.over == "mqtt":
        over_mqtt(conversations, options.units, table)
    else:
        over_library(conversations, options.units, encoder, table)
        if options.units == 1:
            one_memory(conversations, encoder, table)
    baselines(conversations, options.units, encoder, table)
    table.show()


if __name__ == "__main__":
    main()
