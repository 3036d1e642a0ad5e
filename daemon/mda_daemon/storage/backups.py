"""Copies of the memories on the same disk, few and whole; and what was damaged, moved aside.

In the state folder: `backups/<space>-20261123T101500Z.db`, and `<space>.db.damaged-20261123T101500Z`.
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
    """The newest `keep` copies of each space. Raises OSError and StateError where the disk does not do it."""

    def __init__(self, state: Path, keep: int, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._folder = state / "backups"
        self.keep = keep
        self._clock = clock

    def of(self, space: str) -> list[Path]:
        """The copies of a space, newest first."""
        return _stamped(self._folder, rf"{re.escape(space)}-({_STAMPED})\.db")

    def age_seconds(self, space: str) -> float | None:
        """Since the newest copy was made; None without one, or where the clock has gone back since."""
        newest = next(iter(self.of(space)), None)
        if newest is None:
            return None
        age = self._clock() - _time(newest).timestamp()
        return age if age >= 0 else None

    def make(self, space: str, memory: Memory, between: Callable[[], None] = lambda: None) -> Path:
        """A new copy, read through and found sound, before an old one goes."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{space}-{self._stamp(self.of(space))}.db"
        memory.backup(path, between)
        self.prune(space)
        return path

    def prune(self, space: str) -> None:
        """Remove what is beyond the newest `keep`."""
        for old in self.of(space)[self.keep :]:
            old.unlink(missing_ok=True)

    def restore(self, backup: Path, path: Path) -> None:
        """Have a copy take the place of the memory in `path`, where nothing is."""
        new = path.with_name(f"{path.name}.new")
        shutil.copyfile(backup, new)
        new.chmod(0o600)
        put_in_place(new, path)

    def quarantine(self, path: Path) -> Path:
        """Move a damaged memory aside, in place of one that was moved before; where it is then."""
        earlier = self.damaged(path)
        moved = path.with_name(f"{path.name}.damaged-{self._stamp(earlier)}")
        for each in files(path):
            if each.exists():
                os.replace(each, f"{moved}{each.name.removeprefix(path.name)}")
        for old in earlier:
            old.unlink(missing_ok=True)
        return moved

    def damaged(self, path: Path) -> list[Path]:
        """What was moved aside of the memory in `path`, newest first."""
        return _stamped(path.parent, rf"{re.escape(path.name)}\.damaged-({_STAMPED})(?:-wal|-shm|-journal)?")

    def drop(self, space: str, path: Path) -> None:
        """Remove all that may hold what was forgotten."""
        half = _stamped(self._folder, rf"{re.escape(space)}-({_STAMPED})\.db\.new.*")
        for old in (*self.of(space), *half, *self.damaged(path)):
            old.unlink(missing_ok=True)
            sync(old.parent)  # a power cut must not bring it back

    def _stamp(self, earlier: list[Path]) -> str:
        """Now; but after what is there, also where the clock has gone back."""
        try:
            now = datetime.fromtimestamp(self._clock(), UTC)
        except (OverflowError, ValueError, OSError):
            now = datetime.fromtimestamp(0, UTC)
        if earlier:
            now = max(now, _time(earlier[0]) + timedelta(seconds=1))
        return now.strftime(_STAMP)


def _stamped(folder: Path, pattern: str) -> list[Path]:
    found = [path for path in folder.iterdir() if re.fullmatch(pattern, path.name)] if folder.is_dir() else []
    return sorted(found, key=_time, reverse=True)


def _time(path: Path) -> datetime:
    match = re.findall(_STAMPED, path.name)
    try:
        return datetime.strptime(match[-1], _STAMP).replace(tzinfo=UTC)
    except (ValueError, IndexError):
        return datetime.fromtimestamp(0, UTC)
