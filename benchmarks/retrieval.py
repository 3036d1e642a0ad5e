"""Evidence recall, and the baselines that every table shows: what the same vectors give elsewhere."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mda_core.terms import length, terms

Ranking = Callable[[str], list[str]]
"""A question to the texts it brings back, best first, ten of them."""
TOP = 10


def evidence_recall(returned: Sequence[str], evidence: Sequence[str], k: int) -> float:
    """The share of the evidence turns whose text is among the first k returned."""
    first = set(returned[:k])
    return sum(text in first for text in evidence) / len(evidence)


class Baselines:
    """Cosine, BM25 and their reciprocal-rank fusion over an unbounded store of texts."""

    def __init__(
        self, texts: Sequence[str], vectors: NDArray[np.float32], encode: Callable[[str], NDArray[np.float32]]
    ):
        self._texts = list(texts)
        self._vectors = vectors
        self._encode = encode
        self._terms = [terms(t) for t in texts]
        self._lengths = np.array([length(t) for t in texts], np.float64)
        self._df = Counter(t for found in self._terms for t in found)

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
        n = len(self._texts)
        norm = k1 * (1 - b + b * self._lengths / self._lengths.mean())
        score = np.zeros(n)
        for term in terms(question):
            df = self._df[term]
            idf = math.log1p((n - df + 0.5) / (df + 0.5))
            tf = np.array([found[term] for found in self._terms], np.float64)
            score += idf * tf * (k1 + 1) / (tf + norm)
        return score

    def _best(self, score: NDArray[np.floating]) -> list[str]:
        return [self._texts[i] for i in np.argsort(-score, kind="stable")[:TOP]]


def keep(n: int, room: int, policy: str) -> list[int]:
    """Which of n events a store with `room` places still holds: the newest, or a random sample."""
    if room >= n:
        return list(range(n))
    if policy == "oldest first":
        return list(range(n - room, n))
    return sorted(random.Random(1).sample(range(n), room))
