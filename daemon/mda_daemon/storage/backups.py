"""Backups of the memories on the same disk, and damaged state files that were moved aside.

In the state folder these are `backups/<space>-20261123T101500Z.db` and
`<space>.db.damaged-20261123T101500Z`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mda_core.storage.database import files, put_in_place, sync

if TYPE_CHECKING:
    from mda_core.memory import Memory

log = logging.getLogger(__name__)

_STAMP = "%Y%m%dT%H%M%SZ"
_STAMPED = r"\d{8}T\d{6}Z"


class Backups:
    """The newest `keep` backups of each space. Methods that write raise OSError if the disk fails."""

    def __init__(self, state: Path, keep: int, clock: Callable[[], float] = time.time) -> None:
        """state: the state folder; clock: returns epoch seconds."""
        self._state = state
        self._folder = state / "backups"
        self.keep = keep
        self._clock = clock

    def of(self, space: str) -> list[Path]:
        """The backups of a space, newest first."""
        return _stamped(self._folder, rf"{re.escape(space)}-({_STAMPED})\.db")

    def age_seconds(self, space: str) -> float | None:
        """Age of the newest backup; None if there is none, or if the clock was set back since."""
        newest = next(iter(self.of(space)), None)
        if newest is None:
            return None
        age = self._clock() - _stamp_time(newest).timestamp()
        return age if age >= 0 else None

    def make(self, space: str, memory: Memory, progress: Callable[[], None] = lambda: None) -> Path:
        """Make a backup and check it, then remove those beyond the newest `keep`; its path.

        `progress` is called now and then. Raises StateError or OSError if it fails.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{space}-{self._new_stamp(self.of(space))}.db"
        memory.backup(path, progress)
        self.prune(space)
        return path

    def prune(self, space: str) -> None:
        """Remove the backups beyond the newest `keep`."""
        for old in self.of(space)[self.keep :]:
            old.unlink(missing_ok=True)

    def restore(self, backup: Path, path: Path) -> None:
        """Copy a backup to `path`, where no file may exist; atomic."""
        new = path.with_name(f"{path.name}.new")
        shutil.copyfile(backup, new)
        new.chmod(0o600)
        put_in_place(new, path)

    def quarantine(self, path: Path) -> Path:
        """Move a damaged state file aside, and remove those that were moved before; its new path.

        Durable when it returns. The database goes before its write-ahead log: a power cut in between leaves a
        log without a database, which `finish_quarantine` recognises; a database without its log would pass
        for a whole one that lacks its last commits.
        """
        earlier = self.damaged(path)
        moved = path.with_name(f"{path.name}.damaged-{self._new_stamp(earlier)}")
        _move(path, moved)
        for old in earlier:
            old.unlink(missing_ok=True)
        sync(path.parent)
        return moved

    def finish_quarantine(self, path: Path) -> None:
        """Move a log aside whose database was moved before a power cut: SQLite would replay it over whatever
        takes its place."""
        moved = next((each for each in self.damaged(path) if re.search(rf"{_STAMPED}$", each.name)), None)
        if moved is not None and not path.exists():
            _move(path, moved)
            sync(path.parent)

    def damaged(self, path: Path) -> list[Path]:
        """The files of the memory in `path` that were moved aside, newest first."""
        return _stamped(path.parent, rf"{re.escape(path.name)}\.damaged-({_STAMPED})(?:-wal|-shm|-journal)?")

    def drop(self, space: str, path: Path) -> None:
        """Remove every backup and damaged file of a space, which may hold something that was forgotten."""
        unfinished = _stamped(self._folder, rf"{re.escape(space)}-({_STAMPED})\.db\.new.*")
        for old in (*self.of(space), *unfinished, *self.damaged(path)):
            old.unlink(missing_ok=True)
            sync(old.parent)  # so that a power cut does not bring it back

    def _new_stamp(self, earlier: list[Path]) -> str:
        """The time as a stamp, later than those of `earlier` even if the clock was set back."""
        try:
            now = datetime.fromtimestamp(self._clock(), UTC)
        except (OverflowError, ValueError, OSError):
            now = datetime.fromtimestamp(0, UTC)
        if earlier:
            now = max(now, _stamp_time(earlier[0]) + timedelta(seconds=1))
        return now.strftime(_STAMP)


def _move(path: Path, moved: Path) -> None:
    """Rename a database and what SQLite keeps beside it."""
    for each in files(path):
        if each.exists():
            os.replace(each, f"{moved}{each.name.removeprefix(path.name)}")


def _stamped(folder: Path, pattern: str) -> list[Path]:
    """The files in `folder` whose names match, by the time in their names, newest first."""
    found = [path for path in folder.iterdir() if re.fullmatch(pattern, path.name)] if folder.is_dir() else []
    return sorted(found, key=_stamp_time, reverse=True)


def _stamp_time(path: Path) -> datetime:
    match = re.findall(_STAMPED, path.name)
    try:
        return datetime.strptime(match[-1], _STAMP).replace(tzinfo=UTC)
    except (ValueError, IndexError):
        return datetime.fromtimestamp(0, UTC)
