"""Fit and check the confidence: the weights in mda_core/confidence.py come from here.

    python -m benchmarks.calibrate --data FOLDER

Each conversation of LoCoMo is learned whole and in parts of 10, 40 and 150 turns, and asked its own
questions and 150 of the other conversations, about things never told here. The label is whether the
evidence is among the first five. Fitted on the conversations for tuning, reported on the others.
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

from benchmarks.datasets import Conversation, Question, locomo
from benchmarks.locomo import Recorded
from mda_core import Event, Memory
from mda_core.confidence import ACTIVATION, BIAS, COSINE, COVERED, KNOWN
from mda_core.encoder import DEFAULT_MODEL, Encoder
from mda_core.recall import recall

PARTS = (10, 40, 150)
NEVER_TOLD = 150
FIRST = 5
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One question asked: figures of the best memories, and what would have been right."""

    tuning: bool
    whole: bool
    kind: str
    found: bool
    cosine: float
    covered: float
    activation: float

    @property
    def features(self) -> tuple[float, float, float, float]:
        return self.cosine, self.covered, self.activation, 1.0


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
            for part in (*PARTS, len(c.events)):
                start = rng.randrange(len(c.events) - part + 1)
                events = c.events[start : start + part]
                path = Path(folder) / f"{c.name}-{part}.db"
                with Memory.open(path, units=part, encoder=encoder) as memory:
                    for i in range(0, len(events), 16):
                        memory.learn_many(events[i : i + 16])
                    yield from _ask(memory, c, events, others, encoder, rng)


def _ask(
    memory: Memory,
    c: Conversation,
    events: Sequence[Event],
    others: Sequence[Question],
    encoder: Recorded,
    rng: random.Random,
) -> Iterator[Sample]:
    ledger = memory._ledger
    assert ledger is not None
    whole = len(events) == len(c.events)
    held = {e.id: e for e in events}
    own = [q for q in c.questions if q.counts or (whole and q.category == 5)]
    for question, kind in [*((q, "own") for q in own), *((q, "never told") for q in others)]:
        evidence = [held[e] for e in question.evidence if e in held] if kind == "own" else []
        if kind == "own" and question.category == 5:
            kind = "unanswerable"
        elif kind == "own" and not evidence and rng.random() < 0.8:
            continue  # of the questions that a part cannot answer a fifth is enough
        hits = recall(ledger, question.text, encoder.one(question.text), FIRST, None)
        wanted = {ledger.index.find(e) for e in evidence}
        yield Sample(
            tuning=c.tuning,
            whole=whole,
            kind=kind,
            found=kind == "own" and any(h.slot in wanted for h in hits),
            cosine=max(h.cosine for h in hits),
            covered=max(h.covered for h in hits),
            activation=hits[0].activation,
        )


def fit(x: Floats, y: Floats, ridge: float = 1e-3) -> Floats:
    """Logistic regression by Newton's method; x (n, k), y (n,) of 0 and 1 -> (k,)."""
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(weights))
        weights += np.linalg.solve(hessian, x.T @ (y - p) - ridge * weights)
    return weights


def auroc(positive: Floats, negative: Floats) -> float:
    """The chance that a positive is above a negative, ties half."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    conversations = locomo(parser.parse_args().data)
    asked = list(samples(conversations, Recorded(Encoder(DEFAULT_MODEL))))
    tuning = [s for s in asked if s.tuning and s.kind != "unanswerable"]
    fitted = fit(np.array([s.features for s in tuning]), np.array([s.found for s in tuning], float))
    shipped = np.array([COSINE, COVERED, ACTIVATION, BIAS])
    print("weights (cosine, covered, activation, bias)")
    print(f"  fitted now  {np.round(fitted, 2)}")
    print(f"  as shipped  {shipped}")

    def p(chosen: Sequence[Sample]) -> Floats:
        out: Floats = 1 / (1 + np.exp(-np.array([s.features for s in chosen]) @ shipped))
        return out

    def found(chosen: Sequence[Sample]) -> Floats:
        return np.array([s.found for s in chosen], float)

    rest = [s for s in asked if not s.tuning and s.whole]
    kinds = {k: [s for s in rest if s.kind == k] for k in ("own", "never told", "unanswerable")}
    parts = [s for s in asked if not s.tuning and not s.whole]
    both = kinds["own"] + kinds["never told"]
    print("as shipped, on the conversations not used for tuning")
    print(f"  AUROC answerable against never told    {auroc(p(kinds['own']), p(kinds['never told'])):.3f}")
    print(f"  AUROC answerable against category 5    {auroc(p(kinds['own']), p(kinds['unanswerable'])):.3f}")
    for name, chosen in (("answerable alone", kinds["own"]), ("with never told", both), ("parts", parts)):
        print(f"  calibration error, {name:20}{calibration_error(p(chosen), found(chosen)):.3f}")
    answered = [s for s in kinds["own"] if s.found]
    print(f"  known though never told                {(p(kinds['never told']) >= KNOWN).mean():.3f}")
    print(f"  known among those answered rightly     {(p(answered) >= KNOWN).mean():.3f}")


if __name__ == "__main__":
    main()
