"""The memories of the daemon: opened, backed up, and brought back where their files are damaged."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from mda_core.errors import MdaError, StateDamaged, StateError, StateMismatch
from mda_core.memory import Encodes, Memory
from mda_core.storage.database import files, put_in_place, remove

from ..config.schema import Config
from ..host.systemd import Notifier
from .backups import Backups
from .folder import StateFolder

log = logging.getLogger(__name__)

HOUR = 3600.0


class Spaces:
    """One memory a space, all of one thread: databases belong to the thread that opened them."""

    def __init__(self, config: Config, state: StateFolder, encoder: Encodes, notifier: Notifier) -> None:
        self._config = config
        self._state = state
        self._encoder = encoder
        self._notifier = notifier
        self._backups = Backups(state.path, config.backup.keep)
        self._memories: dict[str, Memory] = {}
        self._due: dict[str, float] = {}
        self._saved: dict[str, int] = {}
        self.damaged: dict[str, str] = {}
        """The spaces that wait to be recovered, and why."""
        self.recovered = 0

    def open(self, stack: ExitStack) -> Mapping[str, Memory]:
        """Open all of them; `stack` closes them. Raises StateError where one cannot be used."""
        stack.callback(self._close)
        for space in self._config.spaces:
            self._notifier.starting(f"opening {space}")
            try:
                self._memories[space] = self._open(space)
            except StateDamaged as exc:
                self.damaged[space] = str(exc)
                self.recover(space)
            age = self._backups.age_seconds(space)
            wait = 0.0 if age is None else max(0.0, self._config.backup.hours * HOUR - age)
            self._due[space] = time.monotonic() + wait
            self._backups.prune(space)
        return self._memories

    def _open(self, space: str) -> Memory:
        path = self._state.database(space)
        recovered = _recovered(path)
        if recovered.exists():  # it stopped on the way
            if path.exists():
                remove(recovered)
            else:
                put_in_place(recovered, path)
        if not path.exists() and (backups := self._backups.of(space)):
            log.warning(
                "%s is gone, so a new memory begins, and its backups will make way for new ones. To go on "
                "from %s, stop the daemon and restore it",
                *(path, backups[0]),
            )
        before = set(path.parent.glob(f"{path.name}.format*"))
        memory = self._load(space, path)
        for kept in set(path.parent.glob(f"{path.name}.format*")) - before:
            log.warning("upgraded %s; the file as it was is kept as %s", path, kept.name)
        log.info("opened %s: %d units", path, memory.capacity)
        return memory

    def _load(self, space: str, path: Path) -> Memory:
        return Memory.open(path, units=self._config.spaces[space].units, encoder=self._encoder)

    def _close(self) -> None:
        with ExitStack() as stack:
            for memory in self._memories.values():
                stack.callback(memory.close)

    # backups

    def back_up_due(self, between: Callable[[], None]) -> None:
        """Make the backups whose time has come, of spaces that have learned or forgotten something."""
        if not self._config.backup.keep:
            return
        now = time.monotonic()
        due = [s for s, at in self._due.items() if now >= at and self._changes(s) != self._saved.get(s, 0)]
        self.back_up(due, between)

    def back_up(self, spaces: Iterable[str], between: Callable[[], None]) -> None:
        """Make a backup of each now; one that cannot be made is tried again in an hour."""
        for space in spaces:
            self._notifier.progressed()
            try:
                self._back_up(space, between)
            except (MdaError, OSError) as exc:
                log.error("no backup of %s: %s", space, exc)
                if isinstance(exc, StateDamaged):
                    self.damaged[space] = str(exc)

    def _back_up(self, space: str, between: Callable[[], None]) -> None:
        self._due[space] = time.monotonic() + min(self._config.backup.hours, 1.0) * HOUR
        changes = self._changes(space)
        path = self._backups.make(space, self._memories[space], between)
        self._due[space] = time.monotonic() + self._config.backup.hours * HOUR
        self._saved[space] = changes
        log.info("made the backup %s", path)

    def _changes(self, space: str) -> int:
        try:
            return self._memories[space].changes
        except MdaError:
            return 0

    def forgotten(self, space: str) -> None:
        """Something was forgotten: what was kept of it goes. A new backup comes within the hour.

        Raises OSError.
        """
        self._backups.drop(space, self._state.database(space))
        self._saved.pop(space, None)
        wait = min(self._config.backup.hours, 1.0) * HOUR
        self._due[space] = min(self._due.get(space, 0.0), time.monotonic() + wait)

    # damage

    def recover(self, space: str) -> None:
        """Go on without a damaged file: from the newest good backup and what can still be read of the file,
        which is moved aside. Wherever this stops, it is the damaged file or all of what comes of it.

        Raises StateError or OSError where the disk does not let it; then it can be asked for again.
        """
        self._recover(space, self.damaged[space])
        del self.damaged[space]

    def _recover(self, space: str, why: str) -> None:
        between = self._between(space)
        path = self._state.database(space)
        _read(path)
        old = self._memories.get(space)
        if old is not None:  # closed it stays until another takes its place: whoever asks it gets an error
            with contextlib.suppress(StateError):
                old.close(checkpoint=False)
            if self._sound(space, path, between):
                log.warning("%s; read again it is sound", why)
                return
        recovered = _recovered(path)
        remove(recovered)
        memory, since = self._newest(space, recovered)
        with memory:
            found = memory.rescue(path, between)
        moved = self._backups.quarantine(path)
        put_in_place(recovered, path)
        self._memories[space] = self._open(space)
        self.recovered += 1
        log.error("%s; the damaged file is kept as %s", why, moved.name)
        log.warning(
            "%s goes on from %s, with %d events read from the damaged file (%d units of it were lost)",
            *(path, since, found.events, found.lost),
        )

    def _sound(self, space: str, path: Path, between: Callable[[], None]) -> bool:
        """Whether the file is whole after all, for a disk that fails while it reads looks like damage too;
        then its memory is open again. Raises StateError where the disk fails still.
        """
        try:
            memory = self._load(space, path)
        except StateDamaged:
            return False
        try:
            memory.check(between)
        except BaseException as exc:
            memory.close(checkpoint=False)
            if isinstance(exc, StateDamaged):
                return False
            raise
        self._memories[space] = memory
        return True

    def _newest(self, space: str, path: Path) -> tuple[Memory, str]:
        for backup in self._backups.of(space):
            try:
                self._backups.restore(backup, path)
                return self._load(space, path), f"the backup {backup.name}"
            except (StateDamaged, StateMismatch) as exc:
                log.error("the backup %s cannot be used: %s", backup.name, exc)
                remove(path)
                backup.unlink(missing_ok=True)
        return self._load(space, path), "an empty memory, for there is no good backup"

    def _between(self, space: str) -> Callable[[], None]:
        started = time.monotonic()

        def between() -> None:
            self._notifier.progressed()
            self._notifier.starting(f"recovering {space}, {time.monotonic() - started:.0f} s so far")

        return between


def _recovered(path: Path) -> Path:
    """Where the memory is made that takes the place of a damaged one."""
    return path.with_name(f"{path.name}.recovered")


def _read(path: Path) -> None:
    """Raise OSError where the disk cannot give the bytes of the file, whatever they are."""
    for each in files(path):
        if each.exists():
            with each.open("rb") as file:
                while file.read(1 << 20):
                    pass
