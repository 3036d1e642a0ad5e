"""A source that tells much gives way to the others, never the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mda_core import Event, Memory
from mda_core.learning.shares import giving_way, may_pin
from tests.support.fakes import HashEncoder

T0 = 1.7e9
UNITS = 128


def open_memory(path: Path, units: int = UNITS) -> Memory:
    return Memory.open(path, units=units, encoder=HashEncoder(), clock=lambda: T0)


def chosen(held: list[int], top: list[int], source: int) -> list[int]:
    return np.flatnonzero(giving_way(np.array(held), np.array(top), source)).tolist()


def test_one_source_alone_gives_way_to_itself() -> None:
    assert chosen([9], [0], 0) == [0]


def test_a_source_with_its_share_gives_way_to_itself() -> None:
    assert chosen([80, 10, 10], [0, 1, 2], 0) == [0]


def test_a_source_below_its_share_takes_from_those_above() -> None:
    assert chosen([80, 10, 10], [0, 1, 2], 1) == [0]
    assert chosen([50, 45, 5, 0], [0, 1, 2, 3], 3) == [0, 1]


def test_the_sources_under_one_top_level_have_one_share() -> None:
    assert chosen([20, 20, 20, 40], [0, 0, 0, 1], 0) == [0]
    assert chosen([20, 20, 20, 40], [0, 0, 0, 1], 3) == [0, 1, 2]
    assert chosen([40, 2, 18, 40], [0, 0, 0, 1], 1) == [0]
    assert chosen([40, 2, 18, 40], [0, 0, 0, 1], 3) == [0]


@pytest.mark.parametrize("seed", range(4))
def test_there_is_always_somebody_who_gives_way_and_who_holds_something(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(500):
        m = int(rng.integers(1, 12))
        held, top = rng.integers(0, 9, m) * (rng.random(m) < 0.7), rng.integers(0, 4, m)
        if held.sum():
            out = giving_way(held, top, int(rng.integers(m)))
            assert held[out].sum() > 0


@pytest.mark.parametrize("seed", range(4))
def test_what_is_held_comes_to_the_max_min_shares(seed: int) -> None:
    """Those that want little get it, the others equal parts of the rest."""
    rng = np.random.default_rng(seed)
    wants = np.array([3, 5, 1000, 1000, 1000, 0])
    held, top = np.array([0, 0, 0, 90, 0, 0]), np.arange(6)
    for _ in range(3000):
        source = int(rng.integers(5))
        if held[source] >= wants[source]:
            continue
        out = np.flatnonzero(giving_way(held, top, source))
        held[rng.choice(out)] -= 1
        held[source] += 1
    assert held.sum() == 90
    assert held[:2].tolist() == [3, 5]
    assert held[2:5].min() >= 90 // 5


@pytest.mark.parametrize("spread", [1, 2, 10])
@pytest.mark.parametrize("flooding", [1, 3])
def test_a_flood_takes_nothing_of_the_facts_of_others(tmp_path: Path, spread: int, flooding: int) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        told = [Event(f"plain fact {'abcdefghijklmnopqrst'[i]}", f"home/{i % spread}", T0) for i in range(20)]
        numbers = {learned.memory for learned in memory.learn_many(told)}
        for at in range(0, 1000, 50):
            flood = [
                Event(f"Zork{i} Blim{i * 7} {i * 31} {i * 17} yesterday", f"evil/{i % flooding}", T0 + i)
                for i in range(at, at + 50)
            ]
            memory.learn_many(flood)
        assert memory._ledger is not None
        assert numbers <= set(memory._ledger.units.memory.tolist())


def test_facts_told_after_a_flood_stay(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([Event(f"Zork{i} Blim{i * 7} {i * 31}", "evil", T0 + i) for i in range(400)])
        told = [Event(f"plain fact {letter}", "home", T0) for letter in "abcdefghijklmnopqrst"]
        numbers = {learned.memory for learned in memory.learn_many(told)}
        memory.learn_many([Event(f"Zork{i} Blim{i * 7} {i * 31}", "evil", T0 + i) for i in range(400, 800)])
        assert memory._ledger is not None
        assert numbers <= set(memory._ledger.units.memory.tolist())


def test_eviction_does_not_depend_on_restarts_with_many_sources(tmp_path: Path) -> None:
    events = [
        Event(
            f"word{i % 37} note {i} of {i * 7 % 61}", f"room{i % 5}/device{i % 23}", T0 + i, pin=i % 40 == 0
        )
        for i in range(900)
    ]
    digests = []
    for often in (900, 90):
        path = tmp_path / f"{often}.db"
        for at in range(0, len(events), often):
            with open_memory(path) as memory:
                memory.learn_many(events[at : at + often])
                digest = memory.digest()
        digests.append(digest)
    assert digests[0] == digests[1]


def test_one_source_cannot_take_all_pins(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=100) as memory:
        memory.learn_many([Event(f"mine {i}", "evil/a", T0, pin=True) for i in range(200)])
        assert memory.stats()["pinned"] == 45
        memory.learn_many([Event(f"ours {i}", "home/b", T0, pin=True) for i in range(200)])
        assert memory.stats()["pinned"] == 68
        assert memory.learn("one more", source="hall/c", pin=True).new
        assert memory.stats()["pinned"] == 69


def test_the_sources_under_one_top_level_cannot_take_all_pins() -> None:
    pinned, top = np.zeros(41, np.int64), np.array([0] * 40 + [1])
    for _ in range(100):
        for source in range(40):
            pinned[source] += may_pin(pinned, top, source, 1000)
    assert pinned.sum() == 600
    assert may_pin(pinned, top, 40, 1000)


def test_a_memory_of_one_unit_keeps_learning(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=1) as memory:
        for i in range(4):
            assert memory.learn(f"thing {i}", source=f"s{i}", pin=True).new
