"""Paths to values: a level of the topic, a field of the payload, a field of the previous event."""

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
    """A template or path of the configuration that cannot be parsed."""


@dataclass(slots=True)
class Scope:
    """What the templates and conditions of a rule can read of one message."""

    levels: Sequence[str]
    """The levels of the topic."""
    value: object
    """The decoded payload."""
    last_event: dict[str, Any] | None = None
    """`text` and `source` of the previous event with the same id; `said` in templates."""
    fields: str | None = None
    """The text of `{fields}`."""
    rest: Sequence[str] = ()
    """The levels that the `#` of the topic filter matched."""
    quantize: Callable[[str, str, float], float] = lambda key, name, value: value
    """(path, last name, measurement) -> the measurement as coarse as its step."""
    say: Callable[[str, str, object], str | None] = lambda key, name, value: None
    """(path, last name, value) -> the phrase for the value, or None."""


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path, such as `after.zones[0]`."""

    text: str
    steps: tuple[str | int | slice, ...]

    @property
    def root(self) -> str:
        """The first name: `topic`, `rest`, `said`, `value`, `json`, `fields`, or a field of the payload."""
        return str(self.steps[0])

    @property
    def name(self) -> str:
        """The last name."""
        return next(step for step in reversed(self.steps) if isinstance(step, str))

    def get(self, scope: Scope) -> Any:
        """The value, or None if it is missing."""
        found: Any
        if self.root in ("topic", "rest"):
            return self._levels(scope.levels if self.root == "topic" else scope.rest)
        if self.root == "said":
            found, rest = scope.last_event, self.steps[1:]
        elif self.root in ("value", "json"):
            found, rest = scope.value, self.steps[1:]
        else:
            found, rest = scope.value, self.steps
        for step in rest:
            found = _take_step(found, step)
        if is_missing(found):
            return None
        if number(found) is not None:
            return scope.quantize(self.text, self.name, found)
        return found

    def _levels(self, levels: Sequence[str]) -> str | None:
        for step in self.steps[1:]:
            found = _take_step(list(levels), step)
            levels = [found] if isinstance(found, str) else found or []
        return "/".join(levels) or None


def _take_step(value: object, step: str | int | slice) -> Any:
    if isinstance(step, str):
        return value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    if isinstance(step, slice):
        return value[step]
    return value[step] if -len(value) <= step < len(value) else None


def parse_path(text: str) -> Path:
    """Parse a path such as `topic[1]` or `after.zones[0]`. Raises TemplateError."""
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
