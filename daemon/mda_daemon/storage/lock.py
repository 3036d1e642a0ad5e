"""The lock of a state folder: held by one daemon that writes, or by any number of commands that read."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import DaemonError


def lock_exclusively(fd: int) -> bool:
    """Lock the open folder `fd` for the daemon, until `fd` is closed. False if it is locked already."""
    return _lock(fd, fcntl.LOCK_EX)


def in_use(path: Path) -> bool:
    """Whether a daemon or a command holds the lock of the state folder `path` now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


@contextlib.contextmanager
def shared_lock(folder: Path) -> Iterator[None]:
    """While open, no daemon can use this state folder. Raises DaemonError if one uses it now."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise DaemonError(
            f"{folder}: {exc.strerror}. The folder is the one of `state:` in the configuration; run this as "
            "the daemon's user, or as root"
        ) from exc
    try:
        if not _lock(fd, fcntl.LOCK_SH):
            raise DaemonError(f"{folder} is in use by a running daemon: stop it first")
        yield
    finally:
        os.close(fd)


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
