"""Faults that a test has to notice, see mutants.toml. `make mutants` tries them all."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: the text `old` in `file` becomes `new`.

    `breaks` is what that does to a user; of `tests` one has to fail.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The text of the file with the fault. Raises ValueError where `old` is not there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.file} holds this {text.count(self.old)} times: {self.old!r}"
            )
        return text.replace(self.old, self.new)


def load() -> list[Mutant]:
    """All of them, in order."""
    found = tomllib.loads(FILE.read_text("utf-8"))["mutant"]
    return [Mutant(**{**each, "tests": tuple(each["tests"])}) for each in found]
