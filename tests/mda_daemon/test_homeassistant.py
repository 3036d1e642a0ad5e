"""What Home Assistant is told, held against its documentation; and what it is told to forget."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mda_core.transfer import StateFile
from mda_daemon.config.schema import Config, HomeAssistant, Space
from mda_daemon.homeassistant import device, device_topic
from mda_daemon.host.metrics import Rate
from mda_daemon.mqtt.topics import Topics
from mda_daemon.storage.backups import Backups
from tests.support.harness import Daemon, Endpoint, Peer
from tests.support.listening import health_of, heard, restart, retained
from tests.support.worker_bench import Bench

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]

ON = {"discovery": True}

# https://www.home-assistant.io/integrations/<platform>.mqtt/: what must be there, what may be there.
ENTITY = {
    "p", "unique_id", "name", "availability_topic", "entity_category", "device_class", "qos",
    "json_attributes_topic", "json_attributes_template",
}  # fmt: skip
PLATFORMS = {
    "sensor": ({"state_topic"}, {"value_template", "unit_of_measurement", "state_class"}),
    "binary_sensor": ({"state_topic"}, {"value_template", "payload_on", "payload_off"}),
    "switch": ({"command_topic"}, {"state_topic", "payload_on", "payload_off"}),
    "button": ({"command_topic"}, set()),
    "event": ({"state_topic", "event_types"}, set()),
}
CLASSES = {
    "sensor": {"timestamp": {None}, "data_size": {"B", "kB", "MB", "GB", "MiB"}},
    "binary_sensor": {"connectivity": {None}, "problem": {None}},
}
CATEGORIES = {
    "sensor": {"diagnostic"}, "binary_sensor": {"diagnostic"}, "switch": {"config"}, "button": {"config"},
    "event": {None},
}  # fmt: skip
TOPIC = re.compile(r"\w+/device/[a-zA-Z0-9_-]+/config")


def configured(node: str = "pi1", *spaces: str) -> Config:
    names = {name: Space(novel=True) for name in spaces or ("home",)}
    return Config(node=node, spaces=names, homeassistant=HomeAssistant(discovery=True))


def payload(config: Config) -> dict[str, Any]:
    return device(config, Topics(config.base), "0.1.0")


def check_payload(found: dict[str, Any], base: str) -> None:
    """`found` is as the documentation of device discovery and of each platform has it."""
    assert set(found) == {"dev", "o", "cmps"}
    assert found["dev"]["ids"] and set(found["dev"]) <= {"ids", "name", "mf", "mdl", "sw"}
    assert found["o"]["name"] and set(found["o"]) <= {"name", "sw", "url"}
    unique = [part["unique_id"] for part in found["cmps"].values()]
    assert len(set(unique)) == len(unique) and all(unique)
    for part in found["cmps"].values():
        required, optional = PLATFORMS[part["p"]]
        assert required <= set(part) <= ENTITY | required | optional, part
        assert part.get("entity_category") in CATEGORIES[part["p"]], part
        if (kind := part.get("device_class")) is not None:
            assert part.get("unit_of_measurement") in CLASSES[part["p"]][kind], part
        if "state_class" in part:
            assert (
                part["state_class"] in {"measurement", "total_increasing"} and "unit_of_measurement" in part
            )
        if part.get("device_class") == "connectivity":
            assert part["state_topic"] == f"{base}/status" and "availability_topic" not in part
        else:
            assert part["availability_topic"] == f"{base}/status", part


def test_the_payload_is_as_documented() -> None:
    check_payload(payload(configured("pi1", "home", "Work.2")), "mda/pi1")


def test_the_ids_of_entities_are_those_of_the_first_release() -> None:
    ids = {part["unique_id"] for part in payload(configured())["cmps"].values()}
    names = (
        "learning snapshot connection fault last_commit version events_per_minute queue forgotten dropped rss"
    )
    names += " space_home_units_used space_home_fill space_home_novel"
    assert ids == {f"mda_pi1_{name}" for name in names.split()}


@pytest.mark.parametrize("node", ["pi1", "pi1.lan", "A-b_c.d"])
def test_the_topic_is_one_that_home_assistant_reads(node: str) -> None:
    assert TOPIC.fullmatch(device_topic(configured(node)))


def test_no_reply_goes_to_what_is_published_here() -> None:
    topics = Topics("mda/pi1", ["homeassistant"], ["homeassistant/device/pi1/config"])
    for topic in ("learning", "learning/set", "snapshot"):
        assert topics.refuses_reply(f"mda/pi1/{topic}")
    assert topics.refuses_reply("homeassistant/device/pi1/config")
    assert topics.refuses_reply("homeassistant/device/pi1/reply") is None


@pytest.fixture
def peer(mosquitto: Endpoint, connect: Connect) -> Peer:
    return connect(mosquitto)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """A discovery prefix of this test's own: the broker is shared."""
    return f"ha{abs(hash(tmp_path)):x}"


def test_nothing_is_published_unless_it_is_turned_on(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make
) -> None:
    peer.subscribe("homeassistant/#")
    daemon = make_daemon(mosquitto, homeassistant={"prefix": "homeassistant"}).start(peer)
    peer.publish("homeassistant/status", "online")
    daemon.wait_stats(peer, lambda s: True)
    assert daemon.stop() == 0
    assert not peer.heard("homeassistant/device/test/config")
    assert not (daemon.folder / "state" / "homeassistant.json").exists()


def test_what_the_daemon_publishes_is_retained_and_every_template_gives_a_value(
    mosquitto: Endpoint, peer: Peer, connect: Connect, make_daemon: Make, prefix: str
) -> None:
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 not installed")
    topic = f"{prefix}/device/test/config"
    peer.subscribe(topic)
    daemon = make_daemon(mosquitto, homeassistant=ON | {"prefix": prefix}, health_seconds=1).start(peer)
    heard(peer, topic)
    peer.publish(daemon.event(), "The cellar is dry")
    health_of(daemon, peer, lambda h: h["learned"] == 1)
    found = json.loads(retained(connect, mosquitto, topic))
    check_payload(found, daemon.base)
    values = {}
    for key, part in found["cmps"].items():
        if "state_topic" in part and part["p"] != "event":
            state = retained(connect, mosquitto, part["state_topic"]).decode()
            template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(
                part.get("value_template", "{{ value }}")
            )
            known = {"value_json": json.loads(state)} if state[0] == "{" else {"value": state}
            values[key] = template.render(**known)
    assert values["space_home_units_used"] == "1" and values["space_home_fill"] == "0.2"
    assert values["learning"] == "on" and values["connection"] == "online" and values["fault"] == "OFF"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", values["last_commit"])
    assert float(values["rss"]) > 10
    assert all(value not in ("", "None") for value in values.values()), values


def test_discovery_is_published_again_when_home_assistant_starts(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make, prefix: str
) -> None:
    topic, birth = f"{prefix}/device/test/config", f"{prefix}/born"
    peer.subscribe(topic)
    make_daemon(mosquitto, homeassistant=ON | {"prefix": prefix, "birth": birth}).start(peer)
    first = heard(peer, topic)
    peer.publish(birth, "offline", 0)
    peer.publish(birth, "online", 0)
    assert heard(peer, topic) == first


def test_it_is_taken_away_when_turned_off_and_left_alone_from_then_on(
    mosquitto: Endpoint, peer: Peer, connect: Connect, make_daemon: Make, prefix: str
) -> None:
    topic = f"{prefix}/device/test/config"
    peer.subscribe(topic)
    daemon = make_daemon(mosquitto, homeassistant=ON | {"prefix": prefix}).start(peer)
    assert heard(peer, topic)
    restart(daemon, peer, homeassistant={"prefix": prefix})
    assert heard(peer, topic) == b""
    assert daemon.stop() == 0
    peer.publish(topic, "of somebody else", retain=True)
    daemon.start(peer)
    assert daemon.stop() == 0
    assert retained(connect, mosquitto, topic) == b"of somebody else"


def test_a_device_of_another_name_takes_the_place_of_the_old_one(
    mosquitto: Endpoint, peer: Peer, connect: Connect, make_daemon: Make, prefix: str
) -> None:
    settings = ON | {"prefix": prefix}
    peer.subscribe(f"{prefix}/#")
    daemon = make_daemon(mosquitto, homeassistant=settings).start(peer)
    assert heard(peer, f"{prefix}/device/test/config")
    daemon.kill()
    daemon.path.write_text(yaml.safe_dump(daemon.config | {"node": "other.lan"}))
    daemon.start(peer)
    assert heard(peer, f"{prefix}/device/test/config") == b""
    assert heard(peer, f"{prefix}/device/other_lan/config")


def test_an_entity_that_went_is_named_once_more_to_be_removed(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make, prefix: str
) -> None:
    topic, birth = f"{prefix}/device/test/config", f"{prefix}/born"
    settings = ON | {"prefix": prefix, "birth": birth}
    peer.subscribe(topic)
    spaces = {"home": {"units": 512, "novel": True}, "work": {"units": 64}}
    daemon = make_daemon(mosquitto, homeassistant=settings, spaces=spaces).start(peer)
    before = json.loads(heard(peer, topic))["cmps"]
    restart(daemon, peer, spaces={"home": {"units": 512}})
    after = json.loads(heard(peer, topic))["cmps"]
    gone = {"space_home_novel", "space_work_units_used", "space_work_fill"}
    assert set(after) == set(before)
    assert {key for key, part in after.items() if set(part) == {"p"}} == gone
    restart(daemon, peer, spaces={"home": {"units": 512}})
    assert set(json.loads(heard(peer, topic))["cmps"]) == set(before) - gone


def test_a_novel_event_is_one_to_home_assistant(mosquitto: Endpoint, peer: Peer, make_daemon: Make) -> None:
    daemon = make_daemon(mosquitto, spaces={"home": {"units": 64, "novel": True}}).start(peer)
    peer.subscribe(f"{daemon.base}/home/novel")
    peer.publish(daemon.event("hall"), "Smoke in the hall")
    found = json.loads(heard(peer, f"{daemon.base}/home/novel"))
    (part,) = (part for part in payload(configured())["cmps"].values() if part["p"] == "event")
    assert found["event_type"] in part["event_types"]
    assert found["text"] == "Smoke in the hall"


def test_events_a_minute_are_counted_over_the_last_minute() -> None:
    rate = Rate()
    assert rate.per_minute(2.0, 5) == 5  # a minute at least
    for seconds in range(30, 300, 30):
        slow = rate.per_minute(float(seconds), 5 + seconds)
    assert slow == 60
    assert rate.per_minute(300.0, 5 + 300 + 600) == 60 * 660 / 60
    assert rate.per_minute(3900.0, 5 + 300 + 600) == 0
    for tick in range(10_000):
        rate.per_minute(4000.0 + tick / 1000, tick)
    assert len(rate._marks) <= 128


def test_the_button_has_a_snapshot_made_of_each_space_with_what_came_before(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.send("before", 1)
        bench.press("snapshot", 2)
        bench.worker.start()
        bench.book.wait(lambda e: ("ack", [1, 2]) in e)
    (made,) = Backups(tmp_path, keep=2).of("home")
    with StateFile(made) as file:
        assert [kept.text for kept in file.memories()] == ["before"]


def test_a_reload_that_turns_novel_on_brings_its_entity(
    mosquitto: Endpoint, peer: Peer, make_daemon: Make, prefix: str
) -> None:
    topic = f"{prefix}/device/test/config"
    peer.subscribe(topic)
    daemon = make_daemon(mosquitto, homeassistant=ON | {"prefix": prefix}).start(peer)
    assert "space_home_novel" not in json.loads(heard(peer, topic))["cmps"]
    spaces = {"home": {"units": 512, "novel": True}}
    daemon.path.write_text(yaml.safe_dump(daemon.config | {"spaces": spaces}))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    assert json.loads(heard(peer, topic))["cmps"]["space_home_novel"]["p"] == "event"
