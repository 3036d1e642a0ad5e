"""Fields of a payload as annotations of a Struct: how each is read, and what the documentation says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
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
"""From a field's name and its JSON value to the value, or BadInput."""
S = TypeVar("S", bound=msgspec.Struct)

TIME = "RFC 3339 such as 2026-11-22T23:40:10Z, or epoch seconds"


class Field(NamedTuple):
    """Annotates a field of a payload's Struct; `type` and `meaning` are for the documentation."""

    type: str
    meaning: str
    read: Reader


def documented(kind: type[msgspec.Struct]) -> Iterator[tuple[str, Field]]:
    """Each field of a Struct by its name, as annotated, in order."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is Annotated:
            yield name, next(each for each in get_args(hint)[1:] if isinstance(each, Field))


def read_fields(kind: type[S], fields: Mapping[str, Any]) -> S:
    """`fields` as the Struct `kind`; null counts as missing. Raises BadInput."""
    values = {}
    for name, field in documented_of(kind).items():
        value = fields.get(name)
        if value is not None:
            values[name] = field.read(name, value)
        elif name in kind.__struct_fields__[: len(kind.__struct_fields__) - len(kind.__struct_defaults__)]:
            field.read(name, value)  # it is required, and says in which words
    return kind(**values)


def refuse_unknown(kind: type[msgspec.Struct], fields: Mapping[str, Any]) -> None:
    """Raise BadInput for a field that `kind` does not have."""
    known = documented_of(kind)
    for name in fields:
        if name not in known:
            others = ", ".join(each for each in known if each != "id")
            raise BadInput(
                shorten(visible(str(name)), 80), f"no such field ({others or 'none'} or id)", fields[name]
            )


_DOCUMENTED: dict[type[msgspec.Struct], dict[str, Field]] = {}


def documented_of(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """The same by name, worked out once a Struct."""
    if kind not in _DOCUMENTED:
        _DOCUMENTED[kind] = dict(documented(kind))
    return _DOCUMENTED[kind]


# readers


def as_is(name: str, value: Any) -> Any:
    """Checked where it is used."""
    return value


def read_text(name: str, value: Any) -> str:
    check_text(name, value)
    assert isinstance(value, str)
    return value


def read_time(name: str, value: Any) -> float:
    """Epoch seconds of RFC 3339 or epoch seconds."""
    if isinstance(value, str):
        try:
            value = from_rfc3339(value)
        except (ValueError, OverflowError) as exc:
            raise BadInput(name, TIME, value) from exc
    elif not is_number(value):
        raise BadInput(name, TIME, value)
    return as_epoch(name, value)


def read_filter(name: str, value: Any) -> str:
    """An MQTT filter over sources."""
    compile_filter(name, value)
    assert isinstance(value, str)
    return value


def read_true(name: str, value: Any) -> bool:
    if value is not True:
        raise BadInput(name, "true", value)
    return True


def within(limits: Range) -> Reader:
    """A number within `limits`."""

    def read(name: str, value: Any) -> Any:
        limits.check(name, value)
        return float(value) if isinstance(limits.low, float) else value

    return read


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))
