"""A memory changes its encoder: what it holds stays, its vectors are new, whatever interrupts that."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fusefs import FAULTS, Disk, Disks
from mda_core import EncoderMismatch, Event, Memory, StateError, reencode
from mda_core.learning.oja import Subspace
from mda_core.reencoding import COMMIT_TEXTS, discard
from mda_core.storage.store import Store
from mda_core.text.terms import text_hash
from tests.support import ROOT
from tests.support.fakes import HashEncoder, crash, stream

UNITS = 90
OLD, NEW = HashEncoder(), HashEncoder(name="new")
EVENTS = stream(400)
TABLES = {
    "journal": "at, seq, op, slot, memory, previous, ts, source, flags, salience, id, mark",
    "unit": "slot, memory, text, source, identity, length, terms",
}


def open_memory(path: Path, encoder: HashEncoder = OLD) -> Memory:
    return Memory.open(path, units=UNITS, encoder=encoder, clock=lambda: 1.7e9)


def fill(path: Path, events: list[Event] = EVENTS) -> None:
    with open_memory(path) as memory:
        for i in range(0, len(events), 7):
            memory.learn_many(events[i : i + 7], delivery_ids=[b"%d" % i])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "m.db"
    fill(path)
    return path


@pytest.fixture
def path(old: Path, tmp_path: Path) -> Path:
    """A copy of the old file, to be changed."""
    path = tmp_path / "m.db"
    path.write_bytes(old.read_bytes())
    return path


@pytest.fixture(scope="module")
def undisturbed(old: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a change that nothing interrupts."""
    path = tmp_path_factory.mktemp("new") / "m.db"
    path.write_bytes(old.read_bytes())
    reencode(path, NEW)
    return digest(path)


def digest(path: Path, encoder: HashEncoder = NEW) -> str:
    with open_memory(path, encoder) as memory:
        memory.check()
        return memory.digest()


def rows(path: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT {TABLES[table]} FROM {table} ORDER BY 1").fetchall()


def names(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


# what stays and what changes


def test_everything_but_the_vectors_stays_as_it_was(path: Path, old: Path) -> None:
    done = reencode(path, NEW)
    assert (done.units, done.encoder, done.kept) == (UNITS, "hash", path.with_name("m.db.before-reencode"))
    for table in TABLES:
        assert rows(path, table) == rows(old, table)
    with open_memory(path, NEW) as memory, open_memory(old) as before:
        now, then = memory._open_ledger(), before._open_ledger()
        for name in now.units.STATISTICS:
            assert np.array_equal(getattr(now.units, name), getattr(then.units, name)), name
        assert now.units.contexts == then.units.contexts
        assert now.delivery_ids == then.delivery_ids and now.delivery_ids
        assert (now.seq, now.next_memory) == (then.seq, then.next_memory)
        changed = {"last_commit", "disk_bytes"}
        assert {k: v for k, v in memory.stats().items() if k not in changed} == {
            k: v for k, v in before.stats().items() if k not in changed
        }


def test_each_key_is_the_vector_of_its_text_and_the_subspace_that_of_them_in_the_order_of_the_memories(
    path: Path,
) -> None:
    reencode(path, NEW)
    with open_memory(path, NEW) as memory:
        ledger = memory._open_ledger()
        u, expected = ledger.units, Subspace.empty(NEW.dims, NEW.dims)
        texts = {row.slot: row.text for row in ledger.store.units()}
        assert {row.text_hash for row in ledger.store.units()} == {text_hash(t) for t in texts.values()}
        for slot in np.argsort(u.memory).tolist():
            (x,) = NEW.encode([texts[slot]])
            assert np.array_equal(u.keys[slot], x)
            expected.step(x)
        for name in ("mean", "basis", "variance", "seen", "total"):
            assert np.array_equal(getattr(u.subspace, name), getattr(expected, name)), name
        assert ledger.semantic.metric is not None


def test_what_is_asked_is_answered_with_the_new_vectors_and_learning_goes_on(path: Path) -> None:
    reencode(path, NEW)
    with open_memory(path, NEW) as memory:
        u = memory._open_ledger().units
        slot = int(np.argmax(u.memory))
        text = memory._open_ledger().store.texts([slot])[slot][0]
        found = memory.recall(text, k=1)
        assert found.known and found.memories[0].text == text
        memory.learn("the ladder is behind the shed")
        assert memory.recall("where is the ladder", k=1).memories[0].text == "the ladder is behind the shed"
        before = memory.digest()
    assert digest(path) == before


def test_an_encoder_of_other_dimensions_is_as_good(path: Path) -> None:
    half = HashEncoder(16, "half")
    reencode(path, half)
    with open_memory(path, half) as memory:
        assert memory._open_ledger().units.keys.shape == (UNITS, 16)
        memory.learn("the ladder is behind the shed")
        assert memory.recall("ladder shed", k=1).memories


@pytest.mark.parametrize("events", [0, 1, 5])
def test_a_memory_of_a_few_events_or_none_is_changed_too(events: int, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    fill(path, EVENTS[:events])
    reencode(path, NEW)
    with open_memory(path, NEW) as memory:
        assert memory.stats()["learned"] == len({e.text.casefold() + e.source for e in EVENTS[:events]})
        memory.learn_many(EVENTS[events:50])
    digest(path)


def test_entries_that_no_checkpoint_holds_yet_are_not_lost(tmp_path: Path) -> None:
    """After a kill they are in the journal, and in the write-ahead log."""
    memory = open_memory(tmp_path / "m.db")
    memory.learn_many(EVENTS[:200])
    killed = crash(tmp_path / "m.db", 1)
    memory.close()
    reencode(killed, NEW)
    reencode(tmp_path / "m.db", NEW)
    assert digest(killed) == digest(tmp_path / "m.db")


def test_a_file_of_this_encoder_is_left_as_it_is(path: Path) -> None:
    before = digest(path, OLD)
    assert reencode(path, OLD).kept is None
    assert digest(path, OLD) == before
    assert names(path) == {"m.db"}


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no such file"):
        reencode(tmp_path / "m.db", NEW)
    assert list(tmp_path.iterdir()) == []


def test_opening_with_another_encoder_names_both_and_the_way_out(path: Path) -> None:
    with pytest.raises(EncoderMismatch, match=r"encoder hash \(hash-32\), not with new \(new-32\)") as raised:
        open_memory(path, NEW)
    assert "mda reencode m" in str(raised.value) and "mda_core.reencode()" in str(raised.value)
    assert (raised.value.name, raised.value.fingerprint) == ("hash", "hash-32")


# interruptions


class Killed(BaseException):
    """What stops a change between two steps, as a kill does."""


def stop_after(steps: int) -> Callable[[int, int], None]:
    left = steps

    def progress(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return progress


CHILD = """
import os, pathlib, signal, sys
from mda_core import reencode
from mda_core.storage import database, vectors
from tests.support.fakes import HashEncoder

path, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def or_die(function):
    def called(*given, **more):
        global kills
        kills -= 1
        if kills < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **more)
    return called

vectors.VectorFile.put = or_die(vectors.VectorFile.put)
for name in ("sync", "remove"):
    setattr(database, name, or_die(getattr(database, name)))
for name in ("link", "replace"):
    setattr(os, name, or_die(getattr(os, name)))
database.Database.flush = or_die(database.Database.flush)
database.Database.copy = or_die(database.Database.copy)
database.Database.close = or_die(database.Database.close)
reencode(path, HashEncoder(name="new"))
"""


def run_killed(path: Path, kills: int) -> bool:
    """Whether it was killed, before the call of this number."""
    code = subprocess.run([sys.executable, "-c", CHILD, str(path), str(kills)], cwd=ROOT).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_killed_anywhere_again_and_again_it_ends_with_the_same_digest(path: Path, undisturbed: str) -> None:
    """Each run comes a little further than the one before it, and is then killed."""
    kills = 0
    while run_killed(path, kills):
        kills += 1
        with closing(sqlite3.connect(path)) as db:  # one of the two is whole, and in use
            assert dict(db.execute("SELECT key, value FROM meta"))["encoder"] in ("hash-32", "new-32")
    assert kills >= UNITS // COMMIT_TEXTS + 8
    reencode(path, NEW)
    assert digest(path) == undisturbed
    assert names(path) == {"m.db", "m.db.before-reencode"}


@pytest.mark.parametrize("steps", [1, 9, 17, 22])
def test_it_goes_on_where_it_was_interrupted(steps: int, path: Path, undisturbed: str) -> None:
    with pytest.raises(Killed):
        reencode(path, NEW, stop_after(steps))
    again = HashEncoder(name="new")
    reencode(path, again)
    assert len(again.encoded) == UNITS - 4 * steps
    assert digest(path) == undisturbed


@pytest.mark.parametrize("how", ["another encoder", "another memory", "damaged", "a damaged vector"])
def test_what_does_not_fit_is_made_anew(
    how: str, path: Path, old: Path, undisturbed: str, tmp_path: Path
) -> None:
    vectors = path.with_name("m.db.reencode")
    with pytest.raises(Killed):
        reencode(path, HashEncoder(name="other") if how == "another encoder" else NEW, stop_after(20))
    if how == "another memory":
        (tmp_path / "other").mkdir()
        other = tmp_path / "other" / "m.db"
        fill(other, [replace(e, text=f"not {e.text}") for e in EVENTS])
        with pytest.raises(Killed):
            reencode(other, NEW, stop_after(20))
        vectors.write_bytes(other.with_name("m.db.reencode").read_bytes())
    elif how == "damaged":
        vectors.write_bytes(vectors.read_bytes()[:2048] + bytes(len(vectors.read_bytes()) - 2048))
    elif how == "a damaged vector":
        with closing(sqlite3.connect(vectors)) as db:
            db.execute("UPDATE vector SET x = zeroblob(132) WHERE memory = (SELECT max(memory) FROM vector)")
            db.commit()
    try:
        reencode(path, NEW)
    except StateError as exc:  # damage that is found only on the way is told, and the next call goes on
        assert how == "damaged", exc
        reencode(path, NEW)
    assert digest(path) == undisturbed


# in use


def test_what_is_learned_told_again_and_evicted_meanwhile_is_in_it(tmp_path: Path) -> None:
    path, other = tmp_path / "m.db", tmp_path / "other.db"
    fill(path, EVENTS[:300])
    with open_memory(path) as memory:
        reencoding = memory.reencoding(NEW)
        for event in EVENTS[300:]:
            reencoding.step()
            memory.learn_many([event])
            assert memory.stats()["reencoding"] == {
                **{"from": "hash", "to": "new", "done": reencoding.done, "total": UNITS}
            }
        asked: list[int] = []
        memory.finish_reencoding(lambda: asked.append(len(memory.recall("open door").memories)))
        assert len(asked) > 3
        assert "reencoding" not in memory.stats()
        assert memory.encoder is NEW
        memory.learn("the ladder is behind the shed", ts=1.7e9)
        assert memory.recall("where is the ladder", k=1).memories
        found = memory.digest()
    fill(other)
    reencode(other, NEW)
    with open_memory(other, NEW) as memory:
        memory.learn("the ladder is behind the shed", ts=1.7e9)
        assert memory.digest() == found == digest(path)


def test_closed_and_opened_again_it_goes_on(path: Path, undisturbed: str) -> None:
    for _ in range(4):
        with open_memory(path) as memory:
            reencoding = memory.reencoding(NEW)
            before = reencoding.done
            for _ in range(3):
                reencoding.step()
            assert reencoding.done == before + 12
    with open_memory(path) as memory:
        memory.reencoding(NEW)
        memory.finish_reencoding()
    assert digest(path) == undisturbed


# forgetting

SECRET = Event("the zebra code is 4711", "safe", 1.7e9, "id-of-zebra")


def traces(path: Path, what: bytes) -> list[str]:
    return [each.name for each in path.parent.iterdir() if what in each.read_bytes()]


@pytest.mark.parametrize("how", ["one", "all", "nothing that is there"])
def test_a_forget_removes_the_old_file(how: str, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    fill(path, [*EVENTS[:60], SECRET])
    kept = reencode(path, NEW).kept
    assert kept is not None and kept.exists() and "m.db.before-reencode" in traces(path, b"zebra")
    with open_memory(path, NEW) as memory:
        if how == "one":
            assert memory.forget(source="safe").memories
        elif how == "all":
            memory.forget(all=True)
        else:
            memory.forget(source="nowhere")
        assert not kept.exists()
        assert how == "nothing that is there" or traces(path, b"zebra") == []


@pytest.mark.parametrize("where", ["attached", "left over"])
def test_a_forget_meanwhile_leaves_no_vector_of_it(where: str, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    fill(path, [SECRET, *EVENTS[:60]])
    (x,) = NEW.encode([SECRET.text])
    with open_memory(path) as memory:
        reencoding = memory.reencoding(NEW)
        for _ in range(3):
            reencoding.step()
        assert 0 < reencoding.done < reencoding.total
    with open_memory(path) as memory:
        if where == "attached":
            reencoding = memory.reencoding(NEW)
        assert any(x.tobytes() in each.read_bytes() for each in tmp_path.glob("*.reencode*"))
        memory.forget(source="safe")
        assert traces(path, x.tobytes()) == [] == traces(path, b"zebra")
        assert path.with_name("m.db.reencode").exists() is (where == "attached")
        if where == "attached":
            memory.finish_reencoding()
        memory.learn("something else")
    assert traces(path, x.tobytes()) == []


def test_a_second_change_keeps_the_file_of_before_it_alone(path: Path) -> None:
    reencode(path, NEW)
    before = digest(path)
    kept = reencode(path, HashEncoder(name="third")).kept
    assert kept is not None and names(path) == {"m.db", kept.name}
    kept.rename(path)
    assert digest(path) == before


# disks that fail


@pytest.fixture
def disk(disks: Disks) -> Iterator[Disk]:
    disks["reencoding"].load()
    yield disks["reencoding"]
    disks["reencoding"].fail()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [0, 5])
def test_on_a_disk_that_fails_the_old_file_stays_and_the_change_goes_on_when_it_works_again(
    fault: str, after: int, disk: Disk, old: Path, undisturbed: str
) -> None:
    path = disk.path / "m.db"
    path.write_bytes(old.read_bytes())
    with open_memory(path) as memory:
        before, reencoding = memory.digest(), memory.reencoding(NEW)
        for _ in range(10):
            reencoding.step()
        disk.fail(after=after, **FAULTS[fault])
        for _ in range(2):
            with pytest.raises(StateError):
                memory.finish_reencoding()
            assert memory.encoder is OLD
            assert memory.recall("open door", k=64).memories
        disk.fail()
        assert memory.digest() == before
        memory.finish_reencoding()
        assert memory.digest() == undisturbed


def test_a_power_cut_leaves_the_old_file_or_the_new_one(
    disk: Disk, old: Path, undisturbed: str, tmp_path: Path
) -> None:
    for seed in range(4):
        disk.load()
        path = disk.path / "m.db"
        path.write_bytes(old.read_bytes())
        os.sync()
        reencode(path, NEW)
        image = disk.cut(tmp_path / f"image{seed}", seed=seed)
        assert digest(image / "m.db") == undisturbed


def test_a_row_that_cannot_be_read_stops_it_and_changes_nothing(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE unit SET text = text || 'x' WHERE slot = 30")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(StateError, match="unit 30 is damaged"):
        reencode(path, NEW)
    assert path.read_bytes() == before
    discard(path)
    Store(path).close()
