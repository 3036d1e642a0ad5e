"""Which version of MQTT to speak to a broker, and when to try the other one."""

from __future__ import annotations

import time
from collections.abc import Callable

# A broker that spoke MQTT 5 and hangs up so often in a row is taken for one that does not.
HANG_UPS = 2
LONGEST_SECONDS = 60.0


class Fallback:
    """Version 5 first and 3.1.1 (4 on the wire) where a broker does not speak it, or seems not to.

    The network thread says what happened; each such call returns whether a change is wanted now, and
    nothing more is to be said until the owner's thread has made it, with `change`, once it is `due`.
    """

    def __init__(self, wanted: str | int, clock: Callable[[], float] = time.monotonic) -> None:
        """`wanted` is as in the configuration: `auto`, `5` or `3.1.1`."""
        self.version = 4 if wanted == "3.1.1" else 5
        self.wanted = False
        self._free = wanted == "auto"
        self._clock = clock
        self._hung_up = 0
        self._spoke_5 = False
        self._by_guess = False  # changed because the broker hung up, not because it said why
        self._changes = 0
        self._not_before = 0.0

    @property
    def name(self) -> str:
        return "5" if self.version == 5 else "3.1.1"

    # The network thread

    def spoke(self) -> None:
        """The broker answered in this version."""
        self._hung_up = 0
        self._spoke_5 = self._spoke_5 or self.version == 5
        self._changes = 0

    def unsupported(self) -> bool:
        """The broker says that it does not speak this version."""
        return self._free and self.version == 5 and self._want(by_guess=False)

    def hung_up(self) -> bool:
        """The broker ended the connection instead of answering, as old ones do."""
        self._hung_up += 1
        # Where it spoke MQTT 5 before, it may as well have too many connections for a while.
        patient = self.version == 5 and self._spoke_5 and self._hung_up < HANG_UPS
        return self._free and not patient and self._want(by_guess=self.version == 5)

    def lost(self) -> bool:
        """A connection ended that had worked: perhaps only a bad moment made it look like an old broker."""
        return self._by_guess and self._want(by_guess=False)

    def _want(self, *, by_guess: bool) -> bool:
        self._by_guess = by_guess
        self._hung_up = 0
        self.wanted = True
        return True

    # The owner's thread

    @property
    def due(self) -> bool:
        """The first change is made at once; a broker that hangs up on both versions is left in peace."""
        return self.wanted and self._clock() >= self._not_before

    def change(self) -> None:
        pause = min(2.0**self._changes, LONGEST_SECONDS) if self._changes else 0.0
        self._not_before = self._clock() + pause
        self._changes += 1
        self.version = 4 if self.version == 5 else 5
        self.wanted = False
