"""Same events, same order, same bytes: whatever the batches, the restarts and the kills."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mda_core import Memory, StateError
from tests.support.fakes import HashEncoder, crash, stream

UNITS = 90
EVENTS = stream(800)


def open_memory(path: Path) -> Memory:
    return Memory.open(path, units=UNITS, encoder=HashEncoder(), clock=lambda: 1.7e9)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    with open_memory(tmp_path_factory.mktemp("one") / "m.db") as memory:
        for event in EVENTS:
            memory.learn_many([event])
        return memory.digest()


@pytest.mark.parametrize("how", ["batches", "restarts", "kills"])
@pytest.mark.parametrize("seed", [1, 2])
def test_digest_does_not_depend_on_batches_restarts_or_kills(
    how: str, seed: int, undisturbed: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{how}{seed}")
    path = tmp_path / "m.db"
    memory = open_memory(path)
    old: list[Memory] = []
    done = 0
    while done < len(EVENTS):
        size = rng.randint(1, 40)
        memory.learn_many(EVENTS[done : done + size])
        done += size
        if how == "restarts" and rng.random() < 0.2:
            memory.close()
            memory = open_memory(path)
        elif how == "kills" and rng.random() < 0.2:
            path = crash(path, done)
            old.append(memory)
            memory = open_memory(path)
    assert memory.digest() == undisturbed
    for m in [*old, memory]:
        m.close()


def test_digest_tells_apart_what_was_learned(undisturbed: str, tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many(EVENTS[:-1])
        assert memory.digest() != undisturbed


def test_recalls_change_nothing(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many(EVENTS[:300])
        before = memory.digest()
        for event in EVENTS[:50]:
            memory.recall(event.text, source="hall/#", k=3)
        assert memory.digest() == before


def test_same_answers_after_a_restart(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as memory:
        memory.learn_many(EVENTS)
        before = [memory.recall(q) for q in ("open door cat", "mail red 17", "light")]
    with open_memory(tmp_path / "m.db") as memory:
        after = [memory.recall(q) for q in ("open door cat", "mail red 17", "light")]
    for a, b in zip(before, after, strict=True):
        assert [m.memory for m in a.memories] == [m.memory for m in b.memories]
        assert [m.score for m in a.memories] == pytest.approx([m.score for m in b.memories], abs=1e-5)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE unit SET text = text || '!' WHERE slot = 3",
        "UPDATE unit SET terms = zeroblob(length(terms)) WHERE slot = 3",
        "UPDATE unit SET key = zeroblob(length(key)) WHERE slot = 3",
        "UPDATE checkpoint SET data = zeroblob(length(data)) WHERE name = 'subspace'",
        "UPDATE checkpoint SET data = substr(data, 1, length(data) - 9) WHERE name = 'u0'",
        "UPDATE journal SET ts = ts + 1 WHERE seq = (SELECT max(seq) FROM journal)",
    ],
)
def test_bytes_that_were_not_written_are_noticed_on_open(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.db"
    memory = Memory.open(path, units=64, encoder=HashEncoder())
    memory.learn_many(stream(100))
    memory.close()
    memory = Memory.open(path, units=64, encoder=HashEncoder())
    memory.learn_many(stream(100)[-3:])  # known events: no checkpoint after them
    ledger = memory._ledger
    assert ledger is not None
    ledger.store.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(damage)
    with pytest.raises(StateError, match="damaged"):
        Memory.open(path, units=64, encoder=HashEncoder())
