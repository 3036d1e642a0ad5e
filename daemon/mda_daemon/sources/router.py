"""Turns messages of other programs into events, by the sources of the configuration."""

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
from .rule import History, Rule, Skipped
from .table import Table

if TYPE_CHECKING:
    from mda_core.event import Event

    from ..config.schema import Config

log = logging.getLogger(__name__)

# Bounds on what is remembered of earlier messages, whatever the number of topics: about 2 MB when full.
MAX_LAST_VALUES = 8192
MAX_LAST_EVENTS = 256
MAX_CACHED_TOPICS = 4096
# If subscriptions overlap, a broker may deliver a message twice: the same text within this time is a copy.
COPY_SECONDS = 1.0
# Other daemons publish what they remember below this level: only a filter that names it may match them.
_DAEMON_LEVEL = "mda"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one message: either `event`, or the reason `why` there is none."""

    name: str | None
    """The source, None if no source is for the topic."""
    space: str
    event: Event | None = None
    why: str = ""
    rejected: bool = False
    """Whether the message was invalid, rather than left out by a rule."""


class Sources:
    """The sources of a configuration that has been checked.

    `read` and `forget` belong to one thread. `use` and `matches_topic` may be called from any thread.
    """

    def __init__(self, config: Config) -> None:
        entries = compile_entries(config)
        self.names = [entry.name for entry in entries]
        self.filters = needed(filter for entry in entries for filter in entry.filters)
        """The topic filters to subscribe to, at QoS 1."""
        self._rules = [rule for entry in entries for rule in entry.rules]
        self._default_space = config.default_space
        self._base = config.base
        self.use(config)
        self._discovery = {"homeassistant", config.homeassistant.prefix}
        self._history = History(Table(MAX_LAST_VALUES), Table(MAX_LAST_EVENTS))
        self._by_topic: dict[str, tuple[list[Rule], bool]] = {}

    def use(self, config: Config) -> None:
        """Apply the keys of a new configuration that can change while the daemon runs."""
        self._limit = config.mqtt.max_payload
        self._own = (config.base + "/", *(each.rstrip("/") + "/" for each in config.mqtt.reply_prefixes))

    def matches_topic(self, topic: str) -> bool:
        """Whether a source is for this topic. Uses no cache, so any thread may call it."""
        return bool(self._match(topic))

    def forget(self) -> None:
        """Drop all texts and topics of earlier messages, because a memory was forgotten."""
        self._history.last_events.clear()
        self._by_topic.clear()

    def read(self, topic: str, payload: bytes, arrived: float) -> Outcome:
        """The result for one message that arrived at `arrived`, in epoch seconds. Never raises.

        It depends on earlier messages, so all must be read in order, in one thread.
        """
        rules, overlapping = self._rules_for(topic)
        if not rules:
            return Outcome(None, self._default_space, why="no source is for this topic")
        rule = rules[0]
        if not payload:
            return Outcome(rule.name, rule.space, why="empty: a retained message was cleared")
        if rule.unconditional and not rule.settings.learn:
            return Outcome(rule.name, rule.space, why="not to be learned")
        try:
            scope = Scope(topic.split("/"), read_payload(payload, self._limit))
            found = next((each for each in rules if each.applies(scope, self._history)), None)
            if found is None:
                return Outcome(rule.name, rule.space, why="no `when` holds")
            rule = found
            debounce = COPY_SECONDS if overlapping else 0.0
            event = rule.event(scope, topic, arrived, self._history, debounce)
        except Skipped as exc:
            return Outcome(rule.name, rule.space, why=str(exc))
        except BadInput as exc:
            return Outcome(rule.name, rule.space, why=str(exc), rejected=True)
        except Exception:  # a payload must never end the daemon: the broker would resend it at each start
            log.exception("a message could not be read")
            return Outcome(rule.name, rule.space, why="a fault, which the log describes", rejected=True)
        return Outcome(rule.name, rule.space, event)

    def _rules_for(self, topic: str) -> tuple[list[Rule], bool]:
        """The rules for a topic, in order, and whether more than one subscription matches it; cached."""
        found = self._by_topic.get(topic)
        if found is None:
            if len(self._by_topic) >= MAX_CACHED_TOPICS:
                self._by_topic.clear()
            overlapping = sum(covers(filter, topic) for filter in self.filters) > 1
            found = self._by_topic[topic] = (self._match(topic), overlapping)
        return found

    def _match(self, topic: str) -> list[Rule]:
        if not topic or len(topic) > MAX_TOPIC_BYTES or topic == self._base or topic.startswith(self._own):
            return []
        levels = topic.split("/")
        if levels[-1] == "config" and levels[0] in self._discovery:
            return []
        # A wildcard in the first level matches neither $SYS nor other daemons.
        exact = levels[0] == _DAEMON_LEVEL or topic.startswith("$")
        return [
            rule
            for rule in self._rules
            if rule.matches(topic) and (not exact or rule.topic.split("/")[0] == levels[0])
        ]
