"""A period selects and counts exactly what a walk over every occurrence does, at the cost of the arrays."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mda_core import Event, Memory, StateDamaged
from mda_core.event import Within
from mda_core.recall.result import select
from mda_core.storage.journal import ring_size
from tests.support.fakes import HashEncoder, crash

T0 = 1.7e9
UNITS = 24


def open_memory(path: Path, units: int = UNITS) -> Memory:
    return Memory.open(path, units=units, encoder=HashEncoder(), clock=lambda: T0)


def walked(memory: Memory, low: float, high: float) -> dict[int, Within | None]:
    """Memory -> its occurrences in a period, by a walk over each memory's chain in the journal."""
    ledger = memory._ledger
    assert ledger is not None
    out: dict[int, Within | None] = {}
    for slot in np.flatnonzero(ledger.units.memory > 0).tolist():
        number, tail = int(ledger.units.memory[slot]), int(ledger.units.tail[slot])
        inside = [e.ts for e in ledger.journal.occurrences(tail, number) if low <= e.ts <= high]
        out[number] = Within(len(inside), min(inside), max(inside)) if inside else None
    return out


def selected(memory: Memory, low: float, high: float) -> set[int]:
    ledger = memory._ledger
    assert ledger is not None
    chosen = select(ledger, None, (low, high))
    assert chosen is not None
    return set(ledger.units.memory[chosen].tolist())


def selected_by_walk(memory: Memory, low: float, high: float) -> set[int]:
    ledger = memory._ledger
    assert ledger is not None
    u, found = ledger.units, walked(memory, low, high)
    out = set()
    for slot in np.flatnonzero((u.memory > 0) & (u.last >= low) & (u.first <= high)).tolist():
        number = int(u.memory[slot])
        if u.first[slot] >= low or u.last[slot] <= high or found[number] is not None:
            out.add(number)
    return out


def check_periods(memory: Memory, rng: random.Random, times: list[float]) -> None:
    for _ in range(6):
        low, high = sorted(rng.choice([rng.choice(times), T0 + rng.uniform(-9, 99)]) for _ in range(2))
        found = walked(memory, low, high)
        assert selected(memory, low, high) == selected_by_walk(memory, low, high)
        recall = memory.recall("door cat 1", k=100, since=low, until=high)
        assert {m.memory: m.within for m in recall.memories} == {
            number: found[number] for number in selected_by_walk(memory, low, high)
        }


@pytest.mark.parametrize("seed", range(3))
def test_a_period_gives_what_a_walk_over_every_occurrence_gives(tmp_path: Path, seed: int) -> None:
    """Through evictions, updates, forgets, restarts, kills, a backup, and twice round the journal's ring."""
    rng = random.Random(seed)
    path = tmp_path / "m.db"
    memory, old = open_memory(path), list[Memory]()
    times: list[float] = [T0]
    while memory.changes < 2.2 * ring_size(UNITS):
        batch = []
        for _ in range(rng.choice([1, 40, 200])):
            ts = T0 + rng.choice([rng.randrange(60), rng.uniform(0, 60), rng.randrange(240) / 4])
            times.append(ts)
            text = (
                f"{rng.choice(['door', 'cat', 'mail'])} {rng.choice([rng.randrange(12), rng.randrange(90)])}"
            )
            update = rng.random() < 0.2
            batch.append(Event(text, rng.choice("ab"), ts, f"e{rng.randrange(5)}", update=update))
        memory.learn_many(batch)
        del times[:-400]
        if rng.random() < 0.5:
            check_periods(memory, rng, times)
        if (what := rng.random()) < 0.03:
            numbers = sorted(walked(memory, 0, T0 * 2))
            memory.forget(memory=rng.choice(numbers))
        elif what < 0.05:
            memory.forget(since=(since := rng.choice(times)), until=since)
        elif what < 0.08:
            memory.close()
            memory = open_memory(path)
        elif what < 0.11:
            old.append(memory)
            path = crash(path, len(old))
            memory = open_memory(path)
        elif what < 0.13:
            copy = tmp_path / f"copy-{memory.changes}.db"
            memory.backup(copy)
            memory.close()
            memory = open_memory(path := copy)
        else:
            continue
        check_periods(memory, rng, times)
    for each in [*old, memory]:
        each.close()


def test_both_ends_of_a_period_belong_to_it_to_the_last_bit(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many([Event("bell", ts=T0 - 9), Event("bell", ts=T0 + 0.25), Event("bell", ts=T0 + 9)])
        after, before = (float(np.nextafter(T0 + 0.25, to)) for to in (np.inf, 0))
        for since, until, held in [
            (T0, T0 + 0.25, 1),
            (T0 + 0.25, T0 + 1, 1),
            (after, T0 + 1, 0),
            (T0, before, 0),
        ]:
            assert len(memory.recall("bell", since=since, until=until).memories) == held


def test_a_slot_tells_nothing_of_the_memory_that_had_it_before(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=1) as memory:
        memory.recall("x", since=T0)  # the first of its kind reads the journal
        memory.learn_many([Event("old", ts=T0 + 50)] * 3)
        memory.learn_many([Event("new", ts=T0), Event("new", ts=T0 + 99)])
        assert memory.recall("new", since=T0 + 49, until=T0 + 51).memories == ()
        assert memory.recall("new", since=T0 + 60).memories[0].within == Within(1, T0 + 99, T0 + 99)


def test_a_forget_leaves_no_time_in_the_arrays(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.recall("x", since=T0)
        memory.learn_many([Event("kept", ts=T0)] * 3 + [Event("gone", ts=T0 + 12.5)] * 3)
        memory.forget(memory=2)
        assert memory._ledger is not None
        held = memory._ledger.occurrences()._times
        assert set(held[~np.isnan(held)].tolist()) == {T0}


def test_a_time_that_is_shown_was_checked(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with open_memory(path) as memory:
        memory.learn_many([Event("bell", ts=T0 + i) for i in range(30)])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE journal SET ts = ts + 0.5 WHERE seq = 5")
    with open_memory(path) as memory, pytest.raises(StateDamaged, match="journal entry 5 is damaged"):
        memory.recall("bell", since=T0 + 4, until=T0 + 4.9)


def test_the_scan_of_the_journal_gives_signs_of_life(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=512) as memory:
        memory.learn_many([Event("bell", ts=T0 + i) for i in range(9000)])
        calls: list[int] = []
        memory.recall("bell", since=T0, progress=lambda: calls.append(1))
        assert len(calls) == 3
        memory.recall("bell", since=T0, progress=lambda: calls.append(1))
        assert len(calls) == 3


def test_a_period_costs_no_more_for_a_memory_told_a_hundred_thousand_times(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db", units=4096) as memory:
        once = Event("The motion sensor in the hall saw somebody", "hall")
        for at in range(0, 60_000, 2000):
            memory.learn_many([replace(once, ts=T0 + at + i) for i in range(2000)])
        memory.learn_many([Event(f"note {i} about the cellar", "log", T0 + i) for i in range(500)])

        def seconds(**period: float) -> float:
            best = 9.0
            for _ in range(7):
                started = time.process_time()
                memory.recall("what about the cellar?", **period)  # type: ignore[arg-type]
                best = min(best, time.process_time() - started)
            return best

        memory.recall("what about the cellar?", since=T0)
        assert seconds(since=T0 + 30_000.5, until=T0 + 30_001.5) < 4 * seconds() + 0.002
