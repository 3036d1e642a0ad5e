"""Facts that change, facts that differ in one detail, and one fact repeated again and again.

    python -m benchmarks.facts [updates] [pairs] [repeats] [--data FOLDER] [--failures N]

updates: 200 facts and what stands beside them, weeks later what 200 of them are then; is the newer one
first, and the older one still there with its date? pairs: 1,000 pairs of texts that differ in one number,
name, date or negation; does each answer the question about itself? repeats: one event 10,000 times among
2,000 others (turns of LoCoMo with --data, else the pairs); is it one unit, and does it harm the others?
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import written
from benchmarks.common import MDA, SEED, START, Recorded, Result, fresh, learn, ranking, recorded, references
from benchmarks.datasets import locomo
from benchmarks.retrieval import TOP, evidence_recall
from mda_core import Event, Memory
from mda_core.event import as_epoch
from mda_core.recall.search import Settings

DAY = 86400.0
EARLIER_DAYS, PAUSE_DAYS, LATER_DAYS = 14, 21, 3
OTHERS = 2000
REPEATS_EACH = 5
REPEATED = Event("The front door is closed", "hall/front_door", START)
SPARE_UNITS = 64
"""Room for what may be one unit too many."""
UNTUNED = slice(1, None, 2)
"""Updates in odd places; the weights in mda_core/ranking.py were fitted on those in even ones."""


def scattered(texts: Sequence[str], first_day: float, days: float, rng: random.Random) -> list[Event]:
    """The texts in a random order at random times of these days."""
    times = sorted(START + DAY * (first_day + rng.random() * days) for _ in texts)
    return [Event(t, "told", ts) for t, ts in zip(rng.sample(texts, len(texts)), times, strict=True)]


# Updates


def updates(encoder: Recorded, rows: Mapping[str, Settings] = MDA) -> Result:
    """Rows of fractions: the newer fact is first; above the older one; among ten; the older one among ten;
    dated. "untuned" is of the half of the cases on which nothing was fitted.

    The control, so that newest first alone does not win: nothing changed, and what comes weeks later are
    the texts that stand beside the facts. Then the older fact has to be first.
    """
    cases = written.updates()
    old, new = [c.old for c in cases], [c.new for c in cases]
    beside = [t for c in cases for t in c.distractors]
    rng = random.Random(SEED)
    later = EARLIER_DAYS + PAUSE_DAYS
    changed = scattered(old + beside, 0, EARLIER_DAYS, rng) + scattered(new, later, LATER_DAYS, rng)
    control = scattered(old, 0, EARLIER_DAYS, rng) + scattered(beside, later, LATER_DAYS, rng)
    times = {e.text: e.ts for e in changed}
    mine = next(iter(rows))
    with fresh(len(changed), encoder) as memory, fresh(len(control), encoder) as same:
        got = _answers(memory, changed, cases, encoder, rows)
        unchanged = _answers(same, control, cases, encoder, rows)
        memory.settings = rows[mine]
        recalled = [memory.recall(c.question, k=TOP).memories for c in cases]
    figures = {name: _newer(cases, answers) for name, answers in got.items()}
    figures[mine]["and dated"] = float(
        np.mean(
            [
                any(m.text == c.old and m.first == m.last == times[c.old] for m in memories)
                for c, memories in zip(cases, recalled, strict=True)
            ]
        )
    )
    for name, answers in unchanged.items():
        kept = np.array([a[0] == t for t, a in zip(old, answers, strict=True)])
        figures[name] |= {"control": float(kept.mean()), "control, untuned": float(kept[UNTUNED].mean())}
    failures = [
        f"{c.question} -> {a[0]} ({_place(c.new, a)}: {c.new})"
        for c, a in zip(cases, got[mine], strict=True)
        if a[0] != c.new
    ]
    failures += [
        f"control: {c.question} -> {a[0]} ({_place(c.old, a)}: {c.old})"
        for c, a in zip(cases, unchanged[mine], strict=True)
        if a[0] != c.old
    ]
    return Result(figures, failures)


def _answers(
    memory: Memory,
    events: Sequence[Event],
    cases: Sequence[written.Update],
    encoder: Recorded,
    rows: Mapping[str, Settings],
) -> dict[str, list[list[str]]]:
    """The texts that each way brings back for each question, after `memory` has learned the events."""
    learn(memory, events)
    texts = [e.text for e in events]
    ways = {name: ranking(memory, settings) for name, settings in rows.items()}
    ways |= references(texts, encoder)
    ways["the same, newest first if equal"] = references(texts[::-1], encoder)["cosine + BM25 by rank"]
    return {name: [way(c.question) for c in cases] for name, way in ways.items()}


def _newer(cases: Sequence[written.Update], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    asked = list(zip(cases, answers, strict=True))
    first = np.array([a[0] == c.new for c, a in asked])
    return {
        "new first": float(first.mean()),
        "untuned": float(first[UNTUNED].mean()),
        "new above old": float(np.mean([_at(c.new, a) < _at(c.old, a) for c, a in asked])),
        "new in ten": float(np.mean([c.new in a for c, a in asked])),
        "old in ten": float(np.mean([c.old in a for c, a in asked])),
    }


def _at(text: str, answer: Sequence[str]) -> int:
    return answer.index(text) if text in answer else TOP


def _place(text: str, answer: Sequence[str]) -> str:
    return f"place {answer.index(text) + 1}" if text in answer else f"not in {TOP}"


# Pairs


def pairs(encoder: Recorded, rows: Mapping[str, Settings] = MDA) -> Result:
    """Rows of fractions, one column for each kind: the text that is asked for is first."""
    made = written.pairs()
    texts = [t for p in made for t in p.texts]
    mine = next(iter(rows))
    events = scattered(texts, 0, EARLIER_DAYS, random.Random(SEED))
    with fresh(len(texts) + SPARE_UNITS, encoder) as memory:
        memories = {r.memory for r in learn(memory, events)}
        ways = {name: ranking(memory, settings) for name, settings in rows.items()}
        ways |= references([e.text for e in events], encoder)
        asked = [(p, i) for p in made for i in (0, 1)]
        got = {name: [way(p.questions[i]) for p, i in asked] for name, way in ways.items()}
    figures: dict[str, dict[str, float]] = {}
    for name, answers in got.items():
        right = [(p.kind, a[0] == p.texts[i]) for (p, i), a in zip(asked, answers, strict=True)]
        figures[name] = {
            kind: float(np.mean([r for k, r in right if k == kind])) for kind in written.KINDS
        } | {"all": float(np.mean([r for _, r in right]))}
    figures[mine]["memories"] = float(len(memories))
    return Result(
        figures,
        [
            f"{p.questions[i]} -> {a[0]} ({_place(p.texts[i], a)}: {p.texts[i]})"
            for (p, i), a in zip(asked, got[mine], strict=True)
            if a[0] != p.texts[i]
        ],
    )


# Repeats


def repeats(encoder: Recorded, data: Path | None) -> Result:
    """Without and with one event five times after each of 2,000 others: R@10 of the others, its units
    and its count, and how often a question about something else brings it back, and as the first.
    """
    others, questions = _turns(data) if data is not None else _paired()
    mixed: list[Event] = []
    for e in others:
        ts = as_epoch("ts", START if e.ts is None else e.ts)
        mixed.append(e)
        mixed += (replace(REPEATED, ts=ts + 1 + i) for i in range(REPEATS_EACH))
    figures = {}
    failures = []
    for name, events in (("without", others), (f"with {REPEATS_EACH * OTHERS:,} repeats", mixed)):
        with fresh(len(others) + SPARE_UNITS, encoder) as memory:
            learned = learn(memory, events)
            way = ranking(memory)
            got = [way(question) for question, _ in questions]
            asked = list(zip(got, (evidence for _, evidence in questions), strict=True))
            row = {"R@10": float(np.mean([evidence_recall(a, evidence, TOP) for a, evidence in asked]))}
            row["memories"] = float(len({r.memory for r in learned}))
            if events is mixed:
                its = {r.memory for r, e in zip(learned, events, strict=True) if e.text == REPEATED.text}
                found = memory.recall(REPEATED.text, source=REPEATED.source, k=100).memories
                row["its units"] = float(len(its))
                row["its count"] = float(sum(m.count for m in found if m.memory in its))
                row["unasked"] = float(np.mean([REPEATED.text in a for a in got]))
                row["unasked first"] = float(np.mean([a[0] == REPEATED.text for a in got]))
                failures = [
                    f"{question} -> {REPEATED.text}"
                    for (question, _), a in zip(questions, got, strict=True)
                    if a[0] == REPEATED.text
                ]
            figures[name] = row
    return Result(figures, failures)


def _turns(data: Path) -> tuple[list[Event], list[tuple[str, list[str]]]]:
    """The first 2,000 turns of LoCoMo, and the questions whose evidence is all among them."""
    events: list[Event] = []
    questions = []
    for c in locomo(data):
        some = c.events[: OTHERS - len(events)]
        text = {e.id: e.text for e in some}
        questions += [
            (q.text, [text[d] for d in q.evidence])
            for q in c.questions
            if q.counts and all(d in text for d in q.evidence)
        ]
        events += some
    return events, questions


def _paired() -> tuple[list[Event], list[tuple[str, list[str]]]]:
    """The texts of the pairs, and every fourth of their questions."""
    made = written.pairs()
    events = scattered([t for p in made for t in p.texts], 0, EARLIER_DAYS, random.Random(SEED))
    return events, [(q, [t]) for p in made[::4] for t, q in zip(p.texts, p.questions, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="updates, pairs, repeats; all if none is named"
    )
    parser.add_argument("--data", type=Path, help="the folder that holds locomo10.json, for repeats")
    parser.add_argument("--failures", type=int, default=0, metavar="N", help="show N failures of a part")
    options = parser.parse_args()
    encoder = recorded()
    parts: Mapping[str, Callable[[], Result]] = {
        "updates": lambda: updates(encoder),
        "pairs": lambda: pairs(encoder),
        "repeats": lambda: repeats(encoder, options.data),
    }
    unknown = [p for p in options.parts if p not in parts]
    if unknown:
        parser.error(f"expected {', '.join(parts)}, got {unknown[0]}")
    for name in options.parts or parts:
        print(name)
        parts[name]().show(options.failures)
        print(flush=True)


if __name__ == "__main__":
    main()
