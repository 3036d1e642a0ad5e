"""The topics of the contract: builds and parses them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_TOPIC_BYTES = 1024
MAX_TOPIC_LEVELS = 100
"""Of a response topic: Mosquitto ends the connection of whoever publishes on one of more than 200."""
# Parsed topics are cached, because topics repeat. When the cache is full, it is cleared.
_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """The meaning of an input topic.

    `rest` is the source of an event, the verb of a request, or the name of a control. For a source, a topic
    of another program, it is the topic itself. A control and a source have no space.
    """

    kind: Literal["event", "request", "control", "source", "none"]
    space: str
    rest: str


NOWHERE = Address("none", "", "")
"""The address of a topic that is no input of the daemon."""


class Topics:
    """The topics below one base. Any thread may call every method."""

    def __init__(
        self,
        base: str,
        reply_prefixes: Sequence[str] = (),
        taken: Sequence[str] = (),
        spaces: Collection[str] = (),
        hears: Callable[[str], bool] = lambda topic: False,
    ) -> None:
        """reply_prefixes: topics outside the base below which replies may go.

        taken: reserved topics outside the base, which the daemon uses itself: no reply may go there.
        spaces: the configured spaces: below one of these only replies to its own requests may go.
        hears: whether a topic outside the base belongs to a source; called from any thread.
        """
        self.base = base
        self.status = f"{base}/status"
        self.info = f"{base}/info"
        self.health = f"{base}/health"
        self.events = f"{base}/+/event/#"  # as in MQTT, this matches .../event itself too
        self.requests = f"{base}/+/request/+"
        # These cannot collide with a space, whatever its name, because its topics continue with other words.
        self.learning = f"{base}/learning"
        self.learning_set = f"{base}/learning/set"
        self.snapshot = f"{base}/snapshot"
        self._prefix = base + "/"
        self._own = {self.status, self.info, self.health, self.learning, *taken}
        self._controls = {self.learning_set: "learning", self.snapshot: "snapshot"}
        self._spaces = frozenset(spaces)
        self._hears = hears
        self._parsed: dict[str, Address | None] = {}
        self.allow_replies(reply_prefixes)

    def allow_replies(self, prefixes: Sequence[str]) -> None:
        """Allow replies below these topics, in addition to the base."""
        self._replies = (self._prefix, *(prefix.rstrip("/") + "/" for prefix in prefixes))

    def event(self, space: str, source: str = "") -> str:
        """The topic of events of a source."""
        return f"{self.base}/{space}/event/{source}" if source else f"{self.base}/{space}/event"

    def request(self, space: str, verb: str) -> str:
        """The topic of requests."""
        return f"{self.base}/{space}/request/{verb}"

    def response(self, space: str, verb: str) -> str:
        """The topic of replies to requests without a response topic."""
        return f"{self.base}/{space}/response/{verb}"

    def novel(self, space: str) -> str:
        """The topic on which novel events are reported."""
        return f"{self.base}/{space}/novel"

    def forget(self) -> None:
        """Clear the cache, because topics contain the sources of memories that are to be forgotten."""
        self._parsed.clear()

    def parse(self, topic: str) -> Address | None:
        """The meaning of `topic`; None if it is no input of this daemon."""
        try:
            return self._parsed[topic]
        except KeyError:
            pass
        address = self._parse(topic)
        if len(topic) > MAX_TOPIC_BYTES:
            return address
        if len(self._parsed) >= _KNOWN:
            self._parsed.clear()
        self._parsed[topic] = address
        return address

    def _parse(self, topic: str) -> Address | None:
        if not topic.startswith(self._prefix):
            return Address("source", "", topic) if self._hears(topic) else None
        if (control := self._controls.get(topic)) is not None:
            return Address("control", "", control)
        space, _, tail = topic[len(self._prefix) :].partition("/")
        kind, _, rest = tail.partition("/")
        if kind == "event":
            return Address("event", space, rest)
        if kind == "request" and rest and "/" not in rest:
            return Address("request", space, rest)
        return None

    def refuses_reply(self, topic: str, space: str = "") -> str | None:
        """The expected kind of topic if a reply to a request for `space` must not go to `topic`, else None.

        The sender of a request names this topic, and the daemon publishes there with its own rights. So it
        must be below the base or a configured prefix, no topic that the daemon uses itself, and not below
        another space, where its readers would take the reply for an answer of that space.
        """
        if not topic or len(topic.encode(errors="replace")) > MAX_TOPIC_BYTES:
            return f"a topic of 1 to {MAX_TOPIC_BYTES} bytes"
        if "+" in topic or "#" in topic or "\0" in topic:
            return "a topic without wildcards"
        if topic.count("/") >= MAX_TOPIC_LEVELS:
            return f"a topic of at most {MAX_TOPIC_LEVELS} levels"
        if not topic.startswith(self._replies):
            return "a topic under " + " or ".join(self._replies)
        if topic in self._own or self._parse(topic) is not None:
            return "a topic that the daemon does not use itself"
        if topic.startswith(self._prefix):
            other, _, tail = topic[len(self._prefix) :].partition("/")
            if other != space and other in self._spaces:
                return "a topic outside the other spaces"
            if tail == "novel":
                return "a topic that the daemon does not use itself"
        return None
