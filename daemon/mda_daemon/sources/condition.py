"""The conditions of `when:`, which a message must meet for a rule to apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .paths import Path, Scope, TemplateError, parse_path
from .values import KINDS, kind, same, to_text

_TESTS = ("not", "like", "is")
EXPECTED = "a value, a list of values, or not:, like: or is: with one"


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one field of a message."""

    path: Path
    test: Callable[[object], bool]

    def holds(self, scope: Scope) -> bool:
        """Whether the message in `scope` meets the condition."""
        return self.test(self.path.get(scope))


def parse_conditions(field: str, wanted: object) -> list[Condition]:
    """The conditions on one field, all of which must hold. Raises TemplateError."""
    path = parse_path(field)
    if not isinstance(wanted, Mapping):
        return [Condition(path, _equals_any(_values(wanted)))]
    if not wanted or any(key not in _TESTS for key in wanted):
        raise TemplateError(f"expected {EXPECTED}, got {dict(wanted)!r}"[:200])
    return [Condition(path, _make_test(key, _values(wanted[key]))) for key in wanted]


def _values(wanted: object) -> list[object]:
    """One value or a list of values as a checked list. Raises TemplateError."""
    values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    if not values or not all(value is None or isinstance(value, str | int | float) for value in values):
        raise TemplateError(f"expected {EXPECTED}, got {wanted!r}"[:200])
    return values


def _make_test(key: str, values: list[object]) -> Callable[[object], bool]:
    if key == "not":
        equal = _equals_any(values)
        return lambda got: not equal(got)
    texts = [value for value in values if isinstance(value, str) and value.strip("*")]
    if len(texts) < len(values):
        raise TemplateError(f"expected a text after {key}, got {values!r}"[:200])
    if key == "is":
        if unknown := [text for text in texts if text not in KINDS]:
            raise TemplateError(f"expected one of {', '.join(KINDS)} after is, got {unknown[0]!r}"[:200])
        return lambda got: kind(got) in texts
    if bad := [text for text in texts if "*" in text.strip("*")]:
        raise TemplateError(f"expected a * at an end only, such as *door*, got {bad[0]!r}"[:200])
    return lambda got: any(_matches(text, to_text(got) or "") for text in texts)


def _equals_any(values: list[object]) -> Callable[[object], bool]:
    return lambda got: any(same(value, got) for value in values)


def _matches(pattern: str, text: str) -> bool:
    """Whether `text` matches a pattern with an optional `*` at either end, whatever the case."""
    part, folded = pattern.strip("*").lower(), text.lower()
    if pattern.startswith("*"):
        return part in folded if pattern.endswith("*") else folded.endswith(part)
    return folded.startswith(part) if pattern.endswith("*") else folded == part
