"""Payloads from outside, bytes to checked values. Sizes and nesting are bounded before anything is parsed.

An event is read liberally (fields nobody knows are ignored), a request strictly (they are named).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mda_core.errors import BadInput
from mda_core.event import MAX_TEXT_BYTES, Event, as_epoch
from mda_core.source import compile_filter

from .text import shorten, visible
from .times import from_rfc3339

MAX_DEPTH = 16
MAX_VALUES = 10_000
"""Names and values: an object of 100 bytes in RAM can stand in three bytes of JSON."""
MAX_K = 100
MAX_TOKENS = 1_000_000
MAX_REQUEST_ID = 256

# Strings whole, so that brackets inside them do not count, numbers and words whole, brackets. The closing
# quote is optional: a string that never ends then matches to the end at once, where a failed match would
# start over at each quote (n^2).
_PARTS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^\s",:\[{\]}]+|[\[{\]}]', re.DOTALL)
_json = msgspec.json.Decoder()


class Echo(Exception):
    """An event that came out of a recall: to be learned from itself would make a memory sure of itself."""


class BadRequest(Exception):
    """A request that cannot be served; `id` is the one to echo, where there is one."""

    def __init__(self, message: str, id: str | int | None = None) -> None:
        super().__init__(message)
        self.id = id


def read_event(payload: bytes, source: str, arrived: float, max_payload: int) -> Event:
    """The event in `payload`. `source` is the one of its topic, `arrived` its time where it names none.

    Raises BadInput; Echo for a reply of ours, or a part of one, and what says itself that it was recalled.
    """
    text = _text(payload, max_payload)
    if not _is_object(text):
        return _new(Event(text, source, arrived))
    fields = _object(payload)
    if _is_answer(fields):
        raise Echo("the answer to a recall")
    if "text" not in fields:
        raise BadInput("text", "a JSON object with this field", sorted(map(str, fields))[:8])
    ts, event_id, named = fields.get("ts"), fields.get("id"), fields.get("source")
    pin, update = fields.get("pin"), fields.get("update")
    return _new(
        Event(
            fields["text"],
            source if named is None else named,
            arrived if ts is None else _time("ts", ts),
            str(event_id) if _is_integer(event_id) else event_id,
            False if pin is None else pin,
            False if update is None else update,
        )
    )


def _new(event: Event) -> Event:
    """`event`, unless its text is the JSON of an answer. Raises Echo."""
    if event.text.lstrip()[:1] in ("{", "["):
        payload = event.text.encode()
        try:
            answer = _depth(payload) <= MAX_DEPTH and _is_answer(_json.decode(payload))
        except (BadInput, msgspec.DecodeError, RecursionError):
            answer = False
        if answer:
            raise Echo("the answer to a recall, as text")
    return event


def _is_answer(value: object) -> bool:
    """Whether `value` is a reply to a recall, one or all of its memories, or marked by its sender."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_memory, value))
    if not isinstance(value, dict):
        return False
    reply = "status" in value and isinstance(value.get("memories"), list)
    return reply or _is_memory(value) or value.get("recalled") is True


def _is_memory(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return False
    return _is_integer(value.get("memory")) and ("confidence" in value or "via" in value)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request; `fields` are the keyword arguments of the memory's method."""

    id: str | int | None
    fields: dict[str, Any]


def read_request(verb: str, payload: bytes, max_payload: int) -> Request:
    """The request in `payload`. Raises BadRequest."""
    known = _FIELDS.get(verb)
    if known is None:
        raise BadRequest(f"request: expected one of {', '.join(_FIELDS)}, got {verb[:80]!r}")
    request_id: str | int | None = None
    try:
        text = _text(payload, max_payload)
        if _is_object(text):
            fields = _object(payload)
            request_id = _request_id(fields)
        elif verb == "recall":
            fields = {"query": text}
        elif verb == "stats" and not text.strip():
            fields = {}
        else:
            raise BadInput("payload", "a JSON object", text)
        for name in fields:
            if name not in known and name != "id":
                raise BadInput(
                    shorten(visible(str(name)), 80),
                    f"no such field ({', '.join(known) or 'none'} or id)",
                    fields[name],
                )
        return Request(id=request_id, fields=_CHECKS[verb](fields))
    except BadInput as exc:
        raise BadRequest(str(exc), request_id) from exc


def _recall(fields: dict[str, Any]) -> dict[str, Any]:
    query = fields.get("query")
    checked: dict[str, Any] = {"query": _query(query)}
    if (k := fields.get("k")) is not None:
        checked["k"] = _integer("k", k, 1, MAX_K)
    if (tokens := fields.get("max_tokens")) is not None:
        checked["max_tokens"] = _integer("max_tokens", tokens, 1, MAX_TOKENS)
    if (least := fields.get("min_confidence")) is not None:
        if not _is_number(least) or not 0 <= least <= 1:
            raise BadInput("min_confidence", "0 to 1", least)
        checked["min_confidence"] = float(least)
    return checked | _span(fields)


def _forget(fields: dict[str, Any]) -> dict[str, Any]:
    span = _span(fields)
    selectors = [name for name in ("memory", "query", "all") if fields.get(name) is not None]
    if span:
        selectors.append("source, since, until")
    if len(selectors) != 1:
        expected = "exactly one of memory, query, (source, since, until) or all"
        raise BadInput("forget", expected, " and ".join(selectors) or "none of them")
    if (memory := fields.get("memory")) is not None:
        return {"memory": _integer("memory", memory, 1, 2**63 - 1)}
    if (query := fields.get("query")) is not None:
        return {"query": _query(query)}
    if (everything := fields.get("all")) is not None:
        if everything is not True:
            raise BadInput("all", "true", everything)
        return {"all": True}
    return span


def _span(fields: dict[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name in ("since", "until"):
        if (value := fields.get(name)) is not None:
            checked[name] = _time(name, value)
    if len(checked) == 2 and checked["since"] > checked["until"]:
        raise BadInput("since", "a time not after until", fields["since"])
    if (source := fields.get("source")) is not None:
        compile_filter("source", source)
        checked["source"] = source
    return checked


_FIELDS = {
    "recall": ("query", "k", "since", "until", "source", "min_confidence", "max_tokens"),
    "forget": ("memory", "query", "source", "since", "until", "all"),
    "stats": (),
}
_CHECKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "recall": _recall,
    "forget": _forget,
    "stats": lambda fields: {},
}


def _text(payload: bytes, limit: int) -> str:
    if len(payload) > limit:
        raise BadInput("payload", f"at most {limit} bytes", f"{len(payload)} bytes")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadInput("payload", "text or JSON in UTF-8", payload[:16]) from exc


def _is_object(text: str) -> bool:
    return text[:1] == "{" or (text[:1].isspace() and text.lstrip()[:1] == "{")


def _object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`, which starts with a brace."""
    if _depth(payload) > MAX_DEPTH:
        raise BadInput("payload", f"JSON nested at most {MAX_DEPTH} deep", payload[:16])
    try:
        fields = _json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        # The decoder's own message says where, without repeating the payload.
        raise BadInput("payload", f"valid JSON ({exc})", payload[:16]) from exc
    assert isinstance(fields, dict)
    return fields


def _depth(payload: bytes) -> int:
    """How deep the JSON in `payload` nests. Raises BadInput where it holds too many names and values."""
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets <= MAX_DEPTH and 2 * (payload.count(b",") + 1) + brackets <= MAX_VALUES:
        return 1  # too few brackets to be deep and commas to be many, wherever they are
    depth = deepest = values = 0
    for match in _PARTS.finditer(payload):
        part = match[0]
        if part in (b"]", b"}"):
            depth -= 1
            continue
        values += 1
        if values > MAX_VALUES:
            raise BadInput("payload", f"JSON of at most {MAX_VALUES} names and values", payload[:16])
        if part in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
    return deepest


def _request_id(fields: Mapping[str, Any]) -> str | int | None:
    value = fields.get("id")
    if value is None or (isinstance(value, str) and len(value) <= MAX_REQUEST_ID):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_REQUEST_ID:
        return value
    raise BadInput("id", f"a string of at most {MAX_REQUEST_ID} characters or an integer", value)


def _query(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadInput("query", "text that is not empty", value)
    if len(value.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise BadInput("query", f"at most {MAX_TEXT_BYTES} bytes of UTF-8", value)
    return value


def _integer(name: str, value: object, low: int, high: int) -> int:
    if not _is_integer(value) or not low <= value <= high:  # type: ignore[operator]
        shown = f"{low} to {high}" if high < 2**62 else f"a number from {low}"
        raise BadInput(name, shown, value)
    assert isinstance(value, int)
    return value


def _time(name: str, value: object) -> float:
    if isinstance(value, str):
        try:
            value = from_rfc3339(value)
        except (ValueError, OverflowError) as exc:
            raise BadInput(name, "RFC 3339 such as 2026-11-22T23:40:10Z, or epoch seconds", value) from exc
    elif not _is_number(value):
        raise BadInput(name, "RFC 3339 such as 2026-11-22T23:40:10Z, or epoch seconds", value)
    return as_epoch(name, value)  # type: ignore[arg-type]


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
