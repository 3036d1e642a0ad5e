from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.messages import MAX_DEPTH, BadRequest, read_event, read_request
from mda_core.errors import BadInput
from mda_core.event import Event

LIMIT = 65536


def event(payload: bytes, source: str = "hall") -> Event:
    return read_event(payload, source, 1000.0, LIMIT)


def test_text_is_an_event_of_its_topic_and_arrival() -> None:
    assert event("Tür offen".encode()) == Event("Tür offen", "hall", 1000.0)
    assert event(b"21.4").text == "21.4"
    assert event(b'["a", 1]').text == '["a", 1]'


def test_json_names_its_own_fields_and_others_are_ignored() -> None:
    payload = (
        b' {"text": "x", "ts": "2026-11-22T23:40:10+01:00", "source": "a/b", "id": "e", "pin": true, "z": 1}'
    )
    assert event(payload) == Event("x", "a/b", 1795387210.0, "e", True)
    assert event(b'{"text": "x", "ts": null, "source": null, "id": 7, "pin": null}') == Event(
        "x", "hall", 1000.0, "7"
    )


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"\xff\xd8\xff\xe0", "payload"),
        (b"{", "payload"),
        (b'{"text": NaN}', "payload"),
        (b'{"text": "x", "ts": 1e400}', "payload"),
        (b"{}", "text"),
        (b'{"text": null}', "text"),
        (b'{"text": ["x"]}', "text"),
        (b" ", "text"),
        (b'{"text": "\\ud800"}', "payload"),
        (b'{"text": "x", "ts": "9999-12-31T00:00:00Z"}', "ts"),
        (b'{"text": "x", "ts": "2026-13-01T00:00:00Z"}', "ts"),
        (b'{"text": "x", "ts": "2026-11-22"}', "ts"),
        (b'{"text": "x", "ts": "yesterday"}', "ts"),
        (b'{"text": "x", "ts": true}', "ts"),
        (b'{"text": "x", "ts": -1}', "ts"),
        (b'{"text": "x", "ts": 1763850000000}', "ts"),
        (b'{"text": "x", "pin": 1}', "pin"),
        (b'{"text": "x", "source": 1}', "source"),
        (b'{"text": "x", "source": "$SYS"}', "source"),
        (b'{"text": "x", "id": []}', "id"),
        (b"x" * (LIMIT + 1), "payload"),
    ],
)
def test_what_cannot_be_accepted_is_refused_by_field(payload: bytes, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        event(payload)
    assert caught.value.field == field


def test_nesting_is_bounded_before_parsing() -> None:
    deep = b'{"text": "x", "a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    with pytest.raises(BadInput, match="nested"):
        event(deep)
    brackets = json.dumps({"text": "[" * 100 + "{" * 100 + '\\"['}).encode()
    assert event(brackets).text.startswith("[[[")
    wide = json.dumps({"text": "x", "a": [[1]] * 100}).encode()
    assert event(wide).text == "x"


def test_measuring_the_nesting_takes_linear_time() -> None:
    hostile = b"{" + b"[" * 20 + b'"' + b'\\"' * 32000
    started = time.process_time()
    with pytest.raises(BadInput):
        event(hostile)
    assert time.process_time() - started < 1  # quadratic would be minutes


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(payload: bytes) -> None:
    try:
        event(payload)
    except BadInput:
        return


@given(st.sampled_from(["recall", "forget", "stats", "x"]), st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(verb: str, payload: bytes) -> None:
    try:
        read_request(verb, payload, LIMIT)
    except BadRequest:
        return


def test_a_recall_by_text_or_with_every_field() -> None:
    assert read_request("recall", b"door?", LIMIT).fields == {"query": "door?"}
    payload = {"query": "q", "k": 3, "since": 1, "until": "2026-11-22T23:40:10Z", "source": "a/+", "id": "i"}
    request = read_request(
        "recall", json.dumps(payload | {"min_confidence": 1, "max_tokens": 9}).encode(), LIMIT
    )
    assert request.id == "i"
    assert request.fields == {
        "query": "q", "k": 3, "since": 1.0, "until": 1795390810.0, "source": "a/+",
        "min_confidence": 1.0, "max_tokens": 9,
    }  # fmt: skip
    assert read_request("recall", b'{"query": "q", "k": null}', LIMIT).fields == {"query": "q"}


@pytest.mark.parametrize(
    ("verb", "payload", "message"),
    [
        ("recall", {"query": "q", "k": 0}, "k: expected 1 to 100, got 0"),
        ("recall", {"query": "q", "k": 1.5}, "k: expected 1 to 100, got 1.5"),
        ("recall", {"query": "q", "min_confidence": 2}, "min_confidence: expected 0 to 1, got 2"),
        ("recall", {"query": "q", "max_tokens": -1}, "max_tokens: expected 1 to 100000, got -1"),
        ("recall", {"query": "q", "since": 2, "until": 1}, "since: expected a time not after until, got 2"),
        ("recall", {"query": 5}, "query: expected text that is not empty, got 5"),
        ("recall", {"query": "q", "text": "x"}, "text: expected no such field"),
        ("forget", {}, "forget: expected exactly one of"),
        ("forget", {"memory": 1, "query": "x"}, "forget: expected exactly one of"),
        ("forget", {"query": "x", "source": "a"}, "forget: expected exactly one of"),
        ("forget", {"all": 1}, "all: expected true, got 1"),
        ("forget", {"memory": -1}, "memory: expected a number from 0, got -1"),
        ("stats", {"query": "x"}, "query: expected no such field"),
        ("stats", {"id": [1]}, "id: expected a string"),
        ("sing", {}, "request: expected one of recall, forget, stats, got 'sing'"),
    ],
)
def test_a_bad_request_says_what_was_expected(verb: str, payload: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_request(verb, json.dumps(payload).encode(), LIMIT)
    assert str(caught.value).startswith(message)


def test_a_bad_request_keeps_its_id() -> None:
    with pytest.raises(BadRequest) as caught:
        read_request("recall", b'{"query": "", "id": "x1"}', LIMIT)
    assert caught.value.id == "x1"
