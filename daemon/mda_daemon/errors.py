"""The errors of the daemon, its command line and its client, all below `DaemonError`."""

from __future__ import annotations

from collections.abc import Sequence


class DaemonError(Exception):
    """The root of all errors that this package raises on purpose. The message is fit for a user."""


class ConfigError(DaemonError):
    """A configuration with mistakes.

    `where` names its file, `problems` holds a line for each mistake.
    """

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{where}: {len(self.problems)} problem{'s'[: len(self.problems) != 1]}{lines}")


class BrokerError(DaemonError):
    """No MQTT broker could be reached, or it refused the connection."""


class NoAnswer(DaemonError):
    """The broker can be reached, but no daemon answered in time."""


class Refused(DaemonError):
    """The daemon answered with an error. `code` is its code in the contract, such as `bad_request`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
