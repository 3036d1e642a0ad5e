"""What is durable when a call returns, without a disk that fails: which files and folders were synced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mda_core import Memory, StateDamaged
from mda_core.storage.database import put_in_place
from tests.support.fakes import HashEncoder, stream
from tests.support.syncs import Syncs


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(tmp_path / "m.db", units=64, encoder=HashEncoder(64)) as memory:
        memory.learn_many(stream(20))
        yield memory


def test_a_file_that_takes_the_place_of_another_is_there_after_a_power_cut(tmp_path: Path) -> None:
    new, path = tmp_path / "m.db.new", tmp_path / "m.db"
    new.write_bytes(b"new")
    path.write_bytes(b"old")
    with Syncs() as syncs:
        put_in_place(new, path)
    assert path.read_bytes() == b"new"
    # Its contents before the name, and the name in its folder after it.
    assert syncs.calls == [new, (new, path), tmp_path]


def test_a_backup_is_there_after_a_power_cut(memory: Memory, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    path, new = folder / "b.db", folder / "b.db.new"
    with Syncs() as syncs:
        memory.backup(path)
    # Once when it is written, and once more when it has been read through and takes its name.
    assert syncs.calls[:2] == [new, folder]
    assert syncs.calls[-3:] == [new, (new, path), folder]


def test_a_copy_and_its_name_are_there_after_a_power_cut(memory: Memory, tmp_path: Path) -> None:
    with Syncs() as syncs:
        memory._open_ledger().store.copy(tmp_path / "copy.db", lambda: None)
    assert syncs.calls == [tmp_path / "copy.db", tmp_path]


def test_a_backup_that_is_not_sound_takes_no_other_ones_place(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    path.write_bytes(b"the one before")

    def damage() -> None:
        new = tmp_path / "b.db.new"
        data = bytearray(new.read_bytes())
        if b"hall/a" in data:  # in the row of a unit or of the journal
            data[data.index(b"hall/a")] ^= 1
            new.write_bytes(data)

    ledger = memory._open_ledger()
    copy = ledger.store.copy

    def copy_badly(target: Path, progress: object) -> None:
        copy(target, lambda: None)
        damage()

    ledger.store.copy = copy_badly  # type: ignore[assignment, method-assign]
    with pytest.raises(StateDamaged):
        memory.backup(path)
    assert path.read_bytes() == b"the one before"
    assert sorted(each.name for each in tmp_path.glob("b.db*")) == ["b.db"]
