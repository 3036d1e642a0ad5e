"""A real home: learn the fourteen days of the Ordóñez log, then ask what follows from it.

    python -m benchmarks.home --data FOLDER [--over library|mqtt]

For each of the twelve sensors, on and off: when last, how often, how often within five periods, what came
just before. For each place: which changes are known of it, and which was the last, also until some moment.
And twenty questions in a person's words. An answer is right only where text, times and numbers are exactly
those of the log. By the library the same is asked of a memory that is too small for its history: there
`count`, `first` and `last` are those of the whole log, the rest of the newest 16 occurrences a unit.
"""

from __future__ import annotations

import argparse
import bisect
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from benchmarks.common import Recorded, learn, recorded
from benchmarks.datasets import Activation, ordonez
from benchmarks.rig import rig
from mda_core import Event, Memory
from mda_core.recall.search import SETTINGS, Settings
from mda_core.storage.journal import HISTORY

WINDOW = 200
UNITS = 512
SMALL_UNITS = 24
"""As many as there are different changes: each is known, but the history is cut to less than half."""
HOURS = (3, 12, 24, 72, 168)
"""The length of the periods; each begins at a random moment of the log."""
BEFORE_SECONDS = 86400.0

# location -> how a person calls it
NAMES = {
    "Basin": "the basin",
    "Bed": "the bed",
    "Cabinet": "the bathroom cabinet",
    "Cooktop": "the cooktop",
    "Cupboard": "the kitchen cupboard",
    "Fridge": "the fridge",
    "Maindoor": "the main door",
    "Microwave": "the microwave",
    "Seat": "the seat in the living room",
    "Shower": "the shower",
    "Toaster": "the toaster",
    "Toilet": "the toilet flush",
}
# (location, on or off) -> how a person asks for it
LAST = {
    ("Shower", "on"): "When did the shower last go on?",
    ("Maindoor", "on"): "When was the main door last on, at the entrance?",
    ("Bed", "off"): "When did the bed go off for the last time?",
    ("Fridge", "on"): "When was the fridge in the kitchen last on?",
    ("Toaster", "on"): "When was the toaster last switched on?",
    ("Microwave", "off"): "When did the microwave last go off?",
    ("Seat", "on"): "When was the seat in the living room last on?",
}
OFTEN = {
    ("Toilet", "on"): "How often did the toilet flush go on?",
    ("Basin", "on"): "How many times was the basin on?",
    ("Cupboard", "on"): "How often was the kitchen cupboard on?",
    ("Shower", "off"): "How often did the shower go off?",
    ("Maindoor", "off"): "How often was the main door off?",
    ("Cabinet", "on"): "How many times was the bathroom cabinet on?",
    ("Bed", "on"): "How often did the bed pressure go on?",
}
BEFORE = ("Shower", "Maindoor", "Toaster", "Bed", "Microwave", "Cabinet")

Happened = Sequence[tuple[float, str, str]]
"""(time, text, source) of each change, in the order of time."""


@dataclass(frozen=True, slots=True)
class Span:
    """How often, first and last (epoch seconds)."""

    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a recall says of one memory, by whichever way it came; `within` where a period was asked for."""

    text: str
    ever: Span
    recent: tuple[float, ...]
    within: Span | None


class Ask(Protocol):
    """A recall, by the library or through MQTT; the fields are those of a request."""

    def __call__(self, question: str, **fields: Any) -> list[Found]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    kind: str
    question: str
    expected: str
    got: str

    @property
    def right(self) -> bool:
        return self.expected == self.got


def events(log: Sequence[Activation]) -> Happened:
    out = []
    for a in log:
        source = f"{a.place}/{a.location}".lower()
        for ts, state in ((a.start, "on"), (a.end, "off")):
            out.append((ts, f"{a.place}: {a.location} {a.kind} {state}", source))
    return sorted(out)


def stamp(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def text_of(log: Sequence[Activation], location: str, state: str) -> str:
    return next(f"{a.place}: {a.location} {a.kind} {state}" for a in log if a.location == location)


def span(times: Sequence[float]) -> Span | None:
    return Span(len(times), min(times), max(times)) if times else None


def times(happened: Happened, text: str, since: float = 0.0, until: float = float("inf")) -> list[float]:
    return [ts for ts, said, _ in happened if said == text and since <= ts <= until]


def say(of: Span | None) -> str:
    return "never" if of is None or not of.count else f"{of.count}, {stamp(of.first)} to {stamp(of.last)}"


# questions


def of_sensors(ask: Ask, log: Sequence[Activation], happened: Happened, held: Happened) -> Iterator[Answer]:
    """When last and how often, of each sensor on and off, ever and within five periods."""
    rng = random.Random(1)
    for location, name in NAMES.items():
        for state in ("on", "off"):
            text = text_of(log, location, state)
            expected = span(times(happened, text))
            assert expected is not None
            question = f"When did {name} last go {state}?"
            top = ask(question, k=1)[0]
            yield Answer(
                "last time", question, f"{stamp(expected.last)} {text}", f"{stamp(top.ever.last)} {top.text}"
            )
            question = f"How often did {name} go {state}?"
            top = ask(question, k=1)[0]
            yield Answer("how often", question, f"{say(expected)} {text}", f"{say(top.ever)} {top.text}")
            for hours in HOURS:
                since = rng.randrange(int(happened[0][0]), int(happened[-1][0] - hours * 3600))
                until = since + hours * 3600
                inside = span(times(held, text, since, until))
                found = ask(question, k=1, since=since, until=until)
                got = f"{say(found[0].within)} {found[0].text}" if found else "nothing"
                if inside is None and (not found or found[0].text != text):
                    got = f"never {text}"  # another change, or nothing, is what comes back then
                asked = f"{question[:-1]} from {stamp(since)} to {stamp(until)}?"
                yield Answer("how often within", asked, f"{say(inside)} {text}", got)


def of_places(ask: Ask, log: Sequence[Activation], happened: Happened, held: Happened) -> Iterator[Answer]:
    """Which changes there are at each place, and which was the last, also until five moments."""
    rng = random.Random(2)
    for place in sorted({a.place for a in log}):
        pattern = f"{place.lower()}/#"
        here = [h for h in happened if h[1].startswith(f"{place}:")]
        found = ask("what happened", k=100, source=pattern)
        got = ", ".join(sorted(f.text for f in found))
        question = f"What is known of {pattern}?"
        yield Answer("all at a place", question, ", ".join(sorted({text for _, text, _ in here})), got)
        newest = max(found, key=lambda f: f.ever.last)
        yield Answer(
            "last at a place",
            f"What happened last at {pattern}?",
            f"{stamp(here[-1][0])} {here[-1][1]}",
            f"{stamp(newest.ever.last)} {newest.text}",
        )
        for _ in HOURS:
            until = rng.randrange(int(held[0][0]), int(held[-1][0]))
            question = f"What happened last at {pattern} until {stamp(until)}?"
            found = ask("what happened", k=100, source=pattern, until=until)
            expected = latest(
                [(ts, text) for ts, text, _ in held if text.startswith(f"{place}:") and ts <= until]
            )
            yield Answer("last at a place, until", question, expected, latest_within(found))


def just_before(ask: Ask, held: Happened) -> Iterator[Answer]:
    """What came just before each change: the last time, and once at random."""
    rng = random.Random(3)
    for text in sorted({text for _, text, _ in held}):
        at = times(held[1:], text)
        for ts in (at[-1], rng.choice(at)):
            found = ask("what happened", k=100, until=ts - 1)
            expected = latest([(t, said) for t, said, _ in held if t < ts])
            yield Answer(
                "just before", f"What came before {stamp(ts)} {text}?", expected, latest_within(found)
            )


def latest(said: Sequence[tuple[float, str]]) -> str:
    """The newest of them; all the newest where several fall on one second."""
    if not said:
        return "nothing"
    newest = max(ts for ts, _ in said)
    return " & ".join([stamp(newest), *sorted(text for ts, text in said if ts == newest)])


def latest_within(found: Sequence[Found]) -> str:
    return latest([(f.within.last, f.text) for f in found if f.within is not None and f.within.count])


def in_words(ask: Ask, log: Sequence[Activation], happened: Happened) -> Iterator[Answer]:
    """Twenty questions in a person's words, answered without `within`."""
    kind = "a person's twenty"
    for (location, state), question in LAST.items():
        text = text_of(log, location, state)
        top = ask(question, k=1)[0]
        expected = f"{stamp(max(times(happened, text)))} {text}"
        yield Answer(kind, question, expected, f"{stamp(top.ever.last)} {top.text}")
    for (location, state), question in OFTEN.items():
        text = text_of(log, location, state)
        top = ask(question, k=1)[0]
        yield Answer(kind, question, f"{len(times(happened, text))} {text}", f"{top.ever.count} {top.text}")
    for location in BEFORE:
        text = text_of(log, location, "on")
        last = max(times(happened, text))
        at, said, _ = happened[bisect.bisect_left(happened, (last, "", "")) - 1]
        found = ask("what happened", k=100, since=last - BEFORE_SECONDS, until=last - 1)
        newest = [(max(t for t in f.recent if t < last), f.text) for f in found if min(f.recent) < last]
        question = f"What came before the last '{text}'?"
        yield Answer(kind, question, f"{stamp(at)} & {said}", latest(newest))


# the two ways to ask


@contextmanager
def by_library(
    happened: Happened, units: int, encoder: Recorded, settings: Settings = SETTINGS
) -> Iterator[Ask]:
    """A memory that has learned everything, closed and opened again, which trims the history to its limit."""
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder, ExitStack() as stack:
        path = Path(folder) / "home.db"
        with Memory.open(path, units=units, encoder=encoder) as memory:
            learn(memory, [Event(text, source, ts) for ts, text, source in happened])
        memory = stack.enter_context(Memory.open(path, units=units, encoder=encoder))
        memory.settings = settings

        def ask(question: str, **fields: Any) -> list[Found]:
            return [
                Found(
                    m.text,
                    Span(m.count, m.first, m.last),
                    m.recent,
                    Span(m.within.count, m.within.first, m.within.last) if m.within else None,
                )
                for m in memory.recall(question, **fields).memories
            ]

        yield ask


@contextmanager
def by_mqtt(happened: Happened) -> Iterator[Ask]:
    """The daemon behind a broker; the source of an event is the rest of its topic."""
    with rig({"home": UNITS}) as running, running.client("home") as client:
        for ts, text, source in happened:
            client.tell(msgspec.json.encode({"text": text, "ts": ts}), source, WINDOW)
        client.settle()
        while client.request("stats", {})["handled"] < len(happened):
            pass

        def ask(question: str, **fields: Any) -> list[Found]:
            reply = client.request("recall", {"query": question, **fields})
            return [
                Found(
                    m["text"],
                    _span(m),
                    tuple(map(epoch, m["recent"])),
                    _span(m["within"]) if m.get("within") else None,
                )
                for m in reply["memories"]
            ]

        yield ask


def _span(of: dict[str, Any]) -> Span:
    return Span(of["count"], epoch(of["first"]), epoch(of["last"]))


def answers(ask: Ask, log: Sequence[Activation], held: int | None = None) -> list[Answer]:
    """Every question asked, with what the log answers; `held` is how many occurrences are still known."""
    happened = events(log)
    history = happened if held is None else happened[-held:]
    out = [*of_sensors(ask, log, happened, history), *of_places(ask, log, happened, history)]
    out += just_before(ask, history)
    return out if held is not None else [*out, *in_words(ask, log, happened)]


def measure(log: Sequence[Activation], over: str, encoder: Recorded) -> dict[str, list[Answer]]:
    """What was asked of each memory, by its name."""
    happened = events(log)
    if over == "mqtt":
        with by_mqtt(happened) as ask:
            return {f"{UNITS} units, through MQTT": answers(ask, log)}
    out = {}
    with by_library(happened, UNITS, encoder) as ask:
        out[f"{UNITS} units"] = answers(ask, log)
    held = HISTORY * SMALL_UNITS
    assert held < len(happened)
    with by_library(happened, SMALL_UNITS, encoder) as ask:
        out[f"{SMALL_UNITS} units, the newest {held} of {len(happened)} occurrences held"] = answers(
            ask, log, held
        )
    return out


def last_times(log: Sequence[Activation], encoder: Recorded, settings: Settings = SETTINGS) -> float:
    """The fraction of right answers to when each sensor last went on and off, with these settings."""
    happened = events(log)
    with by_library(happened, UNITS, encoder, settings) as ask:
        given = [a for a in of_sensors(ask, log, happened, happened) if a.kind == "last time"]
    return sum(a.right for a in given) / len(given)


def shares(given: Sequence[Answer]) -> dict[str, tuple[int, int]]:
    """(right, asked) by kind."""
    kinds = dict.fromkeys(a.kind for a in given)
    return {k: (sum(a.right for a in given if a.kind == k), sum(a.kind == k for a in given)) for k in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of ordonez_a_sensors.txt")
    parser.add_argument("--over", choices=("library", "mqtt"), default="library")
    options = parser.parse_args()
    for name, given in measure(ordonez(options.data), options.over, recorded()).items():
        print(name)
        for kind, (right, asked) in shares(given).items():
            print(f"  {kind:24}{right:4} of {asked:3} right")
        print(f"  {'all':24}{sum(a.right for a in given):4} of {len(given):3} right")
        for a in given:
            if not a.right:
                print(f"  WRONG  {a.question}\n         {a.got}\n         expected {a.expected}")


if __name__ == "__main__":
    main()
