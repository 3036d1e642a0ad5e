"""All sources of a configuration: a message in, the event it becomes out, or why it becomes none."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mda_core.errors import BadInput

from ..mqtt.topicfilter import covers, needed
from ..mqtt.topics import MAX_TOPIC_BYTES
from .entry import compile_entries
from .paths import Scope
from .payload import read_payload
from .rule import Rule, Skipped, Tables
from .table import Table

if TYPE_CHECKING:
    from mda_core.event import Event

    from ..config.schema import Config

log = logging.getLogger(__name__)

# What is remembered of earlier messages, whatever the number of topics: about two megabytes when full.
MAX_LAST = 8192
MAX_SAID = 256
_KNOWN = 4096
# Where two filters overlap a broker may deliver a message twice: the same text within this is one message.
COPY_SECONDS = 1.0
# Other daemons' memories: only for a source whose filter starts with it.
_FAMILY = "mda"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one message: `event`, or `why` there is none. `name` is its source, if any."""

    name: str | None
    space: str
    event: Event | None = None
    why: str = ""
    rejected: bool = False


class Sources:
    """The sources of a configuration that was checked."""

    def __init__(self, config: Config) -> None:
        entries = compile_entries(config)
        self.names = [entry.name for entry in entries]
        self.filters = needed(filter for entry in entries for filter in entry.filters)
        """What to subscribe to, at QoS 1."""
        self._rules = [rule for entry in entries for rule in entry.rules]
        self._default_space = config.default_space
        self._base = config.base
        self.use(config)
        self._discovery = {"homeassistant", config.homeassistant.prefix}
        self._tables = Tables(Table(MAX_LAST), Table(MAX_SAID))
        self._by_topic: dict[str, tuple[list[Rule], bool]] = {}

    def use(self, config: Config) -> None:
        """Go by what of a new configuration can change while the daemon runs."""
        self._limit = config.mqtt.max_payload
        self._own = (config.base + "/", *(each.rstrip("/") + "/" for each in config.mqtt.reply_prefixes))

    def hears(self, topic: str) -> bool:
        """Whether some source is for messages of this topic. Keeps nothing: from any thread."""
        return bool(self._matching(topic))

    def forget(self) -> None:
        """Something was forgotten: no text of an earlier message stays here."""
        self._tables.said.clear()
        self._by_topic.clear()

    def read(self, topic: str, payload: bytes, arrived: float) -> Outcome:
        """The outcome of one message; never raises. It depends on the messages before: from one thread."""
        rules, copied = self._for(topic)
        if not rules:
            return Outcome(None, self._default_space, why="no source is for this topic")
        rule = rules[0]
        if not payload:
            return Outcome(rule.name, rule.space, why="empty: a retained message was cleared")
        if rule.unconditional and not rule.settings.learn:
            return Outcome(rule.name, rule.space, why="not to be learned")
        try:
            scope = Scope(topic.split("/"), read_payload(payload, self._limit))
            found = next((each for each in rules if each.takes(scope, self._tables)), None)
            if found is None:
                return Outcome(rule.name, rule.space, why="no `when` holds")
            rule = found
            event = rule.event(scope, topic, arrived, self._tables, COPY_SECONDS if copied else 0.0)
        except Skipped as exc:
            return Outcome(rule.name, rule.space, why=str(exc))
        except BadInput as exc:
            return Outcome(rule.name, rule.space, why=str(exc), rejected=True)
        except Exception:  # a payload must never end the daemon: it would come again at each start
            log.exception("a message could not be read")
            return Outcome(rule.name, rule.space, why="a fault, which the log describes", rejected=True)
        return Outcome(rule.name, rule.space, event)

    def _for(self, topic: str) -> tuple[list[Rule], bool]:
        """The rules for a topic in their order, and whether more than one subscription brings it."""
        found = self._by_topic.get(topic)
        if found is None:
            if len(self._by_topic) >= _KNOWN:
                self._by_topic.clear()
            copied = sum(covers(filter, topic) for filter in self.filters) > 1
            found = self._by_topic[topic] = (self._matching(topic), copied)
        return found

    def _matching(self, topic: str) -> list[Rule]:
        if not topic or len(topic) > MAX_TOPIC_BYTES or topic == self._base or topic.startswith(self._own):
            return []
        levels = topic.split("/")
        if levels[-1] == "config" and levels[0] in self._discovery:
            return []
        # A wildcard in the first level stands neither for $SYS nor for other daemons' memories.
        exact = levels[0] == _FAMILY or topic.startswith("$")
        return [
            rule
            for rule in self._rules
            if rule.matches(topic) and (not exact or rule.topic.split("/")[0] == levels[0])
        ]
