"""What another program published, as a value. Sizes and nesting are bounded before anything is parsed."""

from __future__ import annotations

from ..contract.json_limits import NotJson, decode_json, decode_object, decode_text, is_object


def read_payload(payload: bytes, limit: int) -> object:
    """The JSON value in `payload`, the text itself where it is none.

    Raises BadInput for more than `limit` bytes, what is not UTF-8 (pictures, sound), JSON nested too
    deep, and an object that is not valid JSON.
    """
    text = decode_text(payload, limit)
    if is_object(text):
        return decode_object(payload)
    try:
        return decode_json(payload)
    except NotJson:
        return text  # ON, offline, 0815: whoever publishes these means them as they are
