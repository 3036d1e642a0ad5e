"""What sources make of messages as the programs really publish them; no broker in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mda_daemon.config.schema import Config, Source
from mda_daemon.settings import parse
from mda_daemon.sources import Outcome, Sources, preset, router
from mda_daemon.sources.table import Table

HERE = Path(__file__).parent
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb")
EVERY_PRESET = [{"preset": name} for name in preset.NAMES]


def made_of(*sources: dict[str, Any], **config: Any) -> Sources:
    """Sources as a file of the configuration gives them."""
    text = yaml.safe_dump({"node": "pi1", "sources": list(sources), **config})
    return Sources(parse(text, "test.yaml", "."))


class Told:
    """Sources that are told messages, a second after the other."""

    def __init__(self, *sources: dict[str, Any], **config: Any) -> None:
        self.sources = made_of(*sources, **config)
        self.now = 1_800_000_000.0

    def outcome(self, topic: str, payload: object) -> Outcome:
        self.now += 1
        data = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        return self.sources.read(topic, data if isinstance(data, bytes) else data.encode(), self.now)

    def __call__(self, topic: str, payload: object) -> str | None:
        """The text that a message becomes."""
        event = self.outcome(topic, payload).event
        return None if event is None else event.text


def frigate(**after: Any) -> dict[str, Any]:
    known = {"id": "1607123955.475377-mxklsc", "camera": "front_door", "label": "person", "sub_label": None}
    known |= {"entered_zones": [], "start_time": 1607123955.475377, "end_time": None}
    return {"type": "end" if after.get("end_time") else "update", "before": {}, "after": known | after}


END = frigate(
    sub_label=["John Smith", 0.79], entered_zones=["yard", "driveway"], end_time=1607123979.5
)  # fmt: skip
REVIEW = {
    "type": "end",
    "before": {},
    "after": {
        "id": "1718987129.308396-fqk5ka",
        "camera": "front_cam",
        "severity": "alert",
        "data": {"objects": ["person", "car"], "sub_labels": ["Bob"], "zones": ["front_yard"], "audio": []},
    },
}
INTENT = {
    "input": "what time is it",
    "intent": {"intentName": "GetTime", "confidenceScore": 0.95},
    "siteId": "default",
    "id": None,
    "slots": None,
    "sessionId": None,
}
TASMOTA = {
    "Time": "2023-01-27T11:04:56",
    "DS18B20": {"Id": "01191ED79190", "Temperature": 12.3},
    "TempUnit": "C",
}
LEAVE = {
    "type": "device_leave",
    "data": {"ieee_address": "0x0017880104e45518", "friendly_name": "hall"},
}  # fmt: skip
DEVICE = {"contact": False, "battery": 97, "linkquality": 110, "tamper": False, "voltage": 3005}

# Topic, payload, the text it becomes, its source.
PAYLOADS: list[tuple[str, object, str, str]] = [
    (
        "zigbee2mqtt/button",
        {"action": "single", "linkquality": 10},
        "button: pressed once",
        "zigbee2mqtt/button",
    ),
    (
        "zigbee2mqtt/weather_sensor",
        {"temperature": 0.08, "humidity": 0.01, "pressure": 2},
        "weather sensor: temperature 0 °C, humidity 0 %",
        "zigbee2mqtt/weather_sensor",
    ),
    (
        "zigbee2mqtt/weather_sensor/availability",
        {"state": "offline"},
        "weather sensor is offline",
        "zigbee2mqtt/weather_sensor",
    ),
    ("zigbee2mqtt/bridge/event", LEAVE, "hall left the Zigbee network", "zigbee2mqtt/bridge"),
    ("zigbee2mqtt/hall/back_door", DEVICE, "hall back door: open", "zigbee2mqtt/hall/back_door"),
    ("zigbee2mqtt/lamp", {"state": "ON", "brightness": 254}, "lamp: on", "zigbee2mqtt/lamp"),
    ("zigbee2mqtt/bath", {"water_leak": True}, "bath: water leak", "zigbee2mqtt/bath"),
    ("zigbee2mqtt/bridge/state", "online", "Zigbee2MQTT is online", "zigbee2mqtt/bridge"),
    (
        "frigate/events",
        END,
        "A person (John Smith) at front door, in yard, driveway, for 24 s",
        "frigate/front_door",
    ),
    ("frigate/reviews", REVIEW, "Alert at front cam: person, car (Bob), in front yard", "frigate/front_cam"),
    (
        "frigate/tracked_object_update",
        {"type": "description", "id": "x", "description": "The car is a red sedan."},
        "Seen on camera: The car is a red sedan.",
        "frigate",
    ),
    ("frigate/available", "offline", "Frigate is offline", "frigate"),
    (
        "homeassistant/light/master_bedroom_dimmer/state",
        "on",
        "master bedroom dimmer (light) is on",
        "light/master_bedroom_dimmer",
    ),
    ("homeassistant/binary_sensor/back_door/state", "off", "back door: closed", "binary_sensor/back_door"),
    ("homeassistant/person/tom/state", "not_home", "tom is away", "person/tom"),
    (
        "homeassistant/sensor/bedroom_temperature/state",
        "21.4",
        "bedroom temperature is 21",
        "sensor/bedroom_temperature",
    ),
    ("homeassistant/sensor/washing_machine/state", "Spin", "washing machine: Spin", "sensor/washing_machine"),
    ("tele/tasmota_9CF9D1/SENSOR", TASMOTA, "tasmota 9CF9D1: DS18B20 temperature 12 °C", "tasmota_9CF9D1"),
    ("tele/tasmota_9CF9D1/LWT", "Offline", "tasmota 9CF9D1 is offline", "tasmota_9CF9D1"),
    ("stat/washing_machine/POWER", "ON", "washing machine: power on", "washing_machine"),
    ("stat/bell/RESULT", {"Button1": {"Action": "SINGLE"}}, "bell: Button1 pressed once", "bell"),
    ("livingroom/sensor/temperature/state", "21.4", "livingroom temperature is 21", "livingroom/temperature"),
    ("livingroom/binary_sensor/window/state", "ON", "livingroom window: open", "livingroom/window"),
    ("livingroom/light/lamp/state", {"state": "OFF"}, "livingroom lamp (light) is off", "livingroom/lamp"),
    ("livingroom/status", "offline", "livingroom is offline", "livingroom"),
    ("hermes/intent/GetTime", INTENT, "Somebody said: what time is it (get time)", "hermes"),
    (
        "hermes/nlu/intentNotRecognized",
        {"input": "covfefe", "siteId": "kitchen"},
        "Somebody said in kitchen, and was not understood: covfefe",
        "hermes/kitchen",
    ),
]  # fmt: skip

# What no preset learns: housekeeping, commands, what says the same again elsewhere.
NOISE: list[tuple[str, object]] = [
    ("zigbee2mqtt/lamp/set", {"state": "ON"}),
    ("zigbee2mqtt/lamp/get", {"state": ""}),
    ("zigbee2mqtt/bridge/devices", [{"friendly_name": "hall"}]),
    ("zigbee2mqtt/bridge/logging", {"level": "info", "message": "x"}),
    ("zigbee2mqtt/plug", {"linkquality": 10, "power": 12.1, "voltage": 231, "update": {"state": "idle"}}),
    ("frigate/events", frigate(false_positive=True)),
    ("frigate/reviews", {"type": "new", "after": {"id": "x", "camera": "c", "severity": "detection"}}),
    ("frigate/front_door/motion", "ON"),
    ("homeassistant/light/lamp/state", "unavailable"),
    ("homeassistant/sensor/router_uptime/state", "2026-11-20T10:00:00+00:00"),
    ("homeassistant/sensor/plug_power/state", "12.1"),
    ("stat/plug/RESULT", {"POWER": "ON"}),
    ("stat/plug/STATUS", {"Status": {"Module": 1}}),
    ("livingroom/sensor/wifi_signal/state", "-61"),
    ("any/topic", ""),
]


@pytest.mark.parametrize(("topic", "payload", "text", "source"), PAYLOADS, ids=lambda value: str(value)[:40])
def test_a_preset_makes_a_sentence_of_what_is_published(
    topic: str, payload: object, text: str, source: str
) -> None:
    event = Told(*EVERY_PRESET).outcome(topic, payload).event
    assert event is not None and (event.text, event.source, event.ts) == (text, source, 1_800_000_001.0)


@pytest.mark.parametrize(("topic", "payload"), NOISE, ids=lambda value: str(value)[:40])
def test_a_preset_learns_no_noise(topic: str, payload: object) -> None:
    outcome = Told(*EVERY_PRESET).outcome(topic, payload)
    assert (outcome.event, outcome.rejected) == (None, False)


def test_every_preset_is_tested_here() -> None:
    used = {
        made_of(*EVERY_PRESET).read(topic, json.dumps(data).encode(), 0.0).name
        for topic, data, *_ in PAYLOADS
    }
    assert used >= set(preset.NAMES)


def test_a_preset_can_be_read_under_another_prefix() -> None:
    told = Told(
        {"preset": "zigbee2mqtt", "prefix": "house/zigbee"},
        {"preset": "frigate", "prefix": "cams"},
        {"preset": "esphome", "prefix": "esp/+"},
    )
    assert told("house/zigbee/hall/door", {"contact": True}) == "hall door: closed"
    assert told("house/zigbee/hall/door/availability", {"state": "online"}) == "hall door is online"
    assert told("zigbee2mqtt/hall/door", {"contact": True}) is None
    assert told("cams/available", "online") == "Frigate is online"
    assert told("esp/attic/switch/fan/state", "ON") == "attic fan is on"


def test_a_presets_own_topic_filter_narrows_it_and_the_rest_is_counted() -> None:
    told = Told({"preset": "frigate", "topic": "frigate/#"})
    assert told("frigate/events", END) is not None
    assert told.sources.filters == ["frigate/#"]
    assert told.outcome("frigate/stats", {"cpu": 1}).name == "frigate"
    assert told.outcome("frigate/front_door/person/snapshot", JPEG).rejected
    narrow = Told({"preset": "zigbee2mqtt", "topic": "zigbee2mqtt/hall/#"})
    assert narrow("zigbee2mqtt/hall/door", {"contact": True}) == "hall door: closed"
    assert narrow("zigbee2mqtt/attic/door", {"contact": True}) is None


def test_what_an_entry_says_beside_a_preset_adds_to_it() -> None:
    told = Told(
        {
            "preset": "zigbee2mqtt",
            "say": {"power": "draws {} W", "contact": {True: "shut", False: "ajar"}},
            "steps": {"power": 500},
            "ignore": ["battery_low"],
        }
    )
    assert told("zigbee2mqtt/kettle", {"power": 1980, "battery_low": True}) == "kettle: draws 2000 W"
    assert told("zigbee2mqtt/door", {"contact": False, "power": 3000}) == "door: ajar, draws 3000 W"
    assert told("zigbee2mqtt/button", {"action": "hold", "power": 0}) == "button: held"


# Changes


def test_a_press_is_an_event_each_time_and_a_state_only_when_it_changes() -> None:
    told = Told({"preset": "zigbee2mqtt"})
    for quality in (10, 11):
        assert told("zigbee2mqtt/button", {"action": "single", "linkquality": quality})
    door = [
        told("zigbee2mqtt/door", {"contact": contact, "linkquality": 9}) for contact in (1 > 0, True, False)
    ]
    assert door == ["door: closed", None, "door: open"]
    assert told("zigbee2mqtt/door", {"contact": False, "battery_low": True}) == "door: battery low"
    assert told("zigbee2mqtt/door", {"contact": False, "battery_low": False}) is None
    assert told("zigbee2mqtt/door", {"contact": False, "battery_low": True}) == "door: battery low"


def test_a_measurement_is_said_when_it_moved_by_its_step() -> None:
    told = Told({"topic": "t/+", "text": "{topic[1]} {value}", "steps": {"value": 1}})
    readings = [21.4, 21.6, 20.6, 22.3, 22.5, 22.4, 21.4, 21.39]
    assert [told("t/a", str(value)) for value in readings] == [
        "a 21", None, None, None, "a 22", None, "a 21", None,
    ]  # fmt: skip
    assert told("t/b", "21.4") == "b 21"


def test_new_update_and_end_have_one_id_and_say_each_thing_once() -> None:
    told = Told({"preset": "frigate"})
    stages = [frigate(), frigate(), frigate(entered_zones=["yard"]), END]
    events = [told.outcome("frigate/events", stage).event for stage in stages]
    assert [event and event.text for event in events] == [
        "A person at front door",
        None,
        "A person at front door, in yard",
        "A person (John Smith) at front door, in yard, driveway, for 24 s",
    ]
    assert {(event.id, event.update) for event in events if event} == {(END["after"]["id"], True)}


def test_two_objects_at_once_do_not_undo_each_other() -> None:
    told = Told({"preset": "frigate"})
    first, second = frigate(), frigate(id="other", label="umbrella")
    told("frigate/events", first)
    assert told("frigate/events", second) == "An umbrella at front door"
    assert told("frigate/events", first) is None


def test_a_description_joins_the_memory_of_its_object() -> None:
    told = Told({"preset": "frigate"})
    told("frigate/events", END)
    update = {"type": "description", "id": END["after"]["id"], "description": "A man in a\nred coat."}
    for text in ("A man in a\nred coat.", "A man with a parcel."):
        event = told.outcome("frigate/tracked_object_update", update | {"description": text}).event
        assert event is not None and (event.id, event.update) == (END["after"]["id"], True)
        assert event.source == "frigate/front_door"
        assert event.text == (
            f"A person (John Smith) at front door, in yard, driveway, for 24 s. {' '.join(text.split())}"
        )


def test_after_a_forget_no_text_of_before_comes_back() -> None:
    told = Told({"preset": "frigate"})
    told("frigate/events", END)
    told.sources.forget()
    update = {"type": "description", "id": END["after"]["id"], "description": "A man."}
    assert told("frigate/tracked_object_update", update) == "Seen on camera: A man."


def test_debounce_drops_the_same_text_alone() -> None:
    told = Told({"topic": "m/#", "text": "{value}", "debounce": 10})
    assert [told("m/a", value) for value in ("on", "off", "on", "off")] == ["on", "off", None, None]
    told.now += 10
    assert told("m/a", "on") == "on"
    told.now -= 5000  # a clock that is set back stops nothing
    assert told("m/a", "on") == "on"


def test_repeats_of_the_broker_leave_what_was_said_last_as_it_was() -> None:
    told = Told({"topic": "door", "text": "{value}", "only_changes": True})
    said = [told("door", value) for value in ("open", "open", "shut")]
    again = [
        told("door", value) for value in ("open", "open", "shut")
    ]  # the worker knows the receipts of two
    assert (said, again) == (["open", None, "shut"], ["open", None, "shut"])
    assert told("door", "shut") is None


def test_where_subscriptions_overlap_a_copy_is_not_learned() -> None:
    overlapping = Told({"topic": "a/+/c"}, {"topic": "a/b/+"}, {"topic": "x/#"}, {"topic": "x/y"})
    at = overlapping.now
    texts = []
    for _ in range(2):
        overlapping.now = at
        texts.append(overlapping("a/b/c", "rang"))
    assert texts == ["a b c: rang", None]
    assert overlapping.sources.filters == ["a/+/c", "a/b/+", "x/#"]
    for _ in range(2):
        overlapping.now = at
        assert overlapping("x/y", "rang") == "x y: rang"


# Which topics


def test_the_first_source_whose_when_holds_takes_a_message() -> None:
    told = Told(
        {"topic": "a/#", "when": {"kind": ["bell", "knock"]}, "text": "bell", "name": "one"},
        {"topic": "a/#", "when": {"kind": {"not": None}}, "learn": False, "name": "two"},
        {"topic": "a/#", "text": "rest", "name": "three"},
    )
    outcomes = [told.outcome("a/b", {"kind": each}) for each in ("bell", "other", None)]
    assert [(each.name, each.event and each.event.text) for each in outcomes] == [
        ("one", "bell"), ("two", None), ("three", "rest"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "topic",
    [
        "mda/pi1/home/event/hall", "mda/pi1", "mda/other/home/event", "clients/lm/inbox",
        "$SYS/broker/uptime", "homeassistant/sensor/x/config", "homeassistant/sensor/node/x/config",
        "ha/device/pi1/config", "", "x" * 2000,
    ],
)  # fmt: skip
def test_a_wildcard_takes_in_no_topic_of_ours_and_no_discovery(topic: str) -> None:
    config = {"mqtt": {"reply_prefixes": ["clients"]}, "homeassistant": {"prefix": "ha"}}
    told = Told({"topic": "#"}, {"topic": "+/+/+/+/#"}, **config)
    assert told.outcome(topic, "x").name is None
    assert not told.sources.matches_topic(topic)
    assert told("homeassistant/sensor/x/state", "y") is not None


def test_other_daemons_and_the_brokers_own_topics_can_be_asked_for() -> None:
    told = Told({"topic": "mda/other/+/novel", "text": "{text}"}, {"topic": "$SYS/broker/version"})
    assert told("mda/other/home/novel", {"text": "A stork landed", "memory": 3}) == "A stork landed"
    assert told("$SYS/broker/version", "2.0.11") is not None


# Payloads


def test_json_that_nobody_described_is_readable() -> None:
    told = Told({"topic": "garage/#"})
    payload = {
        "door": {"open": True, "locked": False}, "speed": 2.50, "name": "main_gate", "tags": ["a", "b"],
        "rssi": -61, "battery": 80, "Wifi": {"RSSI": 3}, "none": None, "empty": "", "nested": [{"x": 1}],
    }  # fmt: skip
    assert told("garage/gate_1", payload) == (
        "garage gate 1: door open, door no locked, speed 2.5, name main_gate, tags a, b"
    )
    assert told("garage/gate_1", "21.50") == "garage gate 1: 21.5"
    assert told("garage/gate_1", "0815") == "garage gate 1: 0815"
    assert told("garage/gate_1", '"stuck"') == "garage gate 1: stuck"


@pytest.mark.parametrize(
    "payload",
    [
        JPEG, b"\xff\xfe", b"{", b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", b"x" * 70_000, b"a\0b",
        b'{"text": "\\ud800"}', b"x" * 20_000, b"[" * 100,
    ],
    ids=lambda payload: repr(payload[:12]),
)  # fmt: skip
def test_what_is_no_text_is_rejected(payload: bytes) -> None:
    outcome = Told({"topic": "frigate/#"}).outcome("frigate/front_door/person/snapshot", payload)
    assert outcome.rejected and outcome.event is None and outcome.why
    assert outcome.name == "frigate/#"


def test_a_source_made_of_a_payload_is_a_path() -> None:
    told = Told({"topic": "a/#", "source": "{topic[0]}/{who}", "text": "{what}"})
    event = told.outcome("a", {"who": "C#/+\x01$", "what": "x"}).event
    assert event is not None and event.source == "a/C_/__$"


def test_what_is_remembered_of_messages_is_bounded() -> None:
    told = Told({"topic": "#", "text": "{value}", "id": "{topic}", "only_changes": True, "debounce": 5})
    for i in range(10_000):
        told(f"t/{i}", "x")
    history = told.sources._history
    assert len(history.last_values) <= router.MAX_LAST_VALUES
    assert len(history.last_events) <= router.MAX_LAST_EVENTS
    assert len(told.sources._by_topic) <= 4096


def test_a_table_lets_go_of_what_was_not_used_for_longest() -> None:
    table: Table[int] = Table(2)
    table.put("a", 1)
    table.put("b", 2)
    assert table.get("a") == 1
    table.put("c", 3)
    assert (table.get("a"), table.get("b"), table.get("c")) == (1, None, 3)


def test_no_sources_hear_nothing() -> None:
    sources = Sources(Config())
    assert (sources.names, sources.filters, sources.matches_topic("a")) == ([], [], False)


def test_entries_of_one_name_are_counted_apart() -> None:
    assert made_of({"topic": "a"}, {"topic": "a"}, {"topic": "a"}).names == ["a", "a 2", "a 3"]


@pytest.mark.parametrize("name", preset.NAMES)
def test_a_preset_has_a_description_and_topics_below_its_prefix(name: str) -> None:
    found = preset.load(name)
    assert found.about.endswith(".") and found.rules
    for rule in found.rules:
        assert rule.topic is not None and (rule.topic + "/").startswith(
            (found.prefix or "") + "/"[: found.prefix is not None]
        )
        assert rule.preset is None and isinstance(rule, Source)
