"""The state of one memory on disk: tables and rows in SQLite, one transaction a batch.

Tables: `unit` (text, source, key and terms of what is held), `journal` (each occurrence), `checkpoint`
(statistics and subspace as of one journal number), `vector` (those that a replay needs and no unit holds any
more), `meta`.

Rows carry a CRC-32 of what they hold, and so does each vector and each block: a card that returns other
bytes than were written is noticed when they are read, not believed.

A card wears out by pages written. So rows are written over where they are, and what can wait for a
checkpoint or for a forget does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StateDamaged, StateError
from . import database
from .database import Database, Execute
from .journal import ROOM, Journal, ring_size
from .rows import (
    ENTRY,
    UNIT,
    Entry,
    UnitRow,
    believe,
    entry_of,
    mark_of,
    packed,
    row_mark,
    sealed,
    unit_of,
    unpacked,
    unsealed,
)

FORMAT = 4

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


class OlderFormat(StateError):
    """The file would have to be upgraded, but is only to be read."""


class Store:
    """Everything here raises StateError when the disk does not do what was asked, and StateDamaged where
    the file does not hold what was written. write=False: only read the file, which is there, as it is."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self._untidy = False
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
                self._tidy()
        except BaseException:
            self._db.close()
            raise

    def _tidy(self) -> None:
        """A forget that was killed before its flush has left what it deleted in the log.

        Where the disk is full that has to wait, and so does whatever is to be written; not what is asked.
        """
        try:
            self.flush()
        except StateDamaged:
            raise
        except StateError:
            self._untidy = True
        else:
            self._untidy = False

    def _upgrade(self) -> None:
        version = self._db.version
        if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
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
        """Where a file of an older format is kept after an upgrade."""
        return self.path.with_name(f"{self.path.name}.format{version}")

    def drop_old(self) -> None:
        """Remove what an upgrade has kept: it holds what is to be forgotten."""
        with self._db.faults():
            for old in filter(Path.exists, map(self._old, _UPGRADES)):
                old.unlink()
                database.sync(old.parent)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All that happens inside becomes durable at its end, or nothing of it."""
        if self._untidy:
            self.flush()
            self._untidy = False
        return self._db.transaction()

    def probe(self) -> None:
        """Raise StateError unless a small write becomes durable."""
        with self.transaction():
            self._db.execute("INSERT INTO checkpoint VALUES('probe', x'')")
            self._db.execute("DELETE FROM checkpoint WHERE name = 'probe'")

    def meta(self) -> dict[str, str]:
        found: dict[str, str] = dict(self._db.rows("SELECT key, value FROM meta"))
        mark = found.pop("mark", None)
        believe(self.path, "the table", "meta", not found or mark == mark_of(found))
        return found

    def put_meta(self, values: Mapping[str, str]) -> None:
        """Write all of it anew."""
        rows = [*values.items(), ("mark", mark_of(values))]
        self._db.execute("DELETE FROM meta")
        self._db.executemany("INSERT INTO meta VALUES(?, ?)", rows)

    # units

    def units(self, *, keys: bool = False) -> Iterator[UnitRow]:
        """Every unit, with its key, or with an empty one."""
        columns = f"{UNIT}, mark, key" if keys else f"{UNIT}, mark, NULL"
        for *row, key in self._db.rows(f"SELECT {columns} FROM unit ORDER BY slot"):
            yield unit_of(
                self.path, row, unsealed(self.path, "the vector of unit", row[0], key) if keys else b""
            )

    def unit_key(self, slot: int, memory: int) -> bytes | None:
        """The key of the unit that holds `memory`; None where the slot holds another."""
        row = self._db.execute(
            "SELECT key FROM unit WHERE slot = ? AND memory = ?", (slot, memory)
        ).fetchone()
        return None if row is None else unsealed(self.path, "the vector of unit", slot, row[0])

    def put_unit(self, row: UnitRow) -> None:
        r = row
        fields = (r.slot, r.memory, r.text, r.source, r.identity, r.surface, r.length, r.terms)
        self._db.execute(
            f"INSERT OR REPLACE INTO unit({UNIT}, key, mark) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, sealed(r.key), row_mark(fields)),
        )

    def put_key(self, slot: int, key: bytes, surface: int) -> None:
        """A unit's key has moved, and is the vector of another surface, or of none."""
        self._db.execute("UPDATE unit SET key = ?, surface = ? WHERE slot = ?", (sealed(key), surface, slot))
        fields = self._db.execute(f"SELECT {UNIT} FROM unit WHERE slot = ?", (slot,)).fetchone()
        self._db.execute("UPDATE unit SET mark = ? WHERE slot = ?", (row_mark(fields), slot))

    def drop_unit(self, slot: int) -> None:
        self._db.execute("DELETE FROM unit WHERE slot = ?", (slot,))

    def texts(self, slots: Sequence[int]) -> dict[int, tuple[str, str]]:
        """slot -> (text, source)."""
        marks = ",".join("?" * len(slots))
        found: dict[int, tuple[str, str]] = {}
        for row in self._db.rows(f"SELECT {UNIT}, mark FROM unit WHERE slot IN ({marks})", slots):
            unit = unit_of(self.path, row)
            found[unit.slot] = (unit.text, unit.source)
        for slot in slots:
            believe(self.path, "unit", slot, slot in found)
        return found

    # journal

    def journal(self, units: int) -> Journal:
        """That of a memory with room for `units`."""
        return Journal(self._db, units)

    def _entries(self) -> Iterator[Entry]:
        for row in self._db.rows(f"SELECT {ENTRY}, mark, tokens FROM journal"):
            yield entry_of(self.path, row)

    def put_vector(self, number: int, seq: int, x: bytes) -> None:
        """Keep the vector of the journal entry `seq` for a replay, in place of an older one."""
        self._db.execute("INSERT OR REPLACE INTO vector VALUES(?, ?, ?)", (number, seq, sealed(x)))

    def vectors_after(self, seq: int) -> dict[int, int]:
        """Journal number -> number of the vector kept for it."""
        return dict(self._db.rows("SELECT seq, number FROM vector WHERE seq > ?", (seq,)))

    def vector(self, number: int) -> bytes:
        row = self._db.execute("SELECT x FROM vector WHERE number = ?", (number,)).fetchone()
        return unsealed(self.path, "vector", number, row and row[0])

    def vectors(self) -> Iterator[bytes]:
        for (number,) in self._db.rows("SELECT number FROM vector"):
            yield self.vector(number)

    def drop_vectors(self) -> None:
        self._db.execute("DELETE FROM vector")

    # checkpoint

    def checkpoint(self, blocks: Mapping[str, bytes]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO checkpoint VALUES(?, ?)",
            [(name, packed(data)) for name, data in blocks.items()],
        )

    def drop_block(self, name: str) -> None:
        self._db.execute("DELETE FROM checkpoint WHERE name = ?", (name,))

    def blocks(self) -> Iterator[tuple[str, bytes]]:
        for name, data in self._db.rows("SELECT name, data FROM checkpoint"):
            yield name, unpacked(self.path, name, data)

    # file

    def flush(self) -> None:
        """Move the write-ahead log into the database and empty it, so that what was deleted is in no file."""
        self._db.flush()

    def copy(self, target: Path, between: Callable[[], None]) -> None:
        """Write what is committed to the new file `target`; `between` is called now and then."""
        self._db.copy(target, between)

    def check(self, between: Callable[[], None] = lambda: None) -> None:
        """Read everything. Raises StateDamaged where something is not what was written."""
        for problem in self._db.problems():
            raise StateDamaged(f"{self.path}: {problem}")
        rows: list[Callable[[], Iterator[Any]]] = [lambda: self.units(keys=True), self.blocks]
        rows += [self._entries, self.vectors, lambda: iter(self.meta())]
        for table in rows:
            for i, _ in enumerate(table()):
                if i % 256 == 0:
                    between()

    def count(self, table: str) -> int:
        """Rows of one of the tables above."""
        found: int = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        return self._db.size()

    def close(self) -> None:
        self._db.close()


def _upgrade_2(path: Path, execute: Execute) -> None:
    """From format 2: vectors and tokens out of the way, flags for an occurrence, `meta` sealed."""
    execute("ALTER TABLE journal RENAME COLUMN pinned TO flags")
    execute("CREATE TABLE vector(number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, x BLOB NOT NULL)")
    execute("INSERT INTO vector SELECT NULL, seq, x FROM journal WHERE x IS NOT NULL ORDER BY seq")
    execute("ALTER TABLE journal DROP COLUMN x")
    execute("ALTER TABLE journal ADD COLUMN tokens BLOB")
    tokens = [token for (token,) in execute("SELECT token FROM receipt ORDER BY number DESC LIMIT 4096")]
    execute("DROP TABLE receipt")
    if tokens:
        receipts = b"".join(bytes([len(token)]) + token for token in reversed(tokens))
        execute("INSERT INTO checkpoint VALUES('receipts', ?)", (sealed(receipts),))
    made = dict(execute("SELECT key, value FROM meta").fetchall())
    if made:
        execute("INSERT INTO meta VALUES('mark', ?)", (mark_of(made),))


def _upgrade_3(path: Path, execute: Execute) -> None:
    """From format 3: blocks of the checkpoint are compressed, the journal is a ring."""
    for name, data in execute("SELECT name, data FROM checkpoint").fetchall():
        block = unsealed(path, "checkpoint", name, data)
        execute("UPDATE checkpoint SET data = ? WHERE name = ?", (packed(block), name))
    units = execute("SELECT value FROM meta WHERE key = 'units'").fetchone()
    try:
        size = ring_size(int(units[0]) if units else 0)
    except (ValueError, TypeError) as exc:
        raise StateDamaged(f"{path}: expected its units, got {units[0]!r}") from exc
    execute("ALTER TABLE journal RENAME TO line")
    execute(_JOURNAL)
    execute(
        f"INSERT INTO journal(at, {ENTRY}, mark, tokens, room) SELECT seq % ? AS at, {ENTRY}, mark, tokens, "
        "? FROM line WHERE seq > (SELECT max(seq) FROM line) - ? ORDER BY at",
        (size, bytes(ROOM), size),
    )
    execute("DROP TABLE line")


_UPGRADES: Mapping[int, Callable[[Path, Execute], None]] = {2: _upgrade_2, 3: _upgrade_3}
"""From each format that is known, the step to the next."""
