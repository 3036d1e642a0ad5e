"""What each step of the memory is worth: R@10 on LoCoMo without it, beside the RAM that it takes.

    python -m benchmarks.ablation --data FOLDER [steps] [retention] [dimensions]

steps: each step of a recall taken away. retention: with units for a quarter of the turns, what is forgotten
chosen in other ways. dimensions: all steps against the best of semantic similarity alone, lexical similarity
alone and the plain cosine alone, on every set of questions.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import facts, home, hops, locomo, ram, written
from benchmarks.common import SEED, Recorded, Result, fresh, inside, learn, ranking, recorded
from benchmarks.datasets import Activation, Conversation, ordonez
from benchmarks.datasets import locomo as read_locomo
from benchmarks.retrieval import Score, ask, summary
from mda_core import ledger
from mda_core.index import index
from mda_core.learning import retention
from mda_core.learning.oja import Array
from mda_core.learning.units import Units
from mda_core.recall.search import Settings
from mda_core.text import features

STEPS = {
    "as it is": Settings(),
    "no links": Settings(gain=0.0),
    "no Hopfield step": Settings(step=0.0),
    "no lexical similarity": Settings(lexical=0.0),
    "no semantic similarity": Settings(semantic=0.0),
    "plain cosine, no metric": Settings(metric=False),
    "no coverage": Settings(coverage=0.0),
    "no salience": Settings(salience=0.0),
    "no details": Settings(details=False),
    "no newer before older": Settings(newest=False),
}
NEEDS = {
    "as it is": ("semantic", "metric", "lexical", "links", "salience", "statistics", "rest"),
    "no links": ("links",),
    "no lexical similarity": ("lexical",),
    "no semantic similarity": ("semantic", "metric"),
    "plain cosine, no metric": ("metric",),
    "no salience": ("salience",),
}
"""The groups of arrays (`ram.by_step`) that only this step needs. Other steps need none of their own."""
_BARE = Settings(salience=0.0, gain=0.0, step=0.0, details=False, newest=False)
DIMENSIONS = {
    "semantic": replace(_BARE, lexical=0.0),
    "lexical": replace(_BARE, semantic=0.0),
    "cosine": replace(_BARE, lexical=0.0, metric=False),
    "all steps": Settings(),
}
QUARTER = 0.25


def steps(conversations: Sequence[Conversation], encoder: Recorded) -> Result:
    """Rows of R@5 and R@10, one memory a conversation; R@10 in one memory; fractions of updates with the
    newer fact first, of pairs distinguished, of next events among ten; and bytes a unit.
    """
    each = locomo.one_each(conversations, encoder, rows=STEPS)
    one = locomo.one_memory(conversations, encoder, rows=STEPS)
    updates, pairs = facts.updates(encoder, STEPS).figures, facts.pairs(encoder, STEPS).figures
    episodes = hops.measure(encoder, STEPS).figures
    costs = bytes_a_unit(conversations, encoder)
    return Result(
        {
            name: summary(each[name])
            | {
                "one memory": summary(one[name])["R@10"],
                "updates": updates[name]["new first"],
                "pairs": pairs[name]["all"],
                "what next": episodes[name]["last"],
                "bytes": float(round(sum(costs[group] for group in NEEDS.get(name, ())))),
            }
            for name in STEPS
        }
    )


def bytes_a_unit(conversations: Sequence[Conversation], encoder: Recorded) -> Mapping[str, float]:
    """Of a memory of 8,192 units, by the group of arrays; arrays of fixed size are divided among the
    units."""
    with fresh(locomo.ONE_MEMORY_UNITS, encoder) as memory:
        learn(memory, conversations[0].events)
        return {step: size / memory.capacity for step, size in ram.by_step(memory).items()}


# Retention


def _oldest(units: Units, seq: int) -> int:
    return int(np.argmin(np.where(units.pinned, np.iinfo(np.int64).max, units.memory)))


def _at_random() -> Callable[[Units, int], int]:
    rng = random.Random(SEED)
    return lambda units, seq: rng.choice(np.flatnonzero(~units.pinned).tolist())


def _no_surprise(surprise: Array, named: Array, lengths: Array, text_features: np.ndarray) -> Array:
    return retention.salience(np.ones_like(surprise), named, lengths, text_features)


def _no_length(surprise: Array, named: Array, lengths: Array, text_features: np.ndarray) -> Array:
    return retention.salience(surprise, named, np.ones_like(lengths), text_features)


RETENTION: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "as it is": nullcontext,
    "oldest first": lambda: mock.patch.object(ledger, "eviction_candidate", _oldest),
    "random": lambda: mock.patch.object(ledger, "eviction_candidate", _at_random()),
    "no surprise": lambda: mock.patch.object(index, "salience", _no_surprise),
    "no length": lambda: mock.patch.object(index, "salience", _no_length),
    "no names": lambda: mock.patch.object(retention, "DETAILS_EXPONENT", 0.0),
    "no words of time": lambda: mock.patch.dict(retention.FEATURE_EXPONENTS, {features.TIME_WORDS: 0.0}),
    "no words that address somebody": lambda: mock.patch.dict(
        retention.FEATURE_EXPONENTS, {features.SECOND_PERSON: 0.0}
    ),
    "questions like the rest": lambda: mock.patch.dict(retention.FEATURE_EXPONENTS, {features.QUESTION: 0.0}),
    "no recency": lambda: mock.patch.object(retention, "RECENCY_GAIN", 0.0),
}


def forgetting(conversations: Sequence[Conversation], encoder: Recorded) -> Result:
    """Rows of R@5 and R@10 with units for a quarter of the turns.

    Recall is the same in each row: where learning used another salience, the saliences that ship are computed
    again before the questions.
    """
    got: dict[str, list[Score]] = {name: [] for name in RETENTION}
    for c in conversations:
        for name, changed in RETENTION.items():
            with fresh(locomo.units_for(c, QUARTER), encoder) as memory:
                with changed():
                    learn(memory, c.events)
                if changed is not nullcontext:
                    inside(memory).units.salience[:] = inside(memory).index.saliences()
                got[name] += ask(c, ranking(memory))
    return Result({name: summary(scores) for name, scores in got.items()})


# All steps against one dimension


def dimensions(
    conversations: Sequence[Conversation], encoder: Recorded, log: Sequence[Activation] | None
) -> Result:
    """A row for each set of questions: each dimension alone, the best of them, all steps, the difference."""
    rows = DIMENSIONS
    each = locomo.one_each(conversations, encoder, rows=rows)
    one = locomo.one_memory(conversations, encoder, rows=rows)
    summaries = {way: summary(each[way]) for way in rows}
    sets = {
        f"LoCoMo, {column.replace('R@10', 'all')}": {way: summaries[way][column] for way in rows}
        for column in summaries["all steps"]
        if column != "R@5"
    }
    sets["LoCoMo, one memory"] = {way: summary(one[way])["R@10"] for way in rows}
    updates = facts.updates(encoder, rows).figures
    for column in ("new first", "untuned", "control", "control, untuned"):
        sets[f"updates, {column}"] = {way: updates[way][column] for way in rows}
    pairs = facts.pairs(encoder, rows).figures
    for kind in written.KINDS:
        sets[f"pairs, {kind}"] = {way: pairs[way][kind] for way in rows}
    episodes = hops.measure(encoder, rows).figures
    for column in ("of two", "of three"):
        sets[f"what came next, {column}"] = {way: episodes[way][column] for way in rows}
    if log is not None:
        sets["home, last time"] = {way: home.last_times(log, encoder, of) for way, of in rows.items()}
    out = {}
    for name, found in sets.items():
        best = max(found[way] for way in rows if way != "all steps")
        fused = found["all steps"]
        singles = {f"{way} alone": found[way] for way in rows if way != "all steps"}
        out[name] = {**singles, "best alone": best, "all steps": fused, "difference": fused - best}
    return Result(out)


def worse(result: Result) -> list[str]:
    """The sets on which the best of the single dimensions answers more."""
    return [name for name, row in result.figures.items() if row["difference"] < 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="steps, retention, dimensions; all if none is named"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of locomo10.json and ordonez_a_sensors.txt"
    )
    parser.add_argument("--conversations", type=int, default=10, metavar="N", help="only the first N")
    options = parser.parse_args()
    conversations = read_locomo(options.data)[: options.conversations]
    encoder = recorded()
    parts: Mapping[str, Callable[[], Result]] = {
        "steps": lambda: steps(conversations, encoder),
        "retention": lambda: forgetting(conversations, encoder),
        "dimensions": lambda: dimensions(conversations, encoder, ordonez(options.data)),
    }
    unknown = [p for p in options.parts if p not in parts]
    if unknown:
        parser.error(f"expected {', '.join(parts)}, got {unknown[0]}")
    for name in options.parts or parts:
        print(name)
        result = parts[name]()
        result.show()
        if name == "dimensions":
            print("worse than the best dimension alone:", "; ".join(worse(result)) or "nowhere")
        print(flush=True)


if __name__ == "__main__":
    main()
