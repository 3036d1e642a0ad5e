"""The journal: every occurrence in order, in a ring buffer of rows.

Entry number `seq` is in the row `seq` modulo the ring's size. Entries after the checkpoint are replayed on
open; those before it are history, until the ring comes round and overwrites them. A row that is overwritten
needs no new page, so neither the page above it nor the free list is written with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .database import Database
from .rows import (
    ALLOCATE,
    ENTRY_COLUMNS,
    REPEAT,
    TOMBSTONE,
    Entry,
    check_intact,
    decode_entry,
    row_checksum,
    with_checksum,
)

CHECKPOINT_EVERY = 4096
"""Journal entries between two checkpoints. On open at most this many, and one batch, are replayed. A smaller
number would write the statistics of all units, a megabyte, too often for a flash card."""
HISTORY = 16
"""Occurrences kept on disk for each unit of the capacity, on average."""
PROGRESS_EVERY = 4096
"""Rows read between two calls of `progress`."""
SPARE_BYTES = 8
"""Bytes left free in a row that is written for the first time (column `room`). SQLite would have to split a
page that is full to the brim as soon as a longer row replaces one in it."""

_CHAIN_COLUMNS = ", ".join(f"j.{name}" for name in (*ENTRY_COLUMNS.split(", "), "mark"))
# The occurrences of a memory, newest first: each entry names the one before it. Parameters: row and number
# of the last occurrence, memory, size of the ring, memory.
_OCCURRENCES = f"""
WITH RECURSIVE past({ENTRY_COLUMNS}, mark) AS (
    SELECT {_CHAIN_COLUMNS} FROM journal j WHERE at = ? AND seq = ? AND memory = ?
    UNION ALL
    SELECT {_CHAIN_COLUMNS} FROM past JOIN journal j ON j.at = past.previous % ? AND j.seq = past.previous
    WHERE j.memory = ?)"""


def ring_size(units: int) -> int:
    """Rows in the ring of a memory of this capacity: its history, and what no checkpoint holds yet."""
    return HISTORY * units + CHECKPOINT_EVERY


class Journal:
    """The journal of a memory with a capacity of `units`.

    Raises StateError where the disk fails, StateDamaged where a row is not what was written.
    """

    def __init__(self, db: Database, units: int) -> None:
        self._db = db
        self.size = ring_size(units)
        """Rows of the ring."""

    def append(self, entry: Entry) -> None:
        """Write an entry, over the one that is a ring's length older."""
        e = entry
        fields = (e.seq, e.op, e.slot, e.memory, e.previous, e.ts, e.source, e.flags, e.salience, e.id)
        spare = bytes(SPARE_BYTES) if e.seq < self.size else None
        self._db.execute(
            f"INSERT OR REPLACE INTO journal(at, {ENTRY_COLUMNS}, mark, room) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (e.seq % self.size, *fields, row_checksum(fields), spare),
        )

    def put_delivery_ids(self, seq: int, delivery_ids: bytes) -> None:
        """Keep the encoded delivery ids of the batch that ends with the entry `seq`."""
        self._db.execute(
            "UPDATE journal SET tokens = ? WHERE at = ?", (with_checksum(delivery_ids), seq % self.size)
        )

    def after(self, seq: int) -> Iterator[Entry]:
        """All entries after number `seq`, in order."""
        expected = seq + 1
        for entry in read_entries(self._db, self.size, expected, seq + self.size):
            if entry.seq < expected:
                return  # left from the previous round of the ring
            check_intact(self._db.path, "journal entry", expected, entry.seq == expected)
            yield entry
            expected += 1

    def add_tombstone(self, seq: int) -> None:
        """Mark the occurrence `seq` as withdrawn."""
        at = (seq % self.size,)
        self._db.execute("UPDATE journal SET op = op + ?, id = NULL WHERE at = ?", (TOMBSTONE, *at))
        fields = self._db.row(f"SELECT {ENTRY_COLUMNS} FROM journal WHERE at = ?", at)
        check_intact(self._db.path, "journal entry", seq, fields is not None)
        self._db.execute("UPDATE journal SET mark = ? WHERE at = ?", (row_checksum(fields or ()), *at))

    def occurrences(self, tail: int, memory: int, limit: int = -1) -> list[Entry]:
        """The occurrences of a memory, newest learned first, without those withdrawn.

        tail: number of the last one. limit: at most this many; -1 for all. Overwritten ones are missing.
        """
        # LIMIT inside SQLite, which then stops following the chain early.
        query = f"{_OCCURRENCES} SELECT *, NULL FROM past WHERE op < {TOMBSTONE} LIMIT ?"
        rows = self._db.rows(query, (*self._chain(tail, memory), limit))
        return [decode_entry(self._db.path, row) for row in rows]

    def allocated_at(self, tail: int, memory: int) -> int | None:
        """The number of the entry that a memory began with; None where it is overwritten."""
        query = f"{_OCCURRENCES} SELECT min(seq) FROM past"
        found = self._db.row(query, self._chain(tail, memory))
        return None if found is None or found[0] is None else int(found[0])

    def times(self, progress: Callable[[], None] = lambda: None) -> Iterator[tuple[int, int, int, float]]:
        """(seq, slot, memory, time) of all occurrences, without those withdrawn; `progress` is called every
        4,096 rows.

        Checksums are not checked here, for that takes five times as long: whoever shows a time reads its
        entry with `time`.
        """
        query = f"SELECT seq, slot, memory, ts FROM journal WHERE op IN ({ALLOCATE}, {REPEAT})"
        for i, row in enumerate(self._db.rows(query)):
            if i % PROGRESS_EVERY == 0:
                progress()
            yield row

    def time(self, seq: int) -> float | None:
        """The time of the entry `seq` in epoch seconds; None where the journal does not hold it."""
        at = (seq % self.size, seq)
        row = self._db.row(f"SELECT {ENTRY_COLUMNS}, mark, NULL FROM journal WHERE at = ? AND seq = ?", at)
        return None if row is None else decode_entry(self._db.path, row).ts

    def _chain(self, tail: int, memory: int) -> tuple[int, ...]:
        """The parameters of `_OCCURRENCES`."""
        return tail % self.size, tail, memory, self.size, memory

    def has_orphans(self, memories: NDArray[np.int64]) -> bool:
        """Whether there are entries of other memories than these, those that units hold."""
        return any(len(at) for at in self._orphans(memories))

    def drop(self, seq: int, count: int) -> None:
        """Delete the entries in the rows of the numbers from `seq` on, `count` of them."""
        for low, high in _ranges(seq, seq + count - 1, self.size):
            self._db.execute("DELETE FROM journal WHERE at BETWEEN ? AND ?", (low, high))

    def drop_orphans(self, memories: NDArray[np.int64], progress: Callable[[], None] = lambda: None) -> None:
        """Delete the entries of all memories but these, those that units hold; `progress` is called every
        4,096 rows. Only right after a checkpoint."""
        for at in self._orphans(memories):
            self._db.executemany("DELETE FROM journal WHERE at = ?", ((row,) for row in at.tolist()))
            progress()

    def _orphans(self, memories: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The rows with entries of other memories than these, in parts."""
        held = np.unique(memories)
        for low in range(0, self.size, PROGRESS_EVERY):
            query = "SELECT at, memory FROM journal WHERE at BETWEEN ? AND ?"
            found = list(self._db.rows(query, (low, low + PROGRESS_EVERY - 1)))
            try:
                rows = np.array(found, np.int64).reshape(-1, 2)
            except (ValueError, TypeError, OverflowError):  # a column of another type
                check_intact(self._db.path, "the journal's row of entry", low, False)
                raise
            place = np.minimum(np.searchsorted(held, rows[:, 1]), max(len(held) - 1, 0))
            yield rows[held[place] != rows[:, 1], 0] if len(held) else rows[:, 0]

    def drop_delivery_ids(self) -> None:
        """Delete the delivery ids here. Only right after a checkpoint, which holds them too. Otherwise they
        stay until their row is overwritten."""
        self._db.execute("UPDATE journal SET tokens = NULL WHERE tokens IS NOT NULL")


def read_entries(db: Database, size: int, first: int, last: int) -> Iterator[Entry]:
    """The entries in the rows of numbers `first` to `last` of a ring of `size` rows.

    They may be from an earlier round of the ring. Raises StateDamaged.
    """
    for low, high in _ranges(first, last, size):
        query = f"SELECT {ENTRY_COLUMNS}, mark, tokens FROM journal WHERE at BETWEEN ? AND ? ORDER BY at"
        for row in db.rows(query, (low, high)):
            yield decode_entry(db.path, row)


def _ranges(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """The ranges of rows, both ends included, that hold the entries `first` to `last`; at most `size`."""
    low, high = first % size, last % size
    return [(low, high)] if low <= high else [(low, size - 1), (0, high)]
