"""Chooses the version of MQTT for a broker, and when to try the other one."""

from __future__ import annotations

import time
from collections.abc import Callable

# If a broker that spoke MQTT 5 hangs up this often in a row, it is assumed not to speak it any more.
HANG_UPS = 2
# The longest pause between changes of the version.
LONGEST_SECONDS = 60.0


class Fallback:
    """Starts with MQTT 5, and changes to 3.1.1 (4 on the wire) if a broker seems not to speak it.

    The network thread reports what happened. Each report returns whether a change is wanted; if so, there
    are no more reports until the owner's thread has called `change`, once it is `due`.
    """

    def __init__(self, wanted: str | int, clock: Callable[[], float] = time.monotonic) -> None:
        """wanted: `mqtt.version` of the configuration; clock: monotonic seconds."""
        self.version = 4 if wanted == "3.1.1" else 5
        self.wanted = False
        """Whether a change is wanted."""
        self._free = wanted == "auto"
        self._clock = clock
        self._hung_up = 0
        self._spoke_5 = False
        self._by_guess = False  # changed because the broker hung up, not because it said why
        self._changes = 0
        self._not_before = 0.0

    @property
    def name(self) -> str:
        """The version as in the configuration: `5` or `3.1.1`."""
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
        # A broker that spoke MQTT 5 before may just have too many connections for a while.
        patient = self.version == 5 and self._spoke_5 and self._hung_up < HANG_UPS
        return self._free and not patient and self._want(by_guess=self.version == 5)

    def lost(self) -> bool:
        """A working connection ended. If the version was changed on a guess, this is a chance to go back."""
        return self._by_guess and self._want(by_guess=False)

    def _want(self, *, by_guess: bool) -> bool:
        self._by_guess = by_guess
        self._hung_up = 0
        self.wanted = True
        return True

    # The owner's thread

    @property
    def due(self) -> bool:
        """Whether a wanted change may be made now: the first at once, later ones after growing pauses."""
        return self.wanted and self._clock() >= self._not_before

    def change(self) -> None:
        """Change to the other version."""
        pause = min(2.0**self._changes, LONGEST_SECONDS) if self._changes else 0.0
        self._not_before = self._clock() + pause
        self._changes += 1
        self.version = 4 if self.version == 5 else 5
        self.wanted = False
