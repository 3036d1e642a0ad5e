"""The state of one memory on disk: tables and rows in SQLite, one transaction for each batch.

Tables: `unit` (text, source, key and terms of each unit), `journal` (every occurrence), `checkpoint`
(statistics and subspace as of one journal entry), `vector` (vectors that a replay needs and that no unit
holds any more), `meta`.

Every row has a CRC-32 of its fields, and so has every vector and every block. So a flash card that returns
other bytes than were written is noticed as soon as they are read.

Flash cards wear out with every page written. So rows are overwritten in place, and work that can wait for a
checkpoint or for a forget does wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StateDamaged, StateError
from . import database
from .database import Database, Execute
from .journal import SPARE_BYTES, Journal, ring_size
from .rows import (
    ENTRY_COLUMNS,
    UNIT_COLUMNS,
    Entry,
    UnitRow,
    check_intact,
    compressed,
    decode_entry,
    decode_unit,
    decompressed,
    meta_checksum,
    row_checksum,
    verified,
    with_checksum,
)

FORMAT = 4
"""Version of the file's layout, SQLite's `user_version`."""
AT_ONCE = 256
"""Rows between two calls of `progress`."""

_JOURNAL = """
CREATE TABLE journal(at INTEGER PRIMARY KEY, seq INTEGER NOT NULL, op INTEGER NOT NULL, slot INTEGER NOT NULL,
                     memory INTEGER NOT NULL, previous INTEGER NOT NULL, ts REAL NOT NULL,
                     source TEXT NOT NULL, flags INTEGER NOT NULL, salience REAL NOT NULL, id TEXT,
                     mark INTEGER NOT NULL, tokens BLOB, room BLOB)"""
_SCHEMA = f"""{_JOURNAL};
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE unit(slot INTEGER PRIMARY KEY, memory INTEGER NOT NULL, text TEXT NOT NULL, source TEXT NOT NULL,
                  identity INTEGER NOT NULL, surface INTEGER NOT NULL,
                  length INTEGER NOT NULL, terms BLOB NOT NULL, key BLOB NOT NULL, mark INTEGER NOT NULL);
CREATE TABLE checkpoint(name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE vector(number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, x BLOB NOT NULL);
"""
# Names in the file that the code calls otherwise: `mark` is the row's checksum, `surface` the hash of the
# exact text, `tokens` delivery ids, `room` the spare bytes.


def before_reencode(path: Path) -> Path:
    """Where the state file `path` is kept as it was before its encoder was changed."""
    return path.with_name(f"{path.name}.before-reencode")


class OlderFormat(StateError):
    """The file has an older format and was opened read-only, so it cannot be upgraded."""


class Store:
    """The state file `path`; it is created where it does not exist.

    write=False: the file exists, and is read without any change to it.

    Everything here raises StateError where the disk fails, and StateDamaged where the file does not hold
    what was written.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self._flush_due = False
        if write and not path.exists():
            database.create(path, _SCHEMA, FORMAT)
        self._db = Database(path, write=write)
        try:
            if self._db.version != FORMAT:
                if not write and self._db.version in _UPGRADES:
                    raise OlderFormat(
                        f"{path}: format {self._db.version} is an older one; start the daemon with it once, "
                        f"which turns it into format {FORMAT}"
                    )
                self._upgrade()
            if write:
                self._flush_on_open()
        except BaseException:
            self._db.close()
            raise

    def _flush_on_open(self) -> None:
        """Flush what a forget has deleted but not flushed because its process was killed.

        Where the disk is full, the flush is put off to the next write. Reading still works.
        """
        try:
            self.flush()
        except StateDamaged:
            raise
        except StateError:
            self._flush_due = True
        else:
            self._flush_due = False

    def _upgrade(self) -> None:
        version = self._db.version
        if not self._db.number("SELECT count(*) FROM sqlite_master"):
            raise StateDamaged(f"{self.path}: the database is empty")
        if version not in _UPGRADES:
            way = f"; {self._old(FORMAT).name}, if it is there, was kept of it" if version > FORMAT else ""
            raise StateError(
                f"{self.path}: format {version} is not format {FORMAT} of this version; "
                f"use the version that wrote it, or move the file away to start anew{way}"
            )

        def upgrade(execute: Execute) -> None:
            for each in range(version, FORMAT):
                _UPGRADES[each](self.path, execute)

        self._db.close()
        database.upgrade(self.path, FORMAT, upgrade, self._old(version))
        self._db = Database(self.path)

    def _old(self, version: int) -> Path:
        """Where an upgrade keeps the file in its older format."""
        return self.path.with_name(f"{self.path.name}.format{version}")

    def drop_old(self) -> None:
        """Delete the files that upgrades and a change of the encoder have kept: they hold what is to be
        forgotten."""
        with self._db.faults():
            for old in filter(Path.exists, (*map(self._old, _UPGRADES), before_reencode(self.path))):
                old.unlink()
                database.sync(old.parent)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Everything inside becomes durable at the end, or nothing of it."""
        if self._flush_due:
            self.flush()
            self._flush_due = False
        return self._db.transaction()

    def probe(self) -> None:
        """Raise StateError unless a small write becomes durable."""
        with self.transaction():
            self._db.execute("INSERT INTO checkpoint VALUES('probe', x'')")
            self._db.execute("DELETE FROM checkpoint WHERE name = 'probe'")

    def meta(self) -> dict[str, str]:
        """What the memory was made with; empty in a new file."""
        found: dict[str, str] = dict(self._db.rows("SELECT key, value FROM meta"))
        checksum = found.pop("mark", None)
        check_intact(self.path, "the table", "meta", not found or checksum == meta_checksum(found))
        return found

    def put_meta(self, values: Mapping[str, str]) -> None:
        """Replace all that `meta` holds."""
        rows = [*values.items(), ("mark", meta_checksum(values))]
        self._db.execute("DELETE FROM meta")
        self._db.executemany("INSERT INTO meta VALUES(?, ?)", rows)

    # units

    def units(self, *, keys: bool = False) -> Iterator[UnitRow]:
        """Every unit in the order of slots; `key` is empty unless keys=True."""
        columns = f"{UNIT_COLUMNS}, mark, key" if keys else f"{UNIT_COLUMNS}, mark, NULL"
        for *row, key in self._db.rows(f"SELECT {columns} FROM unit ORDER BY slot"):
            yield decode_unit(
                self.path, row, verified(self.path, "the vector of unit", row[0], key) if keys else b""
            )

    def unit_key(self, slot: int, memory: int) -> bytes | None:
        """The key, d float32, of the unit that holds `memory`; None where the slot holds another memory."""
        row = self._db.row("SELECT key FROM unit WHERE slot = ? AND memory = ?", (slot, memory))
        return None if row is None else verified(self.path, "the vector of unit", slot, row[0])

    def put_unit(self, row: UnitRow) -> None:
        """Write a unit, over whatever its slot holds."""
        r = row
        fields = (r.slot, r.memory, r.text, r.source, r.identity, r.text_hash, r.length, r.terms)
        self._db.execute(
            f"INSERT OR REPLACE INTO unit({UNIT_COLUMNS}, key, mark) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, with_checksum(r.key), row_checksum(fields)),
        )

    def put_key(self, slot: int, key: bytes, text_hash: int) -> None:
        """Replace the key of a unit; text_hash: of the text whose vector it is now, 0 for none."""
        self._db.execute(
            "UPDATE unit SET key = ?, surface = ? WHERE slot = ?", (with_checksum(key), text_hash, slot)
        )
        fields = self._db.row(f"SELECT {UNIT_COLUMNS} FROM unit WHERE slot = ?", (slot,))
        check_intact(self.path, "unit", slot, fields is not None)
        self._db.execute("UPDATE unit SET mark = ? WHERE slot = ?", (row_checksum(fields or ()), slot))

    def drop_units(self, slots: Sequence[int], progress: Callable[[], None] = lambda: None) -> None:
        """Delete the rows of units; `progress` is called every 256 rows."""
        for part in range(0, len(slots), AT_ONCE):
            rows = ((slot,) for slot in slots[part : part + AT_ONCE])
            self._db.executemany("DELETE FROM unit WHERE slot = ?", rows)
            progress()

    def texts(self, slots: Sequence[int]) -> dict[int, tuple[str, str]]:
        """slot -> (text, source). Raises StateDamaged where one of them is missing."""
        parameters = ",".join("?" * len(slots))
        query = f"SELECT {UNIT_COLUMNS}, mark FROM unit WHERE slot IN ({parameters})"
        found: dict[int, tuple[str, str]] = {}
        for row in self._db.rows(query, slots):
            unit = decode_unit(self.path, row)
            found[unit.slot] = (unit.text, unit.source)
        for slot in slots:
            check_intact(self.path, "unit", slot, slot in found)
        return found

    # journal

    def journal(self, units: int) -> Journal:
        """The journal in this file, of a memory with a capacity of `units`."""
        return Journal(self._db, units)

    def _entries(self) -> Iterator[Entry]:
        for row in self._db.rows(f"SELECT {ENTRY_COLUMNS}, mark, tokens FROM journal"):
            yield decode_entry(self.path, row)

    def put_vector(self, number: int, seq: int, x: bytes) -> None:
        """Keep the vector of the journal entry `seq` for a replay, over the older one of this `number`."""
        self._db.execute("INSERT OR REPLACE INTO vector VALUES(?, ?, ?)", (number, seq, with_checksum(x)))

    def vectors_after(self, seq: int) -> dict[int, int]:
        """Number of a journal entry -> number of the vector kept for it, of all entries after `seq`."""
        return dict(self._db.rows("SELECT seq, number FROM vector WHERE seq > ?", (seq,)))

    def vector(self, number: int) -> bytes:
        """The vector kept under this number, d float32."""
        row = self._db.row("SELECT x FROM vector WHERE number = ?", (number,))
        return verified(self.path, "vector", number, row and row[0])

    def vectors(self) -> Iterator[bytes]:
        """All vectors kept for a replay."""
        for (number,) in self._db.rows("SELECT number FROM vector"):
            yield self.vector(number)

    def drop_vectors(self) -> None:
        """Delete all vectors kept for a replay. Only right after a checkpoint."""
        self._db.execute("DELETE FROM vector")

    # checkpoint

    def checkpoint(self, blocks: Mapping[str, bytes]) -> None:
        """Write blocks of the checkpoint by their names; the others stay as they are."""
        self._db.executemany(
            "INSERT OR REPLACE INTO checkpoint VALUES(?, ?)",
            [(name, compressed(data)) for name, data in blocks.items()],
        )

    def drop_block(self, name: str) -> None:
        """Delete a block of the checkpoint."""
        self._db.execute("DELETE FROM checkpoint WHERE name = ?", (name,))

    def blocks(self) -> Iterator[tuple[str, bytes]]:
        """(name, block) of the whole checkpoint."""
        for name, data in self._db.rows("SELECT name, data FROM checkpoint"):
            yield name, decompressed(self.path, name, data)

    # file

    def flush(self) -> None:
        """Move the write-ahead log into the database and empty it, so that no file holds deleted rows."""
        self._db.flush()

    def copy(self, target: Path, progress: Callable[[], None]) -> None:
        """Write what is committed to the new file `target`; `progress` is called every 512 KB."""
        self._db.copy(target, progress)

    def check(self, progress: Callable[[], None] = lambda: None) -> None:
        """Read everything. `progress` is called every 256 rows.

        Raises StateDamaged where something is not what was written.
        """
        for problem in self._db.problems():
            raise StateDamaged(f"{self.path}: {problem}")
        rows: list[Callable[[], Iterator[Any]]] = [lambda: self.units(keys=True), self.blocks]
        rows += [self._entries, self.vectors, lambda: iter(self.meta())]
        for table in rows:
            for i, _ in enumerate(table()):
                if i % AT_ONCE == 0:
                    progress()

    def count(self, table: str) -> int:
        """Rows in one of the tables above."""
        return self._db.number(f"SELECT count(*) FROM {table}")

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        return self._db.size()

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _upgrade_2(path: Path, execute: Execute) -> None:
    """From format 2: vectors and delivery ids move to their own places, occurrences get flags, `meta` a
    checksum."""
    execute("ALTER TABLE journal RENAME COLUMN pinned TO flags")
    execute("CREATE TABLE vector(number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, x BLOB NOT NULL)")
    execute("INSERT INTO vector SELECT NULL, seq, x FROM journal WHERE x IS NOT NULL ORDER BY seq")
    execute("ALTER TABLE journal DROP COLUMN x")
    execute("ALTER TABLE journal ADD COLUMN tokens BLOB")
    newest = execute("SELECT token FROM receipt ORDER BY number DESC LIMIT 4096")
    delivery_ids = [delivery_id for (delivery_id,) in newest]
    execute("DROP TABLE receipt")
    if delivery_ids:
        encoded = b"".join(bytes([len(each)]) + each for each in reversed(delivery_ids))
        execute("INSERT INTO checkpoint VALUES('receipts', ?)", (with_checksum(encoded),))
    made = dict(execute("SELECT key, value FROM meta").fetchall())
    if made:
        execute("INSERT INTO meta VALUES('mark', ?)", (meta_checksum(made),))


def _upgrade_3(path: Path, execute: Execute) -> None:
    """From format 3: blocks of the checkpoint are compressed, the journal is a ring."""
    for name, data in execute("SELECT name, data FROM checkpoint").fetchall():
        block = verified(path, "checkpoint", name, data)
        execute("UPDATE checkpoint SET data = ? WHERE name = ?", (compressed(block), name))
    units = execute("SELECT value FROM meta WHERE key = 'units'").fetchone()
    try:
        size = ring_size(int(units[0]) if units else 0)
    except (ValueError, TypeError) as exc:
        raise StateDamaged(f"{path}: expected its units, got {units[0]!r}") from exc
    execute("ALTER TABLE journal RENAME TO line")
    execute(_JOURNAL)
    execute(
        f"INSERT INTO journal(at, {ENTRY_COLUMNS}, mark, tokens, room) "
        f"SELECT seq % ? AS at, {ENTRY_COLUMNS}, mark, tokens, "
        "? FROM line WHERE seq > (SELECT max(seq) FROM line) - ? ORDER BY at",
        (size, bytes(SPARE_BYTES), size),
    )
    execute("DROP TABLE line")


_UPGRADES: Mapping[int, Callable[[Path, Execute], None]] = {2: _upgrade_2, 3: _upgrade_3}
"""For each older format that can be read, the step to the next one."""
