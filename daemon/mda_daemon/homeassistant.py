"""MQTT discovery for Home Assistant: one retained message that describes the daemon with all its entities.

The message is published at each connect, and again whenever Home Assistant starts (its birth message). The
state folder keeps a note of the entities that were published, so that an entity, or the whole device, is
removed from Home Assistant when it is removed from the configuration.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, "Device discovery payload"

Where threads meet: `Discovery` belongs to the main thread, except that the network thread sets `due`.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import msgspec

from .config.schema import Config
from .contract.replies import NOVEL, to_json
from .mqtt.topics import Topics

if TYPE_CHECKING:
    from .mqtt.connection import Connection
    from .mqtt.publication import Publication
    from .storage.folder import StateFolder

log = logging.getLogger(__name__)

NOTE = "homeassistant"
"""The note in the state folder with the entities that were published."""

# Sensors of numbers in the health report: key, name, template, unit, and other keys of the entity.
_NUMBERS: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
    ("events_per_minute", "Events per minute", "{{ value_json.events_per_minute }}", "events/min", {}),
    ("queue", "Queue", "{{ value_json.queue }}", "events", {}),
    ("forgotten", "Forgotten", "{{ value_json.forgotten }}", "memories", {"state_class": "total_increasing"}),
    ("dropped", "Dropped", "{{ value_json.dropped }}", "events", {"state_class": "total_increasing"}),
    (
        "rss",
        "Resident memory",
        "{{ (value_json.rss_bytes / 1000000) | round(1) if value_json.rss_bytes else None }}",
        "MB",
        {"device_class": "data_size"},
    ),
)


def device_topic(config: Config) -> str:
    """The topic of the discovery message. Home Assistant allows letters, digits, - and _ in the node id."""
    node = re.sub(r"[^A-Za-z0-9_-]", "_", config.node)
    return f"{config.homeassistant.prefix}/device/{node}/config"


def device(config: Config, topics: Topics, version: str) -> dict[str, Any]:
    """The payload of the discovery message: the device, its origin, and its entities by key."""
    identity = f"mda_{config.node}"
    components = _controls(topics) | _sensors(topics)
    for name, space in config.spaces.items():
        components |= _space_sensors(topics, name)
        if space.novel:
            components[f"space_{name}_novel"] = _novel_event(topics, name)
    for key, component in components.items():
        component["unique_id"] = f"{identity}_{key}"
        if key != "connection":
            # Its payloads are Home Assistant's defaults, `online` and `offline`.
            component["availability_topic"] = topics.status
    return {
        "dev": {
            "ids": [identity],
            "name": f"MDA {config.node}",
            "mf": "MDA",
            "mdl": "Associative memory",
            "sw": version,
        },
        "o": {"name": "MDA", "sw": version},
        "cmps": components,
    }


def _controls(topics: Topics) -> dict[str, dict[str, Any]]:
    # As entities of the category `config`, these are not affected by an action on a whole area ("turn off the
    # hall").
    return {
        "learning": {
            "p": "switch",
            "name": "Learning",
            "state_topic": topics.learning,
            "command_topic": topics.learning_set,
            "payload_on": "on",
            "payload_off": "off",
            "qos": 1,
            "entity_category": "config",
        },
        "snapshot": {
            "p": "button",
            "name": "Snapshot",
            "command_topic": topics.snapshot,
            "qos": 1,
            "entity_category": "config",
        },
    }


def _sensors(topics: Topics) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        "connection": {
            "p": "binary_sensor",
            "name": "Connection",
            "state_topic": topics.status,
            "payload_on": "online",
            "payload_off": "offline",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
        },
        "fault": {
            "p": "binary_sensor",
            "name": "Fault",
            "state_topic": topics.health,
            "value_template": "{{ 'ON' if value_json.fault else 'OFF' }}",
            "json_attributes_topic": topics.health,
            "json_attributes_template": "{{ {'fault': value_json.fault} | tojson }}",
            "device_class": "problem",
            "entity_category": "diagnostic",
        },
        "last_commit": {
            "p": "sensor",
            "name": "Last commit",
            "state_topic": topics.health,
            "value_template": "{{ value_json.last_commit }}",
            "device_class": "timestamp",
            "entity_category": "diagnostic",
        },
        "version": {
            "p": "sensor",
            "name": "Version",
            "state_topic": topics.info,
            "value_template": "{{ value_json.version }}",
            "entity_category": "diagnostic",
        },
    }
    for key, name, template, unit, more in _NUMBERS:
        found[key] = _number_sensor(topics, name, template, unit) | more
    return found


def _space_sensors(topics: Topics, name: str) -> dict[str, dict[str, Any]]:
    # A space whose file cannot be read is missing from the health report: its sensors become unknown.
    space = f"{{% set space = value_json.spaces.get('{name}') %}}"
    used = space + "{{ space.units_used if space else None }}"
    fill = space + "{{ (100 * space.units_used / space.units) | round(1) if space else None }}"
    return {
        f"space_{name}_units_used": _number_sensor(topics, f"{name} units used", used, "units"),
        f"space_{name}_fill": _number_sensor(topics, f"{name} fill", fill, "%"),
    }


def _number_sensor(topics: Topics, name: str, template: str, unit: str) -> dict[str, Any]:
    return {
        "p": "sensor",
        "name": name,
        "state_topic": topics.health,
        "value_template": template,
        "unit_of_measurement": unit,
        "state_class": "measurement",
        "entity_category": "diagnostic",
    }


def _novel_event(topics: Topics, name: str) -> dict[str, Any]:
    return {
        "p": "event",
        "name": f"{name} novel",
        "state_topic": topics.novel(name),
        "event_types": [NOVEL],
    }


class Discovery:
    """Publishes the discovery message, and removes entities that were published before but no longer exist.

    See the module for which thread may use what.
    """

    def __init__(self, config: Config, topics: Topics, state: StateFolder, version: str) -> None:
        on = config.homeassistant.discovery
        self.births = frozenset([config.homeassistant.birth] if on else ())
        """Topics on which Home Assistant announces that it has started."""
        self.topics = (device_topic(config),) if on else ()
        """Topics of the discovery message: one, or none if discovery is off."""
        self.due = False
        """Whether the message is to be published: after a connect, a birth, or a change."""
        self._own_topics = topics
        self._state = state
        self._version = version
        # What Home Assistant may know, by topic: the platform of each entity.
        self._published = _read_note(state.read_note(NOTE))
        self.use(config)
        self.due = False  # until the service says that both connections are up

    def use(self, config: Config) -> None:
        """Describe the entities of `config` from now on."""
        self._payloads = {topic: device(config, self._own_topics, self._version) for topic in self.topics}
        self._entities = {
            topic: {key: str(entity["p"]) for key, entity in payload["cmps"].items()}
            for topic, payload in self._payloads.items()
        }
        if self._published != self._entities:
            # Until the broker has acknowledged the change, the next start must know the old and the new ones.
            old, new = self._published, self._entities
            self._write_note({topic: old.get(topic, {}) | new.get(topic, {}) for topic in old | new})
        self._messages = self._with_removals()
        # What was published of them; None before that. A message that could not be sent is None.
        self._sent: list[Publication | None] | None = None
        self.due = True

    def maintain(self, connection: Connection) -> None:
        """Publish if it is due and `connection` is up, then `settle`."""
        if self.due and connection.subscribed:
            self.due = False
            self._sent = [
                connection.publish(topic, data, qos=1, retain=True) for topic, data in self._messages
            ]
        self.settle()

    def settle(self) -> None:
        """Drop removed entities from the note, once the broker has acknowledged their removal."""
        if self._sent is None or not all(sent is not None and sent.is_done for sent in self._sent):
            return
        if self._published != self._entities:
            self._write_note(self._entities)
            self._messages = self._with_removals()

    def _with_removals(self) -> list[tuple[str, bytes]]:
        """The (topic, payload) pairs to publish. A removed entity is included with its platform only."""
        messages = [(topic, b"") for topic in self._published if topic not in self._payloads]
        for topic, payload in self._payloads.items():
            current, old = payload["cmps"], self._published.get(topic, {})
            removed = {key: {"p": platform} for key, platform in old.items() if key not in current}
            messages.append((topic, to_json(payload | {"cmps": current | removed})))
        return messages

    def _write_note(self, published: dict[str, dict[str, str]]) -> None:
        self._published = published
        if not self._state.write_note(NOTE, published):
            log.warning("what Home Assistant was told of could not be written to the state folder")


def _read_note(note: object) -> dict[str, dict[str, str]]:
    """The platform of each entity by topic, from an earlier run; empty if the note cannot be read."""
    try:
        return msgspec.convert(note, dict[str, dict[str, str]])
    except msgspec.ValidationError:
        return {}
