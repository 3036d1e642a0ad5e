"""Encoders beside each other: by plain cosine, by the memory as it is, and in what a training must not break.

    python -m benchmarks.encoder --data FOLDER [ENCODER ...] [--parts cosine memory kept]

ENCODER is an encoder folder or the name of one in models/; without any, those that ship. Cosine ranks all
texts of a set by their vectors alone: one of the answers is first (@1), among five (@5), and, in LoCoMo,
R@10. Memory is the same with all that a recall does. Kept: what has to stay as it was."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import damage, facts, written
from benchmarks.calibrate import auroc
from benchmarks.common import Recorded, Result, fresh, learn, references
from benchmarks.datasets import Asked, Conversation, WrittenSet, locomo, written_sets
from benchmarks.locomo import one_each
from benchmarks.retrieval import TOP, ask, summary
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder

SHIPPED = ("minilm-l6-original-int8", "minilm-l6-int8", "minilm-l3-int8")
UNITS = 8192
FEW = 3
"""Conversations of LoCoMo for the damaged cues."""
LONG_WORDS = 500
PARTS = ("cosine", "memory", "kept")
Array = NDArray[np.float32]
Row = dict[str, float]


def measure(encoder: Recorded, data: Path, parts: Sequence[str] = PARTS) -> dict[str, Row]:
    """A row of figures for each part."""
    sets, conversations = written_sets(data), locomo(data)
    rows: dict[str, Row] = {}
    if "cosine" in parts:
        rows["cosine"] = by_cosine(sets, conversations, encoder)
    if "memory" in parts:
        rows["memory"] = by_memory(sets, conversations, encoder)
    if "kept" in parts:
        rows["kept"] = kept(conversations, encoder)
    return rows


# Written sets


@dataclass(frozen=True, slots=True)
class Found:
    """What one question brought back, and how sure the store was that it holds an answer."""

    asked: Asked
    texts: list[str]
    sure: float
    known: bool = False

    def any(self, k: int) -> bool:
        """One of the answers is among the first k."""
        return any(text in self.asked.answers for text in self.texts[:k])

    def right(self, k: int) -> bool:
        """The same, but where the newest is asked for: it is, and nothing that is out of date is above it."""
        if not self.asked.newest:
            return self.any(k)
        best, *others = self.asked.answers
        if best not in self.texts[:k]:
            return False
        above = self.texts[: self.texts.index(best)]
        return self.asked.stale.union(others).isdisjoint(above)


def _figures(name: str, found: Sequence[Found]) -> Row:
    told = [f for f in found if f.asked.answers]
    never = [f for f in found if not f.asked.answers]
    row = {f"{name} @{k}": float(np.mean([f.any(k) for f in told])) for k in (1, 5)}
    row |= {f"{name} right @{k}": float(np.mean([f.right(k) for f in told])) for k in (1, 5)}
    row[f"{name} AUROC"] = auroc(np.array([f.sure for f in told]), np.array([f.sure for f in never]))
    return row


def by_cosine(sets: Sequence[WrittenSet], conversations: Sequence[Conversation], encoder: Recorded) -> Row:
    row: Row = {}
    for each in sets:
        found: list[Found] = []
        for space in each.spaces:
            texts = list(dict.fromkeys(e.text for where, e in each.events if where == space))
            asked = [q for q in each.asked if q.space == space]
            cosines = encoder.encode([q.text for q in asked]) @ encoder.encode(texts).T
            for q, cosine in zip(asked, cosines, strict=True):
                best = np.argsort(-cosine, kind="stable")[:TOP]
                found.append(Found(q, [texts[i] for i in best], float(cosine.max())))
        row |= _figures(each.name, found)
    scored = [
        s for c in conversations for s in ask(c, references([e.text for e in c.events], encoder)["cosine"])
    ]
    return row | _of_locomo(summary(scored))


def by_memory(sets: Sequence[WrittenSet], conversations: Sequence[Conversation], encoder: Recorded) -> Row:
    row: Row = {}
    for each in sets:
        found: list[Found] = []
        for space in each.spaces:
            with fresh(UNITS, encoder, clock=partial(float, each.now)) as memory:
                learn(memory, [e for where, e in each.events if where == space])
                for q in each.asked:
                    if q.space == space:
                        recall = memory.recall(q.text, k=TOP)
                        texts = [m.text for m in recall.memories]
                        sure = max((m.confidence for m in recall.memories), default=0.0)
                        found.append(Found(q, texts, sure, recall.known))
        row |= _figures(each.name, found)
        for name, some in (("known", True), ("never known", False)):
            row[f"{each.name} {name}"] = float(
                np.mean([f.known for f in found if bool(f.asked.answers) == some])
            )
    (scored,) = one_each(conversations, encoder).values()
    return row | _of_locomo(summary(scored))


def _of_locomo(row: Mapping[str, float]) -> Row:
    return {f"LoCoMo {name}": row[name] for name in ("R@10", "tuning", "others")}


# What must not break


def kept(conversations: Sequence[Conversation], encoder: Recorded) -> Row:
    pairs, updates = facts.pairs(encoder).figures, facts.updates(encoder).figures
    cues = {name: damage.CUES[name] for name in ("intact", "1 typo", "half of the words")}
    found = damage.measure(conversations[:FEW], encoder, cues, keys={}, in_file=())
    row: Row = {}
    for way, name in (("cosine", "cosine"), ("MDA", "memory")):
        row[f"one detail, {name}"] = pairs[way]["all"]
        row[f"numbers, {name}"] = pairs[way]["number"]
        row[f"changed, new first, {name}"] = updates[way]["untuned"]
        row[f"changed, both in ten, {name}"] = (updates[way]["new in ten"] + updates[way]["old in ten"]) / 2
        for cue in ("1 typo", "half of the words"):
            row[f"{cue}, lost, {name}"] = found[cue].lost(found["intact"], way)[0]
    row["never told, AUROC"] = never_told(conversations, encoder)
    row["alike as people say"] = similarity(encoder)
    row["one word"] = one_word(encoder)
    row[f"{LONG_WORDS} words"] = long_texts(encoder)
    return row


def never_told(conversations: Sequence[Conversation], encoder: Recorded) -> float:
    """AUROC by the best cosine in a conversation: its own questions against the 300 written ones."""
    told, never = [], []
    strangers = encoder.encode([q.question for q in written.never_told()])
    for c in conversations:
        vectors = encoder.encode([e.text for e in c.events])
        told += (encoder.encode([q.text for q in c.asked()]) @ vectors.T).max(axis=1).tolist()
        never += (strangers @ vectors.T).max(axis=1).tolist()
    return auroc(np.array(told), np.array(never))


def similarity(encoder: Recorded) -> float:
    """Spearman's rank correlation of the cosine with how alike people call two sentences."""
    cases = written.similarity()
    first, second = (encoder.encode([getattr(c, which) for c in cases]) for which in ("first", "second"))
    ranks = [
        _ranks(values) for values in (np.sum(first * second, axis=1), np.array([c.alike for c in cases]))
    ]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 0, the mean of them where values are equal."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2


def one_word(encoder: Recorded) -> float:
    """How often the word of like meaning is nearest among all."""
    words = written.word_pairs()
    cosines = encoder.encode([a for a, _ in words]) @ encoder.encode([b for _, b in words]).T
    return float(np.mean(cosines.argmax(axis=1) == np.arange(len(words))))


def long_texts(encoder: Recorded) -> float:
    """Texts of 500 words, made of unrelated facts: how often the one that holds the answer is among five."""
    sentences = [(p.texts[0], p.questions[0]) for p in written.pairs()]
    texts: list[list[str]] = []
    for sentence, _ in sentences:
        if not texts or sum(len(s.split()) for s in texts[-1]) >= LONG_WORDS:
            texts.append([])
        texts[-1].append(sentence)
    vectors = encoder.encode([". ".join(some) for some in texts])
    holds = [i for i, some in enumerate(texts) for _ in some]
    best = np.argsort(-(encoder.encode([q for _, q in sentences]) @ vectors.T), axis=1)[:, :5]
    return float(np.mean([at in row for at, row in zip(holds, best, strict=True)]))


def folders(named: Sequence[str]) -> Iterator[Path]:
    for name in named:
        beside = DEFAULT_MODEL.parent / name
        yield beside if beside.is_dir() else Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("encoders", nargs="*", metavar="ENCODER", default=SHIPPED)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of locomo10.json and the written sets"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    tables: dict[str, dict[str, Row]] = defaultdict(dict)
    for folder in folders(options.encoders):
        for part, row in measure(Recorded(Encoder(folder)), options.data, options.parts).items():
            for figure, value in row.items():
                tables[part].setdefault(figure, {})[folder.name] = value
    for part, rows in tables.items():
        print(part)
        Result(rows).show()
        print(flush=True)


if __name__ == "__main__":
    main()
