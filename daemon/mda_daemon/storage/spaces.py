"""Opens the memories of the daemon, backs them up, and recovers those whose files are damaged.

Everything here belongs to the worker's thread. Recovery writes the new memory to `<space>.db.recovered`,
moves the damaged file aside, and only then puts the new one in place: wherever a power cut stops this, the
next start finds either the damaged file or the complete new one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from mda_core.encoding.encodes import Encodes
from mda_core.errors import EncoderMismatch, MdaError, StateDamaged, StateError, StateMismatch
from mda_core.memory import Memory
from mda_core.reencoding import discard
from mda_core.storage.database import files, put_in_place, remove
from mda_core.storage.store import before_reencode

from ..config.schema import Config
from ..host.systemd import Notifier
from .backups import Backups
from .folder import StateFolder
from .reencodings import Reencodings

log = logging.getLogger(__name__)

HOUR_SECONDS = 3600.0
# A backup that failed, and the first one after something was forgotten, is made after at most this long.
RETRY_HOURS = 1.0


class Spaces:
    """The memories by space. Only for the thread that calls `open`: a database belongs to its thread."""

    def __init__(
        self,
        config: Config,
        state: StateFolder,
        encoder: Encodes,
        notifier: Notifier,
        earlier: Callable[[str], Encodes | None] = lambda fingerprint: None,
    ) -> None:
        """earlier: loads the encoder with a fingerprint; None if it cannot be found."""
        self._config = config
        self._state = state
        self._encoder = encoder
        self._notifier = notifier
        self._backups = Backups(state.path, config.backup.keep)
        self._reencodings = Reencodings(encoder, earlier, notifier)
        self._memories: dict[str, Memory] = {}
        self._backup_due: dict[str, float] = {}  # monotonic seconds
        self._backed_up: dict[str, int] = {}  # the memory's count of changes at its newest backup
        self.damaged: dict[str, str] = {}
        """The spaces that need to be recovered, with the error that showed it."""
        self.recovered = 0
        """How many damaged files were replaced."""

    def open(self, stack: ExitStack) -> Mapping[str, Memory]:
        """Open all memories; `stack` closes them. Raises StateError if one cannot be used."""
        stack.callback(self._close)
        for space in self._config.spaces:
            self._notifier.starting(f"opening {space}")
            try:
                self._memories[space] = self._open(space)
            except StateDamaged as exc:
                self.damaged[space] = str(exc)
                self.recover(space)
            age = self._backups.age_seconds(space)
            wait = 0.0 if age is None else max(0.0, self._config.backup.hours * HOUR_SECONDS - age)
            self._backup_due[space] = time.monotonic() + wait
            self._backups.prune(space)
        return self._memories

    def _open(self, space: str) -> Memory:
        path = self._state.database(space)
        recovered = _recovery_path(path)
        if recovered.exists() and not path.exists():  # a recovery was interrupted
            self._backups.finish_quarantine(path)
            put_in_place(recovered, path)
        _drop_recovery(path)  # possibly incomplete
        if not path.exists() and (backups := self._backups.of(space)):
            log.warning(
                "%s is gone, so a new memory begins, and its backups will make way for new ones. To go on "
                "from %s, stop the daemon and restore it",
                *(path, backups[0]),
            )
        before = set(path.parent.glob(f"{path.name}.format*"))
        memory = self._load(space, path)
        for old in set(path.parent.glob(f"{path.name}.format*")) - before:
            log.warning("upgraded %s; the file as it was is kept as %s", path, old.name)
        log.info("opened %s: %d units", path, memory.capacity)
        return memory

    def _load(self, space: str, path: Path, *, at_once: bool = False) -> Memory:
        """Open a memory. One of another encoder is encoded anew: with at_once=True before this returns,
        otherwise while it is used, if its encoder can be found. Raises StateError."""
        units, encoder = self._config.spaces[space].units, self._encoder
        try:
            return Memory.open(path, units=units, encoder=encoder)
        except EncoderMismatch as exc:
            if not (at_once or self._config.encoder.reencode):
                raise
            other = None if at_once else self._reencodings.earlier(space, exc)
            if other is None:
                self._reencodings.run(space, path)
                return Memory.open(path, units=units, encoder=encoder)
            memory = Memory.open(path, units=units, encoder=other)
            self._reencodings.begin(space, memory)
            return memory

    def _close(self) -> None:
        with ExitStack() as stack:
            for memory in self._memories.values():
                stack.callback(memory.close)

    def keep_paused(self, paused: bool) -> None:
        """Store durably whether learning is paused by hand. Raises OSError."""
        self._state.set_paused(paused)

    # Another encoder

    @property
    def reencode_at(self) -> float:
        """When `reencode` has something to do again, in monotonic seconds."""
        return self._reencodings.due_at

    def reencode(self, progress: Callable[[], None]) -> None:
        """Encode the next few texts of a memory of another encoder, if there is one. An error is logged, and
        it is tried again later.

        progress: called now and then when the last of them is done, which takes seconds; may recall.
        """
        space = self._reencodings.space
        if space is None:
            return
        try:
            done = self._reencodings.step(progress)
        except StateDamaged as exc:
            self.damaged[space] = str(exc)
            return
        if done and self._config.backup.keep:
            self._backed_up.pop(space, None)  # the backups are of the encoder before
            self._backup_due[space] = time.monotonic()

    # Backups

    def back_up_due(self, progress: Callable[[], None]) -> None:
        """Make the backups that are due, of the memories that have changed since their last one.

        `progress` is called now and then.
        """
        if not self._config.backup.keep:
            return
        now = time.monotonic()
        due = [space for space, at in self._backup_due.items() if now >= at and self._has_changed(space)]
        self.back_up(due, progress)

    def back_up(self, spaces: Iterable[str], progress: Callable[[], None]) -> None:
        """Make a backup of each space now. One that fails is logged, and tried again in an hour.

        `progress` is called now and then.
        """
        for space in spaces:
            self._notifier.progressed()
            try:
                self._back_up(space, progress)
            except (MdaError, OSError) as exc:
                log.error("no backup of %s: %s", space, exc)
                if isinstance(exc, StateDamaged):
                    self.damaged[space] = str(exc)

    def _back_up(self, space: str, progress: Callable[[], None]) -> None:
        self._backup_due[space] = time.monotonic() + self._retry_seconds
        changes = self._changes(space)
        path = self._backups.make(space, self._memories[space], progress)
        self._backup_due[space] = time.monotonic() + self._config.backup.hours * HOUR_SECONDS
        self._backed_up[space] = changes
        log.info("made the backup %s", path)

    @property
    def _retry_seconds(self) -> float:
        return min(self._config.backup.hours, RETRY_HOURS) * HOUR_SECONDS

    def _has_changed(self, space: str) -> bool:
        """Whether the memory has changed since its last backup, or since it was opened."""
        return self._changes(space) != self._backed_up.get(space, 0)

    def _changes(self, space: str) -> int:
        try:
            return self._memories[space].changes
        except MdaError:
            return 0

    def forgotten(self, space: str) -> None:
        """Remove the backups of a space in which something was forgotten; the next is due within an hour.

        Raises OSError.
        """
        self._backups.drop(space, self._state.database(space))
        self._backed_up.pop(space, None)
        due = time.monotonic() + self._retry_seconds
        self._backup_due[space] = min(self._backup_due.get(space, 0.0), due)

    # Recovery

    def recover(self, space: str) -> None:
        """Replace a damaged file by its newest sound backup, plus what can still be read of the damaged file.

        The damaged file is moved aside. Raises StateError or OSError if the disk fails; call it again later.
        """
        self._recover(space, self.damaged[space])
        del self.damaged[space]

    def _recover(self, space: str, why: str) -> None:
        progress = self._progress(space)
        path = self._state.database(space)
        _check_readable(path)
        old = self._memories.get(space)
        if old is not None:  # stays in place, closed, until it is replaced: using it raises an error
            with contextlib.suppress(StateError):
                old.close(checkpoint=False)
            self._reencodings.drop(space)
            if self._reopen_if_sound(space, path, progress):
                log.warning("%s; read again it is sound", why)
                return
            self._reencodings.drop(space)
        recovered = _recovery_path(path)
        _drop_recovery(path)
        memory, origin = self._restore_newest(space, recovered)
        with memory:
            found = memory.rescue(path, progress)
        moved = self._backups.quarantine(path)
        put_in_place(recovered, path)
        self._memories[space] = self._open(space)
        self.recovered += 1
        log.error("%s; the damaged file is kept as %s", why, moved.name)
        log.warning(
            "%s goes on from %s, with %d events read from the damaged file (%d units of it were lost)",
            *(path, origin, found.events, found.lost),
        )

    def _reopen_if_sound(self, space: str, path: Path, progress: Callable[[], None]) -> bool:
        """Check the file again, because a temporary read error of the disk looks like damage too.

        If it is sound, its memory is opened and True returned. Raises StateError if the disk still fails.
        """
        try:
            memory = self._load(space, path)
        except StateDamaged:
            return False
        try:
            memory.check(progress)
        except BaseException as exc:
            memory.close(checkpoint=False)
            if isinstance(exc, StateDamaged):
                return False
            raise
        self._memories[space] = memory
        return True

    def _restore_newest(self, space: str, path: Path) -> tuple[Memory, str]:
        """A memory at `path`, from the newest sound backup or else empty, and which of these in words."""
        for backup in self._backups.of(space):
            try:
                self._backups.restore(backup, path)
                memory = self._load(space, path, at_once=True)
                remove(before_reencode(path))  # a copy of the backup
                return memory, f"the backup {backup.name}"
            except (StateDamaged, StateMismatch) as exc:
                log.error("the backup %s cannot be used: %s", backup.name, exc)
                remove(path)
                backup.unlink(missing_ok=True)
        return self._load(space, path), "an empty memory, for there is no good backup"

    def _progress(self, space: str) -> Callable[[], None]:
        started = time.monotonic()

        def progress() -> None:
            self._notifier.progressed()
            self._notifier.starting(f"recovering {space}, {time.monotonic() - started:.0f} s so far")

        return progress


def _recovery_path(path: Path) -> Path:
    """Where the replacement of a damaged file is made."""
    return path.with_name(f"{path.name}.recovered")


def _drop_recovery(path: Path) -> None:
    """Delete what an interrupted recovery has left. Raises StateError."""
    recovered = _recovery_path(path)
    remove(recovered)
    remove(before_reencode(recovered))
    discard(recovered)


def _check_readable(path: Path) -> None:
    """Read the whole file. Raises OSError if the disk fails."""
    for each in files(path):
        if each.exists():
            with each.open("rb") as file:
                while file.read(1 << 20):
                    pass
