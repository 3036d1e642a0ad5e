"""What holds for anything that comes from outside: a checked value, or the error that is declared."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import re
import unicodedata
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_core import BadInput, Event, Recall, limits
from mda_core.limits import MAX_TS
from mda_core.text.source import compile_filter
from mda_daemon.cli import table
from mda_daemon.cli.tell import _line_event
from mda_daemon.config.schema import Config, Encoder, Mqtt, Queue, Space, Tls
from mda_daemon.contract import replies
from mda_daemon.contract.events import read_event
from mda_daemon.contract.json_limits import MAX_DEPTH
from mda_daemon.contract.requests import BadRequest, read_request
from mda_daemon.errors import ConfigError, Refused
from mda_daemon.host.logs import Throttle, _Formatter
from mda_daemon.host.metrics import Metrics
from mda_daemon.mqtt.topics import MAX_TOPIC_BYTES, Address, Topics
from mda_daemon.pipeline.queue import Message
from mda_daemon.pipeline.requests import Requests
from mda_daemon.settings import load, parse
from mda_daemon.text import columns, one_line, quantity, shorten, visible
from mda_daemon.times import age, from_rfc3339, to_rfc3339
from tests.support import ROOT

some = settings(max_examples=75, deadline=None, derandomize=True)

LIMIT = 4096
VERBS = ["recall", "forget", "stats"]
# Controls, escapes, separators, marks that reorder or vanish, wide and lone ones, MQTT's own, "%".
HOSTILE = "\0\t\n\r\x1b[31m\x7f\x85\x9b\xad\u061c\u200b\u200d\u200e\u0301\u2028\u202e\u2066\ufeff\u65e5\ud800"
HOSTILE += "\ue000\uffff\U000e0041 a/+#$%s"

encodable = st.text(max_size=30)
texts = st.one_of(encodable, st.text(st.characters(), max_size=30), st.text(HOSTILE, max_size=30))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.integers(-1, 200),
    st.floats(),
    texts,
    st.sampled_from(["hall/+", "a/#", "2026-11-22T23:40:10Z", 1795390810, "k" * 2000]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


SOUND = {
    "text": "x",
    "ts": 1795390810,
    "source": "hall/a",
    "id": "e-91",
    "pin": True,
    "query": "x",
    "k": 3,
    "since": "2026-11-22T23:40:10Z",
    "until": 1795390810.5,
    "min_confidence": 0.5,
    "max_tokens": 9,
    "memory": 7,
    "all": True,
}


def objects(*names: str) -> st.SearchStrategy[bytes]:
    """JSON objects, some with unknown, very long or repeated keys, NaN and lone surrogates."""
    sound = st.sampled_from(names).map(lambda name: (name, SOUND[name]))
    pairs = st.tuples(st.one_of(st.sampled_from(names), texts), values)
    found = st.lists(st.one_of(sound, sound, sound, sound, pairs), max_size=4)
    return found.map(lambda pairs: ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs)).map(
        lambda inside: f"{{{inside}}}".encode()
    )


def shows_nothing_raw(text: str) -> bool:
    """No control, no separator, nothing that reorders or hides; joiners alone stay, for they shape words."""
    raw = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return not any(unicodedata.category(c) in raw and c not in "\u200c\u200d" for c in text)


# events and requests


@some
@given(
    st.one_of(
        objects("text", "ts", "source", "id", "pin"),
        values.map(json.dumps).map(str.encode),
        st.binary(max_size=60),
        st.text(HOSTILE.replace("\ud800", ""), max_size=40).map(str.encode),
        st.integers(LIMIT - 2, LIMIT + 2).map(b"x".__mul__),
    )
)
def test_any_payload_is_an_event_or_refused(payload: bytes) -> None:
    try:
        event = read_event(payload, "hall", 1000.0, LIMIT)
    except BadInput as exc:
        assert exc.field in ("payload", "text", "ts", "source", "id", "pin")
        return
    assert len(payload) <= LIMIT
    assert isinstance(event, Event) and isinstance(event.ts, float) and 0 <= event.ts < MAX_TS


@some
@given(
    st.text(min_size=1, max_size=40).filter(lambda text: text.strip() and "\0" not in text),
    st.lists(st.sampled_from(["a", "b c", "\u00e9"]), max_size=3).map("/".join),
    st.booleans(),
    st.integers(0, int(MAX_TS) - 1),
    st.one_of(st.none(), st.text("ab\n\x1b\u00e9", min_size=1, max_size=9)),
    st.booleans(),
    st.booleans(),
)
def test_an_event_written_as_json_is_read_again(
    text: str, below: str, placed: bool, ts: int, id: str | None, pin: bool, written: bool
) -> None:
    topic = "hall" if placed else ""
    source = "/".join(filter(None, (topic, below)))
    fields = {"text": text, "source": source, "ts": to_rfc3339(ts) if written else ts, "id": id, "pin": pin}
    for ascii in (True, False):
        payload = json.dumps(fields, ensure_ascii=ascii).encode()
        assert read_event(payload, topic, 1000.0, 65536) == Event(text, source, ts, id, pin)


RECALLS = objects(*["query"] * 6, "k", "since", "until", "source", "min_confidence", "max_tokens", "id")
FORGETS = objects("memory", "query", "all", *["source", "since", "until", "id"] * 2)


@some
@given(
    st.one_of(
        st.tuples(st.just("recall"), RECALLS),
        st.tuples(st.just("forget"), FORGETS),
        st.tuples(st.just("stats"), objects("id")),
        st.tuples(st.sampled_from([*VERBS, "sing", ""]), st.one_of(RECALLS, FORGETS, st.binary(max_size=60))),
    ),
)
def test_any_payload_is_a_request_within_its_ranges_or_refused_with_a_reply(
    sent: tuple[str, bytes],
) -> None:
    verb, payload = sent
    try:
        request = read_request(verb, payload, LIMIT)
    except BadRequest as exc:
        reply = json.loads(replies.error(exc.id, "bad_request", str(exc)))
        assert reply.get("id") == exc.id and reply["error"]["message"]
        return
    assert json.loads(replies.ok(request.id, 1.0, {})).get("id") == request.id
    fields = request.arguments()
    assert verb in VERBS and None not in fields.values()
    if verb == "recall":
        assert fields["query"].strip()
    assert (
        1 <= fields.get("k", 1) <= limits.K.high
        and 1 <= fields.get("max_tokens", 1) <= limits.CONTEXT_TOKENS.high
    )
    assert 0 <= fields.get("min_confidence", 0) <= 1
    assert 0 <= fields.get("since", 0) <= fields.get("until", MAX_TS) <= MAX_TS
    compile_filter("source", fields.get("source", "#"))


@some
@given(
    st.fixed_dictionaries(
        {"query": st.text(min_size=1, max_size=30).filter(str.strip)},
        optional={
            "k": st.integers(*limits.K),
            "since": st.floats(0, 1e9),
            "until": st.floats(1e9, 2e9),
            "source": st.sampled_from(["hall/+", "#", "", "a/b"]),
            "min_confidence": st.floats(0, 1),
            "max_tokens": st.integers(*limits.CONTEXT_TOKENS),
        },
    ),
    st.one_of(st.none(), st.integers(), st.text(max_size=256)),
)
def test_a_recall_written_as_json_is_read_again(fields: dict[str, Any], id: str | int | None) -> None:
    request = read_request("recall", json.dumps(fields | {"id": id}).encode(), 65536)
    assert request.arguments() == fields and request.id == id


@some
@given(st.lists(st.booleans(), max_size=2 * MAX_DEPTH), st.text('[]{}"\\a', max_size=20))
def test_nesting_counts_brackets_outside_of_strings_alone(shape: list[bool], text: str) -> None:
    value: Any = text
    for listed in shape:
        value = [[], {}, value] if listed else {"[beside": [], text: value}
    depth = len(shape) + 1 + bool(shape)  # the innermost has empty ones inside
    payload = json.dumps({"text": "x", "more": value}).encode()
    try:
        read_event(payload, "", 1000.0, 65536)
    except BadInput as exc:
        assert exc.field == "payload" and depth > MAX_DEPTH
        return
    assert depth <= MAX_DEPTH


@some
@given(
    st.sampled_from(["[", "{", '{"a":', "[[{", '["', '{"\\']), st.integers(1, 2000), st.sampled_from(VERBS)
)
def test_any_depth_of_nesting_is_refused_in_order(opening: str, times: int, verb: str) -> None:
    payload = ('{"text": ' + opening * times).encode()
    with pytest.raises(BadInput):
        read_event(payload, "", 1000.0, 1 << 20)
    with pytest.raises(BadRequest):
        read_request(verb, payload, 1 << 20)


class Outbox:
    """A connection that keeps what is published."""

    broker_max_packet = None

    def accepts(self, topic: str, payload: bytes, correlation: bytes | None = None) -> bool:
        return True

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, **more: Any) -> int:
        self.sent.append((topic, payload))
        return 1


class Unknowing:
    """A memory that holds nothing."""

    def recall(self, query: str, **more: Any) -> Recall:
        return Recall(False)

    def forget(self, **more: Any) -> list[int]:
        return []

    def stats(self) -> dict[str, object]:
        return {}


@some
@given(
    st.one_of(st.just("home"), texts),
    st.one_of(st.sampled_from(VERBS), texts),
    st.one_of(objects("query", "k", "id"), objects("memory", "all", "id"), st.binary(max_size=60)),
    st.one_of(st.none(), st.sampled_from(["mda/pi1/x", "lm/x", "mda/pi1/status", "x"]), encodable),
    st.booleans(),
)
def test_any_request_has_one_reply_to_a_topic_that_is_allowed(
    space: str, verb: str, payload: bytes, reply_to: str | None, waiting: bool
) -> None:
    topics, outbox = Topics("mda/pi1", ["lm"]), Outbox()
    requests = Requests(Config(), topics, {"home": Unknowing()}, outbox, Metrics())  # type: ignore[arg-type, dict-item]
    message = Message("t", payload, reply_to=reply_to, address=Address("request", space, verb))
    if waiting:
        requests.serve(message)
    else:
        requests.busy(message)
    refused = reply_to is not None and topics.refuses_reply(reply_to) is not None
    assert len(outbox.sent) == 1
    for topic, reply in outbox.sent:
        assert topic == (topics.response(space, verb) if reply_to is None or refused else reply_to)
        assert json.loads(reply)["status"] in ("ok", "error")


@some
@given(
    st.one_of(
        st.text(HOSTILE.replace("\ud800", ""), min_size=1, max_size=30),
        st.text(st.characters(codec="utf-8"), max_size=30).map("{".__add__),
        st.dictionaries(encodable, st.one_of(st.none(), st.floats(), encodable), max_size=3).map(json.dumps),
    ),
    st.sampled_from(["", "hall/a"]),
    st.booleans(),
)
def test_any_line_to_tell_is_a_payload_or_refused(line: str, source: str, pin: bool) -> None:
    options = argparse.Namespace(source=source, ts=None, id=None, pin=pin)
    try:
        fields = json.loads(_line_event(options, line))
    except Refused:
        assert line.startswith("{")
        return
    expected = json.loads(line) if line.startswith("{") else {"text": line}
    assert fields.keys() == expected.keys() | ({"source"} if source else set()) | ({"pin"} if pin else set())
    assert expected.get("text") == fields.get("text") or math.isnan(fields["text"])


# topics

LEVELS = st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=8)
BASES = st.sampled_from(["mda/pi1", "a", "a/b/c", "event", "request/request"])


@some
@given(BASES, LEVELS, st.lists(LEVELS, max_size=3).map("/".join), LEVELS.filter(bool))
def test_an_input_topic_built_is_taken_apart_again(base: str, space: str, source: str, verb: str) -> None:
    topics = Topics(base)
    for _ in range(2):  # the second from the store
        assert topics.parse(topics.event(space, source)) == Address("event", space, source)
        assert topics.parse(topics.request(space, verb)) == Address("request", space, verb)
        assert topics.parse(topics.response(space, verb)) is None
    assert topics.parse(topics.novel(space)) is None


@some
@given(
    BASES,
    st.lists(
        st.sampled_from(["mda/pi1", "mda", "lm", "home", "event", "status", "request", "x", "+", ""]),
        max_size=6,
    ),
    texts,
)
def test_a_reply_never_goes_to_an_input_or_elsewhere(base: str, levels: list[str], text: str) -> None:
    topics = Topics(base, ["lm/"])
    for topic in ("/".join(levels), text, f"{base}/{text}", "/".join([base, *levels]), "lm/" + text):
        topics.parse(topic)
        if topics.refuses_reply(topic) is None:
            assert topic.startswith((base + "/", "lm/")) and not set(topic) & set("+#\0")
            assert topics.parse(topic) is None
            assert topic not in (topics.status, topics.info, topics.health)
            assert len(topic.encode(errors="replace")) <= MAX_TOPIC_BYTES


# the configuration

LINES = (ROOT / "config.yaml").read_text("utf-8").splitlines()
NO_NUL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
settled = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.integers(0, 70_000),
    st.floats(),
    NO_NUL,
    st.sampled_from(["auto", "5", 5, "info", "pi1", "mda/pi1", "localhost", "::1"]),
    st.dates(),
    st.binary(max_size=4),
    st.lists(NO_NUL, max_size=2),
)


def keys(kind: type[msgspec.Struct], **nested: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A mapping of some of the keys of `kind`, of one that it does not have, or something else."""
    known = {name: nested.get(name, settled) for name in kind.__struct_fields__ if name != "folder"}
    return st.one_of(
        st.fixed_dictionaries({}, optional=known),
        st.dictionaries(st.one_of(st.sampled_from(list(known)), NO_NUL), settled, max_size=1),
        settled,
    )


configurations = keys(
    Config,
    mqtt=keys(Mqtt, tls=keys(Tls)),
    encoder=keys(Encoder),
    spaces=st.dictionaries(st.sampled_from(["home", "b.c", "a/b", "..", 1, None]), keys(Space), max_size=2),
    queue=keys(Queue),
)


def read_or_refused(text: str) -> Config | None:
    try:
        config = parse(text, "test.yaml", ".")
    except ConfigError as exc:
        assert exc.problems and all(shows_nothing_raw(problem) for problem in exc.problems)
        assert all(len(problem) < 400 for problem in exc.problems if "not valid YAML" not in problem)
        return None
    return config


@some
@given(
    st.one_of(
        st.lists(
            st.sampled_from(["", "a", "+", "#", "a+", "#b", "\u65e5", "\x1b", "\x7f", " ", "$"]), max_size=5
        )
        .map("/".join)
        .filter(lambda text: len(text) <= 64),
        encodable,
    )
)
def test_a_filter_of_the_configuration_is_a_filter_of_the_memory(pattern: str) -> None:
    config = read_or_refused(yaml.safe_dump({"echo_sources": [pattern]}))
    try:
        compile_filter("source", pattern)
    except BadInput:
        assert config is None
    else:
        assert config is not None and config.echo_sources == (pattern,)


@some
@given(configurations)
def test_any_mapping_is_a_configuration_or_every_problem_is_printable(data: Any) -> None:
    read_or_refused(yaml.safe_dump(data, allow_unicode=True))
    read_or_refused(yaml.safe_dump(data))


@some
@given(
    st.one_of(
        texts,
        st.lists(
            st.sampled_from([*LINES, "", "- a", "  ? [a]", "x: *x", "&x y: *x", "<<: {a: 1}", "\t"])
        ).map("\n".join),
        st.lists(st.sampled_from([*"[]{}:,?-&*|>'\"%@`#\n ", "node", "mqtt", ": ", "\n  ", "&a ", "*a"])).map(
            "".join
        ),
        st.tuples(st.sampled_from(["[", "{a: ", "- ", "? "]), st.sampled_from([9, 50, 1000])).map(
            lambda deep: deep[0] * deep[1]
        ),
    )
)
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    read_or_refused(text)


@some
@given(data=st.binary(max_size=80))
def test_any_file_is_a_configuration_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    try:
        load(path)
    except ConfigError as exc:
        assert shows_nothing_raw("".join(exc.problems))


@some
@given(
    st.builds(
        Config,
        node=st.sampled_from(["pi1", "1", "on", "1e3", "a.b", "x" * 64]),
        state=NO_NUL.filter(bool),
        mqtt=st.builds(
            Mqtt,
            port=st.one_of(st.none(), st.integers(1, 65535)),
            username=st.one_of(st.none(), NO_NUL.filter(bool)),
            tls=st.one_of(st.none(), st.builds(Tls, insecure=st.booleans())),
            base=st.one_of(st.none(), st.sampled_from(["a", "mda/pi1", "a b/\u00e9"])),
            version=st.sampled_from(["auto", "5", "3.1.1", 5]),
            reply_prefixes=st.lists(st.sampled_from(["lm", "clients/"]), max_size=2).map(tuple),
            retained=st.booleans(),
        ),
        spaces=st.dictionaries(
            st.sampled_from(["home", "1", "on", "null", "1e3", "a.b"]),
            st.builds(Space, units=st.integers(1, 1 << 20), novel=st.booleans()),
            min_size=1,
        ),
        health_seconds=st.floats(1, 86400),
        log_level=st.sampled_from(["debug", "info", "warning", "error"]),
    )
)
def test_a_configuration_written_as_yaml_is_read_again(config: Config) -> None:
    data = msgspec.to_builtins(config, builtin_types=())
    del data["folder"]
    assert parse(yaml.safe_dump(data, sort_keys=False), "test.yaml", ".") == config


# times


@some
@given(st.one_of(st.floats(0, MAX_TS - 1), st.integers(0, int(MAX_TS) - 1)))
def test_a_time_written_is_read_again_to_the_second(epoch: float) -> None:
    text = to_rfc3339(epoch)
    assert from_rfc3339(text) == int(epoch) == from_rfc3339(text.lower())


@some
@given(
    st.one_of(
        texts,
        st.from_regex(r"\A\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z"),
        st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-2][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9][+-][01][0-9]:00\Z"),
    )
)
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        epoch = from_rfc3339(text)
    except ValueError:
        return
    assert math.isfinite(epoch)


@some
@given(st.floats(-1e12, 1e12))
def test_any_age_is_a_few_words(seconds: float) -> None:
    assert re.fullmatch(r"in the future|just now|\d+ (s|min|h|d|mo|y) ago", age(seconds))


# what reaches a terminal or a log


@some
@given(texts, st.integers(1, 40))
def test_text_made_safe_shows_nothing_raw_and_fits_its_width(text: str, width: int) -> None:
    assert shows_nothing_raw(visible(text)) and visible(visible(text)) == visible(text)
    line = one_line(text)
    assert shows_nothing_raw(line) and len(line.splitlines()) <= 1
    short = shorten(line, width)
    assert columns(short) <= width and shorten(short, width) == short
    assert short == line if columns(line) <= width else line.startswith(short[:-1]) and short[-1] == "\u2026"


@some
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "memory": st.integers(1, 2**63 - 1),
                "last": st.integers(0, int(MAX_TS) - 1).map(to_rfc3339),
                "source": texts,
                "confidence": st.floats(0, 1),
                "via": st.sampled_from(["match", "link"]),
                "count": st.integers(1, 10**12),
                "text": texts,
            }
        ),
        max_size=4,
    ),
    st.integers(110, 200),
)
def test_any_memory_is_one_line_of_a_table_within_its_width(found: list[dict[str, Any]], width: int) -> None:
    lines = table.memories(found, 1795390810.0, width).split("\n")
    assert len(lines) == len(found) + 1
    assert all(shows_nothing_raw(line) and columns(line) <= width for line in lines)


@some
@given(st.lists(st.tuples(st.sampled_from(["a", "first"]), texts), max_size=4), st.floats(0, 1e18))
def test_any_fact_is_one_line(pairs: list[tuple[str, str]], size: float) -> None:
    lines = table.facts([*pairs, ("on disk", quantity(size))]).split("\n")
    assert len(lines) == len(pairs) + 1 and all(map(shows_nothing_raw, lines))


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    trouble = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("daemon", logging.WARNING, __file__, 1, message, args, trouble)


@some
@given(texts, st.booleans())
def test_any_text_in_the_log_is_one_line(text: str, journal: bool) -> None:
    line = _Formatter(journal).format(record("space %s is refused", text))
    assert shows_nothing_raw(line) and line.endswith(f"space {visible(text)} is refused")


@some
@given(texts)
def test_an_exception_cannot_forge_the_level_of_a_line_of_the_journal(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as exc:
        lines = _Formatter(journal=True).format(record("a request failed", error=exc)).split("\n")
    assert all(line.startswith("<4>") and shows_nothing_raw(line) for line in lines)


@some
@given(st.lists(st.tuples(st.sampled_from(["lost %s", "other %s"]), texts), max_size=12))
def test_every_warning_is_shown_or_counted(said: list[tuple[str, str]]) -> None:
    now = [0.0]
    throttle = Throttle(60, clock=lambda: now[0])
    shown = [each for each in said if throttle.filter(record(*each))]
    assert len(shown) == len({message for message, _ in said})
    now[0] = 60.0
    for message in ("lost %s", "other %s"):
        last = record(message, "%d%s")
        assert throttle.filter(last)
        kept = max(0, sum(each[0] == message for each in said) - 1)
        assert last.getMessage().endswith(f"({kept} more like this since the last one)") == (kept > 0)


@pytest.mark.parametrize("digits", [309, 400, 4000])
def test_a_time_of_any_length_is_refused(digits: int) -> None:
    number = b"1" + b"0" * digits
    with pytest.raises(BadInput):
        read_event(b'{"text": "x", "ts": %s}' % number, "", 1000.0, 65536)
    for name in (b"since", b"until"):
        with pytest.raises(BadRequest):
            read_request("recall", b'{"query": "x", "%s": %s}' % (name, number), 65536)


@some
@given(texts)
def test_an_exception_shows_nothing_raw_on_a_terminal(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as exc:
        shown = _Formatter(journal=False).format(record("a request failed", error=exc))
    assert all(shows_nothing_raw(line) for line in shown.split("\n"))


@pytest.mark.parametrize("line", ['{"text": "\\ud800"}', '{"a": ' + "[" * 100_000])
def test_a_hostile_line_is_a_payload_or_refused(line: str) -> None:
    with contextlib.suppress(Refused):
        json.loads(_line_event(argparse.Namespace(source="", ts=None, id=None, pin=False), line))


@pytest.mark.parametrize("key", ["k" * 60_000, "\x1b[31m"])
def test_an_unknown_field_is_named_short_and_printable(key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_request("recall", json.dumps({"query": "x", key: 1}).encode(), 65536 * 2)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_the_arabic_letter_mark_is_visible() -> None:
    assert visible("\u061c") == r"\u061c"
