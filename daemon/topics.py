"""The topics of the contract: built in one place, taken apart in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_TOPIC_BYTES = 1024
# Topics repeat: what was taken apart is kept, up to this many, then the store starts anew.
_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """What an input topic says. `rest` is the source of an event, the verb of a request."""

    kind: Literal["event", "request"]
    space: str
    rest: str


class Topics:
    """Every topic below one base."""

    def __init__(self, base: str, reply_prefixes: Sequence[str] = ()) -> None:
        self.base = base
        self.status = f"{base}/status"
        self.info = f"{base}/info"
        self.health = f"{base}/health"
        self.events = f"{base}/+/event/#"  # as in MQTT, this matches .../event itself too
        self.requests = f"{base}/+/request/+"
        self._prefix = base + "/"
        self._own = {self.status, self.info, self.health}
        self._replies = (self._prefix, *(prefix.rstrip("/") + "/" for prefix in reply_prefixes))
        self._parsed: dict[str, Address | None] = {}

    def event(self, space: str, source: str = "") -> str:
        return f"{self.base}/{space}/event/{source}" if source else f"{self.base}/{space}/event"

    def request(self, space: str, verb: str) -> str:
        return f"{self.base}/{space}/request/{verb}"

    def response(self, space: str, verb: str) -> str:
        return f"{self.base}/{space}/response/{verb}"

    def novel(self, space: str) -> str:
        return f"{self.base}/{space}/novel"

    def parse(self, topic: str) -> Address | None:
        """What `topic` addresses; None where it is no input of this daemon."""
        try:
            return self._parsed[topic]
        except KeyError:
            pass
        address = self._parse(topic)
        if len(self._parsed) >= _KNOWN:
            self._parsed.clear()
        self._parsed[topic] = address
        return address

    def _parse(self, topic: str) -> Address | None:
        if not topic.startswith(self._prefix):
            return None
        space, _, tail = topic[len(self._prefix) :].partition("/")
        kind, _, rest = tail.partition("/")
        if kind == "event":
            return Address("event", space, rest)
        if kind == "request" and rest and "/" not in rest:
            return Address("request", space, rest)
        return None

    def refuses_reply(self, topic: str) -> str | None:
        """Why a reply must not go to `topic`, or None where it may.

        Anyone who may send a request names this topic, and the daemon writes there with its own
        rights: so only below the base or a configured prefix, and never to a topic it listens to.
        """
        if not topic or len(topic.encode(errors="replace")) > MAX_TOPIC_BYTES:
            return f"a topic of 1 to {MAX_TOPIC_BYTES} bytes"
        if "+" in topic or "#" in topic or "\0" in topic:
            return "a topic without wildcards"
        if not topic.startswith(self._replies):
            return "a topic under " + " or ".join(self._replies)
        if topic in self._own or self._parse(topic) is not None:
            return "a topic that the daemon does not use itself"
        return None
