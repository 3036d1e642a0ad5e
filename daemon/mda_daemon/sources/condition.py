"""`when:` what a message must say for a source to take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .paths import Path, Scope, TemplateError, parse_path
from .values import KINDS, kind, same, shown

_TESTS = ("not", "like", "is")
EXPECTED = "a value, a list of values, or not:, like: or is: with one"


@dataclass(frozen=True, slots=True)
class Condition:
    path: Path
    test: Callable[[object], bool]

    def holds(self, scope: Scope) -> bool:
        return self.test(self.path.get(scope))


def parse_conditions(field: str, wanted: object) -> list[Condition]:
    """What one field must be; all of it must hold. Raises TemplateError."""
    path = parse_path(field)
    if not isinstance(wanted, Mapping):
        return [Condition(path, _one_of(_values(wanted)))]
    if not wanted or any(key not in _TESTS for key in wanted):
        raise TemplateError(f"expected {EXPECTED}, got {dict(wanted)!r}"[:200])
    return [Condition(path, _test(key, _values(wanted[key]))) for key in wanted]


def _values(wanted: object) -> list[object]:
    values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    if not values or not all(value is None or isinstance(value, str | int | float) for value in values):
        raise TemplateError(f"expected {EXPECTED}, got {wanted!r}"[:200])
    return values


def _test(key: str, values: list[object]) -> Callable[[object], bool]:
    if key == "not":
        inner = _one_of(values)
        return lambda got: not inner(got)
    texts = [value for value in values if isinstance(value, str) and value.strip("*")]
    if len(texts) < len(values):
        raise TemplateError(f"expected a text after {key}, got {values!r}"[:200])
    if key == "is":
        if unknown := [text for text in texts if text not in KINDS]:
            raise TemplateError(f"expected one of {', '.join(KINDS)} after is, got {unknown[0]!r}"[:200])
        return lambda got: kind(got) in texts
    if bad := [text for text in texts if "*" in text.strip("*")]:
        raise TemplateError(f"expected a * at an end only, such as *door*, got {bad[0]!r}"[:200])
    return lambda got: any(_like(text, shown(got) or "") for text in texts)


def _one_of(values: list[object]) -> Callable[[object], bool]:
    return lambda got: any(same(value, got) for value in values)


def _like(pattern: str, text: str) -> bool:
    part, folded = pattern.strip("*").lower(), text.lower()
    if pattern.startswith("*"):
        return part in folded if pattern.endswith("*") else folded.endswith(part)
    return folded.startswith(part) if pattern.endswith("*") else folded == part
