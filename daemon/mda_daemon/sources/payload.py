"""Decodes the payloads of other programs. Size and nesting are bounded before anything is parsed."""

from __future__ import annotations

from ..contract.json_limits import NotJson, decode_json, decode_object, decode_text, is_object


def read_payload(payload: bytes, limit: int) -> object:
    """The JSON value in `payload`, or its text if it is not JSON.

    Raises BadInput if it is longer than `limit` bytes, is not UTF-8 (images, sound), nests too deep, or
    starts as a JSON object without being valid JSON.
    """
    text = decode_text(payload, limit)
    if is_object(text):
        return decode_object(payload)
    try:
        return decode_json(payload)
    except NotJson:
        return text  # plain values such as ON, offline or 0815
