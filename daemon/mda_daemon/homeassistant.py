"""Home Assistant finds the daemon by its MQTT discovery: one retained message that describes every entity.

The message is published at each connect, and again whenever Home Assistant says that it has started (its
birth message). What was published is kept in the state folder, so that an entity, or the whole device, is
taken away from Home Assistant when the configuration no longer has it.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, "Device discovery payload"
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
    from .storage.folder import StateFolder

log = logging.getLogger(__name__)

NOTE = "homeassistant"

# Numbers of the health report: key, name, template, unit, and what else the entity has.
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
    """Where the device is described. Home Assistant allows letters, digits, - and _ in its last level."""
    node = re.sub(r"[^A-Za-z0-9_-]", "_", config.node)
    return f"{config.homeassistant.prefix}/device/{node}/config"


def device(config: Config, topics: Topics, version: str) -> dict[str, Any]:
    """The discovery payload: the device, where it comes from, and its entities by a key each."""
    identity = f"mda_{config.node}"
    components = _controls(topics) | _sensors(topics)
    for name, space in config.spaces.items():
        components |= _space(topics, name)
        if space.novel:
            components[f"space_{name}_novel"] = _novel(topics, name)
    for key, component in components.items():
        component["unique_id"] = f"{identity}_{key}"
        if key != "connection":
            component["availability_topic"] = topics.status  # `online` and `offline`, as it expects
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
    # As configuration, they are left alone by a service call for a whole area ("turn off the hall").
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
        found[key] = _number(topics, name, template, unit) | more
    return found


def _space(topics: Topics, name: str) -> dict[str, dict[str, Any]]:
    # A space whose file cannot be read is not in the report. Then its sensors are unknown.
    space = f"{{% set space = value_json.spaces.get('{name}') %}}"
    used = space + "{{ space.units_used if space else None }}"
    fill = space + "{{ (100 * space.units_used / space.units) | round(1) if space else None }}"
    return {
        f"space_{name}_units_used": _number(topics, f"{name} units used", used, "units"),
        f"space_{name}_fill": _number(topics, f"{name} fill", fill, "%"),
    }


def _number(topics: Topics, name: str, template: str, unit: str) -> dict[str, Any]:
    return {
        "p": "sensor",
        "name": name,
        "state_topic": topics.health,
        "value_template": template,
        "unit_of_measurement": unit,
        "state_class": "measurement",
        "entity_category": "diagnostic",
    }


def _novel(topics: Topics, name: str) -> dict[str, Any]:
    return {
        "p": "event",
        "name": f"{name} novel",
        "state_topic": topics.novel(name),
        "event_types": [NOVEL],
    }


class Discovery:
    """Publishes the device, and takes away what was published before and is not there any more.

    Belongs to the main thread, but for `due` and `acknowledged`, which the network thread sets and calls.
    """

    def __init__(self, config: Config, topics: Topics, state: StateFolder, version: str) -> None:
        on = config.homeassistant.discovery
        self.births = frozenset([config.homeassistant.birth] if on else ())
        self.topics = (device_topic(config),) if on else ()
        self.due = False
        self._base = topics
        self._state = state
        self._version = version
        self._known = _known(state.read_note(NOTE))
        self._early: set[int] = set()
        self.use(config)

    def use(self, config: Config) -> None:
        """Describe what this configuration has, from now on."""
        self._current = {topic: device(config, self._base, self._version) for topic in self.topics}
        self._parts = {
            topic: {key: str(part["p"]) for key, part in payload["cmps"].items()}
            for topic, payload in self._current.items()
        }
        if self._known != self._parts:  # until the broker has all of it, the next start has to know of both
            known, parts = self._known, self._parts
            self._remember({topic: known.get(topic, {}) | parts.get(topic, {}) for topic in known | parts})
        self._messages = self._with_removals()
        # The numbers of what the broker has not acknowledged; a None for what was not yet sent.
        self._waiting: set[int | None] = {None}
        self.due = True

    def maintain(self, connection: Connection) -> None:
        """Publish where it is due: after a connect, a birth, or a change."""
        if self.due and connection.subscribed:
            self.due = False
            self._early.clear()
            sent = [connection.publish(topic, data, qos=1, retain=True) for topic, data in self._messages]
            self._waiting = set(sent)
            self._waiting -= self._early
        self.settle()

    def acknowledged(self, mid: int) -> None:
        # In this order, and `maintain` in the other: so none is missed, however early it comes.
        self._early.add(mid)
        self._waiting.discard(mid)

    def settle(self) -> None:
        """Forget what was taken away, once the broker has acknowledged it."""
        if self._known != self._parts and not self._waiting:
            self._remember(self._parts)
            self._messages = self._with_removals()

    def _with_removals(self) -> list[tuple[str, bytes]]:
        """What to publish: an entity that went is named once more, with nothing but its platform."""
        messages = [(topic, b"") for topic in self._known if topic not in self._current]
        for topic, payload in self._current.items():
            parts, known = payload["cmps"], self._known.get(topic, {})
            gone = {key: {"p": platform} for key, platform in known.items() if key not in parts}
            messages.append((topic, to_json(payload | {"cmps": parts | gone})))
        return messages

    def _remember(self, known: dict[str, dict[str, str]]) -> None:
        self._known = known
        if not self._state.write_note(NOTE, known):
            log.warning("what Home Assistant was told of could not be written to the state folder")


def _known(note: object) -> dict[str, dict[str, str]]:
    """What an earlier run published: the platform of each entity, by topic."""
    try:
        return msgspec.convert(note, dict[str, dict[str, str]])
    except msgspec.ValidationError:
        return {}
