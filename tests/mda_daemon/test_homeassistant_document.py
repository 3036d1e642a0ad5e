"""What docs/home-assistant.md says is so: its snippets, entities, access list; and Home Assistant with them.

Home Assistant needs a virtual environment of its own: `python3.13 -m venv ha`, `ha/bin/pip install
homeassistant paho-mqtt==2.1.0`. The last test runs with its Python, a command, in HOME_ASSISTANT_PYTHON.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mda_daemon.config.schema import Config, HomeAssistant, Space
from mda_daemon.homeassistant import device
from mda_daemon.mqtt.topics import Topics
from mda_daemon.settings import parse
from tests.support.harness import MOSQUITTO, ROOT, WAIT, Daemon, Mosquitto, Peer
from tests.support.listening import health_of, heard, restart

Make = Callable[..., Daemon]
Connect = Callable[..., Peer]

ON = {"discovery": True}
CONFIG = Config(node="pi1", spaces={"home": Space(novel=True)}, homeassistant=HomeAssistant(discovery=True))
DOCUMENT = (ROOT / "docs" / "home-assistant.md").read_text("utf-8")
TEXTS = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.M | re.S)
AUTOMATIONS = [each for text in TEXTS if isinstance(block := yaml.safe_load(text), list) for each in block]


def entity_ids() -> set[str]:
    """What Home Assistant calls the entities: of the name of the device and their own."""
    found = device(CONFIG, Topics(CONFIG.base), "0.1.0")
    names = [(part["p"], f"{found['dev']['name']} {part['name']}") for part in found["cmps"].values()]
    return {f"{platform}.{re.sub(r'[^a-z0-9]+', '_', name.lower())}" for platform, name in names}


def test_the_document_has_every_entity_and_no_other() -> None:
    ids = r"(?:switch|button|event|sensor|binary_sensor)\.mda_pi1_\w+"
    assert set(re.findall(rf"^\| `({ids})`", DOCUMENT, re.M)) == entity_ids()
    assert set(re.findall(ids, DOCUMENT)) == entity_ids()


def test_the_documents_configuration_turns_it_on() -> None:
    configs = [parse(text, "document", ".") for text in TEXTS if isinstance(yaml.safe_load(text), dict)]
    assert configs and all(config.homeassistant == HomeAssistant(discovery=True) for config in configs)
    assert configs[0].node == "pi1" and configs[0].spaces["home"].novel


def test_the_documents_automations_speak_to_this_daemon() -> None:
    topics = Topics("mda/pi1")
    found = re.findall(r"topic: (\S+)", "".join(map(yaml.safe_dump, AUTOMATIONS)))
    assert len(AUTOMATIONS) == 5 and found
    for topic in found:
        assert topics.parse(topic) is not None or topic == topics.response("home", "recall"), topic


def test_the_documents_access_list_lets_home_assistant_do_all_but_forget(
    tmp_path: Path, connect: Connect, make_daemon: Make
) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto not installed")
    (lines,) = re.findall(r"^```text\n(.*?)^```$", DOCUMENT, re.M | re.S)
    rules = tmp_path / "acl"
    rules.write_text(lines)
    broker = Mosquitto(tmp_path / "guarded", f"acl_file {rules}\n")
    broker.start()
    try:
        home = connect(broker.endpoint, username="homeassistant", password="-")
        daemon = make_daemon(
            broker.endpoint, node="pi1", homeassistant=ON, mqtt={"base": "mda/pi1", "username": "mda"}
        )
        daemon.base = "mda/pi1"
        for topic in ("homeassistant/#", "mda/pi1/learning", "mda/pi1/home/response/recall"):
            home.subscribe(topic)
        daemon.start(home)
        assert heard(home, "homeassistant/device/pi1/config")
        home.publish("homeassistant/status", "online")
        assert heard(home, "homeassistant/device/pi1/config")
        home.publish("mda/pi1/learning/set", "off")
        home.wait_for(lambda m: m.payload == b"off")
        home.publish("mda/pi1/learning/set", "on")
        home.wait_for(lambda m: m.payload == b"on")
        home.publish("mda/pi1/home/event/hall", "The back door was left open")
        health_of(daemon, home, lambda h: h["learning"])
        home.publish("mda/pi1/home/request/forget", '{"all": true}')
        home.publish("mda/pi1/learning/set", "off")  # after it: both keep their place among the events
        home.wait_for(lambda m: m.payload == b"off")
        home.publish("mda/pi1/home/request/recall", "Was a door left open?", 0)
        assert json.loads(heard(home, "mda/pi1/home/response/recall"))["known"]
    finally:
        broker.stop()


class RealHome:
    """Home Assistant as a process: a command in, an answer out."""

    def __init__(self, command: str, port: int, automations: list[Any]) -> None:
        source = (ROOT / "tests/support/home_assistant.py").read_text("utf-8")
        self.process = subprocess.Popen(
            [*shlex.split(command), "-c", source, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.version = self.say(automations)

    def say(self, command: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.close()
        return json.loads(line)

    def wait(self, entity: str, state: str | None) -> Any:
        found = self.say({"wait": entity, "state": state})
        assert not isinstance(found, str), f"{entity}: {found}"
        return found

    def close(self) -> str:
        """Its log."""
        return self.process.communicate(timeout=WAIT)[1]


@pytest.fixture
def real_home(own_mosquitto: Mosquitto) -> Iterator[RealHome]:
    command = os.environ.get("HOME_ASSISTANT_PYTHON")
    if not command:
        pytest.skip("no Home Assistant: HOME_ASSISTANT_PYTHON is not set")
    home = RealHome(command, own_mosquitto.port, AUTOMATIONS)
    yield home
    log = home.close()
    # Its MQTT integration warns of every payload, template and topic that it cannot make sense of.
    assert "homeassistant.components.mqtt" not in log and "homeassistant.helpers.template" not in log, log


def test_home_assistant_itself_has_every_entity_and_runs_the_documents_automations(
    own_mosquitto: Mosquitto, real_home: RealHome, connect: Connect, make_daemon: Make
) -> None:
    assert real_home.version >= [2024, 12]
    peer = connect(own_mosquitto.endpoint)
    spaces = {"home": {"units": 512, "novel": True}}
    daemon = make_daemon(
        own_mosquitto.endpoint, node="pi1", spaces=spaces, homeassistant=ON, mqtt={"base": "mda/pi1"}
    )
    daemon.base = "mda/pi1"
    daemon.start(peer)
    real_home.wait("switch.mda_pi1_learning", "on")
    real_home.wait("event.mda_pi1_home_novel", "unknown")
    real_home.wait("sensor.mda_pi1_home_units_used", "0")
    states = real_home.say({"entities": True})
    assert {name for name in states if not name.startswith("automation.")} == entity_ids()
    assert {name for name, state in states.items() if state == "unknown"} == {
        "button.mda_pi1_snapshot",
        "event.mda_pi1_home_novel",
        "sensor.mda_pi1_last_commit",
    }
    assert "unavailable" not in states.values()

    peer.publish(daemon.event("front_door"), "Mrs. Petrov rang at the front door with a parcel")
    assert real_home.say({"notified": 1})[0].startswith("Mrs. Petrov")
    real_home.say({"set": "group.family", "state": "not_home"})
    real_home.say({"set": "group.family", "state": "home"})
    assert "front_door: Mrs. Petrov rang" in real_home.say({"notified": 2})[1]

    real_home.say({"set": "input_boolean.guests", "state": "off"})
    real_home.say({"set": "input_boolean.guests", "state": "on"})
    real_home.wait("switch.mda_pi1_learning", "off")
    real_home.say({"call": "button.press", "entity": "button.mda_pi1_snapshot"})
    assert daemon.stop() == 0
    real_home.wait("switch.mda_pi1_learning", "unavailable")
    real_home.wait("binary_sensor.mda_pi1_connection", "off")
    daemon.start(peer)
    real_home.wait("switch.mda_pi1_learning", "off")
    real_home.wait("sensor.mda_pi1_home_units_used", "1")

    restart(daemon, peer, spaces={"home": {"units": 512}})
    real_home.wait("event.mda_pi1_home_novel", None)
    real_home.wait("switch.mda_pi1_learning", "off")
    restart(daemon, peer, homeassistant={})
    real_home.wait("switch.mda_pi1_learning", None)
    states = real_home.say({"entities": True})
    assert not [name for name in states if "mda" in name]
