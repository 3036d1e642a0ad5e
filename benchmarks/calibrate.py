"""Fit and check the confidence: the weights in mda_core/confidence.py come from here.

    python -m benchmarks.calibrate --data FOLDER

Each conversation of LoCoMo is learned whole and in parts of 1 to 150 turns, and asked its own
questions and 150 of the other conversations, about things never told here; whole, 300 written questions
about things never told anywhere too. The label is whether the evidence is among the first five. Fitted
on the conversations for tuning, reported on the others.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import written
from benchmarks.common import Recorded, inside, learn, recorded
from benchmarks.datasets import Conversation, Question, locomo
from mda_core import Event, Memory
from mda_core.recall.confidence import (
    ACTIVATION,
    BIAS,
    FEW_UNITS,
    FIRST,
    KNOWN,
    MATCH,
    MATCH_SQUARED,
    features,
    match,
)
from mda_core.recall.search import recall

PARTS = (1, 1, 1, 3, 3, 10, 40, 150)
TINY = 3
"""A part of so few turns has an answer in it, and is asked less about what was never told."""
NEVER_TOLD = 150
WEIGHTS = {"own": 10.0, "never told": 1.0, "written": 0.5, "unanswerable": 0.0}
"""How much a question counts in the fit, asked of a whole conversation."""
PART_WEIGHTS = {"own": 1.0, "never told": 0.5}
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One question: figures of the best memories, and whether the answer was found."""

    tuning: bool
    whole: bool
    kind: str
    found: bool
    confidence: float
    matched: float
    activation: float
    units: int

    @property
    def weight(self) -> float:
        if self.whole:
            return WEIGHTS[self.kind]
        return PART_WEIGHTS[self.kind] * (2 if self.units <= TINY else 1)


def samples(conversations: Sequence[Conversation], encoder: Recorded) -> Iterator[Sample]:
    rng = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder:
        for c in conversations:
            others = [
                q
                for d in conversations
                if d is not c and d.tuning == c.tuning
                for q in d.questions
                if q.category < 5
            ]
            others = rng.sample(others, NEVER_TOLD)
            for i, part in enumerate((*PARTS, len(c.events))):
                start = rng.randrange(len(c.events) - part + 1)
                if part <= TINY:
                    start = min(max(0, rng.choice(answers(c)) - part // 2), len(c.events) - part)
                events = c.events[start : start + part]
                path = Path(folder) / f"{c.name}-{i}.db"
                with Memory.open(path, units=part, encoder=encoder) as memory:
                    learn(memory, events)
                    yield from _ask(memory, c, events, others, encoder, rng)


def answers(c: Conversation) -> list[int]:
    """The turns that are evidence, by their place."""
    evidence = {e for q in c.questions if q.counts for e in q.evidence}
    return [i for i, event in enumerate(c.events) if event.id in evidence]


def _ask(
    memory: Memory,
    c: Conversation,
    events: Sequence[Event],
    others: Sequence[Question],
    encoder: Recorded,
    rng: random.Random,
) -> Iterator[Sample]:
    ledger = inside(memory)
    whole, tiny = len(events) == len(c.events), len(events) <= TINY
    held = {e.id: e for e in events}
    own = [q for q in c.questions if q.counts or (whole and q.category == 5)]
    never = [Question(q.question, 5, ()) for q in written.never_told()] if whole else []
    asked = [
        *((q, "own") for q in own),
        *((q, "never told") for q in others),
        *((q, "written") for q in never),
    ]
    for question, kind in asked:
        evidence = [held[e] for e in question.evidence if e in held] if kind == "own" else []
        if kind == "own" and question.category == 5:
            kind = "unanswerable"
        elif kind == "own" and not evidence and rng.random() < (0.97 if tiny else 0.8):
            continue  # of the questions that a part cannot answer a few are enough
        elif kind == "never told" and tiny and rng.random() < 0.9:
            continue
        hits = recall(ledger, question.text, encoder.one(question.text), FIRST, None)
        wanted = {ledger.index.find(e) for e in evidence}
        cosine, covered = np.array([[h.cosine, h.covered] for h in hits], np.float32).T
        yield Sample(
            tuning=c.tuning,
            whole=whole,
            kind=kind,
            found=kind == "own" and any(h.slot in wanted for h in hits),
            confidence=hits[0].confidence,
            matched=float(match(cosine.max(keepdims=True), covered.max(keepdims=True))[0]),
            activation=hits[0].activation,
            units=len(events),
        )


def fit(x: Floats, y: Floats, weight: Floats, ridge: float = 1e-2) -> Floats:
    """Logistic regression by Newton's method; x (n, k), y (n,) of 0 and 1, weight (n,) -> (k,)."""
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(weights))
        weights += np.linalg.solve(hessian, x.T @ (weight * (y - p)) - ridge * weights)
    return weights


def auroc(positive: Floats, negative: Floats) -> float:
    """The probability that a positive is above a negative; ties count half."""
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def calibration_error(p: Floats, y: Floats, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017)."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    return sum(
        float((which == b).mean() * abs(p[which == b].mean() - y[which == b].mean()))
        for b in range(bins)
        if (which == b).any()
    )


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights fitted now, and how the confidence that ships does on the conversations not used for
    tuning: confidences (n,) and whether the evidence was found (n,), by set of questions."""

    fitted: Floats
    sets: dict[str, tuple[Floats, Floats]]

    def auroc(self, against: str) -> float:
        return auroc(self.sets["answerable"][0], self.sets[against][0])

    def error(self, name: str) -> float:
        return calibration_error(*self.sets[name])

    def passing(self, name: str, found: float) -> float:
        """The fraction called known, of the questions whose evidence was found (1) or not (0)."""
        p, y = self.sets[name]
        return float((p[y == found] >= KNOWN).mean())


def measure(conversations: Sequence[Conversation], encoder: Recorded) -> Calibration:
    asked = list(samples(conversations, encoder))
    fitting = [s for s in asked if s.tuning and s.weight]
    x = features(
        *(np.array([getattr(s, a) for s in fitting], np.float32) for a in ("matched", "activation", "units"))
    )
    found, weight = (np.array([getattr(s, a) for s in fitting], float) for a in ("found", "weight"))

    def of(*kinds: str, whole: bool = True) -> tuple[Floats, Floats]:
        chosen = [s for s in asked if not s.tuning and s.whole == whole and s.kind in kinds]
        return np.array([s.confidence for s in chosen]), np.array([s.found for s in chosen], float)

    return Calibration(
        fit(x, found, weight),
        {
            "answerable": of("own"),
            "never told": of("never told"),
            "never told, written": of("written"),
            "category 5": of("unanswerable"),
            "answerable and never told": of("own", "never told"),
            "answerable and all never told": of("own", "never told", "written"),
            "parts of conversations": of("own", "never told", whole=False),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    found = measure(locomo(parser.parse_args().data), recorded())
    print("weights (match, its square, activation, few units, bias)")
    print(f"  fitted now  {np.round(found.fitted, 2)}")
    print(f"  as shipped  {np.array([MATCH, MATCH_SQUARED, ACTIVATION, FEW_UNITS, BIAS])}")
    print("as shipped, on the conversations not used for tuning")
    for name in ("never told", "never told, written", "category 5"):
        print(f"  AUROC, answerable against {name:32}{found.auroc(name):.3f}")
    for name in (
        "answerable",
        "answerable and never told",
        "answerable and all never told",
        "parts of conversations",
    ):
        print(f"  expected calibration error, {name:30}{found.error(name):.3f}")
    for name in ("never told", "never told, written", "category 5"):
        print(f"  called known, {name:44}{found.passing(name, 0):.3f}")
    print(f"  called known, {'answerable and among the first five':44}{found.passing('answerable', 1):.3f}")


if __name__ == "__main__":
    main()
