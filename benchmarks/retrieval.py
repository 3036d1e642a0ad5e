"""Evidence recall, and the baselines that every table shows: other stores over the same vectors."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import CATEGORIES, Conversation, Question
from mda_core.text.terms import length, terms

Ranking = Callable[[str], list[str]]
"""A question -> the ten best texts, best first."""
TOP = 10
SHOWN = (5, TOP)


def evidence_recall(returned: Sequence[str], evidence: Sequence[str], k: int) -> float:
    """The fraction of the evidence turns whose text is among the first k returned."""
    first = set(returned[:k])
    return sum(text in first for text in evidence) / len(evidence)


@dataclass(frozen=True, slots=True)
class Score:
    """Evidence recall of one question of LoCoMo among the first 5 and 10."""

    tuning: bool
    category: int
    at_5: float
    at_10: float


def scores(c: Conversation, asked: Sequence[Question], returned: Sequence[Sequence[str]]) -> list[Score]:
    """The score of each of these questions about a conversation, from the texts found for it, in their
    order."""
    text_of = c.text_of()
    out = []
    for question, got in zip(asked, returned, strict=True):
        evidence = [text_of[e] for e in question.evidence]
        at_5, at_10 = (evidence_recall(got, evidence, k) for k in SHOWN)
        out.append(Score(c.tuning, question.category, at_5, at_10))
    return out


def ask(c: Conversation, ranking: Ranking) -> list[Score]:
    """All questions of a conversation that count."""
    asked = c.asked()
    return scores(c, asked, [ranking(q.text) for q in asked])


def summary(scored: Sequence[Score]) -> dict[str, float]:
    """R@5 and R@10 over all questions; then R@10 of the conversations for tuning, of the others, and
    of each category."""
    groups: dict[str, list[float]] = {
        "R@5": [s.at_5 for s in scored],
        "R@10": [s.at_10 for s in scored],
        "tuning": [s.at_10 for s in scored if s.tuning],
        "others": [s.at_10 for s in scored if not s.tuning],
    }
    groups |= {name: [s.at_10 for s in scored if s.category == c] for c, name in CATEGORIES.items()}
    return {name: float(np.mean(group)) for name, group in groups.items() if group}


class Baselines:
    """Cosine, BM25 and their reciprocal-rank fusion over an unbounded store of texts."""

    def __init__(
        self, texts: Sequence[str], vectors: NDArray[np.float32], encode: Callable[[str], NDArray[np.float32]]
    ):
        self._texts = list(texts)
        self._vectors = vectors
        self._encode = encode
        self._lengths = np.array([length(t) for t in texts], np.float64)
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for row, text in enumerate(texts):
            for term, times in terms(text).items():
                found[term].append((row, times))
        self._postings = {term: np.array(at, np.int32).T for term, at in found.items()}
        self._asked: dict[str, NDArray[np.float64]] = {}

    @property
    def word_bytes(self) -> int:
        """Bytes of BM25's postings, as int32; the texts can stay on a disk."""
        return int(self._lengths.nbytes + sum(at.nbytes for at in self._postings.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of the postings and the vectors."""
        return int(self._vectors.nbytes) + self.word_bytes

    def cosine(self, question: str) -> list[str]:
        return self._best(self._vectors @ self._encode(question))

    def bm25(self, question: str) -> list[str]:
        return self._best(self._bm25(question))

    def fused(self, question: str) -> list[str]:
        """Reciprocal-rank fusion with its customary constant 60."""
        score = np.zeros(len(self._texts))
        for each in (self._vectors @ self._encode(question), self._bm25(question)):
            rank = np.empty(len(each), np.int64)
            rank[np.argsort(-each, kind="stable")] = np.arange(len(each))
            score += 1 / (60 + rank)
        return self._best(score)

    def _bm25(self, question: str, k1: float = 1.2, b: float = 0.75) -> NDArray[np.float64]:
        if question not in self._asked:
            n = len(self._texts)
            norm = k1 * (1 - b + b * self._lengths / self._lengths.mean())
            score = np.zeros(n)
            for term in terms(question):
                rows, times = self._postings.get(term, np.empty((2, 0), np.int32))
                idf = math.log1p((n - len(rows) + 0.5) / (len(rows) + 0.5))
                score[rows] += idf * times * (k1 + 1) / (times + norm[rows])
            self._asked[question] = score
        return self._asked[question]

    def _best(self, score: NDArray[np.floating]) -> list[str]:
        return [self._texts[i] for i in np.argsort(-score, kind="stable")[:TOP]]


def keep(n: int, room: int, policy: str) -> list[int]:
    """Which of n events a store with `room` places still holds: the newest, or a random sample."""
    if room >= n:
        return list(range(n))
    if policy == "oldest first":
        return list(range(n - room, n))
    return sorted(random.Random(1).sample(range(n), room))
