"""The fields of a payload as annotations of a Struct: how each is read, and how it is documented."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from mda_core.arguments import check_text
from mda_core.errors import BadInput
from mda_core.event import as_epoch
from mda_core.limits import Range
from mda_core.text.source import compile_filter

from ..text import shorten, visible
from ..times import from_rfc3339

Reader = Callable[[str, Any], Any]
"""(name of the field, its JSON value) -> the checked value. Raises BadInput."""
S = TypeVar("S", bound=msgspec.Struct)

TIME = "RFC 3339 such as 2026-11-22T23:40:10Z, or epoch seconds"


class Field(NamedTuple):
    """Annotates a field of a payload's Struct. `type` and `meaning` are for the documentation."""

    type: str
    meaning: str
    read: Reader


@cache
def documented(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """The annotated fields of a Struct by name, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: next(each for each in get_args(hint)[1:] if isinstance(each, Field))
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
    }


@cache
def required(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields of a Struct that have no default."""
    return frozenset(item.name for item in msgspec.structs.fields(kind) if item.required)


def read_fields(kind: type[S], fields: Mapping[str, Any]) -> S:
    """`fields` as the Struct `kind`; a null counts as missing. Raises BadInput."""
    values = {}
    for name, field in documented(kind).items():
        value = fields.get(name)
        if value is not None or name in required(kind):
            values[name] = field.read(name, value)
    return kind(**values)


def refuse_unknown(kind: type[msgspec.Struct], fields: Mapping[str, Any]) -> None:
    """Raise BadInput if there is a field that `kind` does not have."""
    known = documented(kind)
    for name in fields:
        if name not in known:
            others = ", ".join(each for each in known if each != "id")
            raise BadInput(
                shorten(visible(str(name)), 80), f"no such field ({others or 'none'} or id)", fields[name]
            )


# Readers


def as_is(name: str, value: Any) -> Any:
    """Any value: it is checked where it is used."""
    return value


def read_text(name: str, value: Any) -> str:
    """A text. Raises BadInput."""
    check_text(name, value)
    assert isinstance(value, str)
    return value


def read_time(name: str, value: Any) -> float:
    """A time in RFC 3339 or epoch seconds, as epoch seconds. Raises BadInput."""
    if isinstance(value, str):
        try:
            value = from_rfc3339(value)
        except (ValueError, OverflowError) as exc:
            raise BadInput(name, TIME, value) from exc
    elif not is_number(value):
        raise BadInput(name, TIME, value)
    return as_epoch(name, value)


def read_filter(name: str, value: Any) -> str:
    """An MQTT filter of sources. Raises BadInput."""
    compile_filter(name, value)
    assert isinstance(value, str)
    return value


def read_true(name: str, value: Any) -> bool:
    """True. Raises BadInput for anything else."""
    if value is not True:
        raise BadInput(name, "true", value)
    return True


def within(limits: Range) -> Reader:
    """A reader of numbers within `limits`."""

    def read(name: str, value: Any) -> Any:
        limits.check(name, value)
        return float(value) if isinstance(limits.low, float) else value

    return read


def is_integer(value: object) -> bool:
    """Whether `value` is an int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is an int or a finite float, and not a bool."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))
