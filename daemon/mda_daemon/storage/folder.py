"""The state folder: private to this user, used by one daemon at a time."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from mda_core.errors import StateError
from mda_core.storage.database import put_in_place

from ..errors import DaemonError
from .lock import lock_exclusively

log = logging.getLogger(__name__)


class StateFolder:
    """Creates the folder (mode 0700) and holds its lock while open. New files of this process get mode 0600.

    Entering it raises DaemonError if the folder cannot be used, or is used by another daemon.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def database(self, space: str) -> Path:
        """The state file of a space."""
        return self.path / f"{space}.db"

    def __enter__(self) -> StateFolder:
        os.umask(0o077)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as exc:
            raise DaemonError(
                f"state: cannot use the folder {self.path}: {exc.strerror}. "
                "Name another with `state:`, or give this user the right to write there"
            ) from exc
        if not lock_exclusively(self._fd):
            raise DaemonError(
                f"state: {self.path} is in use by another daemon. Stop that one, or name another folder "
                "with `state:`"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def swap_filters(self, filters: list[str]) -> list[str]:
        """Keep the subscriptions of this session; the earlier ones that are no longer among them.

        Those must be unsubscribed: a broker keeps a session's subscriptions, so it would go on delivering for
        a filter that was removed from the configuration.
        """
        known = self.read_note("subscriptions")
        old = [item for item in known if isinstance(item, str)] if isinstance(known, list) else []
        if old != filters and not self.write_note("subscriptions", filters):
            return []  # the disk may be full: try again at the next start
        return [item for item in old if item not in filters]

    def read_note(self, name: str) -> Any:
        """The value that `write_note` kept under `name`, None if there is none or it cannot be read."""
        try:
            return json.loads((self.path / f"{name}.json").read_text())
        except (OSError, ValueError, RecursionError):
            return None

    def write_note(self, name: str, value: object) -> bool:
        """Keep a JSON value for the next start, durably: the old one or the new one is there whenever power
        fails. False if it could not be written."""
        path = self.path / f"{name}.json"
        new = path.with_suffix(".new")
        try:
            new.write_text(json.dumps(value))
            put_in_place(new, path)
        except (OSError, StateError):
            return False
        return True

    @property
    def session(self) -> bytes:
        """The broker's session that delivery ids in the memories refer to, empty if none was noted."""
        note = self.read_note("session")
        try:
            return bytes.fromhex(note) if isinstance(note, str) else b""
        except ValueError:
            return b""

    def keep_session(self, session: bytes) -> None:
        """Keep for the next start which of the broker's sessions counts the message ids from now on."""
        if not self.write_note("session", session.hex()):
            log.warning("the broker's session cannot be noted: after a kill, events may be learned twice")

    @property
    def paused(self) -> bool:
        """Whether learning is paused by hand, which outlasts a restart."""
        return (self.path / "paused").exists()

    def set_paused(self, paused: bool) -> None:
        """Pause or resume learning; durable when it returns. Raises OSError."""
        path = self.path / "paused"
        if paused:
            path.touch()
        else:
            path.unlink(missing_ok=True)
        if self._fd is not None:
            os.fsync(self._fd)
