"""Decodes events. Unknown fields are ignored."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from mda_core.errors import BadInput
from mda_core.event import Event
from mda_core.limits import MAX_ID_BYTES, MAX_SOURCE_BYTES, MAX_TEXT_BYTES

from .fields import Field, as_is, is_integer, read_fields, read_time
from .json_limits import decode_json, decode_object, decode_text, is_object


class Echo(Exception):
    """An event that repeats what a recall returned. Learning it would make a memory reinforce itself."""


def _read_id(name: str, value: Any) -> Any:
    return str(value) if is_integer(value) else value


class EventFields(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON fields of an event. What `Event` checks is not checked here."""

    text: Annotated[
        Any,
        Field(
            f"string, at most {MAX_TEXT_BYTES // 1024} KiB",
            "what happened; the only field that is required",
            as_is,
        ),
    ]
    ts: Annotated[
        float | None,
        Field(
            "RFC 3339, or epoch seconds",
            "when; the time of arrival where missing; 1970 to 2100",
            read_time,
        ),
    ] = None
    source: Annotated[
        Any,
        Field(
            f"`/`-separated path, at most {MAX_SOURCE_BYTES} bytes",
            "where from; the rest of the topic, or a path below it; the rest of the topic where missing",
            as_is,
        ),
    ] = None
    id: Annotated[
        Any,
        Field(
            f"string of at most {MAX_ID_BYTES} bytes, or integer",
            "your own name for the event; a recall returns it",
            _read_id,
        ),
    ] = None
    pin: Annotated[
        Any,
        Field(
            "boolean",
            "never evict it; one source can pin at most 45 % of the units, all together 90 %",
            as_is,
        ),
    ] = False
    update: Annotated[
        Any,
        Field(
            "boolean, with an `id`",
            "takes back what this `id` of this source said last, and says this instead: one memory "
            "(the newest 256 such ids)",
            as_is,
        ),
    ] = False


def read_event(payload: bytes, source: str, arrived: float, max_payload: int) -> Event:
    """The event in `payload`, of at most `max_payload` bytes.

    source, arrived: its source and time (epoch seconds) unless the payload has its own.

    Raises BadInput; and Echo for a reply to a recall, a memory of one, or an event with `recalled: true`.
    """
    text = decode_text(payload, max_payload)
    if not is_object(text):
        return _new(Event(text, source, arrived))
    fields = decode_object(payload)
    if _is_answer(fields):
        raise Echo("the answer to a recall")
    if "text" not in fields:
        raise BadInput("text", "a JSON object with this field", sorted(map(str, fields))[:8])
    told = read_fields(EventFields, fields)
    if source and isinstance(told.source, str) and not f"{told.source}/".startswith(f"{source}/"):
        # The broker's access list decides who may publish on which topic; a field must not get around it.
        raise BadInput("source", f"{source}, as in the topic, or a path below it", told.source)
    return _new(
        Event(
            told.text,
            source if told.source is None else told.source,
            arrived if told.ts is None else told.ts,
            told.id,
            told.pin,
            told.update,
        )
    )


def _new(event: Event) -> Event:
    """`event`. Raises Echo if its text is the JSON of an answer."""
    if event.text.lstrip()[:1] in ("{", "["):
        try:
            answer = _is_answer(decode_json(event.text.encode()))
        except BadInput:
            answer = False
        if answer:
            raise Echo("the answer to a recall, as text")
    return event


def _is_answer(value: object) -> bool:
    """Whether `value` is a reply to a recall, one or all of its memories, or marked as recalled."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_memory, value))
    if not isinstance(value, dict):
        return False
    reply = "status" in value and isinstance(value.get("memories"), list)
    return reply or _is_memory(value) or value.get("recalled") is True


def _is_memory(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return False
    return is_integer(value.get("memory")) and ("confidence" in value or "via" in value)
