"""The online subspace against batch PCA of the same events: evidence recall by semantic similarity alone.

    python -m benchmarks.subspace --data FOLDER [--amnesia]

After 100, 200, 400 and all events of each conversation of LoCoMo, the questions whose evidence is among
them. Then the topics change: one conversation is learned after another, and the questions of the one and
of the other are asked over the events of both. Batch PCA has the same rank, and its mean and variances
are those of all the events. The goal: a difference of at most .005 from 200 events on.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Recorded, fresh, inside, learn, recorded
from benchmarks.datasets import Conversation, locomo
from benchmarks.retrieval import TOP
from mda_core import Event
from mda_core.learning import oja
from mda_core.learning.oja import Array, Metric, Subspace
from mda_core.learning.units import RANK
from mda_core.ledger import METRIC_ALPHA
from mda_core.text.terms import identity

PREFIXES = (100, 200, 400)
AMNESIAS = (0.0, 1.0, 2.0, 3.0, 4.0)
Asked = tuple[tuple[str, frozenset[int]], ...]
"""Questions, each with the rows of the events that hold its evidence."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Distinct events in the order they are learned, and what is asked then, by its name."""

    tuning: bool
    events: tuple[Event, ...]
    asked: tuple[tuple[str, Asked], ...]


@dataclass(slots=True)
class Measured:
    """Of one stage: for each question whether its conversation is for tuning, and R@10 each way;
    for each stream the fraction of batch PCA's variance that the directions of each way hold."""

    tuning: list[bool] = field(default_factory=list)
    recall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    held: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def mean(self, way: str, tuning: bool | None = None) -> float:
        chosen = [
            r for r, t in zip(self.recall[way], self.tuning, strict=True) if tuning is None or t == tuning
        ]
        return float(np.mean(chosen))

    def difference(self, way: str, other: str) -> tuple[float, float]:
        """R@10 of `way` minus that of `other`, and the standard error over the questions."""
        each = np.array(self.recall[way]) - np.array(self.recall[other])
        return float(each.mean()), float(each.std() / np.sqrt(len(each)))


def distinct(events: Sequence[Event]) -> tuple[Event, ...]:
    """Events that the memory takes for the same, once."""
    return tuple({identity(e.text, e.source): e for e in reversed(events)}.values())[::-1]


def asked(conversation: Conversation, events: Sequence[Event]) -> Asked:
    """The questions of a conversation whose evidence is all among these distinct events."""
    row = {identity(e.text, e.source): i for i, e in enumerate(events)}
    rows = {e.id: row.get(identity(e.text, e.source), -1) for e in conversation.events}
    found = [(q.text, frozenset(rows[e] for e in q.evidence)) for q in conversation.asked()]
    return tuple((text, rows) for text, rows in found if -1 not in rows)


def streams(conversations: Sequence[Conversation]) -> Iterator[Stream]:
    """Each conversation up to each point; then each after the one before it, in two rings."""
    for c in conversations:
        for n in PREFIXES:
            if n < len(c.events):
                events = distinct(c.events[:n])
                yield Stream(c.tuning, events, ((f"after {n} events", asked(c, events)),))
        events = distinct(c.events)
        yield Stream(c.tuning, events, (("after all events", asked(c, events)),))
    for tuning in (True, False):
        ring = [c for c in conversations if c.tuning == tuning]
        for old, new in zip(ring, ring[1:] + ring[:1], strict=True):
            if old is not new:
                events = distinct(old.events + new.events)
                asks = (("topic changed, about the new one", new), ("topic changed, about the old one", old))
                yield Stream(tuning, events, tuple((name, asked(c, events)) for name, c in asks))


def plain(stream: Stream, keys: Array, encoder: Recorded) -> Metric | None:
    return None


def batch(stream: Stream, keys: Array, encoder: Recorded) -> Metric:
    """Exact principal components of all keys (n, d) at once."""
    x = keys.astype(np.float64)
    mean = x.mean(axis=0)
    _, singular, directions = np.linalg.svd(x - mean, full_matrices=False)
    variance = singular**2 / len(x)
    exact = Subspace(
        mean.astype(np.float32),
        directions[:RANK].astype(np.float32),
        variance[:RANK].astype(np.float32),
        len(x),
        float(variance.sum()),
    )
    return Metric.of(exact, METRIC_ALPHA)


def online(stream: Stream, keys: Array, encoder: Recorded, amnesia: float = oja.AMNESIA) -> Metric:
    """The metric of a subspace that has learned the events one by one."""
    shipped, oja.AMNESIA = oja.AMNESIA, amnesia
    try:
        subspace = Subspace.empty(keys.shape[1], RANK)
        for x in keys:
            subspace.step(x)
    finally:
        oja.AMNESIA = shipped
    return Metric.of(subspace, METRIC_ALPHA)


def refreshed(stream: Stream, keys: Array, encoder: Recorded) -> Metric | None:
    """The metric of a memory that has learned the stream, as of its last refresh."""
    with fresh(len(keys), encoder) as memory:
        learn(memory, stream.events)
        return inside(memory).semantic.metric


Way = Callable[[Stream, Array, Recorded], Metric | None]
WAYS: dict[str, Way] = {"cosine": plain, "batch": batch, "online": online, "refreshed": refreshed}


def best(metric: Metric | None, keys: Array, queries: Array) -> NDArray[np.intp]:
    """The rows of the ten keys (n, d) nearest to each query (m, d) by cosine in the metric -> (m, 10)."""
    if metric is not None:
        keys, queries = metric.transform(keys), metric.transform(queries)
    scores = queries @ (keys / np.linalg.norm(keys, axis=1, keepdims=True)).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :TOP]


def measure(
    conversations: Sequence[Conversation], encoder: Recorded, ways: Mapping[str, Way] = WAYS
) -> dict[str, Measured]:
    """R@10 and variance held of each way, by stage."""
    out: dict[str, Measured] = defaultdict(Measured)
    for stream in streams(conversations):
        keys = encoder.encode([e.text for e in stream.events])
        metrics = {name: way(stream, keys, encoder) for name, way in ways.items()}
        centred = keys - keys.mean(axis=0)
        spans = {name: m.basis for name, m in metrics.items() if m is not None}
        variance = {name: float(np.square(centred @ basis.T).sum()) for name, basis in spans.items()}
        for stage, questions in stream.asked:
            result = out[stage]
            if not questions:
                continue
            result.tuning += [stream.tuning] * len(questions)
            queries = encoder.encode([text for text, _ in questions])
            for name, metric in metrics.items():
                top = best(metric, keys, queries)
                result.recall[name] += [
                    len(rows & set(found.tolist())) / len(rows)
                    for (_, rows), found in zip(questions, top, strict=True)
                ]
            for name in variance:
                result.held[name].append(variance[name] / variance["batch"])
    return out


def show(measured: Mapping[str, Measured]) -> None:
    columns = "asked cosine  batch  online difference     refreshed  variance held"
    print(f"{'R@10, semantic similarity alone':34} {columns}")
    for stage, m in measured.items():
        away, error = m.difference("online", "batch")
        held = " ".join(f"{np.mean(m.held[way]):6.3f}" for way in ("online", "refreshed"))
        print(
            f"{stage:34}{len(m.tuning):6} {m.mean('cosine'):6.3f} {m.mean('batch'):6.3f}  "
            f"{m.mean('online'):6.3f}     {away:+.3f} ± {error:.3f} {m.mean('refreshed'):9.3f}  {held}"
        )


def show_amnesia(measured: Mapping[str, Measured], ways: Sequence[str]) -> None:
    groups = (("conversations for tuning", True), ("the others", False), ("all", None))
    for head, tuning in groups:
        print(f"{f'R@10, {head}':34}" + "".join(f"{way:>8}" for way in ways))
        for stage, m in measured.items():
            if tuning is None or tuning in m.tuning:
                print(f"{stage:34}" + "".join(f"{m.mean(way, tuning):8.3f}" for way in ways))
    print(f"{'variance held, all':34}" + "".join(f"{way:>8}" for way in ways))
    for stage, m in measured.items():
        print(f"{stage:34}" + "".join(f"{np.mean(m.held[way]):8.3f}" for way in ways))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds locomo10.json")
    parser.add_argument("--amnesia", action="store_true", help="compare values of Weng's l instead")
    options = parser.parse_args()
    conversations, encoder = locomo(options.data), recorded()
    if options.amnesia:
        by_l: dict[str, Way] = {f"l = {n:g}": partial(online, amnesia=n) for n in AMNESIAS}
        show_amnesia(measure(conversations, encoder, {"batch": batch, **by_l}), ["batch", *by_l])
    else:
        show(measure(conversations, encoder))


if __name__ == "__main__":
    main()
