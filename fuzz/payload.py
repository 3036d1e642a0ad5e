"""What a client may send: an event, or a request of any verb. The first byte picks which."""

from __future__ import annotations

import json

from mda_core import BadInput, Event
from mda_daemon.contract import replies
from mda_daemon.contract.events import Echo, read_event
from mda_daemon.contract.requests import BadRequest, read_request
from mda_daemon.text import visible

LIMIT = 65536
VERBS = ("recall", "forget", "stats", "sing")


def one_input(data: bytes) -> None:
    kind, payload = data[:1], data[1:]
    if kind in b"rfsx" and kind:
        _request(VERBS[b"rfsx".index(kind)], payload)
    else:
        _event(payload)


def _event(payload: bytes) -> None:
    try:
        event = read_event(payload, "hall/back_door", 1000.0, LIMIT)
    except Echo:
        return
    except BadInput as exc:
        assert exc.field in ("payload", "text", "ts", "source", "id", "pin"), exc
        assert str(exc).isprintable() and len(str(exc)) < 300, exc
        return
    assert isinstance(event.ts, float)
    again = Event(event.text, event.source, event.ts, event.id, event.pin)
    assert again == event


def _request(verb: str, payload: bytes) -> None:
    try:
        request = read_request(verb, payload, LIMIT)
    except BadRequest as exc:
        assert visible(str(exc)) == str(exc) and len(str(exc)) < 600, exc
        reply = json.loads(replies.error(exc.id, "bad_request", str(exc)))
        assert reply.get("id") == exc.id
        return
    assert json.loads(replies.ok(request.id, 1.0, {})).get("id") == request.id
    assert None not in request.arguments().values()
