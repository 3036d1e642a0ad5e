"""State files read by a command, while no daemon writes to them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mda_core.errors import StateError
from mda_core.storage.database import files, has_log
from mda_core.storage.store import OlderFormat, Store
from mda_core.transfer import StateFile

from ..errors import DaemonError
from ..text import quantity

COPIES = Path("/var/tmp")
"""For copies of state files: on a disk, where /tmp may be RAM."""
DAMAGED = (
    "Way out: start the daemon. It moves the file aside and goes on from the newest sound backup and "
    "from what it can still read of the file"
)


@contextlib.contextmanager
def open_state_file(path: Path) -> Iterator[StateFile]:
    """The state file, as it is. Where a daemon was killed, a copy into which its last commits were moved;
    where it has an older format, a copy that was upgraded.

    Raises StateError, also of what is read inside; DaemonError where there is no room for the copy.
    """
    try:
        log = has_log(path)
    except OSError as exc:
        raise StateError(f"{path}: {exc.strerror}") from exc
    why = "has a write-ahead log"
    if not log:
        try:
            file = StateFile(path)
        except OlderFormat:
            why = "has an older format"
        else:
            with file:
                yield file
            return
    with place(path) as copy:
        try:
            fill(path, copy)
        except NoRoom as exc:
            raise DaemonError(
                f"{path} {why}, and for a copy there is no room in {copy.parent} ({quantity(2 * exc.size)}): "
                "make room there, or start the daemon once with this file and stop it"
            ) from exc
        except OSError as exc:
            raise DaemonError(f"{path}: no copy could be made in {copy.parent}: {exc.strerror}") from exc
        Store(copy).close()
        with StateFile(copy) as file:
            yield file


# a copy, which may be written to


class NoRoom(Exception):
    """A copy of `size` bytes needs twice as much: opening it writes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no room for a copy of {size} bytes")
        self.size = size


@contextlib.contextmanager
def place(path: Path) -> Iterator[Path]:
    """Where a copy of a state file goes: for this user alone, and gone at the end.

    A StateError inside that names the copy names the file instead.
    """
    with tempfile.TemporaryDirectory(prefix="mda-", dir=COPIES if COPIES.is_dir() else None) as folder:
        copy = Path(folder) / path.name
        try:
            yield copy
        except StateError as exc:
            raise type(exc)(str(exc).replace(str(copy), str(path))) from exc


def fill(path: Path, copy: Path) -> int:
    """Copy the file and its write-ahead log; how many bytes. Raises NoRoom before the first one, OSError."""
    parts = [path, *(log for log in files(path)[1:2] if log.exists())]
    size = sum(part.stat().st_size for part in parts)
    if shutil.disk_usage(copy.parent).free < 2 * size:
        raise NoRoom(size)
    for part in parts:
        shutil.copyfile(part, copy.with_name(part.name))
    return size
