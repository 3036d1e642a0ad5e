"""The lock of a state folder: one daemon writes, or any number of commands read."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import DaemonError


def lock_exclusively(fd: int) -> bool:
    """Take the lock of the open folder `fd` as its one daemon, until it is closed. False where it is held."""
    return _lock(fd, fcntl.LOCK_EX)


def in_use(path: Path) -> bool:
    """Whether a daemon holds the lock of this state folder now."""
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
    """No daemon starts with this state folder meanwhile. Raises DaemonError where one uses it now."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise DaemonError(
            f"{folder}: {exc.strerror}. The folder is the one of `state:` in the configuration; run this as "
            "the daemon's user, or as root"
        ) from exc
    try:
        if not _lock(fd, fcntl.LOCK_SH):  # other readers do no harm
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
