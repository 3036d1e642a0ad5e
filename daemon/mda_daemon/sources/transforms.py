"""The transforms of templates, as in `{after.zones|words|join: and }`. There are no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .paths import Path, Scope, TemplateError, parse_path
from .values import MAX_ITEMS, number, to_text, truth

_SEPARATORS = re.compile(r"[_/]+|(?<=[^\W\d_])-+(?=[^\W\d_])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")


def words(text: str) -> str:
    """`front_door` as `front door`, `GetTime` as `get time`."""
    spaced = _CAMEL.sub(" ", text)
    if spaced != text:
        spaced = spaced.lower()
    return " ".join(_SEPARATORS.sub(" ", spaced).split())


def duration(seconds: float) -> str:
    """`24 s`, `3 min`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def _on_text(change: Callable[[str], str]) -> Callable[[Any, Any, Scope], Any]:
    """A transform that applies `change` to a text, or to each text of a list."""

    def apply(value: Any, argument: Any, scope: Scope) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [change(item) if isinstance(item, str) else item for item in value]
        return value

    return apply


def _article(text: str) -> str:
    return f"an {text}" if text[:1].lower() in tuple("aeiou") else f"a {text}"


def _first(value: Any, argument: Any, scope: Scope) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _join(value: Any, argument: str, scope: Scope) -> Any:
    if not isinstance(value, list):
        return value
    return argument.join(text for item in value[:MAX_ITEMS] if (text := to_text(item)))


def _on_off(value: Any, argument: Any, scope: Scope) -> Any:
    found = truth(value)
    if found is None and value in (0, 1):
        found = bool(value)
    return value if found is None else "on" if found else "off"


def _round(value: Any, argument: int, scope: Scope) -> Any:
    found = number(value)
    if found is None:
        return value
    return round(found, argument) if argument else round(found)


def _minus(value: Any, argument: Path, scope: Scope) -> Any:
    one, other = number(value), number(argument.get(scope))
    return None if one is None or other is None else one - other


def _duration(value: Any, argument: Any, scope: Scope) -> Any:
    found = number(value)
    return value if found is None else duration(found) if 0 <= found < 1e9 else None


def _text_argument(argument: str) -> str:
    return argument


def _digits_argument(argument: str) -> int:
    if not (argument.isascii() and argument.isdigit() and int(argument) <= 6):
        raise TemplateError(f"expected 0 to 6 digits, as in round:1, got {argument!r}")
    return int(argument)


# Name: (how it is applied, how its argument is parsed, None if it takes none).
_TRANSFORMS: dict[str, tuple[Callable[[Any, Any, Scope], Any], Callable[[str], Any] | None]] = {
    "default": (lambda value, argument, scope: argument if to_text(value) is None else value, _text_argument),
    "join": (_join, _text_argument),
    "first": (_first, None),
    "words": (_on_text(words), None),
    "lower": (_on_text(str.lower), None),
    "capital": (_on_text(lambda text: text[:1].upper() + text[1:]), None),
    "article": (_on_text(_article), None),
    "onoff": (_on_off, None),
    "round": (_round, _digits_argument),
    "minus": (_minus, parse_path),
    "duration": (_duration, None),
}
NAMES = tuple(_TRANSFORMS)


@dataclass(frozen=True, slots=True)
class Transform:
    """One transform with its parsed argument."""

    name: str
    argument: Any

    def apply(self, value: Any, scope: Scope) -> Any:
        """The transformed value. Only `default` changes a missing value (None)."""
        if value is None and self.name != "default":
            return None
        return _TRANSFORMS[self.name][0](value, self.argument, scope)


def parse_transform(name: str, argument: str | None) -> Transform:
    """The transform `name` with the text of its argument, None without one. Raises TemplateError."""
    if name not in _TRANSFORMS:
        raise TemplateError(f"expected one of {', '.join(NAMES)} after |, got {name!r}")
    parse = _TRANSFORMS[name][1]
    if parse is None:
        if argument is not None:
            raise TemplateError(f"expected no argument after {name}, got {argument!r}")
        return Transform(name, None)
    if argument is None:
        raise TemplateError(f"expected an argument, as in {name}:…, got none")
    return Transform(name, parse(argument))
