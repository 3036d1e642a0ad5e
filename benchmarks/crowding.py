"""One source tells much: what the others lose.

    python -m benchmarks.crowding [--units 1024] [--events 10000]

A hundred facts of 1, 2, 10 or 50 sources are told first, or in the middle of the flood; a camera fills half
of the units; then come events of rare names and numbers by one source or several. How many of the hundred are
lost. Vectors are made up: what is evicted does not rest on them.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import Result, inside
from benchmarks.longrun_child import START, Made
from mda_core import Event, Memory

FACTS = 100
SPREADS = (1, 2, 10, 50)
SECONDS_AN_EVENT = 30.0
BATCH = 200
ABOUT = (
    *("The spare key of the", "The warranty of the", "The manual of the", "The code for the"),
    *("Grandma bought the", "The cover of the", "The battery of the", "The filter of the"),
    *("The receipt for the", "The cable of the"),
)
SAID = (
    *("boat hangs in the shed", "fridge ends in May", "boiler is in the drawer", "garage is on the card"),
    *("lamp at the market", "pool is torn", "drill is charged", "dryer was cleaned"),
    *("sofa is in the folder", "printer is upstairs"),
)


def facts() -> list[str]:
    return [f"{about} {said}" for about, said in itertools.product(ABOUT, SAID)]


def rare(rng: random.Random) -> str:
    """A text of names and numbers that nothing else has."""

    def name() -> str:
        letters = (rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))
        return "".join(letters).title()

    number, time = rng.randrange(10**6), rng.randrange(10**4)
    return f"{name()} {name()} called about {name()} {number} in {name()} at {time}"


def lost(
    units: int,
    events: int,
    good: str,
    spread: int,
    bad: str,
    attackers: int,
    camera: bool = False,
    late: bool = False,
) -> int:
    """How many of the hundred facts of `spread` sources are lost; good, bad: patterns of names of sources."""
    rng, at = random.Random(1), itertools.count()

    def event(text: str, source: str) -> Event:
        return Event(text, source, START + SECONDS_AN_EVENT * next(at))

    told = [event(text, good.format(i % spread)) for i, text in enumerate(facts())]
    seen = [event(f"A person with coat {i} walked by the gate", "camera/gate") for i in range(units // 2)]
    flood = [event(rare(rng), bad.format(i % attackers)) for i in range(events)]
    half = len(flood) // 2 if late else 0
    with (
        tempfile.TemporaryDirectory(prefix="mda-bench-") as folder,
        Memory.open(Path(folder) / "memory.db", units=units, encoder=Made()) as memory,
    ):
        _learn(memory, [*(seen if camera else []), *flood[:half]])
        numbers = [learned.memory for learned in memory.learn_many(told)]
        _learn(memory, flood[half:])
        return FACTS - int(np.isin(numbers, inside(memory).units.memory).sum())


def _learn(memory: Memory, events: list[Event]) -> None:
    for at in range(0, len(events), BATCH):
        memory.learn_many(events[at : at + BATCH])


def rows(units: int, events: int) -> Iterator[tuple[str, dict[str, float]]]:
    apart, same, flat = ("good/{}", "bad/{}"), ("home/good{}", "home/bad{}"), ("good{}", "bad{}")
    ways: dict[str, tuple[tuple[str, str], int, bool, bool]] = {
        "one source": (apart, 1, False, False),
        "the same, facts told half-way": (apart, 1, False, True),
        "and a camera with half of the units": (apart, 1, True, False),
        "the same, facts told half-way ": (apart, 1, True, True),
        "four sources and the camera": (apart, 4, True, False),
        "four under the facts' top level": (same, 4, True, False),
        "four without a common top level": (flat, 4, True, False),
        "ten of them": (flat, 10, True, False),
        "a hundred": (flat, 100, True, False),
        "a hundred under one top level": (apart, 100, True, False),
    }
    for name, ((good, bad), attackers, camera, late) in ways.items():
        yield (
            name,
            {
                f"{spread} sources": lost(units, events, good, spread, bad, attackers, camera, late)
                for spread in SPREADS
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, default=1024)
    parser.add_argument("--events", type=int, default=10_000)
    options = parser.parse_args()
    print(f"{options.units} units, {options.events} events; lost of {FACTS} facts that are spread over")
    Result({name.strip(): row for name, row in rows(options.units, options.events)}).show()


if __name__ == "__main__":
    main()
