"""Encodes replies and reports as the JSON of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..times import to_rfc3339

if TYPE_CHECKING:
    from mda_core.event import Event, Forgotten, Recall, Remembered

MAX_LISTED = 100
NOVEL = "novel"
"""The `event_type` of a novel event, which Home Assistant requires."""
_encode = msgspec.json.Encoder().encode


def to_json(value: object) -> bytes:
    """`value` as JSON in UTF-8."""
    return _encode(value)


def ok(request_id: str | int | None, took_ms: float, fields: dict[str, Any]) -> bytes:
    """A reply with `fields`; took_ms: milliseconds that the request took."""
    reply: dict[str, Any] = {"status": "ok"}
    if request_id is not None:
        reply["id"] = request_id
    reply["took_ms"] = round(took_ms, 2)
    return _encode(reply | fields)


def error(request_id: str | int | None, code: str, message: str) -> bytes:
    """An error reply with a code of the contract, such as `bad_request`."""
    reply: dict[str, Any] = {"status": "error"}
    if request_id is not None:
        reply["id"] = request_id
    # A lone surrogate in a message cannot be written as UTF-8.
    clean = message.encode(errors="replace").decode()
    reply["error"] = {"code": code, "message": clean}
    return _encode(reply)


def recall_fields(recall: Recall) -> dict[str, Any]:
    """The fields of the reply to a recall."""
    return {
        "known": recall.known,
        "memories": [_memory(memory) for memory in recall.memories],
        "context": recall.context,
    }


def forget_fields(forgotten: Forgotten) -> dict[str, Any]:
    """The fields of the reply to a forget: what went, or between which memories a query leaves a doubt."""
    return {
        "forgotten": len(forgotten.memories),
        "memories": [int(each) for each in forgotten.memories[:MAX_LISTED]],
        "texts": list(forgotten.texts[:MAX_LISTED]),
        "candidates": [_memory(memory) for memory in forgotten.candidates],
    }


def stats_fields(stats: dict[str, object]) -> dict[str, Any]:
    """The memory's statistics, with the times `first`, `last` and `last_commit` in RFC 3339."""
    return {name: _time(value) if name in _TIMES else value for name, value in stats.items()}


def novel_fields(event: Event, memory: int) -> dict[str, Any]:
    """The fields of a message about a novel event, which was learned as `memory`."""
    fields = {"memory": memory, "text": event.text, "source": event.source, "ts": _time(event.ts)}
    return fields if event.id is None else fields | {"id": event.id}


_TIMES = {"first", "last", "last_commit"}


def _time(value: object) -> object:
    return to_rfc3339(value) if isinstance(value, int | float) else value


def _memory(memory: Remembered) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "memory": int(memory.memory),
        "text": memory.text,
        "score": round(float(memory.score), 4),
        "confidence": round(float(memory.confidence), 4),
        "via": memory.via,
        "source": memory.source,
        "ids": list(memory.ids),
        "count": int(memory.count),
        "first": to_rfc3339(memory.first),
        "last": to_rfc3339(memory.last),
        "recent": [to_rfc3339(ts) for ts in memory.recent],
    }
    if memory.within is not None:
        within = memory.within
        fields["within"] = {
            "count": within.count,
            "first": to_rfc3339(within.first),
            "last": to_rfc3339(within.last),
        }
    return fields
