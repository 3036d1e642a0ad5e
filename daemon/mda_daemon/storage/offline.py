"""State files read by a command while no daemon writes to them."""

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
"""The folder for copies of state files: on disk, whereas /tmp may be in RAM."""
DAMAGED = (
    "Way out: start the daemon. It moves the file aside and goes on from the newest sound backup and "
    "from what it can still read of the file"
)


@contextlib.contextmanager
def open_state_file(path: Path) -> Iterator[StateFile]:
    """Open a state file to read it; the file itself is never changed.

    A private copy is opened instead if the file has a write-ahead log, which a killed daemon leaves behind
    and which the copy replays, or an older format, which the copy upgrades.

    Raises StateError if the file cannot be read, also for one raised inside the `with` block, and DaemonError
    if there is no room for the copy.
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
    with private_copy_path(path) as copy:
        try:
            copy_state_file(path, copy)
        except DiskFull as exc:
            raise DaemonError(
                f"{path} {why}, and for a copy there is no room in {copy.parent} ({quantity(2 * exc.size)}): "
                "make room there, or start the daemon once with this file and stop it"
            ) from exc
        except OSError as exc:
            raise DaemonError(f"{path}: no copy could be made in {copy.parent}: {exc.strerror}") from exc
        Store(copy).close()
        with StateFile(copy) as file:
            yield file


# Private copies


class DiskFull(Exception):
    """There is no room for a copy of `size` bytes: it needs twice as much, because opening it writes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no room for a copy of {size} bytes")
        self.size = size


@contextlib.contextmanager
def private_copy_path(path: Path) -> Iterator[Path]:
    """The path for a copy of the state file `path`, in a folder that only this user can read.

    The folder is removed at the end. A StateError raised inside the `with` block is raised again with the
    path of the original file instead of the copy's.
    """
    with tempfile.TemporaryDirectory(prefix="mda-", dir=COPIES if COPIES.is_dir() else None) as folder:
        copy = Path(folder) / path.name
        try:
            yield copy
        except StateError as exc:
            raise type(exc)(str(exc).replace(str(copy), str(path))) from exc


def copy_state_file(path: Path, copy: Path) -> int:
    """Copy a state file and its write-ahead log to `copy`; how many bytes.

    Raises DiskFull before anything is written, and OSError.
    """
    parts = [path, *(log for log in files(path)[1:2] if log.exists())]
    size = sum(part.stat().st_size for part in parts)
    if shutil.disk_usage(copy.parent).free < 2 * size:
        raise DiskFull(size)
    for part in parts:
        shutil.copyfile(part, copy.with_name(part.name))
    return size
