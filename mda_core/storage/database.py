"""One SQLite file: made, opened, synced, copied, and what its faults mean. Only this module knows sqlite3."""

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

PAGE_BYTES = 2048
"""One unit's row with its key fills a page: a unit that changes rewrites no other."""
LOG_PAGES = 4000
"""Pages in the write-ahead log before they move to the database: a page written often moves once."""
COPY_PAGES = 256
"""Pages copied between two looks at what else there is to do."""

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
_READING = ("cache_size = -1024", "temp_store = MEMORY")
# What the disk, the system or another process does; any other fault is one of the file's contents.
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
_LOG_ENDS = ("-wal", "-shm", "-journal")


class Database:
    """A connection to the file `path`. Raises StateError, or StateDamaged where the contents are at fault.

    After a fault inside `transaction` the connection stays: what was committed before is still read
    through it, and what failed is overwritten by the next commit. To close it and open the file again
    could bring back a commit whose sync had failed.

    write=False: only read, and make no file beside it either. Nobody may write to it meanwhile.
    damaged=True: open it though its log has lost commits.
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
                for pragma in _PRAGMAS if write else _READING:
                    self._db.execute(f"PRAGMA {pragma}").fetchall()
                if write:
                    sync(path.parent)  # SQLite goes on where the log's name cannot be made durable
            except BaseException:
                self._db.close()
                raise

    @property
    def version(self) -> int:
        found: int = self.execute("PRAGMA user_version").fetchone()[0]
        return found

    def faults(self) -> contextlib.AbstractContextManager[None]:
        """Whatever goes wrong inside, told as StateError."""
        return _faults(self.path)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with self.faults():
            return self._db.execute(sql, values)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """One row after the other; a fault while reading on is told like any other."""
        with self.faults():
            # Not `yield from`: left half read it closes the cursor, which raises where the file is closed.
            for row in self._db.execute(sql, values):  # noqa: UP028
                yield row

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self.faults():
            self._db.executemany(sql, rows)

    def function(self, name: str, arguments: int, call: Callable[..., Any]) -> None:
        self._db.create_function(name, arguments, call, deterministic=True)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside becomes durable at its end, or nothing of it."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # the first fault is the one to report
                self._db.execute("ROLLBACK")
            raise

    def flush(self) -> None:
        """Move the write-ahead log into the database and empty it: what was deleted is in no file then."""
        busy = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise StateError(f"{self.path}: the write-ahead log cannot be emptied, another process reads it")
        with self.faults():
            log = Path(f"{self.path}-wal")
            if log.exists():
                sync(log)  # SQLite does not: after a power cut what was deleted would be in it again

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the file's structure, the first few; empty where it is sound."""
        found = [str(text) for (text,) in self.rows("PRAGMA quick_check(8)")]
        return [] if found == ["ok"] else found

    def copy(self, target: Path, between: Callable[[], None] = lambda: None) -> None:
        """Write what is committed to the new file `target`, synced; `between` is called every 512 KB."""
        with self.faults():
            _make(target)
            with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
                self._db.backup(copy, pages=COPY_PAGES, progress=lambda *_: between())
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            sync(target)
            sync(target.parent)

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        with self.faults():
            return sum(p.stat().st_size for p in files(self.path) if p.exists())

    def close(self) -> None:
        with self.faults():
            self._db.close()


def create(path: Path, schema: str, version: int) -> None:
    """A new database in the file `path`, which is there whole or not at all. Raises StateError."""
    stale = [p for p in files(path)[1:] if p.exists()]
    if stale:
        raise StateDamaged(f"{path}: the file is gone, but {stale[0].name} is there")
    new = _beside(path)
    with _faults(path):
        _make(new)
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA synchronous = EXTRA")
            db.executescript(f"BEGIN IMMEDIATE;{schema}PRAGMA user_version = {version};COMMIT;")
        put_in_place(new, path)


def upgrade(path: Path, version: int, change: Callable[[Execute], None], kept: Path) -> None:
    """Turn the file into one of format `version`; it is the old one or the new one, whenever it stops.

    A copy of the old one stays in the file `kept`. Raises StateError, and StateDamaged where the old
    file cannot be read.
    """
    new = _beside(path)
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
        _make(kept)
        shutil.copyfile(path, kept)
        sync(kept)
        put_in_place(new, path)


def files(path: Path) -> list[Path]:
    """The database's own file, and those that SQLite may keep beside it."""
    return [path, *(Path(f"{path}{end}") for end in _LOG_ENDS)]


def has_log(path: Path) -> bool:
    """Whether a part of what was committed is still in the write-ahead log beside `path`. Raises OSError."""
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
        raise _told(path, exc) from exc
    except (OverflowError, UnicodeDecodeError) as exc:  # too large for a column, not UTF-8
        raise StateDamaged(f"{path}: {exc}") from exc


def _told(path: Path, exc: sqlite3.Error | OSError) -> StateError:
    if isinstance(exc, OSError):
        return StateError(f"{path}: {exc.strerror or exc}")
    # The low byte is the kind of the fault; without a code the bytes could not be decoded.
    code = getattr(exc, "sqlite_errorcode", None)
    if isinstance(exc, sqlite3.ProgrammingError) or (code is not None and code & 0xFF in _NOT_DAMAGE):
        return StateError(f"{path}: {exc}")
    # SQLite's own words would show the text, in a log for one.
    return StateDamaged(f"{path}: {'a text in it is not UTF-8' if code is None else exc}")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def remove(path: Path) -> None:
    """Remove the database and what SQLite keeps beside it. Raises StateError."""
    with _faults(path):
        for each in files(path):
            each.unlink(missing_ok=True)


def _make(path: Path) -> None:
    """An empty file for this user alone, in place of any other."""
    remove(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def put_in_place(new: Path, path: Path) -> None:
    """Have the closed database `new` take the place of `path`, durably. Raises StateError."""
    with _faults(path):
        sync(new)
        os.replace(new, path)
        sync(path.parent)
