"""Decodes requests, with a Struct for each verb. An unknown field is an error."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from mda_core import limits
from mda_core.arguments import period
from mda_core.errors import BadInput

from .fields import (
    Field,
    read_fields,
    read_filter,
    read_text,
    read_time,
    read_true,
    refuse_unknown,
    within,
)
from .json_limits import decode_object, decode_text, is_object

MAX_ID_CHARS = 256
DEFAULT_K = 10


class BadRequest(Exception):
    """A request that cannot be served. `id` is the id to echo in the reply, if the request has one."""

    def __init__(self, message: str, id: str | int | None = None) -> None:
        super().__init__(message)
        self.id = id


def _read_id(name: str, value: Any) -> str | int:
    if isinstance(value, str) and len(value) <= MAX_ID_CHARS:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_ID_CHARS:
        return value
    raise BadInput(name, f"a string of at most {MAX_ID_CHARS} characters or an integer", value)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The field of every request."""

    text_field: ClassVar[str | None] = None
    """The field that a payload of plain text sets; None if the request cannot be plain text."""
    id: Annotated[
        str | int | None,
        Field(f"string of at most {MAX_ID_CHARS} characters, or integer", "echoed in the reply", _read_id),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The given fields as keyword arguments of the memory's method."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "id"}
        return {name: value for name, value in given.items() if value is not None}


_QUERY = f"string, at most {limits.MAX_TEXT_BYTES // 1024} KiB"
_FILTER = "MQTT filter such as `hall/+` or `kitchen/#`"


class Recall(Request, frozen=True, kw_only=True):
    """The request `recall`. Its payload may also be the query as plain text."""

    text_field = "query"
    query: Annotated[str, Field(_QUERY, "the cue; required", read_text)]
    k: Annotated[
        int | None,
        Field(f"{limits.K}, default {DEFAULT_K}", "how many memories at most", within(limits.K)),
    ] = None
    since: Annotated[
        float | None, Field("time, as `ts` above", "only memories that occurred at or after it", read_time)
    ] = None
    until: Annotated[
        float | None, Field("time", "only memories that occurred at or before it", read_time)
    ] = None
    source: Annotated[str | None, Field(_FILTER, "only memories of these sources", read_filter)] = None
    min_confidence: Annotated[
        float | None,
        Field(f"{limits.CONFIDENCE}, default 0", "leave out memories below it", within(limits.CONFIDENCE)),
    ] = None
    max_tokens: Annotated[
        int | None,
        Field(
            str(limits.CONTEXT_TOKENS),
            "bound on `context`, at three bytes a token",
            within(limits.CONTEXT_TOKENS),
        ),
    ] = None

    def __post_init__(self) -> None:
        period(self.since, self.until)


class Forget(Request, frozen=True, kw_only=True):
    """The request `forget`, with exactly one way to select memories."""

    memory: Annotated[
        int | None, Field("integer from 1", "the memory with this number", within(limits.MEMORY_NUMBER))
    ] = None
    query: Annotated[
        str | None, Field("string", "the memory that says this, if no other could be meant", read_text)
    ] = None
    source: Annotated[str | None, Field("MQTT filter", "every memory of these sources", read_filter)] = None
    since: Annotated[float | None, Field("time", "every memory that occurred at or after it", read_time)] = (
        None
    )
    until: Annotated[float | None, Field("time", "every memory that occurred at or before it", read_time)] = (
        None
    )
    all: Annotated[bool | None, Field("`true`", "everything in the space", read_true)] = None

    def __post_init__(self) -> None:
        period(self.since, self.until)
        ways = [name for name in ("memory", "query", "all") if getattr(self, name) is not None]
        if any(each is not None for each in (self.source, self.since, self.until)):
            ways.append("source, since, until")
        if len(ways) != 1:
            expected = "exactly one of memory, query, (source, since, until) or all"
            raise BadInput("forget", expected, " and ".join(ways) or "none of them")


class Stats(Request, frozen=True, kw_only=True):
    """The request `stats`. Its payload may also be empty."""


REQUESTS: dict[str, type[Request]] = {"recall": Recall, "forget": Forget, "stats": Stats}
"""The requests of the contract by verb."""


def read_request(verb: str, payload: bytes, max_payload: int) -> Request:
    """The request in `payload`, of at most `max_payload` bytes. Raises BadRequest."""
    kind = REQUESTS.get(verb)
    if kind is None:
        raise BadRequest(f"request: expected one of {', '.join(REQUESTS)}, got {verb[:80]!r}")
    request_id: str | int | None = None
    try:
        text = decode_text(payload, max_payload)
        if is_object(text):
            fields = decode_object(payload)
            request_id = None if fields.get("id") is None else _read_id("id", fields["id"])
        elif kind.text_field is not None:
            fields = {kind.text_field: text}
        elif kind is Stats and not text.strip():
            fields = {}
        else:
            raise BadInput("payload", "a JSON object", text)
        refuse_unknown(kind, fields)
        return read_fields(kind, fields)
    except BadInput as exc:
        raise BadRequest(str(exc), request_id) from exc
