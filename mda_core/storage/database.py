"""One SQLite file: created, opened, synced and copied. Only this module knows sqlite3 and its errors."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import StateDamaged, StateError
from .wal import lost_commits

Row = tuple[Any, ...]
Execute = Callable[..., sqlite3.Cursor]
"""Runs one statement, with values."""

PAGE_BYTES = 2048
"""The row of one unit with its key fills a page, so a unit that changes rewrites no other."""
LOG_PAGES = 4000
"""Pages in the write-ahead log before they are moved into the database. A page that is written often is moved
only once."""
COPY_PAGES = 256
"""Pages copied between two calls of `progress`: 512 KB."""

_PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "cache_size = -1024",
    f"wal_autocheckpoint = {LOG_PAGES}",
    f"journal_size_limit = {LOG_PAGES * (PAGE_BYTES + 24)}",
    "busy_timeout = 2000",
    "temp_store = MEMORY",
)
_READ_ONLY_PRAGMAS = ("cache_size = -1024", "temp_store = MEMORY")
# Errors that come from the disk, the system or another process. Every other error means a damaged file.
_NOT_DAMAGE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_MISUSE,
}
_LOG_SUFFIXES = ("-wal", "-shm", "-journal")


class Database:
    """A connection to the file `path`. Raises StateError, and StateDamaged where the contents are wrong.

    After an error inside `transaction` the connection stays open: what was committed before can still be
    read, and the next commit overwrites what failed. Closing and opening the file again could bring back
    a commit whose sync had failed.

    write=False: read only, and create no file beside it. Nobody may write to the file at the same time.
    damaged=True: open the file even if its write-ahead log has lost commits.
    """

    def __init__(self, path: Path, *, write: bool = True, damaged: bool = False) -> None:
        self.path = path
        with self.faults():
            if path.is_dir():
                raise StateError(f"{path}: expected a file, got a folder; move it away")
            if path.stat().st_size == 0:
                raise StateDamaged(f"{path}: the file is empty")
            if not write and has_log(path):
                raise StateError(f"{path}: its write-ahead log has to be read with it, in a copy of both")
            lost = lost_commits(Path(f"{path}-wal")) if write and not damaged else 0
            if lost > 1:
                raise StateDamaged(f"{path}: its write-ahead log is damaged, {lost} commits of it are lost")
            name = str(path) if write else f"file:{quote(str(path.absolute()))}?immutable=1"
            self._db = sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=not write)
            try:
                for pragma in _PRAGMAS if write else _READ_ONLY_PRAGMAS:
                    self._db.execute(f"PRAGMA {pragma}").fetchall()
                if write:
                    sync(path.parent)  # SQLite ignores it where the name of the log cannot be made durable
            except BaseException:
                self._db.close()
                raise

    @property
    def version(self) -> int:
        """The format of the file, SQLite's `user_version`."""
        return self.number("PRAGMA user_version")

    def faults(self) -> contextlib.AbstractContextManager[None]:
        """Errors of SQLite and of the system inside are raised as StateError or StateDamaged."""
        return _faults(self.path)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        with self.faults():
            return self._db.execute(sql, values)

    def row(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query, None if there is none. Reading it may show damage as well."""
        with self.faults():
            found: Row | None = self._db.execute(sql, values).fetchone()
            return found

    def number(self, sql: str) -> int:
        """The number that a query or pragma gives."""
        row = self.row(sql)
        assert row is not None
        return int(row[0])

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of a query, one at a time; errors on the way are raised like all others."""
        with self.faults():
            # Not `yield from`: that closes the cursor when it is left half read, which raises once the file
            # is closed.
            for row in self._db.execute(sql, values):  # noqa: UP028
                yield row

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of values."""
        with self.faults():
            self._db.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside becomes durable at the end, or nothing of it."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to report
                self._db.execute("ROLLBACK")
            raise

    def flush(self) -> None:
        """Move the write-ahead log into the database and empty it, so that no file holds deleted rows."""
        busy = self.number("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise StateError(f"{self.path}: the write-ahead log cannot be emptied, another process reads it")
        with self.faults():
            log = Path(f"{self.path}-wal")
            if log.exists():
                sync(log)  # SQLite does not: after a power cut the log would hold deleted rows again

    def problems(self) -> list[str]:
        """The first few faults that SQLite finds in the structure of the file; empty where it is intact."""
        found = [str(text) for (text,) in self.rows("PRAGMA quick_check(8)")]
        return [] if found == ["ok"] else found

    def copy(self, target: Path, progress: Callable[[], None] = lambda: None) -> None:
        """Write what is committed to the new file `target`, synced; `progress` is called every 512 KB."""
        with self.faults():
            _create_file(target)
            with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
                # Otherwise SQLite needs a file that processes share in RAM, which not every file system has.
                copy.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
                self._db.backup(copy, pages=COPY_PAGES, progress=lambda *_: progress())
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            sync(target)
            sync(target.parent)

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        with self.faults():
            return sum(p.stat().st_size for p in files(self.path) if p.exists())

    def close(self) -> None:
        """Close the connection."""
        with self.faults():
            self._db.close()


def create(path: Path, schema: str, version: int) -> None:
    """Create a database in the file `path`, which appears complete or not at all. Raises StateError."""
    stale = [p for p in files(path)[1:] if p.exists()]
    if stale:
        raise StateDamaged(f"{path}: the file is gone, but {stale[0].name} is there")
    new = _new_file(path)
    with _faults(path):
        _create_file(new)
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA synchronous = EXTRA")
            db.executescript(f"BEGIN IMMEDIATE;{schema}PRAGMA user_version = {version};COMMIT;")
        put_in_place(new, path)


def upgrade(path: Path, version: int, change: Callable[[Execute], None], kept: Path) -> None:
    """Convert the file to format `version` by running `change`. Interrupted at any time, the file is either
    the old or the new one.

    A copy of the old one stays in the file `kept`. Raises StateError, and StateDamaged where the old
    file cannot be read.
    """
    new = _new_file(path)
    with _faults(path):
        remove(new)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            old.execute("PRAGMA journal_mode = DELETE").fetchall()
            old.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            os.close(os.open(new, os.O_CREAT | os.O_WRONLY, 0o600))
            old.execute("VACUUM INTO ?", (str(new),))
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = EXTRA")
            db.execute("PRAGMA secure_delete = ON").fetchall()
            db.execute("BEGIN IMMEDIATE")
            change(db.execute)
            db.execute(f"PRAGMA user_version = {version}")
            db.execute("COMMIT")
        _copy_file(path, kept)
        put_in_place(new, path)


def files(path: Path) -> list[Path]:
    """The database file and those that SQLite may keep beside it."""
    return [path, *(Path(f"{path}{end}") for end in _LOG_SUFFIXES)]


def has_log(path: Path) -> bool:
    """Whether the write-ahead log beside `path` still holds commits. Raises OSError."""
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def sync(path: Path) -> None:
    """fsync a file or a folder. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise _translated(path, exc) from exc
    except (OverflowError, UnicodeDecodeError) as exc:  # too large for a column, not UTF-8
        raise StateDamaged(f"{path}: {exc}") from exc


def _translated(path: Path, exc: sqlite3.Error | OSError) -> StateError:
    if isinstance(exc, OSError):
        return StateError(f"{path}: {exc.strerror or exc}")
    # The low byte of the code is the kind of error. Without a code, a text could not be decoded.
    code = getattr(exc, "sqlite_errorcode", None)
    if isinstance(exc, sqlite3.ProgrammingError) or (code is not None and code & 0xFF in _NOT_DAMAGE):
        return StateError(f"{path}: {exc}")
    # SQLite's own message would show the stored text, for example in a log.
    return StateDamaged(f"{path}: {'a text in it is not UTF-8' if code is None else exc}")


def _new_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def remove(path: Path) -> None:
    """Delete the database and the files that SQLite keeps beside it. Raises StateError."""
    with _faults(path):
        for each in files(path):
            each.unlink(missing_ok=True)


def _create_file(path: Path) -> None:
    """Create an empty file that only this user may read, replacing any other."""
    remove(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def keep(path: Path, kept: Path) -> None:
    """Give the closed database `path` the second name `kept`, in place of any other file there.

    On a file system without hard links `kept` is a copy. Durable when it returns. Raises StateError.
    """
    with _faults(path):
        remove(kept)
        try:
            os.link(path, kept)
        except OSError:  # FAT has no links; where the disk fails, so does the copy
            _copy_file(path, kept)
        sync(kept.parent)


def _copy_file(path: Path, kept: Path) -> None:
    """Copy a closed database to the file `kept`, which is synced; its name is not."""
    _create_file(kept)
    shutil.copyfile(path, kept)
    sync(kept)


def put_in_place(new: Path, path: Path) -> None:
    """Durably replace `path` by the closed database `new`. Raises StateError."""
    with _faults(path):
        sync(new)
        os.replace(new, path)
        sync(path.parent)
