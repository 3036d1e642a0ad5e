"""JSON from outside, read only where its size and nesting are bounded: checked before anything is parsed."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mda_core.errors import BadInput

MAX_DEPTH = 16
MAX_VALUES = 10_000
"""Names and values: an object of 100 bytes in RAM can stand in three bytes of JSON."""

# Strings whole, so that brackets inside them do not count, numbers and words whole, brackets. The closing
# quote is optional: a string that never ends then matches to the end at once, where a failed match would
# start over at each quote (n^2).
_PARTS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^\s",:\[{\]}]+|[\[{\]}]', re.DOTALL)
_decoder = msgspec.json.Decoder()


class NotJson(BadInput):
    """The bytes are no JSON at all."""


def decode_text(payload: bytes, max_bytes: int) -> str:
    """`payload` as text. Raises BadInput for more than `max_bytes`, and for what is not UTF-8."""
    if len(payload) > max_bytes:
        raise BadInput("payload", f"at most {max_bytes} bytes", f"{len(payload)} bytes")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadInput("payload", "text or JSON in UTF-8", payload[:16]) from exc


def is_object(text: str) -> bool:
    """Whether `text` starts as a JSON object does."""
    return text[:1] == "{" or (text[:1].isspace() and text.lstrip()[:1] == "{")


def decode_json(payload: bytes) -> Any:
    """The JSON value in `payload`. Raises BadInput where it nests too deep or holds too much, NotJson where it
    is none."""
    if _depth(payload) > MAX_DEPTH:
        raise BadInput("payload", f"JSON nested at most {MAX_DEPTH} deep", payload[:16])
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        # The decoder's own message says where, without repeating the payload.
        raise NotJson("payload", f"valid JSON ({exc})", payload[:16]) from exc


def decode_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`, which starts with a brace. Raises BadInput."""
    fields = decode_json(payload)
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
