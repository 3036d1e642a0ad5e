"""The syntax of templates and conditions, the errors of a configuration, and that no input can break them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mda_core.errors import BadInput
from mda_core.text.source import compile_filter
from mda_daemon.errors import ConfigError
from mda_daemon.mqtt.topicfilter import covers, needed, overlap
from mda_daemon.settings import parse
from mda_daemon.sources import Sources, preset
from mda_daemon.sources.condition import parse_conditions
from mda_daemon.sources.paths import Scope, TemplateError, parse_path
from mda_daemon.sources.payload import read_payload
from mda_daemon.sources.template import parse_template

some = settings(max_examples=75, deadline=None, derandomize=True)

PAYLOAD = {
    "state": "ON", "on": True, "count": 3, "level": 21.456, "zones": ["front_yard", "drive"], "empty": [],
    "after": {"id": "x1", "end": 90.0, "start": 30, "list": [{"name": "deep"}]}, "nothing": None,
    "topic": "field", "fields": "own", "odd name-1": "yes",
}  # fmt: skip


def render(text: str, value: object = PAYLOAD, topic: str = "house/hall/back_door") -> str | None:
    return parse_template(text).render(Scope(topic.split("/"), value, rest=topic.split("/")[1:]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{topic}", "house/hall/back_door"),
        ("{topic[1]} {topic[-1]}", "hall back_door"),
        ("{topic[1:]}", "hall/back_door"),
        ("{topic[:-1]|words}", "house hall"),
        ("{rest[-1]|words}", "back door"),
        ("{state}", "ON"),
        ("{after.list[0].name}", "deep"),
        ("{json.topic} {json.fields}", "field own"),
        ("{odd name-1}", "yes"),
        ("{zones}", "front_yard, drive"),
        ('{zones|words|join:" and "}', "front yard and drive"),
        ("{zones[-1]} {zones|first}", "drive front_yard"),
        ("{level|round:1} {level|round:0}", "21.5 21"),
        ("{state|onoff} {state|lower} {on}", "on on true"),
        ("{after.end|minus:after.start|duration}", "60 s"),
        ("{missing|default:none} {nothing|default:\"a | b\"}", "none a | b"),
        ("{zones|first|words|article|capital}", "A front yard"),
        ("at {topic[1]}[, in {empty}][ ({missing})][, {count} times]", "at hall, 3 times"),
        ("{{{count}}} [[{count}]]", "{3} [3]"),
        ("  a \n b ", "a b"),
        ("{missing}", None),
        ("{topic[9]}", None),
        ("{state[0]}", None),
        ("{after}", None),
        ("{empty}", None),
        ("[{missing}]", None),
        ("{count|minus:state}", None),
    ],
)  # fmt: skip
def test_a_template_is_rendered(text: str, expected: str | None) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("21.50", "21.5"),
        ("-0.00000001", "0"),
        ("1e999", "1e999"),
        ("1" * 400, None),
        ('"a"', "a"),
        ("007", "007"),
    ],
)
def test_a_raw_payload_is_a_value(value: str, expected: str | None) -> None:
    assert render("{value}", read_payload(value.encode(), 1000)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{", "}", "{}", "{ }", "[", "]", "[x]", "[{a}", "[{a}[{b}]]", "{a|nope}", "{a|round}", "{a|round:x}",
        "{a|round:9}", "{a|words:1}", "{a|}", "{a[x]}", "{a[1}", "{a..b}", "{.a}", "{topic.a}", "{a|minus:}",
        "{a.__class__|call}", "{[0]}", "{a|default}", '{a|join:"}', "{a[99999]}", "{fields.a}",
    ],
)  # fmt: skip
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(text)


@pytest.mark.parametrize(
    "text", ["{a.__class__}", "{__class__.__init__}", "{value.__dict__}", "{topic[0]|words}"]
)
def test_a_template_sees_fields_of_the_message_and_nothing_of_python(text: str) -> None:
    assert render(text, {"a": {"b": 1}}) in (None, "house")


@pytest.mark.parametrize(
    ("field", "wanted", "holds"),
    [
        ("state", True, True),
        ("state", "ON", True),
        ("state", ["off", "ON"], True),
        ("state", False, False),
        ("on", True, True),
        ("on", "true", False),
        ("count", 3, True),
        ("count", [1, 2], False),
        ("missing", None, True),
        ("empty", None, True),
        ("state", {"not": None}, True),
        ("state", {"not": ["ON", "OFF"]}, False),
        ("topic[-1]", {"like": "*door*"}, True),
        ("topic[-1]", {"like": ["front*", "*_door"]}, True),
        ("topic[-1]", {"like": "DOOR"}, False),
        ("level", {"is": "number"}, True),
        ("state", {"is": ["bool", "text"]}, True),
        ("zones", {"is": "list", "not": "x"}, True),
        ("after.id", {"is": "text"}, True),
    ],
)
def test_a_condition_holds_or_not(field: str, wanted: Any, holds: bool) -> None:
    scope = Scope(["house", "back_door"], PAYLOAD)
    assert all(each.holds(scope) for each in parse_conditions(field, wanted)) is holds


@pytest.mark.parametrize(
    "wanted",
    [{}, {"no": 1}, [], [[1]], {"like": 1}, {"like": "a*b"}, {"is": "colour"}, {"like": "*"}, {"not": {}}],
)
def test_what_is_no_condition_is_refused(wanted: Any) -> None:
    with pytest.raises(TemplateError):
        parse_conditions("a", wanted)


# The configuration


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "test.yaml", ".")
    return caught.value.problems


def test_every_mistake_of_every_source_is_listed_with_its_path() -> None:
    found = problems(
        """
        sources:
          - {topic: "a/#/b", text: "{a", id: "{b|nope}", space: attic}
          - {preset: zigbee, colour: red}
          - {preset: frigate, text: x, update: true, prefix: "a/#"}
          - {text: x}
          - {topic: a, update: true, debounce: -1}
          - {topic: a, when: {x: {like: 1}, y: {}}, say: {x: word}, steps: {x: 0}}
          - {topic: a, update: true, text: ["{a}", "{"], when: {"[": 1}}
          - {topic: a, prefix: b}
          - {preset: tasmota, prefix: b}
          - {topic: a, id: {after.id}}
          - 5
        """
    )
    starts = [
        "sources[0].topic: expected an MQTT filter", "sources[0].text: expected",
        "sources[0].id: expected one of default",
        "sources[1].colour: unknown key", "sources[2].text: expected none beside preset, got 'x'",
        "sources[2].update: expected none", "sources[2].prefix: expected levels such as",
        "sources[3].topic: expected a topic filter such as garage/+/state, got none",
        "sources[4].debounce: expected seconds, 0 to 86400, got -1", "sources[5].steps: expected",
        "sources[6].text[1]: expected {field}",
        "sources[6].id: expected a template, because sources[6].update is true",
        "sources[6].when.[: expected a field", "sources[7].prefix: expected none without a preset, got 'b'",
        "sources[8].prefix: expected none with tasmota, got 'b'",
        "sources[9].id: expected a template in quotes",
        "sources[10]: expected a mapping, got 5",
    ]  # fmt: skip
    assert [next((each for each in found if each.startswith(start)), start) for start in starts] == list(
        found
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- {topic: a, space: attic}", "sources[0].space: expected one of home, got 'attic'"),
        ("- {preset: zigbee}", f"sources[0].preset: expected one of {', '.join(preset.NAMES)}, got 'zigbee'"),
        ("- {topic: mda/+/home/#}", "sources[0].topic: expected all or nothing of mda/pi1/+/event/#"),
        ("- {topic: a, say: {x: word}}", "sources[0].say.x: expected phrases for values, or one with {}"),
        ("- {topic: a, when: {x: {is: red}}}", "sources[0].when.x: expected one of text, number"),
        ("- {topic: a, text: []}", None),
        ("{topic: a}", "sources: expected a list of sources, got"),
        ("- {topic: a, text: \"{a\\e[31m\"}", "sources[0].text: expected {field}"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(text: str, problem: str | None) -> None:
    source = f"node: pi1\nsources:\n{text if text[0] != '{' else '  ' + text}\n"
    if problem is None:
        parse(source, "t", ".")
    else:
        assert problems(source)[0].startswith(problem) and "\x1b" not in problems(source)[0]


def test_no_sources_are_a_configuration() -> None:
    assert parse("sources:\n", "t", ".").sources == () == parse("sources: []\n", "t", ".").sources


# Whatever comes

TOKENS = [
    "{", "}", "[", "]", "|", ":", "a", "topic", "value", "fields", "said.text", "after.id", "[0]", "[1:]",
    "words", "default", "join", "round", "minus", "duration", '"', " ", "\x1b", "9", "-", "{state}",
    "[ in {zones|words}]",
    "{value|round:1}", "{topic[1:]|words|article|capital}", "{level|minus:count|duration}",
    "{fields}",
]  # fmt: skip
templates = st.lists(st.sampled_from(TOKENS), max_size=8).map("".join)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**400), 10**400), st.floats(), st.text(max_size=8),
    st.sampled_from(["ON", "off", "front_door", "a" * 5000, "\x1b[31m", "\ud800"]),
)  # fmt: skip
names = st.sampled_from(
    ["state", "value", "zones", "after", "id", "level", "count", "action", "type", "a", "topic"]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
payloads = st.one_of(values.map(lambda value: json.dumps(value).encode()), st.binary(max_size=30))
topics = st.lists(
    st.sampled_from(["a", "b", "", "zigbee2mqtt", "frigate", "events", "bridge", "x y", "ä"]), max_size=5
)


@some
@given(templates)
def test_any_template_is_read_or_refused(text: str) -> None:
    try:
        parse_template(text)
    except TemplateError as exc:
        assert str(exc)


@some
@given(templates, payloads, topics.map("/".join))
def test_any_template_gives_one_line_or_nothing_for_any_payload(
    text: str, payload: bytes, topic: str
) -> None:
    try:
        template, value = parse_template(text), read_payload(payload, 10_000)
    except (TemplateError, BadInput):
        return
    found = template.render(Scope(topic.split("/"), value))
    assert found is None or (found == " ".join(found.split()) and found)


EVERY = parse(
    yaml.safe_dump(
        {
            "sources": [
                {
                    "topic": "a/#",
                    "text": ["{level} {zones}", "{value}"],
                    "steps": {"level": 0.1, "value": 1e-6},
                },
                {"topic": "b/#", "id": "{id}", "update": True, "say": {"state": "is {}"}, "debounce": 1},
                *({"preset": name} for name in preset.NAMES),
                {"topic": "#"},
            ]
        }
    ),
    "t",
    ".",
)


@some
@given(st.lists(st.tuples(topics.map("/".join), payloads), max_size=4))
def test_any_message_is_an_event_or_has_a_reason(messages: list[tuple[str, bytes]]) -> None:
    sources = Sources(EVERY)
    for topic, payload in messages:
        outcome = sources.read(topic, payload, 1_800_000_000.0)
        assert (outcome.event is None) == bool(outcome.why)
        assert "fault" not in outcome.why
        assert outcome.name is None or outcome.name in sources.names


LEVELS = ["a", "b", "$c"]
filters = st.lists(st.sampled_from(["a", "b", "+", "$c"]), min_size=1, max_size=3).flatmap(
    lambda levels: st.booleans().map(lambda rest: "/".join(levels + ["#"] * rest))
) | st.just("#")
TOPICS = ["/".join(each) for n in (1, 2, 3, 4) for each in itertools.product(LEVELS, repeat=n)]


def matched(filter: str) -> set[str]:
    """Every short topic that a filter matches, as a broker sees it."""
    matches = compile_filter("topic", filter)
    return {topic for topic in TOPICS if matches(topic) and not (topic[0] == "$" and filter[0] in "+#")}


@some
@given(filters, filters)
@example("+/#", "#")
@example("#", "$c/#")
@example("a/+/#", "a/#")
def test_filters_are_compared_as_the_topics_they_match(one: str, other: str) -> None:
    assert covers(one, other) == (matched(one) >= matched(other))
    assert overlap(one, other) == bool(matched(one) & matched(other))


@some
@given(st.lists(filters, max_size=5))
def test_the_needed_filters_match_what_all_of_them_do(given: list[str]) -> None:
    kept = needed(given)
    assert set().union(*map(matched, kept)) == set().union(*map(matched, given))
    assert not any(covers(one, other) for one, other in itertools.permutations(kept, 2))


def test_a_path_of_any_text_is_a_path_or_refused() -> None:
    for text in map("".join, itertools.product(["a", ".", "[1]", "[", "topic", " "], repeat=3)):
        try:
            assert parse_path(text).root
        except TemplateError:
            continue
