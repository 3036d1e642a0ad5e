"""Templates: text with fields in braces, and optional parts in brackets.

    {after.label|article|capital} at {after.camera|words}[, in {after.entered_zones}]

A part in brackets is left out if one of its fields is missing. There are no loops, no calls and no access to
anything but the message. Rendering cannot fail: it returns a text, or None if a field outside brackets is
missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .paths import Path, Scope, TemplateError, parse_path
from .transforms import Transform, parse_transform
from .values import to_text

# Literal text, in which {{ }} [[ ]] stand for the characters themselves; a field; a bracket.
_TOKEN = re.compile(
    r"(?P<literal>(?:[^{}\[\]]|\{\{|\}\}|\[\[|\]\])+)|\{(?P<field>[^{}]*)\}|(?P<bracket>[\[\]])"
)
_DOUBLED = re.compile(r"([{}\[\]])\1")
# |name, |name:argument or |name:"argument with a | in it"
_TRANSFORM = re.compile(r'\|\s*(?P<name>[^|:"]*?)\s*(?::(?:"(?P<quoted>[^"]*)"|(?P<plain>[^|"]*)))?(?=\||$)')


@dataclass(frozen=True, slots=True)
class Field:
    """A path in braces with its transforms."""

    path: Path
    transforms: tuple[Transform, ...]

    def render(self, scope: Scope) -> str | None:
        """The text of the field, None if it is missing."""
        if self.path.root == "fields":
            value: Any = scope.fields
        else:
            value = self.path.get(scope)
            phrase = scope.say(self.path.text, self.path.name, value)
            value = value if phrase is None else phrase
        for transform in self.transforms:
            value = transform.apply(value, scope)
        return to_text(value)


@dataclass(frozen=True, slots=True)
class Optional:
    """A part in brackets."""

    pieces: tuple[str | Field, ...]

    def render(self, scope: Scope) -> str:
        """The text of the part, empty if one of its fields is missing."""
        return _joined(self.pieces, scope) or ""


Pieces = tuple[str | Field | Optional, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template."""

    text: str
    pieces: Pieces

    def render(self, scope: Scope) -> str | None:
        """The text on one line; None if a field outside brackets is missing, or if the text is empty."""
        found = _joined(self.pieces, scope)
        return None if found is None else " ".join(found.split()) or None

    def uses(self, root: str) -> bool:
        """Whether the path of some field starts with `root`, such as `fields` or `said`."""
        for piece in self.pieces:
            inner = piece.pieces if isinstance(piece, Optional) else (piece,)
            if any(isinstance(part, Field) and part.path.root == root for part in inner):
                return True
        return False


def _joined(pieces: Pieces, scope: Scope) -> str | None:
    parts = []
    for piece in pieces:
        part = piece if isinstance(piece, str) else piece.render(scope)
        if part is None:
            return None
        parts.append(part)
    return "".join(parts)


def parse_template(text: str) -> Template:
    """Parse a template. Raises TemplateError."""
    pieces: list[str | Field | Optional] = []
    inside: list[str | Field] | None = None
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            expected = "{field} or [part], or {{ and [[ for the signs"
            raise TemplateError(f"expected {expected}, got {text[at:]!r}"[:200])
        at = match.end()
        if match["bracket"] == "[":
            if inside is not None:
                raise TemplateError(f"expected ] before the next [, got {text!r}")
            inside = []
        elif match["bracket"] == "]":
            if inside is None or not any(isinstance(piece, Field) for piece in inside):
                raise TemplateError(f"expected [ and a field before ], got {text!r}")
            pieces.append(Optional(tuple(inside)))
            inside = None
        else:
            literal = match["literal"]
            part = _field(match["field"]) if literal is None else _DOUBLED.sub(r"\1", literal)
            if inside is None:
                pieces.append(part)
            else:
                inside.append(part)
    if inside is not None:
        raise TemplateError(f"expected ] at the end of [, got {text!r}")
    return Template(text, tuple(pieces))


def _field(text: str) -> Field:
    name, bar, rest = text.partition("|")
    path = parse_path(name)
    transforms = []
    rest, at = bar + rest, 0
    while at < len(rest):
        match = _TRANSFORM.match(rest, at)
        if match is None:
            raise TemplateError(f"expected |name or |name:argument, got {rest[at:]!r}")
        at = match.end()
        quoted, plain = match["quoted"], match["plain"]
        transforms.append(parse_transform(match["name"], plain if quoted is None else quoted))
    return Field(path, tuple(transforms))
