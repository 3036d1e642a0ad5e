"""The topics of the contract: built in one place, taken apart in one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_TOPIC_BYTES = 1024
# Topics repeat: what was taken apart is kept, up to this many, then the store starts anew.
_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """What an input topic says. `rest` is the source of an event, the verb of a request, the control's name.

    A control belongs to no space: it is for the whole daemon. Nor does a source, somebody else's topic: its
    `rest` is the topic itself.
    """

    kind: Literal["event", "request", "control", "source", "none"]
    space: str
    rest: str


NOWHERE = Address("none", "", "")
"""Of a topic that is no input of the daemon."""


class Topics:
    """Every topic below one base."""

    def __init__(
        self,
        base: str,
        reply_prefixes: Sequence[str] = (),
        taken: Sequence[str] = (),
        spaces: Collection[str] = (),
        hears: Callable[[str], bool] = lambda topic: False,
    ) -> None:
        """`taken` are topics elsewhere that the daemon uses itself: no reply may go there. `spaces` are those
        that are configured: what is below one is for its own requests alone. `hears` says which topics
        outside the base are a source's; from any thread.
        """
        self.base = base
        self.status = f"{base}/status"
        self.info = f"{base}/info"
        self.health = f"{base}/health"
        self.events = f"{base}/+/event/#"  # as in MQTT, this matches .../event itself too
        self.requests = f"{base}/+/request/+"
        # No space can be in the way of these, whatever its name: its own topics go on with other words.
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
        """Let replies go below these topics, beside the base."""
        self._replies = (self._prefix, *(prefix.rstrip("/") + "/" for prefix in prefixes))

    def event(self, space: str, source: str = "") -> str:
        return f"{self.base}/{space}/event/{source}" if source else f"{self.base}/{space}/event"

    def request(self, space: str, verb: str) -> str:
        return f"{self.base}/{space}/request/{verb}"

    def response(self, space: str, verb: str) -> str:
        return f"{self.base}/{space}/response/{verb}"

    def novel(self, space: str) -> str:
        return f"{self.base}/{space}/novel"

    def forget(self) -> None:
        """Keep no topic: they hold the sources of what is to be forgotten. From any thread."""
        self._parsed.clear()

    def parse(self, topic: str) -> Address | None:
        """What `topic` addresses; None where it is no input of this daemon."""
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
        """Why the reply to a request for `space` must not go to `topic`, or None where it may.

        Anyone who may send a request names this topic, and the daemon writes there with its own
        rights: so only below the base or a configured prefix, never to a topic it uses itself, and never
        into another space, where whoever reads it would take it for an answer of that space.
        """
        if not topic or len(topic.encode(errors="replace")) > MAX_TOPIC_BYTES:
            return f"a topic of 1 to {MAX_TOPIC_BYTES} bytes"
        if "+" in topic or "#" in topic or "\0" in topic:
            return "a topic without wildcards"
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
