from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda_core import Memory
from mda_core.errors import BadInput
from mda_core.event import Event
from mda_daemon.contract.events import read_event
from mda_daemon.contract.json_limits import MAX_DEPTH, MAX_VALUES
from mda_daemon.contract.requests import BadRequest, read_request
from tests.support.fakes import HashEncoder
from tests.support.timing import is_linear

LIMIT = 65536


def event(payload: bytes, source: str = "hall") -> Event:
    return read_event(payload, source, 1000.0, LIMIT)


def test_text_is_an_event_of_its_topic_and_arrival() -> None:
    assert event("Tür offen".encode()) == Event("Tür offen", "hall", 1000.0)
    assert event(b"21.4").text == "21.4"
    assert event(b'["a", 1]').text == '["a", 1]'


def test_json_names_its_own_fields_and_others_are_ignored() -> None:
    payload = (
        b' {"text": "x", "ts": "2026-11-22T23:40:10+01:00", "source": "hall/b", "id": "e",'
        b' "pin": true, "z": 1}'
    )
    assert event(payload) == Event("x", "hall/b", 1795387210.0, "e", True)
    assert event(b'{"text": "x", "ts": null, "source": null, "id": 7, "pin": null}') == Event(
        "x", "hall", 1000.0, "7"
    )


@pytest.mark.parametrize(
    ("topic", "source", "allowed"),
    [
        ("sensors/door", "sensors/door", True),
        ("sensors/door", "sensors/door/left", True),
        ("sensors/door", "sensors", False),
        ("sensors/door", "sensors/doors", False),
        ("sensors/door", "sensors/door2/x", False),
        ("sensors/door", "Sensors/door", False),
        ("sensors/door", "x/sensors/door", False),
        ("sensors/door", "", False),
        ("", "assistant", True),
        ("", "", True),
    ],
)
def test_a_source_outside_that_of_the_topic_is_refused(topic: str, source: str, allowed: bool) -> None:
    """An access list decides who may publish where, so a field must not say another thing."""
    payload = json.dumps({"text": "x", "source": source}).encode()
    if allowed:
        assert read_event(payload, topic, 1000.0, 65536).source == source
        return
    with pytest.raises(BadInput, match=f"source: expected {topic}, as in the topic"):
        read_event(payload, topic, 1000.0, 65536)


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


@pytest.mark.parametrize(
    ("many", "each"),
    [
        (b'"a": [%s]', b"0"),
        (b'"a": [%s]', b"[]"),
        (b'"a": [%s]', b'{"b": 1}'),
        (b"%s", b'"a": 0'),
        (b"%s", b'"\\"{,": -1.5e3'),
    ],
)
def test_the_number_of_names_and_values_is_bounded_before_parsing(many: bytes, each: bytes) -> None:
    def payload(count: int) -> bytes:
        return b'{"text": "x, [1, 2, {3", ' + many % b", ".join([each] * count) + b"}"

    weight = {b"0": 1, b"[]": 1, b'{"b": 1}': 3}.get(each, 2)
    around = 5 if b"[" in many else 3
    most = (MAX_VALUES - around) // weight
    assert read_event(payload(most), "", 1000.0, 1 << 20).text == "x, [1, 2, {3"
    for read in (lambda p: read_event(p, "", 1000.0, 1 << 20), lambda p: read_request("recall", p, 1 << 20)):
        with pytest.raises((BadInput, BadRequest), match="at most 10000 names and values"):
            read(payload(most + 1))


def test_commas_and_brackets_of_a_long_text_do_not_count() -> None:
    text = "a, [b] {c}, " * 1000 + '"\\'
    assert event(json.dumps({"text": text}).encode()).text == text


@pytest.mark.parametrize("digits", [257, 4299])
def test_the_id_of_a_request_is_bounded_as_a_number_too(digits: int) -> None:
    with pytest.raises(BadRequest, match="id: expected a string of at most 256 characters or an integer"):
        read_request("stats", b'{"id": %s}' % (b"7" * digits), LIMIT)
    assert read_request("stats", b'{"id": %s}' % (b"7" * 256), LIMIT).id == int("7" * 256)


RANGES = [
    ("recall", "k", [0, 1, 100, 101]),
    ("recall", "max_tokens", [0, 1, 1_000_000, 1_000_001]),
    ("recall", "min_confidence", [-0.1, 0, 1, 1.1]),
    ("forget", "memory", [0, 1, 2**63 - 1, 2**63]),
]


@pytest.mark.parametrize(("verb", "name", "values"), RANGES)
def test_a_request_has_the_ranges_of_the_library(
    verb: str, name: str, values: list[float], tmp_path: Path
) -> None:
    fields = {"query": "door?"} if verb == "recall" else {}
    with Memory.open(tmp_path / "home.db", units=8, encoder=HashEncoder()) as memory:
        for value, fine in zip(values, (False, True, True, False), strict=True):
            try:
                request = read_request(verb, json.dumps({**fields, name: value}).encode(), LIMIT)
            except BadRequest:
                assert not fine, value
                with pytest.raises(BadInput):
                    getattr(memory, verb)(**fields, **{name: value})
            else:
                assert fine, value
                getattr(memory, verb)(**request.arguments())


def test_measuring_the_nesting_takes_linear_time() -> None:
    def measure(size: int) -> None:
        hostile = b"{" + b"[" * 20 + b'"' + b'\\"' * size
        with pytest.raises(BadInput):
            event(hostile)

    assert is_linear(measure, 2000)  # of 32,000 quotes a quadratic one would take minutes


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
    assert read_request("recall", b"door?", LIMIT).arguments() == {"query": "door?"}
    payload = {"query": "q", "k": 3, "since": 1, "until": "2026-11-22T23:40:10Z", "source": "a/+", "id": "i"}
    request = read_request(
        "recall", json.dumps(payload | {"min_confidence": 1, "max_tokens": 9}).encode(), LIMIT
    )
    assert request.id == "i"
    assert request.arguments() == {
        "query": "q", "k": 3, "since": 1.0, "until": 1795390810.0, "source": "a/+",
        "min_confidence": 1.0, "max_tokens": 9,
    }  # fmt: skip
    assert read_request("recall", b'{"query": "q", "k": null}', LIMIT).arguments() == {"query": "q"}


@pytest.mark.parametrize(
    ("verb", "payload", "message"),
    [
        ("recall", {"query": "q", "k": 0}, "k: expected 1 to 100, got 0"),
        ("recall", {"query": "q", "k": 1.5}, "k: expected 1 to 100, got 1.5"),
        ("recall", {"query": "q", "min_confidence": 2}, "min_confidence: expected 0 to 1, got 2"),
        ("recall", {"query": "q", "max_tokens": -1}, "max_tokens: expected 1 to 1000000, got -1"),
        ("recall", {"query": "q", "since": 2, "until": 1}, "since: expected a time not after until, got 2"),
        ("recall", {"query": 5}, "query: expected text that is not empty, got 5"),
        ("recall", {"query": "q", "text": "x"}, "text: expected no such field"),
        ("forget", {}, "forget: expected exactly one of"),
        ("forget", {"memory": 1, "query": "x"}, "forget: expected exactly one of"),
        ("forget", {"query": "x", "source": "a"}, "forget: expected exactly one of"),
        ("forget", {"all": 1}, "all: expected true, got 1"),
        ("forget", {"memory": -1}, "memory: expected a number from 1, got -1"),
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
