"""A damaged state file is never used; its intact rows can be learned again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.faults import OLD, OLD_EVENTS, learned, unpack_old
from benchmarks.faults_child import BATCH, Hashed, delivery_id, event, open_memory, perform
from mda_core import Memory, StateDamaged, StateError
from mda_core.storage.database import PAGE_BYTES
from mda_core.storage.store import FORMAT
from mda_core.storage.wal import FRAME, HEADER, lost_commits
from tests.support.fakes import HashEncoder, stream


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "memory.db"
    with open_memory(path) as memory:
        for at in range(0, 300, BATCH):
            perform(memory, "learn", at)
    return path


def texts(memory: Memory) -> set[tuple[str, str, int]]:
    found = {m for q in ("door", "cat open", "alarm red") for m in memory.recall(q, k=100).memories}
    return {(m.text, m.source, m.count) for m in found}


def copied(sound: Path, path: Path) -> bytearray:
    path.write_bytes(sound.read_bytes())
    return bytearray(sound.read_bytes())


@pytest.mark.parametrize("size", [0, 1, 100, 3000, 60000])
def test_a_file_cut_short_is_damaged(sound: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(sound.read_bytes()[:size])
    with pytest.raises(StateDamaged):
        open_memory(path)


def test_a_log_without_its_database_is_damage_not_a_new_memory(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "m.db-wal").write_bytes(b"what is left")
    with pytest.raises(StateDamaged, match="gone"):
        open_memory(tmp_path / "m.db")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.db").mkdir()
    with pytest.raises(StateError, match="folder"):
        open_memory(tmp_path / "m.db")


def test_a_newer_format_is_refused_with_the_way_back_and_left_alone(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    data = copied(sound, path)
    data[60:64] = (FORMAT + 1).to_bytes(4, "big")  # SQLite's user_version
    path.write_bytes(data)
    with pytest.raises(StateError, match=rf"format {FORMAT + 1} .* kept of it") as refused:
        open_memory(path)
    assert not isinstance(refused.value, StateDamaged)
    assert path.read_bytes() == data


def test_a_flipped_bit_in_an_old_occurrence_is_noticed_when_it_is_read(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    data = copied(sound, path)
    with closing(sqlite3.connect(sound)) as db:
        # The last repeat of something held; its source and id are side by side in the file.
        found = db.execute(
            "SELECT source || id FROM journal WHERE op = 1 AND memory IN (SELECT memory FROM unit) "
            "ORDER BY seq DESC"
        ).fetchone()
    at = data.find(found[0].encode())
    data[at + len(found[0]) - 1] ^= 1
    path.write_bytes(data)
    with open_memory(path) as memory, pytest.raises(StateDamaged, match="journal entry"):
        for n in range(300):
            memory.recall(event(n).text, k=100)


def test_most_of_a_damaged_memory_comes_back_as_it_was(sound: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    with open_memory(sound) as memory:
        before = texts(memory)
    kept = []
    for i in range(12):
        path = tmp_path / f"{i}.db"
        data = copied(sound, path)
        for _ in range(3):
            data[rng.randrange(4096, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with open_memory(tmp_path / f"new-{i}.db") as memory:
            memory.rescue(path)
            after = texts(memory)
        assert {text for text, _, _ in after} <= {text for text, _, _ in before}
        kept.append(len(after & before) / len(before))
    assert sorted(kept)[len(kept) // 2] > 0.9


def test_a_rescue_adds_to_a_backup_what_came_after_it(tmp_path: Path) -> None:
    path, backup = tmp_path / "m.db", tmp_path / "backup.db"

    def roomy(path: Path) -> Memory:
        return Memory.open(path, units=512, encoder=Hashed(), clock=lambda: 1.7e9)

    with roomy(path) as memory:
        memory.learn_many([event(n) for n in range(300)])
        memory.backup(backup)
        memory.learn_many([event(n) for n in range(300, 340)])
        held, undisturbed = texts(memory), memory.stats()
    with roomy(backup) as memory:
        assert memory.rescue(path).events == 40
        assert texts(memory) == held
        assert memory.stats()["reinforced"] == undisturbed["reinforced"]


def test_nothing_can_be_read_of_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(random.Random(1).randbytes(50_000))
    with open_memory(tmp_path / "m.db") as memory:
        assert memory.rescue(tmp_path / "bad.db").events == 0


def test_a_backup_is_the_memory_as_it_is_and_leaves_no_other_file(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    copied(sound, path)
    with open_memory(path) as memory:
        perform(memory, "learn", 300)
        (tmp_path / "b").mkdir()
        memory.backup(tmp_path / "b" / "copy.db")
        digest = memory.digest()
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["copy.db"]
    assert (tmp_path / "b" / "copy.db").stat().st_mode & 0o777 == 0o600
    with open_memory(tmp_path / "b" / "copy.db") as memory:
        assert memory.digest() == digest
        assert memory.has_delivery(delivery_id(305))


def test_questions_are_answered_while_a_backup_is_written(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    copied(sound, path)
    with open_memory(path) as memory:
        answers = []
        memory.backup(tmp_path / "copy.db", lambda: answers.append(memory.recall("door").memories))
    assert len(answers) > 2
    assert all(answers)


@pytest.mark.parametrize("version", OLD)
def test_a_file_of_an_older_format_is_upgraded_with_all_that_it_holds(version: int, tmp_path: Path) -> None:
    """Compared by rows: an older version decided what to evict, on a machine that may round differently."""
    unpack_old(version, tmp_path / "before")
    unpack_old(version, tmp_path)
    with closing(sqlite3.connect(tmp_path / "before" / "memory.db")) as db:
        held = set(db.execute("SELECT text, source FROM unit"))
    with open_memory(tmp_path / "memory.db") as memory:
        assert {(text, source) for text, source, _ in texts(memory)} == held
        stats = memory.stats()
        assert stats["units"] == {"used": len(held), "free": 0, "capacity": len(held)}
        assert learned(memory) == OLD_EVENTS
        assert memory.has_delivery(delivery_id(OLD_EVENTS - 1))
        with closing(sqlite3.connect(tmp_path / f"memory.db.format{version}")) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (version,)
            assert set(db.execute("SELECT text, source FROM unit")) == held
        perform(memory, "learn", OLD_EVENTS)
        digest = memory.digest()
    with open_memory(tmp_path / "memory.db") as memory:
        assert memory.digest() == digest
        memory.forget(source="hall/a")
    assert not (tmp_path / f"memory.db.format{version}").exists()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory as a kill leaves it, with many commits in its log."""
    path = tmp_path_factory.mktemp("killed") / "memory.db"
    with open_memory(path) as memory:
        for at in range(0, 60, BATCH):
            perform(memory, "learn", at)
        for name in ("memory.db", "memory.db-wal"):
            shutil.copy(path.parent / name, path.parent / f"copy-{name}")
    return path.parent / "copy-memory.db"


def test_a_log_as_a_kill_leaves_it_has_lost_nothing(killed: Path, tmp_path: Path) -> None:
    log = Path(f"{killed}-wal").read_bytes()
    for cut in (0, 10, 32, 5000, len(log) - 1000, len(log)):  # wherever the last write ended
        (tmp_path / "wal").write_bytes(log[:cut])
        assert lost_commits(tmp_path / "wal") == 0
    assert lost_commits(tmp_path / "none") == 0


SALT = 8
"""Offset of a frame's salt, which differs between rounds of the log."""


@pytest.mark.parametrize(
    "at", [33, 70, 3000, 9000, HEADER + SALT + 1, HEADER + 4 * (FRAME + PAGE_BYTES) + SALT + 5]
)
def test_a_flipped_bit_in_the_log_is_noticed_and_what_came_before_it_is_kept(
    killed: Path, tmp_path: Path, at: int
) -> None:
    path = tmp_path / "m.db"
    shutil.copy(killed, path)
    log = bytearray(Path(f"{killed}-wal").read_bytes())
    log[at] ^= 1
    Path(f"{path}-wal").write_bytes(log)
    with pytest.raises(StateDamaged, match="commits of it are lost"):
        open_memory(path)
    with open_memory(tmp_path / "new.db") as memory:
        found = memory.rescue(path)
        assert 0 <= found.events < 60


def test_a_row_whose_type_header_is_damaged_is_damage_and_no_other_fault(tmp_path: Path) -> None:
    """Whatever byte flips: nothing but a StateError, and a rescue raises nothing at all."""
    path = tmp_path / "m.db"
    with Memory.open(path, units=64, encoder=HashEncoder()) as memory:
        memory.learn_many(stream(150))
    whole = path.read_bytes()
    rng = random.Random(7)
    for n in range(60):
        data = bytearray(whole)
        for _ in range(40):
            data[rng.randrange(4096, len(data))] ^= 1
        damaged = tmp_path / f"{n}.db"
        damaged.write_bytes(data)
        with Memory.open(tmp_path / f"new-{n}.db", units=64, encoder=HashEncoder()) as fresh:
            fresh.rescue(damaged)
