"""The vectors of a memory whose encoder is being changed, in a file beside its state file.

It holds no texts: a vector is kept under the number of its memory, with the hash of the text it is of. So it
fits whatever has become of the state file meanwhile, and a vector of another text is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import StateDamaged
from .database import Database, create, remove
from .rows import verified, with_checksum

FORMAT = 1
"""Version of the file's layout, SQLite's `user_version`."""

_SCHEMA = """
CREATE TABLE made(encoder TEXT NOT NULL);
CREATE TABLE vector(memory INTEGER PRIMARY KEY, text INTEGER NOT NULL, x BLOB NOT NULL);
"""


class VectorFile:
    """The file `path`; it is created where it does not exist, and begun anew where it is of another encoder
    or damaged.

    encoder: the fingerprint of the one that makes the vectors. Raises StateError.
    """

    def __init__(self, path: Path, encoder: str) -> None:
        self.path = path
        self._encoder = encoder
        self._db = self._open()

    def _open(self) -> Database:
        if self.path.exists():
            try:
                db = Database(self.path)
                try:
                    if db.version == FORMAT and db.row("SELECT encoder FROM made") == (self._encoder,):
                        return db
                except BaseException:
                    db.close()
                    raise
                db.close()
            except StateDamaged:
                pass  # each of its vectors can be made again
        remove(self.path)
        create(self.path, _SCHEMA, FORMAT)
        db = Database(self.path)
        with db.transaction():
            db.execute("INSERT INTO made VALUES(?)", (self._encoder,))
        return db

    def begin_anew(self) -> None:
        """Drop every vector, whatever the file holds. Raises StateError."""
        self._db.close()
        remove(self.path)
        self._db = self._open()

    def texts(self) -> Iterator[tuple[int, int]]:
        """(memory, hash of its text) of every vector, in the order of the memories."""
        yield from self._db.rows("SELECT memory, text FROM vector ORDER BY memory")

    def put(self, rows: Sequence[tuple[int, int, bytes]]) -> None:
        """Keep vectors in one commit: (memory, hash of its text, d float32)."""
        with self._db.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO vector VALUES(?, ?, ?)",
                [(memory, text, with_checksum(x)) for memory, text, x in rows],
            )

    def get(self, memory: int, text: int) -> bytes | None:
        """The vector of this memory, d float32; None where there is none of this text, or it is damaged."""
        try:
            row = self._db.row("SELECT x FROM vector WHERE memory = ? AND text = ?", (memory, text))
            return None if row is None else verified(self.path, "vector", memory, row[0])
        except StateDamaged:
            return None

    def drop_after(self, memory: int) -> None:
        """Delete the vectors of all memories with a larger number."""
        with self._db.transaction():
            self._db.execute("DELETE FROM vector WHERE memory > ?", (memory,))

    def keep_only(self, memories: NDArray[np.int64]) -> None:
        """Delete the vectors of all memories but these; nothing of them is left in the file."""
        held = set(memories.tolist())
        gone = [(memory,) for memory, _ in self.texts() if memory not in held]
        with self._db.transaction():
            self._db.executemany("DELETE FROM vector WHERE memory = ?", gone)
        self._db.flush()

    def close(self) -> None:
        """Close the file."""
        self._db.close()
