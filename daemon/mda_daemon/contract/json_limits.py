"""Decodes JSON from outside. Its size and nesting are checked before anything is parsed."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mda_core.errors import BadInput

MAX_DEPTH = 16
MAX_VALUES = 10_000
"""Names and values: three bytes of JSON can become an object of 100 bytes in RAM."""

# A whole string, so that brackets inside it do not count; a number or word; a bracket. The closing quote is
# optional: an unterminated string then matches to the end of the payload, whereas a failed match would be
# tried again at each quote, in quadratic time.
_PARTS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^\s",:\[{\]}]+|[\[{\]}]', re.DOTALL)
_decoder = msgspec.json.Decoder()


class NotJson(BadInput):
    """The payload is not valid JSON."""


def decode_text(payload: bytes, max_bytes: int) -> str:
    """`payload` as text. Raises BadInput if it is longer than `max_bytes` or is not UTF-8."""
    if len(payload) > max_bytes:
        raise BadInput("payload", f"at most {max_bytes} bytes", f"{len(payload)} bytes")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadInput("payload", "text or JSON in UTF-8", payload[:16]) from exc


def is_object(text: str) -> bool:
    """Whether `text` starts like a JSON object."""
    return text[:1] == "{" or (text[:1].isspace() and text.lstrip()[:1] == "{")


def decode_json(payload: bytes) -> Any:
    """The JSON value in `payload`. Raises NotJson, or BadInput if it nests too deep or is too large."""
    if _depth(payload) > MAX_DEPTH:
        raise BadInput("payload", f"JSON nested at most {MAX_DEPTH} deep", payload[:16])
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        # The decoder's own message says where, without repeating the payload.
        raise NotJson("payload", f"valid JSON ({exc})", payload[:16]) from exc


def decode_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`, for which `is_object` must hold. Raises BadInput."""
    fields = decode_json(payload)
    assert isinstance(fields, dict)
    return fields


def _depth(payload: bytes) -> int:
    """How deep the JSON in `payload` nests. Raises BadInput if it holds too many names and values."""
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets <= MAX_DEPTH and 2 * (payload.count(b",") + 1) + brackets <= MAX_VALUES:
        return 1  # fast path: too few brackets and commas to exceed either limit
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
