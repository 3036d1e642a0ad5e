"""What happened next: recall of an event that shares no word with the question.

    python -m benchmarks.hops [--data FOLDER] [--failures N]

120 episodes of two or three events a minute apart, five of them at a time from five sources, and events
that belong to none in between. The question names the first event, the last one is the answer: R@10 of the
last. With --data the questions of LoCoMo's category 1, with links and without them.
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
from benchmarks.datasets import Conversation, locomo
from benchmarks.retrieval import TOP, Ranking, Score, evidence_recall, scores
from mda_core import Event
from mda_core.recall.search import Settings

TOGETHER = 5
"""Episodes that happen at the same time, each in its own place."""
STEP_SECONDS = 60.0
PAUSE_SECONDS = 1200.0
ELSEWHERE = ("radio", "diary", "phone")
MULTI_HOP = 1
ROWS = {**MDA, "MDA without links": Settings(gain=0.0)}


def stream(episodes: Sequence[written.Episode], fillers: Sequence[str]) -> list[Event]:
    """All events in their order; neighbours of one episode are a minute apart, others in between."""
    rng = random.Random(SEED)
    rest = rng.sample(fillers, len(fillers))
    groups = _groups(rng.sample(episodes, len(episodes)))
    each = len(rest) // len(groups)
    events = []
    now = START
    for group in groups:
        steps = max(c.hops for c in group)
        for _ in range(each - steps - 1):  # the others come during the group and after it
            events.append(_elsewhere(rest, now, rng))
            now += PAUSE_SECONDS * (0.5 + rng.random())
        now += PAUSE_SECONDS
        for step in range(steps):
            at_once = [Event(c.events[step], c.source, now) for c in group if step < c.hops]
            at_once.append(_elsewhere(rest, now, rng))
            for i, e in enumerate(at_once):  # in the same order each minute
                events.append(replace(e, ts=now + i * STEP_SECONDS / len(at_once)))
            now += STEP_SECONDS
        events.append(_elsewhere(rest, now, rng))
        now += PAUSE_SECONDS
    return events


def _elsewhere(rest: list[str], now: float, rng: random.Random) -> Event:
    return Event(rest.pop(), rng.choice(ELSEWHERE), now)


def _groups(episodes: Sequence[written.Episode]) -> list[list[written.Episode]]:
    """Groups of at most five with as many different sources."""
    groups: list[list[written.Episode]] = []
    for c in episodes:
        room = (g for g in groups if len(g) < TOGETHER and all(o.source != c.source for o in g))
        group = next(room, None)
        if group is None:
            groups.append([c])
        else:
            group.append(c)
    return groups


def measure(encoder: Recorded, rows: Mapping[str, Settings] = ROWS) -> Result:
    """Rows of R@10 of the last event: all, two hops, three; and of the first event, which is named."""
    episodes = written.episodes()
    events = stream(episodes, [t for c in written.updates() for t in c.distractors])
    with fresh(len(events), encoder) as held:
        learn(held, events)
        ways: dict[str, Ranking] = {name: ranking(held, settings) for name, settings in rows.items()}
        ways |= references([e.text for e in events], encoder)
        got = {name: [way(c.question) for c in episodes] for name, way in ways.items()}
    return Result(
        {name: _found(episodes, answers) for name, answers in got.items()},
        [
            f"{c.question} -> {answer[0]} (not in {TOP}: {c.events[-1]})"
            for c, answer in zip(episodes, got[next(iter(rows))], strict=True)
            if c.events[-1] not in answer
        ],
    )


def _found(episodes: Sequence[written.Episode], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    asked = list(zip(episodes, answers, strict=True))

    def fraction(of: Callable[[written.Episode], bool], event: int) -> float:
        return float(np.mean([evidence_recall(a, [c.events[event]], TOP) for c, a in asked if of(c)]))

    return {
        "last": fraction(lambda c: True, -1),
        "of two": fraction(lambda c: c.hops == 2, -1),
        "of three": fraction(lambda c: c.hops == 3, -1),
        "first": fraction(lambda c: True, 0),
    }


def multi_hop(conversations: Sequence[Conversation], encoder: Recorded) -> Result:
    """R@10 of LoCoMo's category 1: all ten conversations, those for tuning, the others."""
    got: dict[str, list[Score]] = {name: [] for name in ROWS}
    for c in conversations:
        asked = [q for q in c.asked() if q.category == MULTI_HOP]
        with fresh(len(c.events), encoder) as held:
            learn(held, c.events)
            for name, settings in ROWS.items():
                way = ranking(held, settings)
                got[name] += scores(c, asked, [way(q.text) for q in asked])
    return Result(
        {
            name: {
                "category 1": float(np.mean([s.at_10 for s in row])),
                "tuning": float(np.mean([s.at_10 for s in row if s.tuning])),
                "others": float(np.mean([s.at_10 for s in row if not s.tuning])),
            }
            for name, row in got.items()
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder that holds locomo10.json")
    parser.add_argument("--failures", type=int, default=0, metavar="N", help="show N failures")
    options = parser.parse_args()
    encoder = recorded()
    measure(encoder).show(options.failures)
    if options.data is not None:
        print()
        multi_hop(locomo(options.data), encoder).show()


if __name__ == "__main__":
    main()
