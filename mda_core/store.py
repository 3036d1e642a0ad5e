"""The state file of one memory: SQLite in WAL mode, one transaction a batch. Only this module knows sqlite3.

Tables: `unit` (text, source, key and terms of what is held), `journal` (each occurrence, append-only;
what came after the checkpoint is replayed on open), `checkpoint` (statistics and subspace as of one
journal number), `receipt` (tokens of deliveries already learned), `meta`.

Rows carry a CRC-32 of what they hold, and so does each vector and each block: a card that returns
other bytes than were written is noticed when they are read, not believed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import StateError

FORMAT = 2
RECRUIT, REPEAT, RELEASE = 0, 1, 2
RECEIPTS = 4096

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE unit(slot INTEGER PRIMARY KEY, memory INTEGER NOT NULL, text TEXT NOT NULL, source TEXT NOT NULL,
                  identity INTEGER NOT NULL, surface INTEGER NOT NULL,
                  length INTEGER NOT NULL, terms BLOB NOT NULL, key BLOB NOT NULL, mark INTEGER NOT NULL);
CREATE TABLE journal(seq INTEGER PRIMARY KEY, op INTEGER NOT NULL, slot INTEGER NOT NULL,
                     memory INTEGER NOT NULL, previous INTEGER NOT NULL, ts REAL NOT NULL,
                     source TEXT NOT NULL,
                     pinned INTEGER NOT NULL, salience REAL NOT NULL, id TEXT, x BLOB, mark INTEGER NOT NULL);
CREATE TABLE checkpoint(name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE receipt(number INTEGER PRIMARY KEY, token BLOB NOT NULL);
"""

_UNIT = "slot, memory, text, source, identity, surface, length, terms"
_ENTRY = "seq, op, slot, memory, previous, ts, source, pinned, salience, id"

# A memory's occurrences, each entry of the journal naming the one before it; parameters: the last
# one's seq, the memory twice, the limit (-1 for none).
_PAST = """
WITH RECURSIVE past(seq, ts, id, previous) AS (
    SELECT seq, ts, id, previous FROM journal WHERE seq = ? AND memory = ?
    UNION ALL
    SELECT j.seq, j.ts, j.id, j.previous FROM past JOIN journal j ON j.seq = past.previous WHERE j.memory = ?
    LIMIT ?)"""


@dataclass(frozen=True, slots=True)
class UnitRow:
    """What the disk keeps of one unit; key is d float32, terms 32 uint32, then 32 uint8 for how
    often each occurs, then 5 uint8 for the manner of the text."""

    slot: int
    memory: int
    text: str
    source: str
    identity: int
    surface: int
    length: int
    terms: bytes
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. x is set where the unit's row cannot tell the vector any more."""

    seq: int
    op: int
    slot: int
    memory: int
    previous: int = 0
    ts: float = 0.0
    source: str = ""
    pinned: bool = False
    salience: float = 0.0
    id: str | None = None
    x: bytes | None = None


class Store:
    """Everything here raises StateError when the disk or the file does not do what was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._faults():
            new = not path.exists()
            if new:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                for pragma in (
                    "locking_mode = EXCLUSIVE",
                    "journal_mode = WAL",
                    "synchronous = FULL",
                    "secure_delete = ON",
                    "cache_size = -1024",
                    "journal_size_limit = 8388608",
                    "busy_timeout = 2000",
                    "temp_store = MEMORY",
                ):
                    self._db.execute(f"PRAGMA {pragma}").fetchall()
                if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
                    _sync_folder(path.parent)
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version != FORMAT:
                    raise StateError(
                        f"{path}: format {version} is not format {FORMAT} of this version; "
                        "use the version that wrote it, or move the file away to start anew"
                    )
                self.flush()  # a forget that was killed before its flush has left what it deleted in the log
            except BaseException:
                self._db.close()
                raise

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise StateError(f"{self.path}: {exc}") from exc

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside becomes durable at its end, or nothing of it."""
        with self._faults():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the first fault is the one to report
                    self._db.execute("ROLLBACK")
                raise

    def meta(self) -> dict[str, str]:
        with self._faults():
            return dict(self._db.execute("SELECT key, value FROM meta").fetchall())

    def put_meta(self, values: Mapping[str, str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", list(values.items()))

    # units

    def units(self) -> Iterator[UnitRow]:
        """Every unit without its key, which is left empty."""
        with self._faults():
            for *row, mark in self._db.execute(f"SELECT {_UNIT}, mark FROM unit ORDER BY slot"):
                self._believe("unit", row[0], _mark(row) == mark)
                yield UnitRow(*row)

    def unit_keys(self) -> Iterator[tuple[int, int, bytes]]:
        """(slot, memory, key) of every unit."""
        with self._faults():
            for slot, memory, key in self._db.execute("SELECT slot, memory, key FROM unit ORDER BY slot"):
                yield slot, memory, self._unsealed("the vector of unit", slot, key)

    def put_unit(self, row: UnitRow) -> None:
        r = row
        fields = (r.slot, r.memory, r.text, r.source, r.identity, r.surface, r.length, r.terms)
        self._db.execute(
            f"INSERT OR REPLACE INTO unit({_UNIT}, key, mark) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, _sealed(r.key), _mark(fields)),
        )

    def put_key(self, slot: int, key: bytes, surface: int) -> None:
        """A unit's key has moved, and is the vector of another surface, or of none."""
        self._db.execute("UPDATE unit SET key = ?, surface = ? WHERE slot = ?", (_sealed(key), surface, slot))
        fields = self._db.execute(f"SELECT {_UNIT} FROM unit WHERE slot = ?", (slot,)).fetchone()
        self._db.execute("UPDATE unit SET mark = ? WHERE slot = ?", (_mark(fields), slot))

    def drop_unit(self, slot: int) -> None:
        self._db.execute("DELETE FROM unit WHERE slot = ?", (slot,))

    def texts(self, slots: list[int]) -> dict[int, tuple[str, str]]:
        """slot -> (text, source)."""
        with self._faults():
            marks = ",".join("?" * len(slots))
            rows = self._db.execute(f"SELECT slot, text, source FROM unit WHERE slot IN ({marks})", slots)
            return {slot: (text, source) for slot, text, source in rows}

    # journal

    def append(self, entry: Entry) -> None:
        e = entry
        fields = (
            e.seq,
            e.op,
            e.slot,
            e.memory,
            e.previous,
            e.ts,
            e.source,
            int(e.pinned),
            e.salience,
            e.id,
        )
        x = None if e.x is None else _sealed(e.x)
        self._db.execute(
            f"INSERT INTO journal({_ENTRY}, x, mark) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, x, _mark(fields)),
        )

    def entries_after(self, seq: int) -> Iterator[Entry]:
        with self._faults():
            for *row, x, mark in self._db.execute(
                f"SELECT {_ENTRY}, x, mark FROM journal WHERE seq > ? ORDER BY seq", (seq,)
            ):
                self._believe("journal entry", row[0], _mark(row) == mark)
                row[7] = bool(row[7])
                entry = Entry(*row)
                if x is not None:
                    x = self._unsealed("the vector of journal entry", entry.seq, x)
                    entry = replace(entry, x=x)
                yield entry

    def spill(self, seq: int, x: bytes) -> None:
        """Keep the vector of a recruited unit whose row is about to go, for the replay."""
        self._db.execute("UPDATE journal SET x = ? WHERE seq = ?", (_sealed(x), seq))

    def occurrences(self, tail: int, memory: int, limit: int) -> list[tuple[int, float, str | None]]:
        """(seq, ts, id) of a memory's occurrences, newest learned first, from its last one back.

        What has been trimmed from the journal is missing.
        """
        with self._faults():
            return self._db.execute(
                f"{_PAST} SELECT seq, ts, id FROM past", (tail, memory, memory, limit)
            ).fetchall()

    def within(self, tail: int, memory: int, low: float, high: float) -> tuple[int, float, float] | None:
        """(count, earliest, latest) of the occurrences from `low` to `high`; None where there is none."""
        with self._faults():
            found = self._db.execute(
                f"{_PAST} SELECT count(*), min(ts), max(ts) FROM past WHERE ts BETWEEN ? AND ?",
                (tail, memory, memory, -1, low, high),
            ).fetchone()
        return found if found[0] else None

    def drop_occurrences(self, tail: int, memory: int) -> None:
        for seq, _, _ in self.occurrences(tail, memory, -1):
            self._db.execute("DELETE FROM journal WHERE seq = ?", (seq,))

    def trim(self, before: int, now: int, keep: int) -> None:
        """After a checkpoint at `now` (the last was at `before`) the journal is history alone:
        bounded, occurrences only, and without vectors."""
        self._db.execute("DELETE FROM journal WHERE seq <= ?", (now - keep,))
        self._db.execute("DELETE FROM journal WHERE seq > ? AND op = ?", (before, RELEASE))
        self._db.execute("UPDATE journal SET x = NULL WHERE seq > ? AND x IS NOT NULL", (before,))
        self._db.execute(
            "DELETE FROM receipt WHERE number <= (SELECT max(number) FROM receipt) - ?", (RECEIPTS,)
        )

    # checkpoint, receipts

    def checkpoint(self, blocks: Mapping[str, bytes]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO checkpoint VALUES(?, ?)",
            [(name, _sealed(data)) for name, data in blocks.items()],
        )

    def blocks(self) -> Iterator[tuple[str, bytes]]:
        with self._faults():
            for name, data in self._db.execute("SELECT name, data FROM checkpoint"):
                yield name, self._unsealed("checkpoint", name, data)

    def receipts(self) -> list[tuple[int, bytes]]:
        with self._faults():
            return self._db.execute("SELECT number, token FROM receipt ORDER BY number").fetchall()

    def put_receipt(self, number: int, token: bytes) -> None:
        self._db.execute("INSERT INTO receipt VALUES(?, ?)", (number, token))

    def drop_receipts(self, before: int) -> None:
        self._db.execute("DELETE FROM receipt WHERE number < ?", (before,))

    # what was read, believed or not

    def _believe(self, what: str, which: object, sound: bool) -> None:
        if not sound:
            raise StateError(
                f"{self.path}: {what} {which} is damaged: these are not the bytes that were written; "
                "restore a copy of the file, or move it away to start anew"
            )

    def _unsealed(self, what: str, which: object, data: bytes) -> bytes:
        self._believe(what, which, len(data) >= 4 and _sealed(data[:-4]) == data)
        return data[:-4]

    # file

    def flush(self) -> None:
        """Move the WAL into the database and empty it, so that what was deleted is in no file."""
        with self._faults():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def count(self, table: str) -> int:
        """Rows of one of the tables above."""
        with self._faults():
            found: int = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            return found

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        paths = (self.path, Path(f"{self.path}-wal"))
        return sum(p.stat().st_size for p in paths if p.exists())

    def close(self) -> None:
        with self._faults():
            self._db.close()


def _mark(fields: Sequence[object]) -> int:
    """CRC-32 of a row's fields."""
    return zlib.crc32(repr(tuple(fields)).encode())


def _sealed(data: bytes) -> bytes:
    """`data` and its CRC-32."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
