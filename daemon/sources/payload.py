"""What another program published, as a value. Sizes and nesting are bounded before anything is parsed."""

from __future__ import annotations

import msgspec

from mda_core.errors import BadInput

from ..messages import MAX_DEPTH, _depth, _is_object, _json, _object, _text


def read_payload(payload: bytes, limit: int) -> object:
    """The JSON value in `payload`, the text itself where it is none.

    Raises BadInput for more than `limit` bytes, what is not UTF-8 (pictures, sound), JSON nested too
    deep, and an object that is not valid JSON.
    """
    text = _text(payload, limit)
    if _is_object(text):
        return _object(payload)
    if _depth(payload) > MAX_DEPTH:
        raise BadInput("payload", f"JSON nested at most {MAX_DEPTH} deep", payload[:16])
    try:
        return _json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return text  # ON, offline, 0815: whoever publishes these means them as they are
