"""Where a value stands: a level of the topic, a field of the payload, what was said before."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DaemonError
from .values import is_missing, number

EXAMPLES = "such as topic[1], value, state or after.zones[0]"
# A name, [2] or [-1], [1:] or [:-1].
_STEP = re.compile(
    r"(?:^|(?!^)\.)(?P<name>[^\s.\[\]{}|:][^.\[\]{}|:]*)|\[(?P<at>-?\d{1,4})\]|\[(?P<low>-?\d{0,4}):(?P<high>-?\d{0,4})\]",
    re.ASCII,
)


class TemplateError(DaemonError):
    """A template or path of the configuration that cannot be read."""


@dataclass(slots=True)
class Scope:
    """What a template sees of one message. `rest` is what the # of the topic filter stands for.

    `settle` shows a measurement as coarsely as its step says, `say` a value as the phrase for it, None
    where it has none.
    """

    levels: Sequence[str]
    value: object
    said: dict[str, Any] | None = None
    fields: str | None = None
    rest: Sequence[str] = ()
    settle: Callable[[str, str, float], float] = lambda key, name, value: value
    say: Callable[[str, str, object], str | None] = lambda key, name, value: None


@dataclass(frozen=True, slots=True)
class Path:
    text: str
    steps: tuple[str | int | slice, ...]

    @property
    def root(self) -> str:
        return str(self.steps[0])

    @property
    def name(self) -> str:
        """The last name in it."""
        return next(step for step in reversed(self.steps) if isinstance(step, str))

    def get(self, scope: Scope) -> Any:
        """The value, None where it is missing."""
        found: Any
        if self.root in ("topic", "rest"):
            return self._levels(scope.levels if self.root == "topic" else scope.rest)
        if self.root == "said":
            found, rest = scope.said, self.steps[1:]
        elif self.root in ("value", "json"):
            found, rest = scope.value, self.steps[1:]
        else:
            found, rest = scope.value, self.steps
        for step in rest:
            found = _down(found, step)
        if is_missing(found):
            return None
        if number(found) is not None:
            return scope.settle(self.text, self.name, found)
        return found

    def _levels(self, levels: Sequence[str]) -> str | None:
        for step in self.steps[1:]:
            found = _down(list(levels), step)
            levels = [found] if isinstance(found, str) else found or []
        return "/".join(levels) or None


def _down(value: object, step: str | int | slice) -> Any:
    if isinstance(step, str):
        return value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    if isinstance(step, slice):
        return value[step]
    return value[step] if -len(value) <= step < len(value) else None


def parse_path(text: str) -> Path:
    """Raises TemplateError."""
    steps: list[str | int | slice] = []
    at, stripped = 0, text.strip()
    while match := _STEP.match(stripped, at):
        if match["name"] is not None:
            steps.append(match["name"].strip())
        elif match["at"] is not None:
            steps.append(int(match["at"]))
        else:
            low, high = (int(end) if end not in ("", "-") else None for end in (match["low"], match["high"]))
            steps.append(slice(low, high))
        at = match.end()
    if not steps or at != len(stripped) or not isinstance(steps[0], str):
        raise TemplateError(f"expected a field {EXAMPLES}, got {text!r}")
    if steps[0] in ("topic", "rest") and any(isinstance(step, str) for step in steps[1:]):
        raise TemplateError(f"expected a level such as topic[1] or topic[1:], got {text!r}")
    if steps[0] == "fields" and len(steps) > 1:
        raise TemplateError(f"expected fields alone, or json.fields for a field of this name, got {text!r}")
    return Path(stripped, tuple(steps))
