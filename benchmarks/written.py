"""The written cases in benchmarks/cases, and a check that they are what they claim to be.

    python -m benchmarks.written [--data FOLDER]

With --data the questions about things never told are checked against the turns of LoCoMo too.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.datasets import locomo
from mda_core.text.stemmer import stem
from mda_core.text.terms import terms

CASES = Path(__file__).with_name("cases")
PAIRS_A_KIND = 250
KINDS = ("number", "name", "date", "negation")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Update:
    """A fact, what it is later, a question about it, and texts on the subject that do not answer."""

    old: str
    new: str
    question: str
    distractors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NeverTold:
    """A question about something never told; kind: other people, familiar name (a speaker's), home."""

    question: str
    kind: str


@dataclass(frozen=True, slots=True)
class Alike:
    """Two sentences, and how alike: 5 the same, 3 not in what matters, 1 the subject, 0 nothing."""

    first: str
    second: str
    alike: int


@dataclass(frozen=True, slots=True)
class Episode:
    """Events a minute apart; the question shares content words with the first alone, the last answers."""

    hops: int
    source: str
    events: tuple[str, ...]
    question: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A sentence and a question with slots: {room} is context, the one named by `kind` makes the pair.

    A negation is written [not], or [with|without]: absent or the first in one text of the pair.
    """

    kind: str
    text: str
    question: str


@dataclass(frozen=True, slots=True)
class Slot:
    """What can stand in a slot."""

    slot: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that differ in one number, name, date or negation, and a question for each."""

    kind: str
    texts: tuple[str, str]
    questions: tuple[str, str]


def updates() -> list[Update]:
    return _read("updates", Update)


def never_told() -> list[NeverTold]:
    return _read("never_told", NeverTold)


def similarity() -> list[Alike]:
    return _read("similarity", Alike)


def word_pairs() -> list[tuple[str, str]]:
    """Two words of like meaning, of a hundred different meanings."""
    return [(first, second) for first, second in _read("words", tuple[str, str])]


def episodes() -> list[Episode]:
    return _read("hops", Episode)


def pairs(seed: int = 0) -> list[Pair]:
    """250 pairs of each kind, the same for the same seed; no two of their questions are equal."""
    rng = random.Random(seed)
    values = {s.slot: s.values for s in _read("slots", Slot)}
    asked: set[str] = set()
    out = []
    for kind in KINDS:
        frames = [f for f in _read("pairs", Frame) if f.kind == kind]
        for i in range(PAIRS_A_KIND):
            pair = _filled(frames[i % len(frames)], values, rng)
            while not asked.isdisjoint(pair.questions):
                pair = _filled(frames[i % len(frames)], values, rng)
            asked.update(pair.questions)
            out.append(pair)
    return out


def _read(name: str, kind: type[T]) -> list[T]:
    lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [msgspec.json.decode(line, type=kind) for line in lines]


# Pairs


def _filled(frame: Frame, values: dict[str, tuple[str, ...]], rng: random.Random) -> Pair:
    context = {slot: rng.choice(some) for slot, some in values.items()}
    if frame.kind == "negation":
        slot, both = "", ("", "")
    else:
        slot = next(s for s in _DIFFERS[frame.kind] if f"{{{s}}}" in frame.text)
        first, second = _TWO[slot](rng) if slot in _TWO else rng.sample(values[slot], 2)
        both = (first, second)
    made = [
        (
            _negated(frame.text, i).format(**context | {slot: v}),
            _negated(frame.question, i).format(**context | {slot: v}),
        )
        for i, v in enumerate(both)
    ]
    (text, question), (other, its_question) = made
    return Pair(frame.kind, (text, other), (question, its_question))


def _negated(frame: str, which: int) -> str:
    found = re.sub(r"\[(?:(\w+)\|)?(\w+)\]", lambda m: m[2] if which else m[1] or "", frame)
    return re.sub(r" +", " ", found)


def _one_digit_off(number: str, rng: random.Random) -> tuple[str, str]:
    at = rng.choice([i for i, c in enumerate(number) if c.isdigit()])
    digit = rng.choice([d for d in "123456789" if d != number[at]])
    return number, number[:at] + digit + number[at + 1 :]


def _number(rng: random.Random) -> tuple[str, str]:
    return _one_digit_off(str(rng.randrange(11, 1000)), rng)


def _decimal(rng: random.Random) -> tuple[str, str]:
    return _one_digit_off(f"{rng.randrange(10, 100)}.{rng.randrange(10)}", rng)


def _time(rng: random.Random) -> tuple[str, str]:
    hour, minute = rng.randrange(6, 23), rng.randrange(60)
    other = (hour, (minute + rng.randrange(1, 60)) % 60) if rng.random() < 0.5 else (hour + 1, minute)
    return f"{hour}:{minute:02}", f"{other[0]}:{other[1]:02}"


def _year(rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample(range(1850, 2026), 2)
    return str(first), str(second)


def _day(rng: random.Random) -> tuple[str, str]:
    """Two days that differ in the day or in the month, not in both."""
    days, months = rng.sample(range(1, 29), 2), rng.sample(_MONTHS, 2)
    other = (days[1], months[0]) if rng.random() < 0.5 else (days[0], months[1])
    return f"{days[0]} {months[0]}", f"{other[0]} {other[1]}"


_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DIFFERS = {
    "number": ("number", "decimal"),
    "name": ("name",),
    "date": ("day", "weekday", "month", "year", "time"),
}
_TWO: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "number": _number,
    "decimal": _decimal,
    "time": _time,
    "year": _year,
    "day": _day,
}


# The check

_MARKERS = re.compile(
    r"\b(now|new|newer|again|anymore|no longer|any more|instead|since|from here on|moved|changed|renamed"
    r"|replanted|repriced|became|took over|turned|extended|put off|went up|current|currently|latest)\b",
    re.IGNORECASE,
)
"""Words by which a text says that something has changed."""
COMMON = 0.02
"""A term in more than this fraction of LoCoMo's turns is no topic."""


def words(text: str) -> frozenset[str]:
    """The stems of all words of `text`, function words too ("may" can be a month)."""
    return frozenset(map(stem, re.findall(r"\w+(?:[.:]\w+)*", text.casefold())))


def of_updates(cases: Sequence[Update]) -> Iterator[str]:
    texts = Counter(t for c in cases for t in (c.old, c.new, *c.distractors))
    yield from (f"told twice: {t}" for t, n in texts.items() if n > 1)
    for c in cases:
        if _MARKERS.search(c.question):
            yield f"the question says which is newer: {c.question}"
        if not 2 <= len(c.distractors) <= 3:
            yield f"{len(c.distractors)} distractors: {c.question}"
    if 2 * sum(bool(_MARKERS.search(c.new)) for c in cases) > len(cases):
        yield "more than half of the new facts say themselves that they are new"


def of_episodes(cases: Sequence[Episode]) -> Iterator[str]:
    """The question reaches the first event by its words and the others not at all."""
    for c in cases:
        asked = terms(c.question).keys()
        if len(c.events) != c.hops:
            yield f"{c.hops} hops but {len(c.events)} events: {c.question}"
        if not asked & terms(c.events[0]).keys():
            yield f"nothing in common with the first event: {c.question}"
        for text in (*c.events[1:], re.sub("[/_]", " ", c.source)):
            if asked & terms(text).keys():
                yield f"'{c.question}' shares a word with '{text}'"


def of_pairs(made: Sequence[Pair]) -> Iterator[str]:
    """A question holds its text's own word, and nobody else's text holds all that it asks for."""
    told = [(t, words(t), p) for p in made for t in p.texts]
    for n in (n for n, count in Counter(t for t, _, _ in told).items() if count > 1):
        yield f"made twice: {n}"
    for p in made:
        for i, (text, question) in enumerate(zip(p.texts, p.questions, strict=True)):
            held = words(text) & words(question)
            bare = p.kind == "negation" and i == 0  # "signed": all of it is in "not signed" too
            if not bare and held <= words(p.texts[1 - i]):
                yield f"'{question}' does not hold what tells its text apart"
            for other in (t for t, w, whose in told if whose is not p and held <= w):
                yield f"'{question}' asks for '{text}' and for '{other}'"


def of_never_told(cases: Sequence[NeverTold], data: Path | None) -> Iterator[str]:
    """No turn holds two topic words of a question; speakers' names and common words are no topic."""
    if data is None:
        return
    turns = [(e.text, terms(e.text).keys()) for c in locomo(data) for e in c.events]
    names = {t for text, _ in turns for t in terms(text.split(":")[0])}
    in_turns = Counter(t for _, found in turns for t in found)
    common = names | {t for t, n in in_turns.items() if n > COMMON * len(turns)}
    for c in cases:
        topic = terms(c.question).keys() - common
        for text in (text for text, found in turns if len(topic & found) > 1):
            yield f"'{c.question}' may have been told: {text}"


def _nearer(case: Update) -> str:
    asked = terms(case.question).keys()
    old, new = (len(asked & terms(t).keys()) for t in (case.old, case.new))
    return "older" if old > new else "newer" if new > old else "neither"


def _percentage(cases: Iterable[bool]) -> str:
    found = list(cases)
    return f"{sum(found) / len(found):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder that holds locomo10.json")
    data = parser.parse_args().data
    facts, told, happened, made = updates(), never_told(), episodes(), pairs()
    marked = _percentage(bool(_MARKERS.search(c.new)) for c in facts)
    reworded = _percentage(len(words(c.new) ^ words(c.old)) > 4 for c in facts)
    closer = Counter(map(_nearer, facts))
    print(f"{len(facts):5} updates, {marked} with a word of change, {reworded} worded anew")
    print(f"{'':5} the question shares more words with the {dict(closer)}")
    print(f"{len(told):5} never told: {dict(Counter(c.kind for c in told))}")
    print(f"{len(happened):5} episodes: {dict(Counter(c.hops for c in happened))} by their hops")
    frames = Counter(f.kind for f in _read("pairs", Frame))
    print(f"{len(made):5} pairs from {dict(frames)} frames")
    problems = [*of_updates(facts), *of_episodes(happened), *of_pairs(made), *of_never_told(told, data)]
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
