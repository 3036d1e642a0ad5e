"""What can go wrong in the daemon and its command line, one root for all of it."""

from __future__ import annotations

from collections.abc import Sequence


class DaemonError(Exception):
    """Root of every error this package raises on purpose; the message is fit for a person."""


class ConfigError(DaemonError):
    """A configuration that cannot be used. `problems` holds every mistake found, not only the first."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{where}: {len(self.problems)} problem{'s'[: len(self.problems) != 1]}{lines}")


class BrokerError(DaemonError):
    """No MQTT broker could be reached, or it refused the connection."""


class NoAnswer(DaemonError):
    """The broker is there, but no daemon answered in time."""


class Refused(DaemonError):
    """The daemon answered with an error; `code` is the one of the contract."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
