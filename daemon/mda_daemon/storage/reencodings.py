"""Memories of another encoder than the configured one, encoded anew while the daemon uses them.

Each step encodes a few texts, between requests and events. Until the last one is done, the memory answers and
learns with the encoder that it was learned with. Everything here belongs to the worker's thread.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from mda_core.encoding.encodes import Encodes
from mda_core.errors import EncoderMismatch, MdaError, StateDamaged
from mda_core.memory import Memory
from mda_core.reencoding import Reencoding, reencode

from ..host.systemd import Notifier

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long to wait after an error, of a full disk for example."""
LOGGED_PERCENT = 10
"""A line of the log for this much."""


class Reencodings:
    """The memories that are to be encoded anew, one after the other."""

    def __init__(self, encoder: Encodes, load: Callable[[str], Encodes | None], notifier: Notifier) -> None:
        """encoder: the configured one. load: loads the one with a fingerprint; None if it cannot be found."""
        self._encoder = encoder
        self._load = load
        self._notifier = notifier
        self._waiting: dict[str, Memory] = {}
        self._running: Reencoding | None = None
        self._earlier: dict[str, Encodes] = {}
        self._retry_at = 0.0
        self._logged = 0

    @property
    def space(self) -> str | None:
        """The space whose memory is being encoded, None if there is none."""
        return next(iter(self._waiting), None)

    @property
    def due_at(self) -> float:
        """When there is something to do, in monotonic seconds."""
        return self._retry_at if self._waiting else math.inf

    def earlier(self, space: str, mismatch: EncoderMismatch) -> Encodes | None:
        """The encoder that a memory was learned with; None if it cannot be loaded. The log says which."""
        wanted = mismatch.fingerprint
        if wanted not in self._earlier:
            self._notifier.starting(f"loading the encoder {mismatch.name}")
            try:
                found = self._load(wanted)
            except (MdaError, MemoryError) as exc:
                log.error("the encoder %s cannot be loaded: %s", mismatch.name, exc)
                found = None
            if found is not None:
                self._earlier[wanted] = found
        encoder = self._earlier.get(wanted)
        names = (space, mismatch.name, self._encoder.name)
        if encoder is None:
            log.warning(
                "%s was learned with the encoder %s and is encoded anew with %s, before the first answer, "
                "for the former is not here any more",
                *names,
            )
        else:
            log.warning(
                "%s was learned with the encoder %s and is encoded anew with %s; until that is done, the "
                "former answers",
                *names,
            )
        return encoder

    def run(self, space: str, path: Path) -> None:
        """Encode the memory in the file `path` anew at once. Raises StateError and ModelError."""
        self._logged = 0

        def progress(done: int, total: int) -> None:
            self._notifier.progressed()
            self._notifier.starting(f"encoding {space} anew, {done} of {total}")
            self._log(space, done, total)

        result = reencode(path, self._encoder, progress)
        if result.kept is not None:
            self._log_end(space, result.units, result.kept)

    def begin(self, space: str, memory: Memory) -> None:
        """From now on `step` encodes this memory too, which is open with its own encoder."""
        self._waiting[space] = memory

    def drop(self, space: str) -> None:
        """Do not go on with the memory of this space, which is closed. What is done stays in its file."""
        if space == self.space:
            self._running = None
        self._waiting.pop(space, None)

    def step(self, progress: Callable[[], None]) -> bool:
        """Encode the next few texts; True if the memory has the new encoder now.

        `progress` is called now and then, and may recall. After an error, which is logged, it is tried again
        later. Raises StateDamaged if the memory is damaged.
        """
        space = self.space
        if space is None or time.monotonic() < self._retry_at:
            return False
        memory = self._waiting[space]
        try:
            done = self._step(space, memory, progress)
        except StateDamaged:
            raise
        except (MdaError, OSError) as exc:
            log.error("%s is not encoded anew yet: %s", space, exc)
            self._running = None
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return False
        self._retry_at = 0.0
        if done:
            self._running = None
            del self._waiting[space]
            if not self._waiting:
                self._earlier.clear()  # frees their sessions
        return done

    def _step(self, space: str, memory: Memory, progress: Callable[[], None]) -> bool:
        if self._running is None:
            units = memory.stats()["units"]  # reads the file again after an error
            if memory.encoder is self._encoder:
                return True
            assert isinstance(units, dict)
            self._running = memory.reencoding(self._encoder)
            done = self._running.done
            self._logged = 100 * done // max(units["used"], 1)
            log.info("encoding %s anew: %d of %d done before", space, done, units["used"])
        if self._running.step():
            self._log(space, self._running.done, self._running.total)
            return False
        total = self._running.total
        kept = memory.finish_reencoding(progress)
        self._log_end(space, total, kept)
        return True

    def _log(self, space: str, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent >= self._logged + LOGGED_PERCENT:
            self._logged = percent
            log.info("encoding %s anew: %d of %d", space, done, total)

    def _log_end(self, space: str, units: int, kept: Path) -> None:
        log.warning(
            "%s: %d units have vectors of the encoder %s now; the file as it was is kept as %s until "
            "something is forgotten",
            *(space, units, self._encoder.name, kept.name),
        )
