"""To forget many memories in one step leaves, bit for bit, what evicting them one after the other leaves."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mda_core import Event, Memory
from mda_core.ledger import Ledger
from mda_core.storage.journal import ring_size
from tests.support.fakes import HashEncoder, stream

T0 = 1.7e9
UNITS = 120


def open_memory(path: Path) -> Memory:
    return Memory.open(path, units=UNITS, encoder=HashEncoder(), clock=lambda: T0)


def inside(memory: Memory) -> Ledger:
    assert memory._ledger is not None
    return memory._ledger


def in_one_step(ledger: Ledger, slots: Sequence[int]) -> None:
    ledger.erase(slots)


def one_by_one(ledger: Ledger, slots: Sequence[int]) -> None:
    for slot in slots:
        ledger.evict(slot)
        ledger.store.drop_units([slot])
    ledger.erase([])


def arrays(memory: Memory) -> dict[str, Any]:
    """Everything that is held in RAM, with free slots and numbers in order."""
    ledger = inside(memory)
    found: dict[str, Any] = {}
    for owner in (
        ledger.units,
        ledger.index,
        ledger.index.postings,
        ledger.index.sources,
        ledger.index.frequencies,
        ledger.semantic,
        ledger.occurrences(),
        ledger,
    ):
        for name, value in vars(owner).items():
            name = f"{type(owner).__name__}.{name}"
            if isinstance(value, np.ndarray):
                found[name] = value.tobytes()
            elif isinstance(value, list):
                found[name] = sorted(value) if name.endswith("_free") else list(value)
            elif isinstance(value, int | dict | set):
                found[name] = value.copy() if isinstance(value, dict | set) else value
    found["contexts"] = list(ledger.units.contexts.by_source.items()), ledger.units.contexts.newest
    found.pop("Postings._sorted")  # behind the last place is what an earlier sort has left
    places = ledger.index.postings
    found["places"] = places._sorted[: places._starts[-1]].tobytes()
    return found


def rows(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as db:
        tables = ("unit", "journal", "checkpoint", "vector", "meta")
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


def everything(rng: random.Random, held: list[int]) -> list[int]:
    return held


def half(rng: random.Random, held: list[int]) -> list[int]:
    return sorted(rng.sample(held, len(held) // 2))


def the_last_ones(rng: random.Random, held: list[int]) -> list[int]:
    return held[-3:]


def just_one(rng: random.Random, held: list[int]) -> list[int]:
    return [rng.choice(held)]


@pytest.mark.parametrize("chosen", [everything, half, the_last_ones, just_one])
@pytest.mark.parametrize("told", [100, 700, 6000])
def test_one_step_leaves_the_same_bytes(
    tmp_path: Path, chosen: Callable[[random.Random, list[int]], list[int]], told: int
) -> None:
    found = []
    for how in (in_one_step, one_by_one):
        rng, path = random.Random(told), tmp_path / f"{how.__name__}.db"
        memory = open_memory(path)
        events = stream(told)
        for at in range(0, told, 50):
            part = events[at : at + 50]
            part += [Event(e.text, "c/d", e.ts, f"u{rng.randrange(9)}", update=True) for e in part[::9]]
            memory.learn_many(part)
            if at == 50:
                memory.recall("door", since=T0)  # from here on the times are in RAM
        ledger = inside(memory)
        slots = chosen(rng, np.flatnonzero(ledger.units.memory > 0).tolist())
        with ledger.batch(T0):
            how(ledger, slots)
        states = [arrays(memory), memory.digest()]
        memory.learn_many(stream(200, seed=2))
        states += [arrays(memory), memory.digest()]
        memory.close()
        states.append(rows(path))
        with open_memory(path) as memory:
            states += [arrays(memory), memory.digest()]
        found.append(states)
    for one, other in zip(*found, strict=True):
        if isinstance(one, dict):
            assert [name for name in one if one[name] != other[name]] == []
        assert one == other


def test_a_forget_of_everything_gives_signs_of_life(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many(stream(2000))
        calls: list[int] = []
        assert len(memory.forget(all=True, progress=lambda: calls.append(1))) == UNITS
        assert len(calls) >= ring_size(UNITS) // 4096 + 2
